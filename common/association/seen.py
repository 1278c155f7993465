"""One frame's detections as the associators want them: float64, with thresholds of their classes looked up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.association import masks
from common.association.kalman import Float, centred
from common.association.settings import Settings
from common.geometry.detections import Detections

Int = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Seen:
    """n detections above their `low` threshold, or what a person labelled (row -1).

    rows: int64, row in the frame's detections. boxes: cx, cy, w, h before any turn. xyxy: the upright hull. good, births:
    bool, above those thresholds. looks: float32 (n, d), unit vectors, rows of zeros = not known. grid: bool (n, g, g).
    oriented: float32 (n, 5) or None.
    """

    rows: Int
    boxes: Float
    xyxy: Float
    scores: Float
    classes: Int
    good: Bool
    births: Bool
    looks: NDArray[np.float32]
    grid: Bool
    angle: Float
    oriented: NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, index: Int) -> Seen:
        return Seen(
            self.rows[index],
            self.boxes[index],
            self.xyxy[index],
            self.scores[index],
            self.classes[index],
            self.good[index],
            self.births[index],
            self.looks[index],
            self.grid[index],
            self.angle[index],
            None if self.oriented is None else self.oriented[index],
        )


def prepare(detections: Detections, settings: Settings) -> Seen:
    """Those worth looking at."""
    scores, classes = detections.scores.astype(np.float64), detections.classes
    low: Float | float
    high: Float | float
    birth: Float | float
    if settings.per_class:
        high, low, birth = settings.limits(classes)
    else:
        usual = settings.thresholds
        high, low, birth = usual.high, usual.low, usual.birth
    above = scores >= low
    good, births = scores >= high, scores >= birth
    rows = above.nonzero()[0]
    n = len(rows)
    xyxy = detections.xyxy.astype(np.float64)
    if n < len(scores):
        scores, xyxy, classes, good, births = scores[rows], xyxy[rows], classes[rows], good[rows], births[rows]
    looks = np.zeros((n, 0), np.float32)
    if detections.embeddings is not None:
        looks = unit(detections.embeddings[rows])
    grid = np.zeros((n, 0, 0), bool)
    if detections.masks is not None:
        grid = masks.grids([detections.masks[int(row)] for row in rows], xyxy)
    boxes, angle, oriented = centred(xyxy), np.zeros(n), None
    if detections.oriented is not None:
        oriented = detections.oriented[rows]
        boxes[:], angle = oriented[:, :4], oriented[:, 4].astype(np.float64)
        np.maximum(boxes[:, 2:], 1e-2, out=boxes[:, 2:])
    return Seen(
        rows,
        boxes,
        xyxy,
        scores,
        classes,
        good,
        births,
        looks,
        grid,
        angle,
        oriented,
    )


def unit(looks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows of length 1; rows of zeros stay."""
    length = np.linalg.norm(looks, axis=1, keepdims=True)
    return np.asarray(looks / np.maximum(length, 1e-12), np.float32)
