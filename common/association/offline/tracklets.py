"""Tracks as pieces in time: where each begins and ends, how it moves there, what it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.association.contract import Affine, Float, Int, Tracks
from common.association.kalman import centred


@dataclass(frozen=True, eq=False)
class Pieces:
    """n tracks by identity. rows: of each, in the order of time, in the `Tracks` they were made of. first, last: int64,
    frames. count: int64, rows. begin, end: float64 (n, 4), cx, cy, w, h there, by a fitted line. speed_begin, speed_end:
    float64 (n, 4), per frame. spread: float64 (n,), of the boxes about those lines, in box sizes. classes: int64. score:
    float64, mean."""

    ids: Int
    rows: tuple[Int, ...]
    first: Int
    last: Int
    count: Int
    begin: Float
    end: Float
    speed_begin: Float
    speed_end: Float
    classes: Int
    score: Float

    def __len__(self) -> int:
        return len(self.ids)


def pieces(tracks: Tracks, window: int) -> Pieces:
    """window: frames at either end that the lines are fitted to."""
    order = np.lexsort((tracks.frames, tracks.ids))
    ids, starts = np.unique(tracks.ids[order], return_index=True)
    rows = tuple(np.split(order, starts[1:])) if len(ids) else ()
    boxes = centred(tracks.xyxy)
    n = len(ids)
    ends = np.zeros((4, n, 4))
    for k, own in enumerate(rows):
        frames = tracks.frames[own]
        early, late = own[frames < frames[0] + window], own[frames > frames[-1] - window]
        ends[0, k], ends[2, k] = _line(tracks.frames[early], boxes[early], frames[0])
        ends[1, k], ends[3, k] = _line(tracks.frames[late], boxes[late], frames[-1])
    return Pieces(
        ids,
        rows,
        np.array([tracks.frames[own[0]] for own in rows], np.int64),
        np.array([tracks.frames[own[-1]] for own in rows], np.int64),
        np.array([len(own) for own in rows], np.int64),
        ends[0],
        ends[1],
        ends[2],
        ends[3],
        np.array([np.bincount(tracks.classes[own]).argmax() for own in rows], np.int64),
        np.array([tracks.scores[own].mean() for own in rows]),
    )


def _line(frames: Int, boxes: Float, at: np.int64) -> tuple[Float, Float]:
    """Value at a frame and slope per frame of least squares; short pieces are drawn towards standing still."""
    time = (frames - at).astype(np.float64)
    mean_time, mean = time.mean(), boxes.mean(0)
    off = time - mean_time
    # As if it had also been seen standing still once, about 0.15 s to either side: two boxes give no speed worth trusting.
    slope = off @ (boxes - mean) / (off @ off + 2 * 4.5**2)
    slope[2:] *= 0.5
    return mean - slope * mean_time, slope


def warped(boxes: Float, affine: Affine | None) -> Float:
    """Boxes cx, cy, w, h (n, 4) after the camera has moved."""
    if affine is None:
        return boxes
    linear = affine[:, :2]
    scale = float(np.sqrt(abs(np.linalg.det(linear))))
    return np.concatenate((boxes[:, :2] @ linear.T + affine[:, 2], boxes[:, 2:] * scale), 1)


class Camera:
    """Where a point of one frame is in another, over any distance. motions: by frame, previous pixels to that frame's."""

    def __init__(self, motions: dict[int, Affine] | None) -> None:
        self._known = bool(motions)
        motions = motions or {}
        self._first = min(motions, default=0)
        whole = [np.eye(3)]
        for frame in range(self._first, max(motions, default=-1) + 1):
            step = np.vstack((motions[frame], (0, 0, 1))) if frame in motions else np.eye(3)
            whole.append(step @ whole[-1])
        self._whole = np.array(whole)

    def between(self, last: int, frame: int) -> Affine | None:
        if not self._known or last == frame:
            return None
        limit = len(self._whole) - 1
        a, b = (self._whole[int(np.clip(f - self._first + 1, 0, limit))] for f in (last, frame))
        found: Affine = (b @ np.linalg.inv(a))[:2]
        return found
