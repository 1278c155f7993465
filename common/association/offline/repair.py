"""Repair of a video's identities once all of it is known: link, fill, drop, smooth; every step can be asked why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.association.contract import Affine, Float, Int, Tracks
from common.association.kalman import centred
from common.association.offline.decisions import Decision, Repaired, Suggestion
from common.association.offline.link import Links, LinkSettings, link
from common.association.offline.tracklets import Camera, Pieces, pieces, warped

_BRIEF_S = 0.2
"""Time that is brief in every video."""
EDGE = 3.0
"""Pixels from the picture's edge within which a box is cut by it."""


@dataclass(frozen=True)
class RepairSettings:
    """fps: frames per second, all frames counted. step: frames from one detection run to the next. window_s: time at the
    ends of a track that tells how it moves. fill_s: longest gap that is filled; longer ones only while something in front
    explains them, none where the object was mostly unseen before and after as well. flicker_s, flicker_share,
    flicker_score: tracks that are shorter than that, and than that share of the video (or 0.2 s), and have a lower mean
    score are dropped. smooth_s, smooth_size_s: deviation of the smoothing of places and of sizes, which change more slowly;
    0 = none. split: jump, in box sizes beyond what is usual, from which a split is suggested. keep: identities that are
    people's own and stay as they are. people: identities up to this one are people's and are never dropped.
    """

    fps: float = 30.0
    step: int = 1
    link: LinkSettings = field(default_factory=LinkSettings)
    window_s: float = 0.5
    fill_s: float = 1.5
    covered: float = 0.3
    flicker_s: float = 1.0
    flicker_share: float = 0.05
    flicker_score: float = 0.7
    smooth_s: float = 0.1
    smooth_size_s: float = 0.2
    split: float = 0.8
    keep: frozenset[int] = frozenset()
    people: int = 0


def repair(
    tracks: Tracks,
    settings: RepairSettings | None = None,
    *,
    size: tuple[int, int] | None = None,
    span: tuple[int, int] | None = None,
    motions: Mapping[int, Affine] | None = None,
    looks: Mapping[int, NDArray[np.floating]] | None = None,
) -> Repaired:
    """size: width and height of the picture. span: first and last frame of the video, None = from 0 to the tracks' last.
    motions: the camera's, by frame. looks: unit vectors by identity.

    Filled rows have score 0..1 falling with the length of the gap, and row -1.
    """
    s = settings or RepairSettings()
    camera = Camera(dict(motions) if motions else None)
    found = pieces(tracks, max(2 * abs(s.step), round(s.window_s * s.fps)), camera)
    links = link(found, s.fps, s.link, camera, size, looks)
    decisions, suggestions = _judged(found, links, s)
    renamed = _chains(found, links, s)
    ids = np.array([renamed.get(int(identity), int(identity)) for identity in found.ids], np.int64)
    tracks = _renamed(tracks, found, ids)
    suggestions += _splits(tracks, s)
    tracks, dropped = _without_flicker(tracks, s, span, {renamed.get(n, n) for n in range(1, s.people + 1)})
    tracks = _smoothed(tracks, s, size)
    filled, added = _filled(tracks, s, camera)
    decisions += dropped + added
    decisions.sort(key=lambda d: -d.score)
    suggestions.sort(key=lambda d: -d.score)
    return Repaired(filled, tuple(decisions), tuple(suggestions), renamed)


def _judged(found: Pieces, links: Links, s: RepairSettings) -> tuple[list[Decision], list[Suggestion]]:
    decisions, suggestions = [], []
    for before, after, cost, sure, why in zip(
        links.before.tolist(),
        links.after.tolist(),
        links.cost.tolist(),
        links.sure.tolist(),
        links.reasons,
        strict=True,
    ):
        ids = (int(found.ids[before]), int(found.ids[after]))
        score = float(1 / (1 + np.exp(cost - s.link.limit)))
        if sure and ids[1] not in s.keep:
            gap = (int(found.last[before]) + 1, int(found.first[after]) - 1)
            decisions.append(Decision("link", ids, gap, score, why))
        else:
            suggestions.append(Suggestion("merge", ids, int(found.first[after]), score, why))
    return decisions, suggestions


