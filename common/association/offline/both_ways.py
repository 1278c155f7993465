"""Tracks of a run forward, corrected by a run backward over the same detections.

A run that knows only the past errs where objects meet; a run from the other end errs there too, but differently. Where both
have followed an object through the same detections nothing is touched. Where they part, tracks are cut, and the pieces are
joined again as one of the runs has, by what fits best looking from both sides: forward's word stands unless backward's is as
sure as any other link must be (see `link`). Boxes are the mean of both runs, as in a two-filter smoother (Fraser and Potter
1969): the lag of the one is the lead of the other. What only backward has found is left alone: without the past it is mostly
noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.association.assignment import assign
from common.association.contract import Affine, Int, Tracks
from common.association.offline.link import LinkSettings, costs
from common.association.offline.tracklets import Camera, Pieces, pieces

_WINDOW_S = 0.5
"""At the ends of a piece, that tell how it moves there."""


def both_ways(
    forward: Tracks,
    backward: Tracks,
    fps: float = 30.0,
    step: int = 1,
    motions: Mapping[int, Affine] | None = None,
    settings: LinkSettings | None = None,
    people: int = 0,
) -> Tracks:
    """The detections of `forward` (a row without one is matched with nothing), with an identity of forward's for each track
    that begins as there, else a new one. fps: frames per second, all counted. step: from one frame that was looked at to the
    next. motions: the camera's, by frame. people: identities up to this one are people's own: what is joined with one of
    them gets its name, and two of them are never joined. Memory: some hundred bytes a box.
    """
    if not len(forward) or not len(backward):
        return forward
    at = _partner(forward, backward)
    other = np.where(at >= 0, backward.ids[at], 0)
    tracks = _averaged(forward, backward, at)
    part = _pieces(forward, other)
    camera = Camera(dict(motions) if motions else None)
    found = pieces(_with_ids(tracks, part), max(2 * abs(step), round(_WINDOW_S * fps)), camera)
    before, after = _joined(forward, other, part, found, fps, settings or LinkSettings(), camera)
    head = np.arange(len(found))
    own = np.zeros(len(found), np.int64)
    own[part] = np.where(forward.ids <= people, forward.ids, 0)
    for k in np.argsort(found.first[after], kind="stable").tolist():
        chain, piece = head[before[k]], after[k]
        if own[piece] and own[chain] and own[piece] != own[chain]:
            continue
        head[piece] = chain
        own[chain] = own[chain] or own[piece]
    return _named(tracks, head[part], own).ordered()


def unchanged(forward: Tracks, merged: Tracks, share: float = 0.8) -> frozenset[int]:
    """Identities of `merged` that are, for the most part, the same objects as in `forward`: what was remembered of those
    still holds."""
    if not len(forward) or not len(merged):
        return frozenset()
    at = _partner(merged, forward)
    same = (at >= 0) & (forward.ids[at] == merged.ids)
    ids, where = np.unique(merged.ids, return_inverse=True)
    return frozenset(ids[np.bincount(where, same) >= share * np.bincount(where)].tolist())


def _partner(tracks: Tracks, others: Tracks) -> Int:
    """Of each row, the row of `others` that is the same detection; -1 = none."""
    known = np.flatnonzero(others.rows >= 0)
    if not len(known):
        return np.full(len(tracks), -1)
    keys = (others.frames[known] << 31) + others.rows[known]
    order = np.argsort(keys)
    keys = keys[order]
    wanted = (tracks.frames << 31) + tracks.rows
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: Int = np.where((keys[at] == wanted) & (tracks.rows >= 0), known[order[at]], -1)
    return found


def _averaged(forward: Tracks, backward: Tracks, at: Int) -> Tracks:
    mean = (forward.xyxy.astype(np.float64) + backward.xyxy[at]) / 2
    xyxy = np.where((at >= 0)[:, None], mean, forward.xyxy).astype(np.float32)
    columns = (forward.scores, forward.classes, forward.rows, forward.oriented)
    return Tracks(forward.frames, forward.ids, xyxy, *columns)


def _pieces(forward: Tracks, other: Int) -> Int:
    """Number of the piece of each row: forward's tracks, cut where backward's identity (0 = none) changes."""
    order = np.lexsort((forward.frames, forward.ids))
    own, other = forward.ids[order], other[order]
    start = np.r_[True, own[1:] != own[:-1]]
    place = np.arange(len(order))
    last = np.maximum.accumulate(np.where(start | (other > 0), place, 0))  # where backward's identity was last known
    now = other[last]
    cut = start.copy()
    cut[1:] |= (now[1:] != now[:-1]) & (now[:-1] > 0)
    part = np.empty(len(order), np.int64)
    part[order] = np.cumsum(cut) - 1
    return part


def _joined(
    forward: Tracks, other: Int, part: Int, found: Pieces, fps: float, s: LinkSettings, camera: Camera
) -> tuple[Int, Int]:
    """Pieces that belong together: before, after."""
    ours, theirs = (_following(ids, forward.frames, part) for ids in (forward.ids, other))
    both = np.concatenate((ours, theirs))
    pairs, first = np.unique(both, axis=0, return_index=True)
    i, j = pairs[:, 0], pairs[:, 1]
    apart = found.first[j] > found.last[i]
    i, j, word = i[apart], j[apart], (first < len(ours))[apart]
    price = costs(found, i, j, fps, s, camera)
    fits = word | (price < s.limit)
    i, j, price = i[fits], j[fits], np.minimum(price[fits], s.unsure)
    # Only ends and beginnings that have anybody take part: a table of all pieces of a long video would not fit.
    ends, begins = np.unique(i), np.unique(j)
    table = np.full((len(ends), len(begins)), np.inf)
    table[np.searchsorted(ends, i), np.searchsorted(begins, j)] = price
    rows, columns = assign(table, s.unsure + 1)
    return ends[rows], begins[columns]


def _following(ids: Int, frames: Int, part: Int) -> NDArray[np.int64]:
    """Pairs of pieces (n, 2) that follow one another under one identity; 0 is none."""
    order = np.lexsort((frames, ids))
    order = order[ids[order] > 0]
    own, piece = ids[order], part[order]
    same = (own[1:] == own[:-1]) & (piece[1:] != piece[:-1])
    return np.stack((piece[:-1][same], piece[1:][same]), 1)


def _with_ids(tracks: Tracks, numbers: Int) -> Tracks:
    rest: tuple[Any, ...] = (tracks.xyxy, tracks.scores, tracks.classes, tracks.rows, tracks.oriented)
    return Tracks(tracks.frames, numbers, *rest)


def _named(tracks: Tracks, chain: Int, own: Int) -> Tracks:
    """With an identity for each chain: people's own (by chain, 0 = none), else that of its first row, unless an earlier chain
    has it already."""
    order = np.lexsort((chain, tracks.frames))
    chains, first, where = np.unique(chain[order], return_index=True, return_inverse=True)
    ids, free = np.zeros(len(chains), np.int64), int(tracks.ids.max()) + 1
    used: set[int] = set()
    for n in np.argsort(first).tolist():
        name = int(own[chains[n]]) or int(tracks.ids[order[first[n]]])
        if name in used:
            name, free = free, free + 1
        used.add(name)
        ids[n] = name
    new = np.empty(len(order), np.int64)
    new[order] = ids[where]
    return _with_ids(tracks, new)
