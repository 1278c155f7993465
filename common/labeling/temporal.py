"""A detector for video around one for pictures: looks on each so-manieth frame, carries boxes between by flow, and takes
what people labelled as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections, DetectorCard, Resumable
from common.geometry.measures import box_iou
from common.labeling.areas import Areas
from common.labeling.chosen import ChosenDetector
from common.labeling.propagation import Carrier
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

Float = NDArray[np.float32]

_SEEN = 0.25
"""A find that scores this much says for itself what is there; below, the carried box may stay."""
_SAME = 0.35
"""IoU from which a find is the carried object."""
_LASTS = 0.75
"""What is left of a carried box's score on a frame that was looked at and did not show it."""
_UNSURE = 0.45
"""Carried boxes that were not found again begin no object."""
_CARRIED = 0.12
"""Boxes that score less are not carried on."""
_STEADY = 0.6
"""IoU from which a find and the carried box are averaged, where flow is sure."""
_FLOW = 0.75
"""Trust from which flow is sure."""
_GAIN = 0.5
"""Share of a find in the average, once there were many."""
_DRAWN = 4.0
"""Finds that a person's box is worth."""
_ROOM = 64
"""Boxes that a snapshot has room for, and as many again where there are more."""
_GIVEN = 0.25
"""Boxes that score less are not given out."""


@dataclass(frozen=True, eq=False)
class Given:
    """What people labelled on one frame, completely. boxes: float32 (n, 4). classes: int64 (n,)."""

    boxes: Float
    classes: NDArray[np.int64]