def _chains(found: Pieces, links: Links, s: RepairSettings) -> dict[int, int]:
    """Identity -> that of the first piece of its chain, for all but the first ones."""
    parent = {
        int(found.ids[b]): int(found.ids[a])
        for a, b, sure in zip(links.before, links.after, links.sure, strict=True)
        if sure and int(found.ids[b]) not in s.keep
    }
    out: dict[int, int] = {}
    for identity in sorted(parent, key=lambda i: found.first[np.searchsorted(found.ids, i)]):
        out[identity] = out.get(parent[identity], parent[identity])
    return out


def _renamed(tracks: Tracks, found: Pieces, ids: Int) -> Tracks:
    """With the chains' identities, and one class for all of a chain."""
    new = ids[np.searchsorted(found.ids, tracks.ids)] if len(tracks) else tracks.ids
    width = int(tracks.classes.max(initial=0)) + 1
    known, where = np.unique(new, return_inverse=True)
    votes = np.bincount(where * width + tracks.classes, tracks.scores, len(known) * width).reshape(-1, width)
    classes = votes.argmax(1)[where] if len(tracks) else tracks.classes
    return Tracks(tracks.frames, new, tracks.xyxy, tracks.scores, classes, tracks.rows, tracks.oriented).ordered()


def _groups(tracks: Tracks) -> list[Int]:
    order = np.lexsort((tracks.frames, tracks.ids))
    _, starts = np.unique(tracks.ids[order], return_index=True)
    return np.split(order, starts[1:]) if len(order) else []


def _without_flicker(
    tracks: Tracks, s: RepairSettings, span: tuple[int, int] | None, people: Collection[int]
) -> tuple[Tracks, list[Decision]]:
    """Those that are brief and doubtful, but for what a person drew (score 1). How long it was there is not known of what the
    video's ends cut off: it counts as brief only when it is next to nothing."""
    keep = np.ones(len(tracks), bool)
    decisions = []
    if span is None:
        span = (0, int(tracks.frames.max(initial=0)))
    step = abs(s.step)
    usual = min(s.flicker_s, max(_BRIEF_S, s.flicker_share * (span[1] - span[0] + 1) / s.fps))
    for own in _groups(tracks):
        frames, score = tracks.frames[own], float(tracks.scores[own].mean())
        seconds = (int(frames[-1]) - int(frames[0]) + step) / s.fps
        cut = int(frames[0]) < span[0] + step or int(frames[-1]) > span[1] - step
        brief = min(usual, _BRIEF_S) if cut else usual
        identity = int(tracks.ids[own[0]])
        known = identity in s.keep or identity in people or tracks.scores[own].max() >= 1
        if seconds < brief and score < s.flicker_score and not known:
            keep[own] = False
            why = {"seconds": seconds, "score": score}
            decisions.append(Decision("drop", (identity,), (int(frames[0]), int(frames[-1])), 1 - score, why))
    return tracks.keep(keep), decisions


