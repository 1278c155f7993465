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
    float64 (n, 4), per frame, without what the camera moves. classes: int64. score: float64, mean."""

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


def pieces(tracks: Tracks, window: int, camera: Camera) -> Pieces:
    """window: frames at either end that the lines are fitted to. camera: whose own motion is no motion of the objects."""
    order = np.lexsort((tracks.frames, tracks.ids))
    ids, starts = np.unique(tracks.ids[order], return_index=True)
    rows = tuple(np.split(order, starts[1:])) if len(ids) else ()
    boxes = centred(tracks.xyxy)
    n = len(ids)
    ends = np.zeros((4, n, 4))
    for k, own in enumerate(rows):
        frames = tracks.frames[own]
        early, late = own[frames < frames[0] + window], own[frames > frames[-1] - window]
        for end, rows_there, at in ((0, early, frames[0]), (1, late, frames[-1])):
            there = camera.carried(boxes[rows_there], tracks.frames[rows_there], int(at))
            ends[end, k], ends[2 + end, k] = _line(tracks.frames[rows_there], there, at)
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


_BLOCK = 64
"""Frames over which the camera's motions are put together once and for all. Over a whole video they are not: hours of driving
forward enlarge by more than a number can tell apart."""


class Camera:
    """Where a point of one frame is in another, over any distance. motions: by frame, previous pixels to that frame's."""

    def __init__(self, motions: dict[int, Affine] | None) -> None:
        self.known = bool(motions)
        motions = motions or {}
        self._first = min(motions, default=0)
        self._count = max(motions, default=-1) + 1 - self._first
        # of each frame, from the beginning of its block on; the last of each block is that of all of it
        self._within = np.zeros((self._count, 3, 3))
        for n in range(self._count):
            move = motions.get(self._first + n)
            step: Float = np.eye(3) if move is None else np.vstack((move, (0, 0, 1)))
            self._within[n] = step @ self._within[n - 1] if n % _BLOCK else step

    def between(self, last: int, frame: int) -> Affine | None:
        """From one frame's pixels to another's; None where it did not move or is not known."""
        if not self.known or last == frame:
            return None
        start, stop = (int(np.clip(f - self._first + 1, 0, self._count)) for f in (last, frame))
        ahead = self._ahead(min(start, stop), max(start, stop))
        return np.asarray(ahead if start <= stop else np.linalg.inv(ahead), np.float64)[:2]

    def carried(self, boxes: Float, frames: Int, to: int) -> Float:
        """Boxes cx, cy, w, h (n, 4) of these frames (n,) where they are on frame `to`, as the camera has moved."""
        if not self.known:
            return boxes
        return np.concatenate(
            [warped(box[None], self.between(int(frame), to)) for box, frame in zip(boxes, frames, strict=True)]
        )

    def _ahead(self, start: int, stop: int) -> Float:
        """All motions from the `start`-th on, up to and without the `stop`-th."""
        found = np.eye(3)
        while start < stop:
            end = min(stop, (start // _BLOCK + 1) * _BLOCK)
            part: Float = self._within[end - 1]
            if start % _BLOCK:
                part = np.asarray(part @ np.linalg.inv(self._within[start - 1]), np.float64)
            found, start = part @ found, end
        return found
