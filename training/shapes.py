"""Outlines of generated objects as signed distance fields, so that an edge can be drawn as soft as wanted.

A field covers -1.25..1.25 of the object's own coordinates; the object fills -1..1 in both. Positive inside, in those units.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from training.textures import Rng, noise

SIDE = 80
"""Samples of a field, each way."""

REACH = 1.25
"""The field's half extent in the object's coordinates."""

HULL = 32
"""Directions whose farthest points stand for the outline when the object's box is computed."""

Mask = NDArray[np.uint8]
Array = NDArray[np.float32]

_FINE = 2


def draw(rng: Rng) -> Mask:
    """A random outline as a picture 0 or 255, of any extent."""
    side = 160
    mask = np.zeros((side, side), np.uint8)
    kind = int(rng.integers(7))
    middle = side / 2
    if kind == 0:
        cv2.rectangle(mask, (20, 20), (139, 139), 255, -1)
    elif kind == 1:
        cv2.ellipse(mask, (80, 80), (60, 60), 0, 0, 360, 255, -1)
    elif kind == 2:
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 10))))
        _fill(mask, middle, angle, rng.uniform(0.5, 1.05, len(angle)))
    elif kind == 3:
        angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        reach = np.full(64, 0.8)
        for wave in range(1, 7):
            reach += rng.normal(0, 0.2 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
        _fill(mask, middle, angle, np.clip(reach / reach.max(), 0.15, 1))
    elif kind == 4:
        level = noise(rng, side, 2, 4)
        y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        mask[(level * 0.6 + 1.0 - 2.0 * (x**2 + y**2)) > 0] = 255
    elif kind == 5:
        _body(rng, mask)
    else:
        round_ = int(rng.integers(6, 50))
        cv2.rectangle(mask, (20 + round_, 20), (139 - round_, 139), 255, -1)
        cv2.rectangle(mask, (20, 20 + round_), (139, 139 - round_), 255, -1)
        for x in (20 + round_, 139 - round_):
            for y in (20 + round_, 139 - round_):
                cv2.circle(mask, (x, y), round_, 255, -1)
    return mask


def _fill(mask: Mask, middle: float, angle: NDArray[np.float64], reach: NDArray[np.float64]) -> None:
    points = middle + 62 * np.stack((np.cos(angle), np.sin(angle)), 1) * reach[:, None]
    cv2.fillPoly(mask, [points.astype(np.int32)], 255)


def _body(rng: Rng, mask: Mask) -> None:
    """A trunk with limbs, like animals, people and vehicles."""
    size = rng.uniform(18, 42, 2)
    cv2.ellipse(mask, (80, 80), (int(size[0]), int(size[1])), float(rng.uniform(0, 180)), 0, 360, 255, -1)
    for _ in range(int(rng.integers(2, 6))):
        start = 80 + rng.uniform(-0.7, 0.7, 2) * size
        end = start + rng.normal(0, 40, 2)
        width = int(rng.integers(6, 22))
        cv2.line(mask, tuple(start.astype(int).tolist()), tuple(end.astype(int).tolist()), 255, width)
        if rng.random() < 0.4:
            cv2.circle(mask, tuple(end.astype(int).tolist()), int(width * rng.uniform(0.6, 1.3)), 255, -1)


def field(mask: Mask) -> tuple[Array, Array] | None:
    """The field (SIDE, SIDE) of an outline stretched to -1..1, and its farthest points (HULL, 2); None when it is empty.

    Of several pieces the largest counts.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 127).astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h, area = (int(v) for v in stats[largest])
    if min(w, h) < 6 or area < 0.12 * w * h:
        return None
    fine = SIDE * _FINE
    inner = round(fine / REACH)
    piece = (labels[y : y + h, x : x + w] == largest).astype(np.float32)
    stretched = cv2.resize(piece, (inner, inner), interpolation=cv2.INTER_LINEAR) > 0.5
    solid = np.zeros((fine, fine), np.uint8)
    start = (fine - inner) // 2
    solid[start : start + inner, start : start + inner] = stretched
    if not solid.any():
        return None
    away = cv2.distanceTransform(solid, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - solid, cv2.DIST_L2, 5)
    unit = 2 * REACH / fine
    distance = cv2.resize((away - np.sign(away) * 0.5) * unit, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(solid)
    points = (np.stack((columns, rows), 1) + 0.5) * unit - REACH
    angle = np.arange(HULL) * 2 * np.pi / HULL
    farthest = (points @ np.stack((np.cos(angle), np.sin(angle)))).argmax(0)
    return distance.astype(np.float32), points[farthest].astype(np.float32)