def _smoothed(tracks: Tracks, s: RepairSettings, size: tuple[int, int] | None) -> Tracks:
    """Each box a little of its neighbours in time, by a line fitted around it: motion is kept, jitter is not. Sizes over a
    longer time than places, but for where the picture's edge cuts the object: there they change as fast."""
    places, sizes = (deviation * s.fps for deviation in (s.smooth_s, s.smooth_size_s))
    least = 0.4 * abs(s.step)
    if tracks.oriented is not None or max(places, sizes) < least:
        return tracks
    boxes = centred(tracks.xyxy)
    cut = _at_the_edge(tracks.xyxy, size)
    out = boxes.copy()
    for own in _groups(tracks):
        if len(own) < 3 or int(tracks.ids[own[0]]) in s.keep:
            continue
        frames, scores = tracks.frames[own].astype(np.float64), tracks.scores[own]
        if places >= least:
            out[own] = _local_lines(frames, boxes[own], scores, places)
        whole = own
        if cut[own].any():
            away = np.abs(frames[:, None] - frames[cut[own]]).min(1)
            whole = own[away > 3 * sizes]
        if sizes >= least and len(whole):
            longer = _local_lines(frames, boxes[own, 2:], scores, sizes)
            out[whole, 2:] = longer[np.isin(own, whole)]
    half = np.maximum(out[:, 2:], 0) / 2
    xyxy = np.concatenate((out[:, :2] - half, out[:, :2] + half), 1).astype(np.float32)
    return Tracks(tracks.frames, tracks.ids, xyxy, tracks.scores, tracks.classes, tracks.rows)


def _at_the_edge(xyxy: NDArray[np.float32], size: tuple[int, int] | None) -> NDArray[np.bool_]:
    """Which boxes (n, 4) the edge of a picture of that width and height cuts; none where it is not known."""
    if size is None:
        return np.zeros(len(xyxy), bool)
    return np.asarray((xyxy[:, :2] < EDGE).any(1) | (xyxy[:, 2:] > np.array(size) - EDGE).any(1), bool)


def _local_lines(frames: Float, boxes: Float, scores: NDArray[np.floating], deviation: float) -> Float:
    """Value at each frame of the line fitted to its neighbours with Gaussian weights times scores (local regression,
    Cleveland 1979). frames: float64 (n,), rising. boxes: float64 (n, d)."""
    reach = int(np.ceil(3 * deviation))
    n = len(frames)
    index = np.arange(n)[:, None] + np.arange(-reach, reach + 1)
    inside = (index >= 0) & (index < n)
    index = np.clip(index, 0, n - 1)
    time = frames[index] - frames[:, None]
    weight = np.exp(-0.5 * (time / deviation) ** 2) * np.maximum(scores[index], 0.05) * inside
    total = weight.sum(1)
    mean_time = (weight * time).sum(1) / total
    mean = (weight[..., None] * boxes[index]).sum(1) / total[:, None]
    off = time - mean_time[:, None]
    spread = (weight * off**2).sum(1)
    slope = (weight[..., None] * off[..., None] * (boxes[index] - mean[:, None])).sum(1)
    slope /= np.maximum(spread, 1e-9)[:, None]
    found: Float = mean - np.where(spread > 1e-6, mean_time, 0.0)[:, None] * slope
    return found


def _filled(tracks: Tracks, s: RepairSettings, camera: Camera) -> tuple[Tracks, list[Decision]]:
    """Frames missing inside a track, from the box before and the box after, each carried along with the camera."""
    boxes = centred(tracks.xyxy)
    at_frame = {int(f): rows for f, rows in _by_frame(tracks)}
    parts, decisions = [tracks], []
    for own in _groups(tracks):
        frames = tracks.frames[own]
        identity = int(tracks.ids[own[0]])
        for k in np.flatnonzero(np.diff(frames) > abs(s.step)).tolist():
            a, b = int(own[k]), int(own[k + 1])
            first, last = int(frames[k]), int(frames[k + 1])
            missing = np.arange(first + abs(s.step), last, abs(s.step))
            if not _supported(frames, k, len(missing), abs(s.step)):
                continue
            share = (missing - first) / (last - first)
            between = np.stack(
                [
                    (1 - w) * warped(boxes[a : a + 1], camera.between(first, int(f)))[0]
                    + w * warped(boxes[b : b + 1], camera.between(last, int(f)))[0]
                    for f, w in zip(missing, share, strict=True)
                ]
            )
            if (last - first) / s.fps > s.fill_s:
                hidden = np.array(
                    [
                        _covered(box, tracks, at_frame.get(int(f)), identity)
                        for f, box in zip(missing, between, strict=True)
                    ]
                )
                chosen = hidden >= s.covered
                missing, share, between = missing[chosen], share[chosen], between[chosen]
            if not len(missing):
                continue
            half = between[:, 2:] / 2
            ends = min(float(tracks.scores[a]), float(tracks.scores[b]))
            fade = ends * np.exp(-np.minimum(missing - first, last - missing) / s.fps)
            n = len(missing)
            oriented = None
            if tracks.oriented is not None:
                turn = _turn(tracks.oriented[a], tracks.oriented[b], share)
                oriented = np.concatenate((between, turn[:, None]), 1).astype(np.float32)
            parts.append(
                Tracks(
                    missing.astype(np.int64),
                    np.full(n, identity, np.int64),
                    np.concatenate((between[:, :2] - half, between[:, :2] + half), 1).astype(np.float32),
                    fade.astype(np.float32),
                    np.full(n, tracks.classes[a], np.int64),
                    np.full(n, -1, np.int64),
                    oriented,
                )
            )
            why = {"seconds": (last - first) / s.fps}
            decisions.append(Decision("fill", (identity,), (first + 1, last - 1), float(fade.mean()), why))
    return Tracks.joined(parts), decisions


