"""Patches around points: sampling, and sub-pixel affine alignment to the key frame's patch.

Inverse-compositional alignment (Baker & Matthews, "Lucas-Kanade 20 Years On", IJCV 2004) with gain and bias solved along,
weights per pixel, and Gaussian priors on the shift and the affine change, all points at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

RADIUS = 8
SIDE = 2 * RADIUS + 1
AREA = SIDE * SIDE
_axis = np.arange(-RADIUS, RADIUS + 1, dtype=np.float64)
OFFSETS: F64 = np.stack([np.tile(_axis, SIDE), np.repeat(_axis, SIDE)], 1)
"""(AREA, 2) x, y of each patch pixel relative to the point, row by row."""
_OFFSETS32: F32 = OFFSETS.astype(np.float32)
CENTRED: F32 = np.exp(-(OFFSETS**2).sum(1) / (2 * 5.0**2)).astype(np.float32)
"""How much each pixel of a patch matters to its point."""
CORE: F32 = np.exp(-(OFFSETS**2).sum(1) / (2 * 2.0**2)).astype(np.float32)
"""The same for the question whether the point itself is covered."""
_INNER: F32 = np.exp(-(OFFSETS**2).sum(1) / (2 * 3.0**2)).astype(np.float32)
SCALE = float(RADIUS) / 2
"""Affine parameters are in units of change per SCALE pixels, so that all parameters are in pixels."""


def sample(gray: F32, xy: F64, affine: F64) -> F32:
    """Values (n, AREA) of the picture at xy + affine @ offset, bilinear, the border repeated.

    gray: float32 (H, W). xy: (n, 2). affine: (n, 2, 2).
    """
    n = len(xy)
    if n == 0:
        return np.zeros((0, AREA), np.float32)
    # cv2.remap takes sides below 32768: one row per point, in pieces.
    where32 = _OFFSETS32 @ affine.transpose(0, 2, 1).astype(np.float32) + xy[:, None].astype(np.float32)
    rows = [
        cv2.remap(gray, where32[i : i + 16384], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for i in range(0, n, 16384)
    ]
    out: F32 = np.concatenate(rows) if len(rows) > 1 else rows[0]
    return out


def inside(xy: F64, affine: F64, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Bool (n, AREA): patch pixels that lie in a picture of size (width, height)."""
    where = OFFSETS @ affine.transpose(0, 2, 1) + xy[:, None]
    result: NDArray[np.bool_] = np.asarray(((where >= 0) & (where <= np.array(size) - 1)).all(2))
    return result


def jacobians(gray: F32, xy: F64) -> F32:
    """(n, AREA, 8) derivatives of the patch by shift x, y, affine xx, xy, yx, yy, by bias and by gain, at the key frame."""
    eye = np.broadcast_to(np.eye(2), (len(xy), 2, 2))
    right, below = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    gx = (sample(gray, xy + right, eye) - sample(gray, xy - right, eye)) / 2
    gy = (sample(gray, xy + below, eye) - sample(gray, xy - below, eye)) / 2
    ox, oy = (OFFSETS / SCALE).astype(np.float32).T
    values = sample(gray, xy, eye)
    out: F32 = np.stack([gx, gy, gx * ox, gx * oy, gy * ox, gy * oy, np.ones_like(gx), values], 2)
    return out


@dataclass(frozen=True)
class Aligned:
    """xy: (n, 2). affine: (n, 2, 2). score: (n,) -1..1 correlation with the template, noise discounted. core: (n,) 0..1
    share of the innermost pixels that fit. fits: (n, AREA) 0..1 how well each pixel fits. information: (n,) pixels,
    standard deviation that the texture leaves to the position in its worst direction.
    """

    xy: F64
    affine: F64
    score: F32
    core: F32
    fits: F32
    deviation: F64