class VideoDetector:
    """A `Detector`, `FrameDetector` and `Resumable` for the frames of one video, in order.

    every: looks on frames whose number it divides. carry: whether boxes go on between. labelled: by frame number.
    segmenter: draws areas. Memory: a grey picture of 640 pixels and the last frame's boxes.
    """

    def __init__(
        self,
        detector: ChosenDetector,
        every: int = 1,
        *,
        carry: bool = True,
        labelled: Mapping[int, Given] | None = None,
        segmenter: Areas | None = None,
    ) -> None:
        if every > 1 and not carry:
            raise ValueError("frames that are not looked at need boxes that are carried")
        self._detector, self._every, self._carry = detector, every, carry
        self._labelled = dict(labelled or {})
        self._segmenter = segmenter
        self._carrier = Carrier(np.zeros((0, 4), np.float32))
        self._last = Detections()
        self._finds = np.zeros(0, np.float32)
        self._next = 0

    @property
    def card(self) -> DetectorCard:
        memory = "the detector's, a grey picture and the last frame's boxes"
        finds = "mask" if self._segmenter is not None else "box"
        return replace(self._detector.card, temporal=True, memory_bound=memory, finds=finds)  # type: ignore[arg-type]

    def prepare(self) -> None:
        """Reads weights now."""
        self._detector.prepare()
        if self._segmenter is not None:
            self._segmenter.prepare()

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The next frames, counted from those before."""
        return self.detect_frames(range(self._next, self._next + len(images)), images)

    def detect_frames(self, numbers: Sequence[int], images: Sequence[Image]) -> list[Detections]:
        """See `FrameDetector`."""
        found = []
        for number, image in zip(numbers, images, strict=True):
            boxes = self._one(number, image)
            boxes = boxes.keep(np.flatnonzero(boxes.scores >= _GIVEN))
            found.append(boxes if self._segmenter is None else self._segmenter.outlined(image, boxes))
            self._next = number + 1
        return found

    def state(self) -> bytes | None:
        """See `Resumable`."""
        inner = self._detector.state()
        if inner is None:
            return None
        count = len(self._last)
        room = -(-max(count, 1) // _ROOM) * _ROOM  # a size that hardly ever changes
        last = (self._last.xyxy, self._last.scores[:, None], self._last.classes[:, None], self._finds[:, None])
        boxes = np.zeros((room, 7), np.float32)
        boxes[:count] = np.concatenate(last, 1)
        head = np.array([self._every, self._next, count], np.int64)
        return pack({"head": head, "boxes": boxes, "grey": self._carrier.grey, "inner": inner})

    def restore(self, state: bytes) -> None:
        """See `Resumable`."""
        tree = unpack(state)
        if not isinstance(tree, dict) or "head" not in tree or int(tree["head"][0]) != self._every:
            raise ValueError("not a snapshot of the labeling assistant's detector")
        assert isinstance(self._detector, Resumable)
        self._detector.restore(tree["inner"])
        self._next, count = int(tree["head"][1]), int(tree["head"][2])
        boxes = tree["boxes"][:count]
        self._last = Detections(boxes[:, :4], boxes[:, 4], boxes[:, 5].astype(np.int64))
        self._finds = boxes[:, 6].copy()
        self._carrier = Carrier(self._last.xyxy, tree["grey"])

    def _one(self, number: int, image: Image) -> Detections:
        looks = number % self._every == 0 or self._next == 0
        if self._carry:
            self._carrier.set(self._last.xyxy)
            self._carrier.follow(image)
        given = self._labelled.get(number)
        if given is not None:
            if self._detector.card.temporal:
                self._detector.detect([image])
            self._last = Detections(given.boxes, np.ones(len(given.boxes), np.float32), given.classes)
            self._finds = np.full(len(given.boxes), _DRAWN, np.float32)
        elif looks or self._detector.card.temporal:
            if self._carry:
                self._join(self._detector.look(image, self._carrier.boxes), image.shape)
            else:
                (self._last,) = self._detector.detect([image])
                self._finds = np.ones(len(self._last), np.float32)
        else:
            self._last, kept = self._moved(image.shape)
            self._finds = self._finds[kept]
        return self._last

    def _moved(self, shape: tuple[int, ...]) -> tuple[Detections, NDArray[np.int64]]:
        """The last frame's boxes where flow says that they went, and which of them are still there."""
        trust = self._carrier.trust
        scores = self._last.scores * np.where(trust > 0.6, 0.98, 0.8).astype(np.float32)
        return self._inside(self._carrier.boxes, scores, self._last.classes, shape)

    def _join(self, found: Detections, shape: tuple[int, ...]) -> None:
        """What was found, where it is averaged over its finds, and what was there before and is not denied."""
        before, kept = self._moved(shape)
        finds, trust = self._finds[kept], self._carrier.trust[kept]
        if not len(before):
            self._last, self._finds = found, np.ones(len(found), np.float32)
            return
        overlap = box_iou(found.xyxy, before.xyxy) if len(found) else np.zeros((0, len(before)))
        sure = found.scores >= _SEEN
        seen = overlap[sure].max(0, initial=0) > _SAME
        # a doubtful find in the place of a box that is carried on is that box
        doubled = ~sure & (overlap[:, ~seen].max(1, initial=0) > _SAME)
        boxes, count = found.xyxy.copy(), np.ones(len(found), np.float32)
        alike = np.where(found.classes[:, None] == before.classes[None], overlap, 0)
        partner = alike.argmax(1) if len(found) else np.zeros(0, np.int64)
        steady = sure & (alike.max(1, initial=0) > _STEADY) & (trust[partner] > _FLOW)
        edge = np.array([shape[1], shape[0], shape[1], shape[0]], np.float32) - 2
        # at the picture's edge more or less of a thing is seen from frame to frame
        steady &= (found.xyxy[:, :2] > 2).all(1) & (found.xyxy[:, 2:] < edge[2:]).all(1)
        gain = np.maximum(1 / (finds[partner] + 1), _GAIN)[:, None]
        boxes[steady] = ((1 - gain) * before.xyxy[partner] + gain * found.xyxy)[steady]
        count[steady] = np.minimum(finds[partner] + 1, 100)[steady]
        rest, kept_found = np.flatnonzero(~seen), np.flatnonzero(~doubled)
        scores = np.minimum(before.scores[rest] * _LASTS, _UNSURE).astype(np.float32)
        self._last = Detections(
            np.concatenate((boxes[kept_found], before.xyxy[rest])),
            np.concatenate((found.scores[kept_found], scores)),
            np.concatenate((found.classes[kept_found], before.classes[rest])),
        )
        self._finds = np.concatenate((count[kept_found], finds[rest])).astype(np.float32)

    def _inside(
        self, boxes: Float, scores: Float, classes: NDArray[np.int64], shape: tuple[int, ...]
    ) -> tuple[Detections, NDArray[np.int64]]:
        """What is still in the picture, cut at its edge, and its rows; what mostly left is gone."""
        rows, columns = shape[:2]
        cut = np.clip(boxes, 0, np.array([columns, rows, columns, rows], np.float32))
        area = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).prod(1)
        left = np.maximum(cut[:, 2:] - cut[:, :2], 0).prod(1) / area
        kept = np.flatnonzero((scores >= _CARRIED) & (left > 0.3) & ((cut[:, 2:] - cut[:, :2]).min(1) > 2))
        return Detections(cut[kept], scores[kept], classes[kept]), kept
