"""Boxes carried from frame to frame by optical flow: one call for all objects, a few milliseconds a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes import flow
from common.video.contract import Image

Float = NDArray[np.float32]

_TRUSTED = 0.3
_KEEP = 0.7
"""How much of an object's trust a frame on which flow loses it leaves."""


class Carrier:
    """Knows one frame, and boxes on it; `follow` takes them to the next one. Memory: a grey picture of 640 pixels."""

    def __init__(self, boxes: Float, grey: flow.Grey | None = None) -> None:
        """grey: of a carrier that stopped on the frame that the boxes are on."""
        self.boxes: Float = np.asarray(boxes, np.float32).reshape(-1, 4)
        self.trust: Float = np.ones(len(self.boxes), np.float32)
        self.grey: flow.Grey | None = grey

    def set(self, boxes: Float, trust: Float | None = None) -> None:
        """Other boxes, on the frame that was followed last."""
        self.boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        self.trust = np.ones(len(self.boxes), np.float32) if trust is None else np.asarray(trust, np.float32)

    def follow(self, image: Image) -> None:
        """The next frame. `boxes` move with what is in them, or with the camera where that cannot be told; `trust` (n,),
        0..1, is the share of points that agreed, over all frames since the boxes were set."""
        grey = flow.shrink(image)
        before, self.grey = self.grey, grey
        if before is None or before.shape != grey.shape:
            self.trust = self.trust * np.float32(before is None)
            return
        if not len(self.boxes):
            return
        x1, y1, x2, y2 = self.boxes.astype(np.float64).T
        quads = np.stack(
            (np.stack((x1, y1), 1), np.stack((x2, y1), 1), np.stack((x2, y2), 1), np.stack((x1, y2), 1)), 1
        )
        camera, motions = flow.estimate(before, grey, (image.shape[1], image.shape[0]), quads)
        moved, agreed = [], []
        for box, motion in zip(self.boxes.astype(np.float64), motions, strict=True):
            sure = motion.trust > _TRUSTED
            used = motion if sure else camera
            middle = used.move((box[:2] + box[2:]) / 2) if used.trust > 0 else (box[:2] + box[2:]) / 2
            half = (box[2:] - box[:2]) / 2 * (used.scale if sure else 1.0)
            moved.append(np.concatenate((middle - half, middle + half)))
            agreed.append(min(1.0, 0.35 + motion.trust) if sure else _KEEP)
        self.boxes = np.array(moved, np.float32).reshape(-1, 4)
        self.trust = self.trust * np.array(agreed, np.float32)
