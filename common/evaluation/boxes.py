"""How well one box follows one object: overlap, success, precision, normalised precision.

All functions take boxes as float arrays (n, 4), x, y, width, height in pixels, one row per frame. A predicted row that is
not finite means lost: overlap 0 and an infinite distance. A true row that is not finite, or without area, means that the
object is absent: the frame is left out, as the benchmarks' own tools do.

Sources: Wu, Lim, Yang, "Object Tracking Benchmark", TPAMI 2015 (success, precision); Mueller et al., "TrackingNet", ECCV
2018 (normalised precision and its area); Fan et al., "LaSOT", CVPR 2019 (normalised precision at 0.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OVERLAPS = np.linspace(0, 1, 21)
"""Overlap thresholds of the success curve: 0, 0.05 ... 1 (OTB)."""
PIXELS = np.arange(51.0)
"""Distance thresholds of the precision curve: 0, 1 ... 50 pixels (OTB)."""
SHARES = np.arange(51) / 100
"""Distance thresholds of the normalised precision curve: 0, 0.01 ... 0.5 of the object's size (TrackingNet)."""


@dataclass(frozen=True)
class BoxScores:
    """frames: how many were scored. overlap: mean intersection over union. auc: area under the success curve. success_50:
    share of frames with overlap above 0.5. precision: share of frames whose centre is within 20 pixels.
    normalised_precision: within 0.2 of the object's size (LaSOT); normalised_auc: mean over 0 to 0.5 (TrackingNet).
    lost: share of scored frames without a prediction. All 0..1, NaN when there was no frame to score.
    """

    frames: int
    overlap: float
    auc: float
    success_50: float
    precision: float
    normalised_precision: float
    normalised_auc: float
    lost: float


def score(truth: Array, predicted: Array) -> BoxScores:
    """Everything about one object. truth, predicted: (n, 4) each; ValueError when their shapes differ."""
    truth, predicted = _checked(truth, predicted)
    overlap = overlaps(truth, predicted)
    if len(overlap) == 0:
        return BoxScores(0, *[float("nan")] * 7)
    within, within_share = precision_curve(truth, predicted), normalised_precision_curve(truth, predicted)
    return BoxScores(
        frames=len(overlap),
        overlap=float(overlap.mean()),
        auc=float(success_curve(truth, predicted).mean()),
        success_50=float((overlap > 0.5).mean()),
        precision=float(within[20]),
        normalised_precision=float(within_share[20]),
        normalised_auc=float(within_share.mean()),
        lost=float((~_finite(predicted[_present(truth)])).mean()),
    )


def overlaps(truth: Array, predicted: Array) -> Array:
    """Intersection over union of every frame where the object is present, float64 (m,), 0..1."""
    truth, predicted = _checked(truth, predicted)
    keep = _present(truth)
    a, b = truth[keep], np.where(_finite(predicted[keep])[:, None], predicted[keep], 0.0)
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    union = a[:, 2:].prod(1) + np.clip(b[:, 2:], 0, None).prod(1) - shared
    found: Array = np.clip(shared / union, 0, 1)
    return found


def success_curve(truth: Array, predicted: Array) -> Array:
    """Share of frames whose overlap is above each of `OVERLAPS`, float64 (21,). Its mean is the AUC of OTB."""
    overlap = overlaps(truth, predicted)
    curve: Array = (overlap[:, None] > OVERLAPS).mean(0)
    return curve


def precision_curve(truth: Array, predicted: Array) -> Array:
    """Share of frames whose centre is at most each of `PIXELS` away, float64 (51,). Entry 20 is the OTB precision."""
    error = np.hypot(*_centre_errors(truth, predicted).T)
    curve: Array = (error[:, None] <= PIXELS).mean(0)
    return curve


def normalised_precision_curve(truth: Array, predicted: Array) -> Array:
    """The same with the error in x over the true width and in y over the true height, at `SHARES`, float64 (51,)."""
    truth, predicted = _checked(truth, predicted)
    error = np.hypot(*(_centre_errors(truth, predicted) / truth[_present(truth), 2:]).T)
    curve: Array = (error[:, None] <= SHARES).mean(0)
    return curve


def _checked(truth: Array, predicted: Array) -> tuple[Array, Array]:
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if truth.ndim != 2 or truth.shape[1] != 4 or truth.shape != predicted.shape:
        raise ValueError(f"boxes are (n, 4) each and equal in number, got {truth.shape} and {predicted.shape}")
    return truth, predicted


def _finite(rows: Array) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.isfinite(rows.sum(1))
    return finite


def _present(truth: Array) -> NDArray[np.bool_]:
    return _finite(truth) & (truth[:, 2] > 0) & (truth[:, 3] > 0)


def _centre_errors(truth: Array, predicted: Array) -> Array:
    truth, predicted = _checked(truth, predicted)
    keep = _present(truth)
    error = predicted[keep, :2] + predicted[keep, 2:] / 2 - truth[keep, :2] - truth[keep, 2:] / 2
    error[~_finite(predicted[keep])] = np.inf
    return error
