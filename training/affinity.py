"""Affine maps of the plane, a row of them per sample: (n, 2, 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def affine(turn: Array, scale: Array | float, shift: Array) -> Array:
    """(n, 2, 3)."""
    made = np.zeros((len(turn), 2, 3))
    made[:, 0, 0] = made[:, 1, 1] = np.cos(turn) * scale
    made[:, 1, 0] = np.sin(turn) * scale
    made[:, 0, 1] = -made[:, 1, 0]
    made[:, :, 2] = shift
    return made


def stretch(shape: Array) -> Array:
    """(n, 2, 2) of area 1 and aspect shape (n,)."""
    made = np.zeros((len(shape), 2, 2))
    made[:, 0, 0], made[:, 1, 1] = np.sqrt(shape), 1 / np.sqrt(shape)
    return made


def compose(outer: Array, inner: Array) -> Array:
    """First inner, then outer."""
    made = outer[:, :, :2] @ inner
    made[:, :, 2] += outer[:, :, 2]
    return made


def inverse(affine: Array) -> Array:
    linear = np.linalg.inv(affine[:, :, :2])
    return np.concatenate((linear, -linear @ affine[:, :, 2:]), 2)


def apply(affine: Array, points: Array) -> Array:
    return points @ affine[:, :, :2].transpose(0, 2, 1) + affine[:, None, :, 2]