def _supported(frames: Int, k: int, missing: int, step: int) -> bool:
    """Whether frames that are missing behind the k-th are likely the object's: it was seen in as many as are missing, or more, of as
    many before and as many after. What is seen less than half of the time may as well be nothing, found now and then."""
    low = np.searchsorted(frames, frames[k] - missing * step, side="right")
    high = np.searchsorted(frames, frames[k + 1] + missing * step, side="left")
    return int(high - low) >= missing


def _turn(a: NDArray[np.float32], b: NDArray[np.float32], share: Float) -> Float:
    """Angles between those of two turned boxes, the shorter way round (a box is itself again after half a turn)."""
    way = (float(b[4]) - float(a[4]) + np.pi / 2) % np.pi - np.pi / 2
    found: Float = float(a[4]) + share * way
    return found


def _by_frame(tracks: Tracks) -> list[tuple[np.int64, Int]]:
    frames, starts = np.unique(tracks.frames, return_index=True)  # sorted by frame already
    return list(zip(frames, np.split(np.arange(len(tracks)), starts[1:]), strict=True)) if len(tracks) else []


def _covered(box: Float, tracks: Tracks, rows: Int | None, identity: int) -> float:
    """Largest share of a box cx, cy, w, h that one other track of the frame covers, standing before it (lower edge lower)."""
    if rows is None:
        return 0.0
    rows = rows[tracks.ids[rows] != identity]
    low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
    other = tracks.xyxy[rows]
    other = other[other[:, 3] > high[1] - 0.1 * box[3]]
    shared = np.clip(np.minimum(other[:, 2:], high) - np.maximum(other[:, :2], low), 0, None).prod(1)
    return float(shared.max(initial=0.0) / max(float(box[2] * box[3]), 1e-9))


def _splits(tracks: Tracks, s: RepairSettings) -> list[Suggestion]:
    """Places where a track jumps as no object does: maybe two objects."""
    boxes = centred(tracks.xyxy)
    found = []
    for own in _groups(tracks):
        if len(own) < 4:
            continue
        frames = tracks.frames[own].astype(np.float64)
        step = np.diff(frames)
        speed = np.diff(boxes[own, :2], axis=0) / step[:, None]
        usual = np.median(speed, 0)
        scale = np.sqrt(boxes[own[1:], 2] * boxes[own[1:], 3])
        jump = np.hypot(*((speed - usual) * step[:, None]).T) / scale
        limit = s.split + 4 * float(np.median(jump)) + s.link.drift * (step - 1) / s.fps
        for k in np.flatnonzero(jump > limit).tolist():
            score = float(1 - limit[k] / jump[k])
            why = {"jump in box sizes": float(jump[k])}
            found.append(Suggestion("split", (int(tracks.ids[own[0]]),), int(frames[k + 1]), score, why))
    return found
