"""How the neighbourhood of a point moves: robust local affine motion, weighted by who has moved together so far.

A point alone sees an occluder and follows it. Its neighbours of the same motion layer know better, and which ones these
are is learned: for each point and each of its neighbours a running mean of the squared `stray`, how far the neighbour
departs from the point's local motion. Arrays over (points, neighbours); nothing grows with time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

STRAY_LIMIT = 6.0
"""Residuals (pixels per frame) count at most this much in a mean stray, so that one wild frame is forgotten."""

DISTRUST = 6.0
"""Stray that a hidden point presumes of a newcomer, pixels squared."""

RIDGE = 8.0
"""Pixels; raise it to need a wider spread of neighbours before a local motion may turn, scale or shear."""


@dataclass(frozen=True)
class LocalMotion:
    """Displacement field shift + gradient @ offset around each of n points, offset from the point.

    shift: (n, 2) pixels. gradient: (n, 2, 2), change of displacement per pixel. weight: (n,) sum of the weights of the
    neighbours that agree. spread: (n,) root mean square of what these deviate, pixels.
    """

    shift: F64
    gradient: F64
    weight: F64
    spread: F64


def residual2(shift: F64, gradient: F64, offset: F32, moved: F32) -> F32:
    """Squared distances (n, k) between neighbours' displacements and what the local motions expect.

    shift: (n, 2). gradient: (n, 2, 2). offset, moved: (n, k, 2) where neighbours lie and how they moved.
    """
    expected = offset @ gradient.transpose(0, 2, 1).astype(np.float32) + shift[:, None].astype(np.float32)
    gap = moved - expected
    result: F32 = gap[..., 0] ** 2 + gap[..., 1] ** 2
    return result


def fit(offset: F32, moved: F32, weights: F32) -> LocalMotion:
    """Weighted least squares of an affine displacement field around each point.

    offset, moved: (n, k, 2). weights: (n, k) >= 0. Without any weight the motion is zero with weight 0.
    """
    n, k = weights.shape
    basis = np.concatenate([np.ones((n, k, 1), np.float32), offset], 2)
    weighted = basis * weights[..., None]
    normal = (weighted.transpose(0, 2, 1) @ basis).astype(np.float64)
    right = (weighted.transpose(0, 2, 1) @ moved).astype(np.float64)
    total = normal[:, 0, 0].copy()
    slack = (total + 1.0) * RIDGE * RIDGE
    normal[:, 0, 0] += 1e-6
    normal[:, 1, 1] += slack
    normal[:, 2, 2] += slack
    solved = np.linalg.solve(normal, right)
    shift, gradient = solved[:, 0], solved[:, 1:].transpose(0, 2, 1)
    error = (weights * residual2(shift, gradient, offset, moved)).sum(1)
    return LocalMotion(shift, gradient, total, np.sqrt(error / (total + 1e-6)))


def robust_fit(
    offset: F32, moved: F32, weights: F32, own: F64, trusted: NDArray[np.bool_], scale: float
) -> LocalMotion:
    """`fit` with disagreeing neighbours weighted down (Geman-McClure, three rounds).

    own: (n, 2) displacement that each point measured itself; where `trusted`, the first round keeps to neighbours that
    moved like it. scale: pixels at which a neighbour's weight falls to a quarter.
    """
    gap = moved - own[:, None].astype(np.float32)
    gate = 1.0 / (1.0 + (gap**2).sum(2) / np.float32(4 * scale * scale)) ** 2
    motion = fit(offset, moved, weights * np.where(trusted[:, None], gate, np.float32(1)))
    for factor in (2.0, 1.0):
        away = residual2(motion.shift, motion.gradient, offset, moved) / np.float32((factor * scale) ** 2)
        motion = fit(offset, moved, weights / (1.0 + away) ** 2)
    return motion


def prior_stray(distance2: F32) -> F32:
    """What stray to expect of a pair without a history: near points are likelier to belong together. Pixels squared."""
    result: F32 = np.float32(0.1) + distance2 / np.float32(60.0**2)
    return result


def choose_neighbours(
    points: F64,
    pool: F64,
    usable: NDArray[np.bool_],
    old: NDArray[np.int32],
    stray: F32,
    age: F32,
    fresh: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    together: float,
    reach: float,
) -> tuple[NDArray[np.int32], F32, F32]:
    """The k pool members each point should listen to: near ones, seen ones, and ones that have moved along.

    points: (n, 2), they are the first n of pool (m, 2). usable: (m,) bool. old: (n, k) present neighbours, -1 for none,
    with their stray and age (n, k). fresh: (m,) bool, pool members that are somebody new, whose history does not count.
    seen: (n,) bool; a hidden point cannot tell whether a newcomer belongs to it or covers it, so it distrusts them.
    together, reach: pixels of stray and of distance that count alike. Returns neighbours, stray, age. Histories of
    neighbours that stay are kept. Memory in use is bounded by 256 rows at a time.
    """
    n, k = old.shape
    m = len(pool)
    new, new_stray, new_age = np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32), np.zeros((n, k), np.float32)
    pick = min(k, m)
    for first in range(0, n, 256):
        rows = slice(first, min(first + 256, n))
        row = np.arange(rows.start, rows.stop)
        gap = points[rows, None].astype(np.float32) - pool[None].astype(np.float32)
        distance2 = (gap * gap).sum(2)
        known = np.maximum(prior_stray(distance2), np.where(seen[rows, None], 0, np.float32(DISTRUST)))
        aged = np.zeros(distance2.shape, np.float32)
        keep_row, keep_column = np.nonzero((old[rows] >= 0) & ~fresh[old[rows]])
        target = old[rows][keep_row, keep_column]
        known[keep_row, target] = stray[rows][keep_row, keep_column]
        aged[keep_row, target] = age[rows][keep_row, keep_column]
        cost = known / np.float32(together**2) + np.sqrt(distance2) / np.float32(reach)
        cost[:, ~usable] += 4.0  # a hidden companion is of use again when it is found
        cost[row - first, row] = np.inf
        best = np.argpartition(cost, pick - 1, axis=1)[:, :pick] if pick < m else np.tile(np.arange(m), (len(row), 1))
        best = np.sort(best, axis=1)
        new[rows, :pick] = np.where(best == row[:, None], -1, best)
        new_stray[rows, :pick] = np.take_along_axis(known, best, 1)
        new_age[rows, :pick] = np.take_along_axis(aged, best, 1)
    return new, new_stray, new_age
