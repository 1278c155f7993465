"""Where to put support points: corners near the tracked points, and a thin net of corners over the whole picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]


def candidates(gray: F32, cell: int) -> F64:
    """The strongest corner of each `cell` x `cell` window.

    Returns positions (n, 2) by the lesser eigenvalue of the structure tensor (Shi & Tomasi, "Good
    features to track", CVPR 1994), strongest first; ties keep reading order, so the result is deterministic.
    """
    height, width = gray.shape
    strength = cv2.cornerMinEigenVal(gray, 5, ksize=3)
    rows, columns = -(-height // cell), -(-width // cell)
    padded = np.full((rows * cell, columns * cell), -1.0, np.float32)
    padded[:height, :width] = strength
    blocks = padded.reshape(rows, cell, columns, cell).transpose(0, 2, 1, 3).reshape(rows * columns, cell * cell)
    best = blocks.argmax(1)
    index = np.arange(rows * columns)
    x = (index % columns) * cell + best % cell
    y = (index // columns) * cell + best // cell
    value = blocks[index, best].astype(np.float64)
    order = np.argsort(-value, kind="stable")
    order = order[value[order] > 0]
    result: F64 = np.stack([x, y], 1).astype(np.float64)[order]
    return result


def choose(
    found: F64, focus: F64, taken: F64, room: int, near: float, gap: float, net: float, size: tuple[int, int]
) -> F64:
    """Up to `room` of the candidates: first those within `near` pixels of a focus point, then a net over everything.

    found: (n, 2), best first. focus: (p, 2) points to surround. taken: (m, 2) points that exist already. gap: least
    distance between points around a focus. net: least distance between points elsewhere. size: (width, height).
    """
    if room <= 0 or len(found) == 0:
        return found[:0]
    to_focus = _nearest(found, focus, size)
    to_taken = _nearest(found, taken, size)
    chosen: list[int] = []
    for wanted, apart in ((to_focus < near, gap), (np.ones(len(found), bool), net)):
        rest = np.flatnonzero(wanted & (to_taken >= apart))
        while len(rest) and len(chosen) < room:
            best = rest[0]
            chosen.append(int(best))
            distance = np.hypot(*(found[rest] - found[best]).T)
            rest = rest[(distance >= apart) & (rest != best)]
        if chosen:
            to_taken = np.minimum(to_taken, _nearest(found, found[chosen], size))
    return found[chosen]


def _nearest(points: F64, others: F64, size: tuple[int, int]) -> F64:
    """Distance from each of the points (n, 2), in the picture, to the nearest other one in it; to about a pixel."""
    width, height = size
    empty = np.ones((height, width), np.uint8)
    x, y = np.rint(others).astype(np.int64).T
    held = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    if not held.any():
        return np.full(len(points), np.inf)
    empty[y[held], x[held]] = 0
    distance = cv2.distanceTransform(empty, cv2.DIST_L2, 3)
    px, py = np.rint(points).astype(np.int64).T
    result: F64 = distance[py, px].astype(np.float64)
    return result
