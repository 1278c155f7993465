"""What one object's corrections change: only frames that depend on them, and each at most once.

A correction says how far the labeling's own figure was off on that frame. Either the figure is off in that way from there on
(a box that is always too large), or it was off for a moment (something was in front). A tracker that starts at the correction
tells which: of the own figure, the own figure moved as the correction moved it, and the tracker's box, the one that the others
speak for is taken. Once the own figure is right again nothing more depends on the correction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from common.errors import FrameUnreadable, Interrupted
from common.geometry.types import Box
from common.tracking.contract import Prediction, Prompt, Run, Tracker
from common.video.contract import FrameSource, Image
from common.video.numbered import numbered

Float = NDArray[np.float64]
Own = Callable[[int], Float | None]
"""The labeling's figure of the object on a frame, pixels xyxy; None where it has none."""

_NEAR = 0.3
"""IoU from which the own figure is of the same object, only badly placed."""
_AGREE = 0.7
"""IoU with the tracker from which the own figure is right again."""
_RIGHT = 0.85
"""IoU of what a person drew and the own figures around it, from which they only confirmed it."""
_ALIKE = 0.5
"""IoU from which two figures are averaged."""
_EDGE = 3.0
"""Pixels from the picture's edge within which a box is cut by it."""
_HIDDEN = 2.5
"""How many times its visible part an object may be."""
_AGAIN = 3
"""Frames in a row on which it must be."""
_ALONE = 25
"""Frames for which a tracker is believed that an object goes on which the labeling has ended."""
_KEEPS = 0.8
"""How much of what spoke for one side before still counts on the next frame."""


def overlap(a: Float, b: Float) -> float:
    """IoU of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.maximum(high - low, 0).prod())
    whole = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - shared
    return shared / whole if whole > 0 else 0.0


class Offset:
    """How a correction moved and scaled a box, as a share of its size."""

    def __init__(self, before: Float, after: Float) -> None:
        size, made = np.maximum(before[2:] - before[:2], 1e-3), np.maximum(after[2:] - after[:2], 1e-3)
        self._shift = ((after[:2] + after[2:]) - (before[:2] + before[2:])) / 2 / size
        self._scale = made / size

    def moved(self, box: Float) -> Float:
        """Another box, off in the same way, put right."""
        size = box[2:] - box[:2]
        middle = (box[:2] + box[2:]) / 2 + self._shift * size
        half = size * self._scale / 2
        return np.concatenate((middle - half, middle + half))


class Mender:
    """One object in one direction, frame by frame. own: None while the labeling has no such object. size: width and height of
    the picture; boxes are cut at its edge. alone: frames in a row for which the tracker is believed where the labeling has the
    object, but not there: it may have ended."""

    def __init__(self, tracker: Tracker, own: Own | None, size: tuple[int, int], alone: int = _ALONE) -> None:
        self._tracker, self._own, self._most = tracker, own, alone
        self._edge = np.array([*size, *size], np.float64)
        self._run: Run | None = None
        self._offset: Offset | None = None
        self._evidence = 0.0
        self._agreed = 0
        self._alone = 0
        self._gone = False
        self._first: Float = np.zeros(4)
        self._leaving = False

    @property
    def active(self) -> bool:
        """Whether figures depend on a correction still, so that `push` needs pictures."""
        return self._run is not None

    def rebind(self, own: Own | None) -> None:
        """The labeling knows the object by another name from here on; nothing depends on corrections any more."""
        self._own = own
        self._end()

    def _at_edge(self, box: Float) -> bool:
        return bool((box[:2] < _EDGE).any() or (box[2:] > self._edge[2:] - _EDGE).any())

    def correct(self, frame: int, image: Image, box: Float | None) -> None:
        """What a person says is there. None: nothing."""
        self._end()
        self._gone = box is None
        if box is None:
            return
        own = self._own(frame) if self._own is not None else None
        self._offset = Offset(own, box) if own is not None and overlap(own, box) >= _NEAR else None
        self._evidence = 0.0
        self._first = box
        self._run = self._tracker.start(image, [Prompt("x", Box(box.astype(np.float32)))])

    def push(self, frame: int, image: Image | None) -> Float | None:
        """The figure of the next frame. image: needed while `active`."""
        own = self._own(frame) if self._own is not None else None
        if self._gone:
            # it is not there until the labeling has it come in anew
            self._gone = own is not None
            return None
        if self._run is None:
            return own
        self._alone = self._alone + 1 if own is None and self._own is not None else 0
        left = self._alone > 0 and self._leaving  # over the edge, where trackers cling
        self._leaving = own is not None and self._at_edge(own)
        if left or self._alone > self._most:
            self._end()
            return None
        assert image is not None
        (predictions,) = self._run.push(image)
        tracked = self._cut(predictions[0])
        if tracked is not None:
            tracked = self._grown(tracked)
        if own is None:
            return tracked
        if tracked is None:
            if self._offset is None:
                self._end()
                return own
            return self._inside(self._offset.moved(own))
        agrees = overlap(own, tracked)
        if self._offset is None:
            if agrees >= _AGREE:
                self._agreed += 1
                if self._agreed >= _AGAIN:
                    self._end()
                return own
            self._agreed = 0
            return self._between(own, tracked)
        moved = self._inside(self._offset.moved(own))
        self._evidence = _KEEPS * self._evidence + overlap(moved, tracked) - agrees
        if self._evidence > 0:
            return self._between(moved, tracked)
        self._agreed += 1
        if self._agreed >= _AGAIN:
            self._end()
        return own

    def _grown(self, box: Float) -> Float:
        """What the picture's edge cut on the frame of the correction shows more of itself as it comes in: the side at the
        edge stays there, as long as the box grows no more than what may have been hidden."""
        far = np.array([0.0, 0.0, *self._edge[2:]])
        at_edge = np.abs(self._first - far) < _EDGE
        size, most = self._first[2:] - self._first[:2], _HIDDEN * (self._first[2:] - self._first[:2])
        made = box.copy()
        for axis in range(2):
            for side in (axis, axis + 2):
                if at_edge[side] and abs(box[side] - far[side]) >= 1:
                    made[side] = far[side]
            if made[axis + 2] - made[axis] > max(most[axis], size[axis]):
                made[[axis, axis + 2]] = box[[axis, axis + 2]]
        return made

    @staticmethod
    def _between(one: Float, tracked: Float) -> Float:
        """Two figures that err each in its own way: their mean where they speak of the same place, else the tracker's."""
        return (one + tracked) / 2 if overlap(one, tracked) >= _ALIKE else tracked

    def _end(self) -> None:
        self._run, self._offset, self._agreed, self._alone, self._gone = None, None, 0, 0, False
        self._leaving = False

    def _inside(self, box: Float) -> Float:
        return np.clip(box, 0, self._edge)

    def _cut(self, prediction: Prediction) -> Float | None:
        if not prediction.visible or not isinstance(prediction.geometry, Box):
            return None
        box = self._inside(prediction.geometry.xyxy.astype(np.float64))
        return box if (box[2:] - box[:2]).min() > 1 else None


