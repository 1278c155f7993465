"""Learning and applying the correlation filters of all objects at once.

The filter f of an object minimises, over the window's channels x and the wanted response y (a small bell on the target),

    |f * x - y|^2  +  |w f|^2  +  mu |f - f_before|^2

w, the spatial reliability, is small on the target and large off it, so that background in the window is used as negative
examples but never becomes part of the template; mu keeps the new filter near the one before. It is the model of Li et
al., "Learning spatial-temporal regularized correlation filters for visual tracking", CVPR 2018, solved by the alternating
direction method of multipliers: one step is a rank-one system per frequency, the other a division per cell.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from common.trackers.boxes.patches import Array

Complex = NDArray[np.complex64]

_STEPS = 3
_PENALTY = 300.0
_PENALTY_GROWTH = 10.0


def transform(features: Array) -> Complex:
    """Windowed features (n, C, c, c) -> spectra complex64 (n, C, c, c // 2 + 1), the window's centre cell at the origin."""
    cells = features.shape[-1]
    half, taper = cells // 2, _taper(cells)
    # Tapered and rolled by half of the cells in one go.
    shifted = np.empty_like(features)
    halves = ((slice(half, None), slice(None, cells - half)), (slice(None, half), slice(cells - half, None)))
    for rows, new_rows in halves:
        for columns, new_columns in halves:
            np.multiply(features[..., rows, columns], taper[rows, columns], out=shifted[..., new_rows, new_columns])
    spectra: Complex = scipy.fft.rfft2(shifted, workers=1)
    return spectra


def respond(filters: Complex, spectra: Complex) -> Array:
    """Response maps float32 (n, c, c) of n filters on n windows; the window's centre is at cell (c // 2, c // 2)."""
    cells = filters.shape[-2]
    summed = np.einsum("nchw,nchw->nhw", filters.conj(), spectra)
    maps = scipy.fft.irfft2(summed, s=(cells, cells), workers=1)
    shifted: Array = np.roll(maps, (cells // 2, cells // 2), (-2, -1)).astype(np.float32, copy=False)
    return shifted


def reliability(shape: Array, cells: int) -> Array:
    """Spatial weights w of targets: float32 (n, c, c), laid out for `learn`.

    shape: (n, 2) width and height of the targets in cells.
    """
    offset = np.arange(cells) - (cells - 1) / 2
    dx = np.abs(offset)[None, None, :] / np.maximum(shape[:, 0], 1.0)[:, None, None]
    dy = np.abs(offset)[None, :, None] / np.maximum(shape[:, 1], 1.0)[:, None, None]
    weight = 0.1 + 12.0 * (dx**2 + dy**2)
    weight = np.where(dx**2 + dy**2 > 0.55**2, 1e3, weight)
    shifted: Array = np.roll(weight, (-(cells // 2), -(cells // 2)), (-2, -1)).astype(np.float32)
    return shifted


def wanted(shape: Array, cells: int) -> Array:
    """Spectrum of the wanted response, real float32 (n, 1, c, c // 2 + 1): a bell of 1/16 of the target's size."""
    distance = np.minimum(np.arange(cells), cells - np.arange(cells)).astype(np.float32)
    square = distance[:, None] ** 2 + distance[None, :] ** 2
    sigma = np.sqrt(np.maximum(shape.prod(1), 1.0)) / 16
    bell = np.exp(-0.5 * square[None] / sigma[:, None, None] ** 2)
    spectrum: Array = scipy.fft.rfft2(bell, workers=1).real.astype(np.float32)
    return spectrum[:, None]


def learn(spectra: Complex, target: Array, weight: Array, before: Complex | None, stiffness: Array) -> Complex:
    """New filters complex64 (n, C, c, c // 2 + 1).

    spectra: of the windows, centred on the targets. before: the filters so far, None for the first. stiffness: (n,) mu;
    raising it makes the filter slower to change.
    """
    mu = np.zeros(len(spectra), np.float32) if before is None else np.asarray(stiffness, np.float32)
    learned = np.empty_like(spectra)
    # One object after the other: its spectra then stay in the processor's cache.
    for i, own in enumerate(spectra):
        wish = own * target[i]
        if before is not None:
            wish += mu[i] * before[i]
        learned[i] = _solve(own, wish, weight[i] ** 2, mu[i])
    return learned


def _solve(spectra: Complex, wish: Complex, square: Array, mu: np.float32) -> Complex:
    """The filter (C, c, c // 2 + 1) of one object. wish: what the window should answer with, and the filter so far."""
    cells = spectra.shape[-2]
    power = (spectra.real**2 + spectra.imag**2).sum(0)
    conjugate = spectra.conj()
    penalty = np.float32(_PENALTY)
    other = dual = solved = np.zeros((), np.complex64)
    for step in range(_STEPS):
        k = mu + penalty
        right = wish if step == 0 else penalty * other + wish - dual
        along = np.einsum("chw,chw->hw", conjugate, right) / (k + power)
        solved = right - spectra * along
        solved /= k
        sought = penalty * solved
        sought += dual
        space = scipy.fft.irfft2(sought, s=(cells, cells), workers=1, overwrite_x=True)
        space /= square + penalty
        other = scipy.fft.rfft2(space, workers=1)
        if step < _STEPS - 1:
            difference = solved - other
            difference *= penalty
            dual = difference + dual
        penalty *= np.float32(_PENALTY_GROWTH)
    found: Complex = other.astype(np.complex64, copy=False)
    return found


def only_target(filters: Complex, shape: Array) -> Complex:
    """The filters cut off outside the targets, shape (n, 2) in cells: blind to the background they were learned on."""
    cells = filters.shape[-2]
    offset = np.arange(cells) - (cells - 1) / 2
    inside_x = np.clip(0.5 * np.maximum(shape[:, 0, None], 3) + 0.5 - np.abs(offset), 0, 1)
    inside_y = np.clip(0.5 * np.maximum(shape[:, 1, None], 3) + 0.5 - np.abs(offset), 0, 1)
    mask = np.roll(inside_y[:, :, None] * inside_x[:, None, :], (-(cells // 2), -(cells // 2)), (-2, -1))
    space = scipy.fft.irfft2(filters, s=(cells, cells), workers=1) * mask[:, None].astype(np.float32)
    cut: Complex = scipy.fft.rfft2(space, workers=1).astype(np.complex64, copy=False)
    return cut


def _taper(cells: int) -> Array:
    ramp = np.hanning(cells + 2)[1:-1]
    taper: Array = np.outer(ramp, ramp).astype(np.float32)
    return taper