def align(
    gray: F32,
    template: F32,
    jacobian: F32,
    weights: F32,
    xy: F64,
    affine: F64,
    prior_xy: F64,
    prior_px: F64,
    noise: float,
    iterations: int = 4,
    affine_px: float = 0.25,
) -> Aligned:
    """Move and bend patches until they match their templates.

    template: (n, AREA). jacobian: from `jacobians`. weights: (n, AREA) 0..1. xy, affine: where to start. prior_xy: (n, 2)
    where the neighbours expect the point, prior_px: (n,) how far that may be off. noise: standard deviation of the
    picture's noise, grey levels. affine_px: how many pixels the affine may bend at SCALE pixels per frame.
    """
    n = len(xy)
    w_sum = weights.sum(1) + 1e-6
    t_mean = (weights * template).sum(1) / w_sum
    t_dev = template - t_mean[:, None]
    t_var = (weights * t_dev * t_dev).sum(1) / w_sum
    # Neighbouring pixels are not independent and the model is never exact: a floor that grows with the contrast.
    sigma2 = np.maximum(noise * noise, 0.02 * t_var) + 1.0
    jw = jacobian * weights[..., None]
    hessian = (jw.transpose(0, 2, 1) @ jacobian).astype(np.float64) / (4.0 * sigma2[:, None, None])
    prior = np.zeros((n, 8))
    prior[:, :2] = (1.0 / np.maximum(prior_px, 1e-3) ** 2)[:, None]
    prior[:, 2:6] = 1.0 / affine_px**2
    diagonal = np.arange(8)
    data = hessian[:, :2, :2].copy()
    hessian[:, diagonal, diagonal] += prior + np.array([0, 0, 0, 0, 0, 0, 1e-4, 1e-4])
    inverse = np.linalg.inv(hessian)
    position, bend = xy.astype(np.float64).copy(), affine.astype(np.float64).copy()
    start_bend = bend.copy()
    patch = sample(gray, position, bend)
    cut = 2.5 * np.sqrt(sigma2 + 0.03 * t_var)[:, None]
    for iteration in range(iterations + 1):
        p_mean = (weights * patch).sum(1) / w_sum
        p_dev = patch - p_mean[:, None]
        cov = (weights * p_dev * t_dev).sum(1) / w_sum
        p_var = (weights * p_dev * p_dev).sum(1) / w_sum
        gain = np.clip(np.sqrt((p_var + 1.0) / (t_var + 1.0)), 0.4, 2.5)
        error = p_dev / gain[:, None] - t_dev
        fits = 1.0 / (1.0 + (error / cut) ** 2)
        if iteration == iterations:
            break
        right = ((error * fits)[:, None] @ jw)[:, 0].astype(np.float64) / (4.0 * sigma2[:, None])
        # The prior pulls the total shift (in template pixels) to the expected one and the total bend to none.
        back = np.linalg.inv(bend)
        right[:, :2] += prior[:, :2] * np.einsum("nij,nj->ni", back, position - prior_xy)
        right[:, 2:6] += prior[:, 2:6] * SCALE * (back @ (bend - start_bend)).reshape(n, 4)
        step = np.einsum("nij,nj->ni", inverse, right)
        step[:, :2] = np.clip(step[:, :2], -4, 4)
        turn = np.clip(step[:, 2:6], -1, 1).reshape(n, 2, 2) / SCALE
        position -= np.einsum("nij,nj->ni", bend, step[:, :2])
        bend = bend - bend @ turn
        patch = sample(gray, position, bend)
    floor = noise * noise
    bottom = np.sqrt(np.maximum(t_var - floor, 0.3 * t_var) * np.maximum(p_var - floor, 0.3 * p_var)) + 2.0
    score = np.clip(cov / bottom, -1, 1)
    core = (CORE * fits).sum(1) / CORE.sum()
    trace, det = data[:, 0, 0] + data[:, 1, 1], data[:, 0, 0] * data[:, 1, 1] - data[:, 0, 1] ** 2
    weakest = trace / 2 - np.sqrt(np.maximum(trace * trace / 4 - det, 0))
    deviation = 1.0 / np.sqrt(np.maximum(weakest, 1e-6))
    return Aligned(position, bend, score, core.astype(np.float32), fits.astype(np.float32), deviation)


def likeness(before: F32, xy: F64, after: F32, moved: F64) -> F32:
    """Correlation (n,) of the innermost few pixels around xy (n, 2) in one picture and around moved (n, 2) in the next."""
    eye = np.broadcast_to(np.eye(2), (len(xy), 2, 2))
    total = _INNER.sum()
    old, new = sample(before, xy, eye), sample(after, moved, eye)
    old = old - (old @ _INNER / total)[:, None]
    new = new - (new @ _INNER / total)[:, None]
    together = (old * new) @ _INNER / total
    # What noise of a few grey levels does to flat ground is forgiven.
    result: F32 = (together + 9.0) / (np.sqrt(((old * old) @ _INNER) * ((new * new) @ _INNER)) / total + 9.0)
    return result


def noise_level(gray: F32) -> float:
    """Standard deviation of the noise in grey levels, from the median of a Laplacian-like difference (Immerkaer, "Fast
    noise variance estimation", CVIU 1996, with the median for the mean so that texture counts less)."""
    if min(gray.shape) < 3:
        return 1.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    high = np.abs(cv2.filter2D(gray, cv2.CV_32F, kernel)[1:-1:2, 1:-1:2])
    return float(max(0.5, np.median(high) / (0.6745 * 6.0)))
