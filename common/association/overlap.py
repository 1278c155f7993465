"""How much boxes overlap, all pairs at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_EPS = 1e-9


def iou(a: Float, b: Float, margin: Float | None = None) -> Float:
    """Intersection over union float64 (n, m) of x1, y1, x2, y2 (n, 4) and (m, 4).

    margin: float64 (n, 2), pixels in x and y by which both boxes of a pair are grown on every side, one for each row of
    `a`: where it is not known where an object is, boxes beside each other count as overlapping, the nearer the more
    (buffered IoU, Yang et al. 2023, C-BIoU; here the buffer is the uncertainty instead of a constant).
    """
    # x and y in one array (2, n, m), and in place: with few boxes what counts is how many operations there are, with many
    # that the innermost rows are long and lie together
    left, right = np.ascontiguousarray(a.T)[:, :, None], np.ascontiguousarray(b.T)[:, None]
    low_a, low_b, high_a, high_b = left[:2], right[:2], left[2:], right[2:]
    size_a, size_b = high_a - low_a, high_b - low_b
    sides = np.minimum(high_a, high_b)
    sides -= np.maximum(low_a, low_b)
    if margin is None:
        whole = size_a[0] * size_a[1] + size_b[0] * size_b[1]
    else:
        two = (2 * margin).T[:, :, None]
        sides += two
        size_a += two
        grown = size_b + two
        whole = grown[0] * grown[1]
        whole += size_a[0] * size_a[1]
    np.maximum(sides, 0, out=sides)
    shared: Float = sides[0]
    shared *= sides[1]
    whole -= shared
    np.maximum(whole, _EPS, out=whole)
    shared /= whole
    return shared


def turned(a: Float, angle_a: Float, b: Float, angle_b: Float) -> Float:
    """Overlap 0..1 float64 (n, m) of boxes cx, cy, w, h turned by radians: 1 minus the Hellinger distance of the Gaussians
    that they stand for (Llerena et al. 2021, arXiv:2106.06072, ProbIoU)."""
    ax, ay, axy = _covariance(a, angle_a)
    bx, by, bxy = _covariance(b, angle_b)
    sx, sy, sxy = ax[:, None] + bx, ay[:, None] + by, axy[:, None] + bxy
    dx, dy = a[:, None, 0] - b[:, 0], a[:, None, 1] - b[:, 1]
    det = np.maximum(sx * sy - sxy**2, _EPS)
    det_a, det_b = np.maximum(ax * ay - axy**2, _EPS), np.maximum(bx * by - bxy**2, _EPS)
    distance = (sy * dx**2 + sx * dy**2 - 2 * sxy * dx * dy) / (4 * det)
    distance += 0.5 * np.log(det / (4 * np.sqrt(det_a[:, None] * det_b)))
    found: Float = 1 - np.sqrt(np.clip(1 - np.exp(-np.maximum(distance, 0)), 0, 1))
    return found


def _covariance(box: Float, angle: Float) -> tuple[Float, Float, Float]:
    along, across = box[:, 2] ** 2 / 12, box[:, 3] ** 2 / 12
    c, s = np.cos(angle), np.sin(angle)
    return along * c**2 + across * s**2, along * s**2 + across * c**2, (along - across) * c * s
