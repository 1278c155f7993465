"""Small moving pictures with exact boxes, for the box tracker's tests."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def texture(seed: int, height: int, width: int, coarse: int = 6) -> Picture:
    """Random blotches about `coarse` pixels wide, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // coarse), max(2, width // coarse), 3)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def paste(
    ground: Picture, patch: Picture, centre: tuple[float, float], angle: float = 0.0, scale: float = 1.0
) -> Picture:
    """`patch` drawn on a copy of `ground`, its middle at `centre` (box coordinates), turned and scaled."""
    height, width = patch.shape[:2]
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    turn = np.array([[c, -s], [s, c]])
    shift = np.array(centre) - 0.5 - turn @ np.array([(width - 1) / 2, (height - 1) / 2])
    matrix = np.concatenate((turn, shift[:, None]), 1)
    size = (ground.shape[1], ground.shape[0])
    drawn = cv2.warpAffine(patch, matrix, size)
    alpha = cv2.warpAffine(np.full((height, width), 1, np.float32), matrix, size)[..., None]
    return (ground * (1 - alpha) + drawn * alpha).round().astype(np.uint8)


def overlap(a: NDArray[np.float32], b: tuple[float, ...]) -> float:
    """Intersection over union of two xyxy boxes."""
    width = max(0.0, min(float(a[2]), b[2]) - max(float(a[0]), b[0]))
    height = max(0.0, min(float(a[3]), b[3]) - max(float(a[1]), b[1]))
    both = width * height
    return both / ((float(a[2]) - float(a[0])) * (float(a[3]) - float(a[1])) + (b[2] - b[0]) * (b[3] - b[1]) - both)
