"""Drift-free alignment: the object as it is now against pictures of it kept from surer frames.

A kept picture is a small grey window about the object, upright and at a fixed size. The present frame is brought to the
same window by the present pose, points are followed from the kept picture to it, and the similarity that is left over
corrects position, size and turn. While the object looks as it did, errors cannot add up; when it does not, few points
agree and the correction is left out.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes import flow
from common.trackers.boxes.patches import Double, Pyramid

SIZE = 96
"""Pixels of a kept picture, each way."""

_MARGIN = 1.5
_LEAST_PIXELS = 8.0


def window_side(shape: Double) -> float:
    """Side in frame pixels of the window about an object of shape (width, height)."""
    return float(_MARGIN * shape.max())


def take(pyramid: Pyramid, centre: Double, shape: Double, angle: float) -> NDArray[np.uint8]:
    """Grey window uint8 (96, 96) about the object, turned upright."""
    window = pyramid.crop(centre, window_side(shape), angle, SIZE)
    grey: NDArray[np.uint8] = cv2.cvtColor(window, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    return grey


def align(kept: NDArray[np.uint8], pyramid: Pyramid, centre: Double, shape: Double, angle: float) -> flow.Motion:
    """What is left over between the kept picture and the object at this pose, in the window: see `correct`.

    trust is 0 for objects too small to hold points.
    """
    if np.sqrt(shape.prod()) < _LEAST_PIXELS:
        return flow.STILL
    half = 0.5 * shape / window_side(shape) * SIZE
    corners = np.array([[[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]]) * half + SIZE / 2
    return flow.between(kept, take(pyramid, centre, shape, angle), flow.grid(corners)[0])


def correct(left_over: flow.Motion, centre: Double, shape: Double, angle: float) -> tuple[Double, float, float]:
    """New centre (2,), growth factor and turn to add, after `align`."""
    pixel = window_side(shape) / SIZE
    middle = np.full(2, SIZE / 2)
    dx, dy = (left_over.move(middle) - middle) * pixel
    cos, sin = np.cos(angle), np.sin(angle)
    moved: Double = centre + np.array([dx * cos - dy * sin, dx * sin + dy * cos])
    return moved, left_over.scale, left_over.angle
