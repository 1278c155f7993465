"""How a labelled object's box changes when it turns: from its outline, as it was drawn or as GrabCut tells it.

Source: Rother, Kolmogorov and Blake 2004, "GrabCut: interactive foreground extraction using iterated graph cuts".
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Mask
from common.video.contract import Image

Float = NDArray[np.float32]

_SIDE = 72
"""Pixels of the longer side of what GrabCut sees."""
_AROUND = 0.3
"""Share of the box's size that it sees around it, on each side."""
_ROUNDS = 3
_FITS = 0.7
"""IoU of a box and the bounds of the outline in it from which the outline is believed."""


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object as it can be put elsewhere. area: uint8 (rows, columns) of the picture, 255 where it is. hull: corners of its
    convex hull, float32 (n, 2), pixels; it touches all four sides of the box."""

    area: NDArray[np.uint8]
    hull: Float


def cut_out(image: Image, box: Float, mask: Mask | None = None) -> Cutout | None:
    """The object in the box. mask: its area where it is known. None where it cannot be told from what is around it."""
    area = _cut(image, box) if mask is None else mask.to_array().astype(np.uint8) * np.uint8(255)
    rows, columns = np.nonzero(area > 127)
    if not len(rows):
        return None
    corners = np.concatenate([np.stack((columns + dx, rows + dy), 1) for dx in (0, 1) for dy in (0, 1)])
    hull = cv2.convexHull(corners.astype(np.float32)).reshape(-1, 2)
    low, high = hull.min(0), hull.max(0)
    shared = np.maximum(np.minimum(high, box[2:]) - np.maximum(low, box[:2]), 0).prod()
    if shared < _FITS * ((high - low).prod() + (box[2:] - box[:2]).prod() - shared):
        return None
    put = box[:2] + (hull - low) / (high - low) * (box[2:] - box[:2])
    return Cutout(area, np.asarray(put, np.float32))


def turned(hull: Float, middle: NDArray[np.floating], angle_rad: float) -> Float:
    """The box of the outline (n, 2) turned about a place (2,): float32 (4,)."""
    points = (hull - middle) @ rotation(angle_rad).T + middle
    return np.concatenate((points.min(0), points.max(0))).astype(np.float32)


def rotation(angle_rad: float) -> NDArray[np.float64]:
    """float64 (2, 2): turns (x, y), from x towards y."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s], [s, c]])


def _cut(image: Image, box: Float) -> NDArray[np.uint8]:
    """What is the object, found in a small copy of the box's surroundings; 0 everywhere where nothing can be told."""
    whole = np.zeros(image.shape[:2], np.uint8)
    size = box[2:] - box[:2]
    low = np.maximum(np.floor(box[:2] - _AROUND * size - 1), 0).astype(int)
    high = np.minimum(np.ceil(box[2:] + _AROUND * size + 1), image.shape[1::-1]).astype(int)
    window = image[low[1] : high[1], low[0] : high[0]]
    scale = _SIDE / max(window.shape[:2])
    across, down = max(8, round(window.shape[1] * scale)), max(8, round(window.shape[0] * scale))
    fx, fy = across / window.shape[1], down / window.shape[0]
    small = cv2.resize(window, (across, down), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    x1, y1, x2, y2 = (np.round((box - np.tile(low, 2)) * (fx, fy, fx, fy))).astype(int).tolist()
    labels = np.full((down, across), cv2.GC_BGD, np.uint8)
    labels[max(0, y1) : y2, max(0, x1) : x2] = cv2.GC_PR_FGD
    if (labels == cv2.GC_BGD).sum() < 16 or (labels == cv2.GC_PR_FGD).sum() < 16:
        return whole
    middle, third = ((x1 + x2) // 2, (y1 + y2) // 2), (max(1, (x2 - x1) // 6), max(1, (y2 - y1) // 6))
    cv2.ellipse(labels, middle, third, 0, 0, 360, cv2.GC_FGD, -1)
    cv2.setRNGSeed(7)  # GrabCut's colour clusters begin at random
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    picture = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    done, _, _ = cv2.grabCut(picture, labels, (0, 0, 1, 1), background, foreground, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    bits = ((done == cv2.GC_FGD) | (done == cv2.GC_PR_FGD)).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(bits, connectivity=8)
    if count > 1:
        largest = (parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8) * np.uint8(255)
        whole[low[1] : high[1], low[0] : high[0]] = cv2.resize(largest, window.shape[1::-1])
    return whole