# -- a whole object --------------------------------------------------------------------------------------------------------

REACH = 300
"""Frames that a correction may change on each side at most."""
_FUSED = 0.5
"""IoU of the two sides' figures from which they are averaged."""
_CHANGED = 0.95
"""IoU with the own figure from which nothing has changed."""


def mended(
    source: FrameSource,
    tracker: Tracker,
    own: Mapping[int, Float],
    corrected: Mapping[int, Float],
    reach: int = REACH,
    stop: threading.Event | None = None,
) -> dict[int, Float]:
    """New figures of one object, by frame: only those that depend on a correction and change. own: the labeling's figures.
    corrected: what people drew, which stays. Only frames near corrections are read, in one direction after the other, and only
    as far as something depends on them, a second at most where the labeling has no figure; between two corrections both sides are
    fused by how near they are. Raises `Interrupted` when `stop` is set."""
    anchors = sorted(corrected)
    forward: dict[int, Float] = {}
    backward: dict[int, Float] = {}
    for place, frame in enumerate(anchors):
        after = anchors[place + 1] if place + 1 < len(anchors) else source.info.frames
        before = anchors[place - 1] if place else -1
        forward |= _followed(source, tracker, own, corrected[frame], frame, min(after, frame + reach + 1), stop)
        backward |= _followed(source, tracker, own, corrected[frame], frame, max(before, frame - reach - 1), stop)
    found: dict[int, Float] = {}
    for frame in sorted({*forward, *backward}):
        ahead, behind = forward.get(frame), backward.get(frame)
        if ahead is not None and behind is not None:
            place = int(np.searchsorted(anchors, frame))
            share = (frame - anchors[place - 1]) / (anchors[place] - anchors[place - 1])
            box = (1 - share) * ahead + share * behind
            if overlap(ahead, behind) < _FUSED:
                box = ahead if share < 0.5 else behind
        else:
            box = ahead if ahead is not None else behind  # type: ignore[assignment]
        if frame not in own or overlap(own[frame], box) < _CHANGED:
            found[frame] = box
    return found


def _followed(
    source: FrameSource,
    tracker: Tracker,
    own: Mapping[int, Float],
    box: Float,
    start: int,
    stop: int,
    ended: threading.Event | None,
) -> dict[int, Float]:
    """Figures of the frames after `start`, in the direction of `stop` and before it, that depend on the box."""
    way = 1 if stop > start else -1
    if not 0 <= start + way < source.info.frames or start + way == stop:
        return {}
    there = own.get(start)
    if there is None and (beside := own.get(start + way)) is not None:
        # a person's figure took the place of the own one: what would be there follows from those on this side
        further = own.get(start + 2 * way)
        there = beside if further is None else 2 * beside - further
    if there is not None and start + way in own and overlap(there, box) >= _RIGHT:
        return {}

    def known(frame: int) -> Float | None:
        return there if frame == start else own.get(frame)

    made = Mender(tracker, known, (source.info.width, source.info.height), round(source.info.fps) or _ALONE)
    found: dict[int, Float] = {}
    with closing(numbered(source, start, stop)) as frames:
        for frame, image in frames:
            if ended is not None and ended.is_set():
                raise Interrupted("Following from the corrections was stopped.")
            if isinstance(image, FrameUnreadable):
                break
            if frame == start:
                made.correct(frame, image, box)
                continue
            figure = made.push(frame, image)
            if figure is None or not made.active:
                break
            found[frame] = figure
    return found
