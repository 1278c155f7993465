"""The closer look: how well a window fits an object of each class, and where the object really lies.

Kernel ridge regression from reduced channels to overlap, and a linear correction of the box.

Sources: kernel ridge regression, Saunders, Gammerman and Vovk 1998; box regression, Girshick et al. 2014, "Rich feature
hierarchies for accurate object detection", appendix C.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Float = NDArray[np.float32]

GRID = (8, 8)
"""Rows and columns of samples of a window."""
MARGIN = 0.2
"""Share of the box's size looked at around it."""
_DIMENSIONS = 72
_RIDGE = 0.03
_LINEAR = 0.3
_STEP = 0.5
"""A box is corrected by at most this share of its size."""


@dataclass(frozen=True, eq=False)
class Closer:
    """mean, basis: reduce channels (d,) to (k,). size, aspect: logarithms that are usual, and their spread. known: float32
    (n, k + 2), reduced samples. weights: (n, classes). base: (classes,). gamma: width of the kernel. shift: (k + 3, 4)."""

    mean: Float
    basis: Float
    usual: Float
    known: Float
    weights: Float
    base: Float
    gamma: float
    shift: Float

    def reduced(self, samples: Float, boxes: NDArray[np.floating]) -> Float:
        """float32 (n, k + 2)."""
        return _reduced(samples, boxes, self.mean, self.basis, self.usual)

    def score(self, reduced: Float) -> Float:
        """Expected overlap with an object of each class, stretched so that 0.2 is 0 and 0.8 is 1: float32 (n, classes)."""
        found = _kernel(reduced, self.known, self.gamma) @ self.weights + self.base
        return np.asarray(np.clip(found, 0, 1), np.float32)

    def corrected(self, reduced: Float, boxes: NDArray[np.floating]) -> Float:
        """Where the objects lie, float32 (n, 4)."""
        ones = np.ones((len(reduced), 1), np.float32)
        moves = np.clip(np.concatenate((reduced, ones), 1) @ self.shift, -_STEP, _STEP)
        size = boxes[:, 2:] - boxes[:, :2]
        middle = (boxes[:, 2:] + boxes[:, :2]) / 2 + moves[:, :2] * size
        size = size * np.exp(moves[:, 2:])
        return np.concatenate((middle - size / 2, middle + size / 2), 1).astype(np.float32)


def stretched(overlap: NDArray[np.floating]) -> Float:
    """Overlap as it is learned: 0.2 and less is 0, 0.8 and more is 1."""
    found: Float = np.clip((np.asarray(overlap, np.float32) - 0.2) / 0.6, 0, 1)
    return found


def fit(
    samples: Float,
    boxes: Float,
    overlaps: Float,
    weight: Float,
    partner: Float,
    matched: NDArray[np.bool_],
    before: Closer | None = None,
) -> Closer:
    """samples: (n, d). boxes: (n, 4), where they were taken. overlaps: (n, classes), with objects of each class. weight:
    (n,), how much a sample counts. partner: (n, 4), the object's own box where `matched` (n,). before: learned from fewer
    samples; its reduction is kept."""
    good = overlaps.max(1) > 0.4
    mean, basis = _reduction(samples, good) if before is None else (before.mean, before.basis)
    size, aspect = _form(boxes[good] if good.any() else boxes)
    usual = np.array([size.mean(), max(size.std(), 0.25), aspect.mean(), max(aspect.std(), 0.25)], np.float32)
    known = _reduced(samples, boxes, mean, basis, usual)
    gamma = 1.0
    kernel = _kernel(known, known, gamma)
    target = stretched(overlaps)
    base = np.zeros(target.shape[1], np.float32)
    kernel[np.diag_indices_from(kernel)] += _RIDGE / weight
    weights = linalg.solve(kernel, target - base, assume_a="pos", check_finite=False)
    near = np.flatnonzero(matched)
    shift = np.zeros((known.shape[1] + 1, 4), np.float32)
    if len(near) >= 8:
        shift = _shift(known[near], boxes[near], partner[near])
    return Closer(mean, basis, usual, known.astype(np.float32), weights.astype(np.float32), base, gamma, shift)


def _reduction(samples: Float, good: NDArray[np.bool_]) -> tuple[Float, Float]:
    """Mean and principal directions, scaled to a total variance of 1. Objects count as much as the background."""
    mean = samples.mean(0)
    chosen = np.r_[np.flatnonzero(good)[:500], np.flatnonzero(~good)[:500]]
    centred = samples[chosen] - mean
    size = centred.shape[1]
    last = (max(0, size - _DIMENSIONS), size - 1)
    _, vectors = linalg.eigh(centred.T @ centred, subset_by_index=last, check_finite=False)
    basis = vectors[:, ::-1].astype(np.float32)
    scale = float(np.sqrt((centred @ basis).var(0).sum())) + 1e-6
    return mean.astype(np.float32), basis / np.float32(scale)


def _form(boxes: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).astype(np.float64)
    return np.log(size.prod(1)) / 2, np.log(size[:, 0] / size[:, 1])


def _reduced(samples: Float, boxes: NDArray[np.floating], mean: Float, basis: Float, usual: Float) -> Float:
    size, aspect = _form(boxes)
    form = np.stack(((size - usual[0]) / usual[1], (aspect - usual[2]) / usual[3]), 1) * 0.15
    return np.concatenate(((samples - mean) @ basis, np.clip(form, -1, 1)), 1).astype(np.float32)


def _kernel(a: Float, b: Float, gamma: float) -> Float:
    product = a @ b.T
    distance = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * product
    return np.asarray(np.exp(-gamma * np.maximum(distance, 0)) + _LINEAR * product, np.float32)


def _shift(known: Float, boxes: Float, partner: Float) -> Float:
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    own = np.maximum(partner[:, 2:] - partner[:, :2], 1e-3)
    middle = ((partner[:, 2:] + partner[:, :2]) - (boxes[:, 2:] + boxes[:, :2])) / 2 / size
    target = np.concatenate((middle, np.log(own / size)), 1)
    rows = np.concatenate((known, np.ones((len(known), 1), np.float32)), 1)
    square = rows.T @ rows
    square[np.diag_indices_from(square)] += 0.02 * len(rows) / rows.shape[1] + 1e-3
    return np.asarray(linalg.solve(square, rows.T @ target, assume_a="pos", check_finite=False), np.float32)
