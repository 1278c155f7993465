"""One video's journal from those of its overlapping stretches, each object under one identity.

Where two stretches overlap both know the objects; those whose boxes lie on each other there are the same. Before the middle of
the overlap the first stretch's rows count, from there on the second's: its trackers have settled by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from common.association.assignment import assign
from common.association.contract import Tracks
from common.geometry import codec
from common.geometry.measures import box_iou
from common.prediction.journal import Journal
from common.prediction.pipeline import Part

_SAME = 0.5
"""Mean overlap from which two identities are one object."""
_TOGETHER = 0.5
"""Share of the frames on which the one that is there for fewer is, in the overlap, that both must be there."""
_MOMENT = 3
"""Frames that both must be there at least."""
_BESIDE = 1 << 20
"""Numbers of detections from here on are those of the other stretch."""
_AT_ONCE = 256
"""Frames of a part that is given out."""


@dataclass(frozen=True)
class Stretch:
    """start, stop: frames, stop is no more part of it."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, frame: object) -> bool:
        return isinstance(frame, int) and self.start <= frame < self.stop


def stitched(parts: Sequence[tuple[Stretch, Journal]]) -> Iterator[Part]:
    """The rows of all, frames of the whole video, about in order. parts: finished journals, numbered from their stretch's start,
    each overlapping the next only. Memory: the boxes of one overlap, and some hundred frames."""
    seams = [(b.start + a.stop) // 2 for (a, _), (b, _) in pairwise(parts)]
    named: dict[int, int] = {}
    looks: dict[int, tuple[NDArray[np.float32], int]] = {}
    count = 0
    for number, (stretch, journal) in enumerate(parts):
        first = seams[number - 1] if number else stretch.start
        last = seams[number] if number < len(seams) else stretch.stop
        if number:
            before, own = parts[number - 1]
            shared = Stretch(stretch.start, before.stop)
            earlier, later = _within(own, before, shared), _within(journal, stretch, shared)
            partners = {mine: theirs for mine, theirs in matched(earlier, later).items() if theirs in named}
            yield _bridged(own, before, bridge(earlier, later, partners, first), named)
            named = {ident: named[partner] for ident, partner in partners.items()}
        used: set[int] = set()
        for part in _pieces(journal, stretch, first, last):
            for ident in np.unique(part.tracks.ids).tolist():
                used.add(ident)
                if ident not in named:
                    count += 1
                    named[ident] = count
            ids = np.array([named[ident] for ident in part.tracks.ids.tolist()], np.int64)
            yield replace(part, tracks=replace(part.tracks, ids=ids))
        for ident, look in journal.looks().items():
            if ident in used:  # each stretch's mean look counts as one: their sums are not kept
                total, seen = looks.get(named[ident], (np.float32(0), 0))
                looks[named[ident]] = (np.asarray(total + look, np.float32), seen + 1)
    yield Part(Tracks(), looks=looks)


def matched(first: Tracks, second: Tracks) -> dict[int, int]:
    """Identity of `second` -> identity of `first` that is the same object; both hold the rows of the same frames."""
    one, rows = np.unique(first.ids, return_inverse=True)
    two, columns = np.unique(second.ids, return_inverse=True)
    if not len(one) or not len(two):
        return {}
    total = np.zeros((len(one), len(two)))
    both = np.zeros((len(one), len(two)))
    for frame in np.intersect1d(first.frames, second.frames):
        a, b = np.flatnonzero(first.frames == frame), np.flatnonzero(second.frames == frame)
        place = np.ix_(rows[a], columns[b])
        total[place] += box_iou(first.xyxy[a], second.xyxy[b])
        both[place] += 1
    fewer = np.minimum(np.bincount(rows)[:, None], np.bincount(columns)[None])  # one may have found it late
    # those that are there together only for a moment are no evidence
    mean = np.where((both >= _TOGETHER * fewer) & (both >= _MOMENT), total / np.maximum(both, 1), 0)
    chosen = assign(1 - mean, 1 - _SAME)
    return {int(two[column]): int(one[row]) for row, column in zip(*chosen, strict=True)}


def bridge(first: Tracks, second: Tracks, partners: Mapping[int, int], seam: int) -> Tracks:
    """Rows of `first` from the seam on, of objects that `second` found only later; none where it has something there. partners:
    see `matched`."""
    chosen: list[int] = []
    for ident, partner in partners.items():
        begins = int(second.frames[second.ids == ident].min())
        for row in np.flatnonzero((first.ids == partner) & (first.frames >= seam) & (first.frames < begins)).tolist():
            there = second.xyxy[second.frames == first.frames[row]]
            if box_iou(first.xyxy[row : row + 1], there).max(initial=0) < _SAME:
                chosen.append(row)
    return first.keep(np.array(sorted(chosen), np.int64))


def _bridged(journal: Journal, stretch: Stretch, tracks: Tracks, named: Mapping[int, int]) -> Part:
    """With geometry, beside that of the second stretch's rows on these frames."""
    rows: NDArray[np.int64] = np.where(tracks.rows >= 0, tracks.rows + _BESIDE, -1)
    geometry: dict[tuple[int, int], bytes] = {}
    for frame, row in zip(tracks.frames.tolist(), tracks.rows.tolist(), strict=True):
        drawn = journal.geometries(frame - stretch.start).get(row)
        if drawn is not None:
            geometry[frame, row + _BESIDE] = codec.encode(drawn)
    ids = np.array([named[ident] for ident in tracks.ids.tolist()], np.int64)
    return Part(replace(tracks, ids=ids, rows=rows), geometry)


def _within(journal: Journal, stretch: Stretch, shared: Stretch) -> Tracks:
    """Rows of the shared frames, numbered as in the whole video."""
    return Tracks.joined(
        [_moved(tracks, stretch.start) for tracks in _frames(journal, stretch, shared.start, shared.stop)]
    )


def _frames(journal: Journal, stretch: Stretch, first: int, last: int) -> Iterator[Tracks]:
    for tracks in journal.frames():
        frame = int(tracks.frames[0]) + stretch.start
        if frame >= last:
            return
        if frame >= first:
            yield tracks


def _moved(tracks: Tracks, by: int) -> Tracks:
    frames: NDArray[np.int64] = tracks.frames + by
    return replace(tracks, frames=frames)


def _pieces(journal: Journal, stretch: Stretch, first: int, last: int) -> Iterator[Part]:
    """Of the frames from `first` to before `last`, with the identities of the stretch."""
    motions = {n + stretch.start: m for n, m in journal.motions().items() if first <= n + stretch.start < last}
    yield Part(Tracks(), motions=motions)
    waiting: list[Tracks] = []
    geometry: dict[tuple[int, int], bytes] = {}
    for tracks in _frames(journal, stretch, first, last):
        local = int(tracks.frames[0])
        for row, drawn in journal.geometries(local).items():
            geometry[local + stretch.start, row] = codec.encode(drawn)
        waiting.append(_moved(tracks, stretch.start))
        if len(waiting) >= _AT_ONCE:
            yield Part(Tracks.joined(waiting), geometry)
            waiting, geometry = [], {}
    yield Part(Tracks.joined(waiting), geometry)
