"""Where objects come in and go out: their figures while the picture's edge cuts them, and before they were first found.

What a detector finds of a thing at the edge lags behind, is smaller than what is there, and begins late. Its size and way are
known from the frames next to it on which it was whole, and say how much of it must be in the picture.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.association.contract import Tracks
from common.association.offline.repair import EDGE
from common.geometry.measures import box_iou
from common.video.contract import VideoInfo

Float = NDArray[np.float64]

_WAY_S = 0.5
"""Time that tells how an object moves, and how large it is."""
_REACH_S = 1.0
"""Time by which an object's figures are continued at most."""
_TOUCH_S = 0.3
"""Time of travel to the edge within which an object that was whole when it was first found came in over that edge, rather
than out from behind something."""
_LEAST = 5
"""Whole figures from which that is known."""
_SHOWN = 0.25
"""Share of an object that a figure shows at least."""
_SLIVER = 6.0
"""Pixels of a figure's shorter side at least."""
_TAKEN = 0.3
"""IoU with another figure from which a place is taken."""
_FADE = 0.5
"""What is left of the score where no detection stands behind a figure."""


def continued(tracks: Tracks, info: VideoInfo, known: Collection[int] = ()) -> Tracks:
    """With rows (row -1) for what was not found of objects that come in or go out over the picture's edge, and without those
    that show next to nothing of theirs. known: frames on which nothing is added: a person labelled them. Turned boxes are left
    alone."""
    size, fps = (info.width, info.height), info.fps or 25.0
    if not len(tracks) or tracks.oriented is not None:
        return tracks
    order = np.lexsort((tracks.frames, tracks.ids))
    _, starts = np.unique(tracks.ids[order], return_index=True)
    keep, xyxy = np.ones(len(tracks), bool), tracks.xyxy.copy()
    parts: list[Tracks] = []
    for own in np.split(order, starts[1:]):
        for way in (1, -1):
            rows = own[::way]
            end = _one_end(tracks.frames[rows] * way, tracks.xyxy[rows].astype(np.float64), size, fps)
            if end is None:
                continue
            cut = len(end.cut)
            if not any(int(frame) in known for frame in tracks.frames[rows[:cut]]):
                keep[rows[:cut]], xyxy[rows[:cut]] = end.shown, end.cut
            at = end.frames * way
            free = [n for n, f in enumerate(at.tolist()) if f < info.frames and _free(tracks, f, end.boxes[n], known)]
            free = [n for place, n in enumerate(free) if n == place]  # only as far as nothing is in the way
            if free:
                first, count = int(rows[0]), len(free)
                parts.append(
                    Tracks(
                        at[free],
                        np.full(count, tracks.ids[first]),
                        end.boxes[free].astype(np.float32),
                        np.full(count, tracks.scores[first] * _FADE, np.float32),
                        np.full(count, tracks.classes[first]),
                        np.full(count, -1, np.int64),
                    )
                )
    return Tracks.joined([replace(tracks, xyxy=xyxy).keep(keep), *parts])


@dataclass(frozen=True, eq=False)
class _End:
    """cut: float64 (n, 4), the first n figures as they should be. shown: bool (n,), which of them are worth showing. frames,
    boxes: of figures before the first, nearest first."""

    cut: Float
    shown: NDArray[np.bool_]
    frames: NDArray[np.int64]
    boxes: Float


def _one_end(frames: NDArray[np.int64], boxes: Float, size: tuple[int, int], fps: float) -> _End | None:
    """Of the beginning of one object; None where it is not sure that it came in over the edge."""
    edge = np.array([*size, *size], np.float64)
    boxes = np.clip(boxes, 0, edge)
    low, high = boxes[:, :2] < EDGE, boxes[:, 2:] > edge[2:] - EDGE
    reach, window = max(_LEAST, round(_REACH_S * fps)), max(_LEAST, round(_WAY_S * fps))
    whole = np.flatnonzero(~(low | high).any(1))[:window]
    if len(whole) < _LEAST or frames[whole[-1]] - frames[whole[0]] > 2 * window:
        return None
    start = int(whole[0])
    if frames[start] - frames[0] > reach:
        return None  # it went along the edge for long: what is known of it whole says little
    extent = np.median(boxes[whole, 2:] - boxes[whole, :2], 0)
    middle = (boxes[whole, :2] + boxes[whole, 2:]) / 2
    pace, place = np.polyfit((frames[whole] - frames[start]).astype(np.float64), middle, 1)

    def there(at: NDArray[np.int64]) -> Float:
        """What must be in the picture on those frames."""
        centre = place + pace * (at - frames[start])[:, None]
        seen: Float = np.clip(np.concatenate((centre - extent / 2, centre + extent / 2), 1), 0, edge)
        return seen

    if start == 0:
        centre = place - pace * max(1, round(_TOUCH_S * fps))
        if ((centre - extent / 2 > EDGE) & (centre + extent / 2 < edge[2:] - EDGE)).all():
            return None

    # where the edge cuts it, no less is seen than must be there
    cut, expected = boxes[:start].copy(), there(frames[:start])
    for axis in range(2):
        from_low, from_high = low[:start, axis] & ~high[:start, axis], high[:start, axis] & ~low[:start, axis]
        cut[from_low, axis + 2] = np.maximum(cut[from_low, axis + 2], expected[from_low, axis + 2])
        cut[from_high, axis] = np.minimum(cut[from_high, axis], expected[from_high, axis])
        cut[from_low, axis], cut[from_high, axis + 2] = 0.0, edge[axis]
    shown = _visible(cut, extent)
    before = frames[0] - 1 - np.arange(reach - int(frames[start] - frames[0]))
    earlier = there(before)
    gone = ~_visible(earlier, extent)
    count = int(gone.argmax()) if gone.any() and shown.all() else 0
    return _End(cut, shown, before[:count], earlier[:count])


def _visible(boxes: Float, extent: Float) -> NDArray[np.bool_]:
    sides = boxes[:, 2:] - boxes[:, :2]
    seen: NDArray[np.bool_] = (sides.prod(1) >= _SHOWN * extent.prod()) & (sides.min(1) >= _SLIVER)
    return seen


def _free(tracks: Tracks, frame: int, box: Float, known: Collection[int]) -> bool:
    if frame < 0 or frame in known:
        return False
    low, high = np.searchsorted(tracks.frames, [frame, frame + 1])
    return low == high or float(box_iou(box[None].astype(np.float32), tracks.xyxy[low:high]).max()) < _TAKEN
