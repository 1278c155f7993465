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
    """Where a point of one frame is in another, over any distance. motions: by frame, previous pixels to that frame's; on
    other frames the camera stands still. Memory: 72 bytes a frame from the first of them to the last."""

    def __init__(self, motions: dict[int, Affine] | None) -> None:
        motions = motions or {}
        self._first = min(motions, default=0)
        self._count = max(motions, default=-1) + 1 - self._first
        # after so many motions: all of them since the block began; and of whole blocks
        self._within = np.tile(np.eye(3), (self._count + 1, 1, 1))
        self._blocks: list[Float] = []
        whole: Float = np.eye(3)
        for n in range(self._count):
            move = motions.get(self._first + n)
            if move is not None:
                whole = np.vstack((move, (0, 0, 1))) @ whole
            if (n + 1) % _BLOCK == 0:
                self._blocks.append(whole)
                whole = np.eye(3)
            self._within[n + 1] = whole

    def between(self, last: int, frame: int) -> Affine | None:
        """From one frame's pixels to another's; None for the same frame, and where nothing is known of the camera."""
        if not self._count or last == frame:
            return None
        start, stop = (min(max(f - self._first + 1, 0), self._count) for f in (last, frame))
        low, high = min(start, stop), max(start, stop)
        ahead = np.linalg.inv(self._within[low])
        for block in range(low // _BLOCK, high // _BLOCK):
            ahead = self._blocks[block] @ ahead
        ahead = self._within[high] @ ahead
        return np.asarray(ahead if start <= stop else np.linalg.inv(ahead), np.float64)[:2]

    def carried(self, boxes: Float, frames: Int, to: int) -> Float:
        """Boxes cx, cy, w, h (n, 4) of these frames (n,), which lie near each other, where they are on frame `to`."""
        if not self._count or not len(boxes):
            return boxes
        since = self._since(np.append(frames, to))
        moves = since[-1] @ np.linalg.inv(since[:-1])
        places = (moves[:, :2, :2] @ boxes[:, :2, None])[..., 0] + moves[:, :2, 2]
        scales = np.sqrt(np.abs(np.linalg.det(moves[:, :2, :2])))
        return np.concatenate((places, boxes[:, 2:] * scales[:, None]), 1)

    def _since(self, frames: Int) -> Float:
        """All motions up to each of these frames from the beginning of the first one's block: float64 (n, 3, 3)."""
        counts = np.clip(frames - self._first + 1, 0, self._count)
        blocks = counts // _BLOCK
        found = self._within[counts]
        low, high = int(blocks.min()), int(blocks.max())
        whole: Float = np.eye(3)
        for block in range(low + 1, high + 1):
            whole = self._blocks[block - 1] @ whole
            there = blocks == block
            found[there] = found[there] @ whole
        return found
