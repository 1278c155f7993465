"""Finds upright people with no weights to download: OpenCV's histogram of oriented gradients and its trained classifier.

Source: Dalal and Triggs 2005, "Histograms of oriented gradients for human detection". The classifier comes with OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from common.detection.contract import Detections, DetectorCard
from common.detection.selection import suppress
from common.video.contract import Image

_WINDOW = (64, 128)
# In the windows that the classifier was trained with, people are 96 of 128 pixels high; a person's width is 0.41 of the
# height on average (Dollár et al. 2012, "Pedestrian detection: an evaluation of the state of the art").
_TALL, _WIDE = 96 / 128, 0.41


@dataclass(frozen=True)
class HogSettings:
    """enlarge: pictures are enlarged so often before looking; people smaller than 96 / enlarge pixels are not found.
    side: but to no more than this length of the longer side. step: ratio of one size that is looked for to the next;
    raising it is faster and finds less. stride: pixels from window to window, 4, 8 or 16. overlap: IoU of two windows
    that are one person. floor: least score."""

    enlarge: float = 1.5
    side: int = 1280
    step: float = 1.07
    stride: int = 8
    overlap: float = 0.4
    floor: float = 0.05


class HogDetector:
    """A `Detector`. A score is 1 - exp(-distance from the classifier's boundary): it ranks, it is no probability."""

    card = DetectorCard(
        name="hog",
        title="Upright people (no model)",
        classes=("person",),
        licence="Apache-2.0",
        memory_bound="one enlarged picture",
        paper="Dalal and Triggs 2005, Histograms of oriented gradients for human detection",
    )

    def __init__(self, settings: HogSettings | None = None) -> None:
        self._settings = settings or HogSettings()
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor.getDefaultPeopleDetector())

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Detections:
        s = self._settings
        rows, columns = image.shape[:2]
        scale = min(s.enlarge, max(s.side / max(rows, columns), 1e-3))
        # people at the picture's edge need the window to reach over it
        pad = _WINDOW[0] // 4
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        gray = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_RGB2GRAY)
        gray = cv2.copyMakeBorder(gray, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        if gray.shape[0] < _WINDOW[1] or gray.shape[1] < _WINDOW[0]:
            return Detections()
        windows, weights = self._hog.detectMultiScale(
            gray, hitThreshold=0.0, winStride=(s.stride, s.stride), padding=(0, 0), scale=s.step, groupThreshold=0
        )
        if len(windows) == 0:
            return Detections()
        table = np.asarray(windows, np.float64).reshape(-1, 4)
        scores = 1 - np.exp(-np.clip(np.asarray(weights, np.float64).ravel(), 0, None))
        cx = (table[:, 0] + table[:, 2] / 2 - pad) / scale
        cy = (table[:, 1] + table[:, 3] / 2 - pad) / scale
        height = table[:, 3] * _TALL / scale
        width = height * _WIDE
        boxes = np.stack((cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), 1)
        boxes = np.clip(boxes, 0, [columns, rows, columns, rows])
        sure = np.flatnonzero((scores >= s.floor) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
        kept = sure[suppress(boxes[sure], scores[sure], None, s.overlap)]
        return Detections(
            boxes[kept].astype(np.float32), scores[kept].astype(np.float32), np.zeros(len(kept), np.int64)
        )
