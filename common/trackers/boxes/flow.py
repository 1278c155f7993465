"""How pixels moved between two frames: the camera, and every object, as similarity transforms.

Points are followed by pyramidal Lucas-Kanade there and back, as in Kalal et al., "Forward-backward error: automatic
detection of tracking failures", ICPR 2010; all objects' points and the background's go through one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes.patches import Double
from common.video.contract import Image

Grey = NDArray[np.uint8]

_LONGEST = 640
_WINDOW = (15, 15)
_LEVELS = 3
_GRID = 9
_CAMERA_GRID = (12, 9)
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.03)


@dataclass(frozen=True)
class Motion:
    """A similarity: p -> scale * R(angle) p + shift, in box coordinates. trust: 0..1, share of points that agree."""

    matrix: Double
    trust: float

    @property
    def scale(self) -> float:
        """Growth factor."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    @property
    def angle(self) -> float:
        """Turn in radians, x axis towards y axis."""
        return float(np.arctan2(self.matrix[1, 0], self.matrix[0, 0]))

    def move(self, points: Double) -> Double:
        """Where points (..., 2) went."""
        moved: Double = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved


STILL = Motion(np.array([[1.0, 0, 0], [0, 1.0, 0]]), 0.0)


def shrink(image: Image) -> Grey:
    """The grey picture that flow works on: at most 640 pixels long."""
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    factor = _LONGEST / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    small: Grey = grey.astype(np.uint8, copy=False)
    return small


def grid(corners: Double) -> Double:
    """Points spread evenly inside quadrangles (n, 4, 2), top-left first, without their corners: (n, 69, 2).

    Only the inscribed ellipse: what lies in a box's corners is mostly background, which would be followed instead.
    """
    step = (np.arange(_GRID) + 0.5) / _GRID
    u, v = (a.ravel() for a in np.meshgrid(step, step))
    inside = (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.25
    u, v = u[inside], v[inside]
    weight = np.stack(((1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v), -1)
    points: Double = np.einsum("pk,nkd->npd", weight, corners)
    return points


def estimate(before: Grey, after: Grey, size: tuple[int, int], quads: Double) -> tuple[Motion, list[Motion]]:
    """Motion of the camera, and of the objects inside quads (n, 4, 2), from one grey frame to the next.

    size: width and height that box coordinates refer to. A motion that cannot be had is `STILL` with trust 0.
    """
    zoom = np.array([before.shape[1] / size[0], before.shape[0] / size[1]])
    columns, rows = _CAMERA_GRID
    x = (np.arange(columns) + 0.5) / columns * size[0]
    y = (np.arange(rows) + 0.5) / rows * size[1]
    ground = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    low, high = quads.min(1) if len(quads) else quads[:, 0], quads.max(1) if len(quads) else quads[:, 0]
    within: NDArray[np.bool_] = (ground[:, None] > low[None]) & (ground[:, None] < high[None])
    covered = np.any(np.all(within, axis=2), axis=1)
    ground = ground[~covered]
    inside = grid(quads)
    count, each = inside.shape[:2]
    start = np.concatenate((ground, inside.reshape(-1, 2)))
    end, good = _follow(before, after, start * zoom - 0.5)
    end = (end + 0.5) / zoom
    camera = _fit(start[: len(ground)], end[: len(ground)], good[: len(ground)], 2.0 / float(zoom.min()))
    motions = []
    for number in range(count):
        part = slice(len(ground) + number * each, len(ground) + (number + 1) * each)
        extent = float(np.sqrt(max(1.0, (high[number] - low[number]).prod())))
        motions.append(_fit(start[part], end[part], good[part], max(0.7 / float(zoom.min()), 0.03 * extent)))
    return camera, motions


def between(before: Grey, after: Grey, points: Double) -> Motion:
    """The similarity that most of `points` (n, 2; box coordinates) follow from one small grey picture to another."""
    end, good = _follow(before, after, points - 0.5)
    return _fit(points, end + 0.5, good, 1.0)


def _follow(before: Grey, after: Grey, points: Double) -> tuple[Double, NDArray[np.bool_]]:
    if len(points) == 0 or min(before.shape) < 8:
        return points, np.zeros(len(points), bool)
    start = points.astype(np.float32).reshape(-1, 1, 2)
    end, found, _ = _lucas_kanade(before, after, start)
    back, returned, _ = _lucas_kanade(after, before, end)
    gap = np.linalg.norm((back - start)[:, 0], axis=1)
    height, width = before.shape
    inside = ((points > -1) & (points < (width, height))).all(1)
    good = (found[:, 0] > 0) & (returned[:, 0] > 0) & (gap < 1.0) & np.isfinite(end[:, 0]).all(1) & inside
    return end[:, 0].astype(np.float64), good


def _lucas_kanade(before: Grey, after: Grey, points: Any) -> tuple[Any, Any, Any]:
    guess: Any = None
    return cv2.calcOpticalFlowPyrLK(before, after, points, guess, winSize=_WINDOW, maxLevel=_LEVELS, criteria=_CRITERIA)


def _fit(start: Double, end: Double, good: NDArray[np.bool_], tolerance: float) -> Motion:
    if good.sum() < 6:
        return STILL
    a, b = start[good].astype(np.float32), end[good].astype(np.float32)
    matrix, agree = cv2.estimateAffinePartial2D(
        a, b, method=cv2.RANSAC, ransacReprojThreshold=tolerance, maxIters=100, confidence=0.98, refineIters=5
    )
    if matrix is None or not np.isfinite(matrix).all():
        return STILL
    motion = Motion(np.asarray(matrix, np.float64), float(agree.sum()) / len(good))
    return motion if 0.5 < motion.scale < 2.0 else STILL
