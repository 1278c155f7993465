"""Looks without weights: what colours are where in a box, as a unit vector that is near for the same object.

Histograms of hue and saturation, and of brightness, in horizontal bands (head, chest, legs: what a person wears differs from
band to band; so do most things that stand on the ground), with pixels in the middle counting more than those at the edge,
where the background is. Roots of shares make the inner product the Bhattacharyya coefficient. Bands of colours for
re-identification: Farenzena et al. 2010, "Person re-identification by symmetry-driven accumulation of local features".
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.contract import Image

_HEIGHT, _WIDTH, _BANDS = 48, 24, 6
_HUES, _SATURATIONS, _LEVELS = 8, 3, 8
_BINS = _HUES * _SATURATIONS + _LEVELS
DIMENSIONS = _BANDS * _BINS

ALIKE = 0.07
"""Half the cosine distance up to which two descriptors are likely of one object."""


def describe(image: Image, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
    """float32 (n, DIMENSIONS), unit vectors, for boxes (n, 4) of an RGB picture; zeros where a box is outside of it."""
    height, width = image.shape[:2]
    corners = np.asarray(xyxy, np.float64).reshape(-1, 4).round().astype(np.int64)
    low = np.clip(corners[:, :2], 0, (width, height))
    high = np.clip(corners[:, 2:], 0, (width, height))
    rows = np.flatnonzero((high > low).all(1))
    out = np.zeros((len(corners), DIMENSIONS), np.float32)
    if not len(rows):
        return out
    sheet = np.empty((len(rows), _HEIGHT, _WIDTH, 3), np.uint8)
    for piece, row in zip(sheet, rows.tolist(), strict=True):
        (x1, y1), (x2, y2) = low[row].tolist(), high[row].tolist()
        cv2.resize(image[y1:y2, x1:x2], (_WIDTH, _HEIGHT), dst=piece, interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(sheet.reshape(-1, _WIDTH, 3), cv2.COLOR_RGB2HSV).reshape(sheet.shape).astype(np.int64)
    out[rows] = _histograms(hsv)
    return out


def _histograms(hsv: NDArray[np.int64]) -> NDArray[np.float32]:
    """From (n, _HEIGHT, _WIDTH, 3), OpenCV's hue 0..179."""
    n = len(hsv)
    hue = np.minimum(hsv[..., 0] * _HUES // 180, _HUES - 1)
    saturation = np.minimum(hsv[..., 1] * _SATURATIONS // 256, _SATURATIONS - 1)
    level = np.minimum(hsv[..., 2] * _LEVELS // 256, _LEVELS - 1)
    middle = np.exp(-0.5 * (np.linspace(-1, 1, _WIDTH) / 0.5) ** 2)
    # A hue says little where there is hardly any colour or light.
    colour = hsv[..., 1] / 255 * np.minimum(hsv[..., 2] / 64, 1)
    weight = np.broadcast_to(middle, hue.shape)
    band = np.arange(_HEIGHT)[:, None] * _BANDS // _HEIGHT
    base = (np.arange(n)[:, None, None] * _BANDS + band) * _BINS
    chroma = base + hue * _SATURATIONS + saturation
    light = base + _HUES * _SATURATIONS + level
    size = n * DIMENSIONS
    found = np.bincount(chroma.ravel(), (weight * colour * 2).ravel(), size)
    found += np.bincount(light.ravel(), weight.ravel(), size)
    found = np.sqrt(found.reshape(n, DIMENSIONS))
    unit: NDArray[np.float32] = (found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)).astype(
        np.float32
    )
    return unit
