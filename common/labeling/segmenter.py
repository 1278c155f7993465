"""Areas for boxes, with no weights: GrabCut on a small copy of each box's surroundings.

Source: Rother, Kolmogorov and Blake 2004, "GrabCut: interactive foreground extraction using iterated graph cuts".
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections
from common.geometry.measures import place
from common.geometry.types import Mask
from common.video.contract import Image


class Segmenter:
    """side: pixels of the copy's longer side; raising it draws finer borders, slower. rounds: of GrabCut."""

    def __init__(self, side: int = 72, rounds: int = 2) -> None:
        self._side, self._rounds = side, rounds

    def prepare(self) -> None:
        """Nothing is read."""

    def outlined(self, image: Image, found: Detections) -> Detections:
        """The same detections with an area each."""
        masks = tuple(self.area(image, box) for box in found.xyxy)
        return Detections(found.xyxy, found.scores, found.classes, masks)

    def area(self, image: Image, box: NDArray[Any]) -> Mask:
        """What is the thing inside the box; the inscribed ellipse where nothing can be told."""
        rows, columns = image.shape[:2]
        x1, y1, x2, y2 = (float(v) for v in box)
        margin = 0.25 * max(x2 - x1, y2 - y1) + 2
        left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
        right, bottom = min(columns, int(np.ceil(x2 + margin))), min(rows, int(np.ceil(y2 + margin)))
        window = image[top:bottom, left:right]
        scale = min(1.0, self._side / max(window.shape[:2]))
        size = (max(8, round(window.shape[1] * scale)), max(8, round(window.shape[0] * scale)))
        small = cv2.resize(window, size, interpolation=cv2.INTER_AREA)
        fx, fy = size[0] / window.shape[1], size[1] / window.shape[0]
        labels = np.full(size[::-1], cv2.GC_BGD, np.uint8)
        inner = (
            slice(int(max(0, (y1 - top) * fy)), max(1, int(np.ceil((y2 - top) * fy)))),
            slice(int(max(0, (x1 - left) * fx)), max(1, int(np.ceil((x2 - left) * fx)))),
        )
        labels[inner] = cv2.GC_PR_FGD
        middle = (round(((x1 + x2) / 2 - left) * fx), round(((y1 + y2) / 2 - top) * fy))
        half = (max(1, round((x2 - x1) * fx / 2)), max(1, round((y2 - y1) * fy / 2)))
        oval = np.zeros_like(labels)
        cv2.ellipse(oval, middle, half, 0, 0, 360, 1, -1)
        core = np.zeros_like(labels)
        cv2.ellipse(core, middle, (max(1, half[0] // 3), max(1, half[1] // 3)), 0, 0, 360, 1, -1)
        labels[(core > 0)] = cv2.GC_FGD
        cut = self._cut(small, labels) if (labels == cv2.GC_BGD).sum() > 20 else oval > 0
        share = cut.sum() / max(1, (labels != cv2.GC_BGD).sum())
        if not share > 0.15:
            cut = oval > 0
        whole = cv2.resize(cut.astype(np.float32), (window.shape[1], window.shape[0]), interpolation=cv2.INTER_LINEAR)
        return place(whole > 0.5, left, top, columns, rows)

    def _cut(self, small: Image, labels: NDArray[Any]) -> NDArray[Any]:
        cv2.setRNGSeed(7)  # GrabCut's colour clusters begin at random
        background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
        done, _, _ = cv2.grabCut(
            cv2.cvtColor(small, cv2.COLOR_RGB2BGR), labels.copy(), (0, 0, 1, 1), background, foreground, self._rounds,
            cv2.GC_INIT_WITH_MASK,
        )  # fmt: skip
        found = np.asarray((done == cv2.GC_FGD) | (done == cv2.GC_PR_FGD), bool)
        count, parts, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
        if count <= 1:
            return found
        return np.asarray(parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), bool)
