"""How well points are followed: the TAP-Vid scores, pixel errors, and PCK for hand-labelled joints.

Arrays: positions float (n, t, 2) in pixels, visibility bool (n, t), query frames int (n,).

Sources: Doersch et al., "TAP-Vid: A Benchmark for Tracking Any Point in a Video", NeurIPS 2022 (AJ, <delta_avg, OA, on
pictures scaled to 256 x 256); Biggs et al., "Creatures Great and SMAL", ACCV 2018 (PCK at 0.2 sqrt(mask area), BADJA).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

THRESHOLDS = (1, 2, 4, 8, 16)
"""Distances in pixels below which a position counts as right."""
RASTER = 256
"""TAP-Vid scales every picture to this width and height before it measures."""


@dataclass(frozen=True)
class PointScores:
    """scored: how many (point, frame) pairs were. aj: average Jaccard; delta_avg: mean share of visible points within
    each threshold; oa: share of right visibility flags; jaccard, within: the same by threshold. mean_error, median_error:
    pixels between truth and prediction where the truth is visible and a position was given. missing: share of visible
    truth without a predicted position. Shares are 0..1; NaN when nothing could be scored.
    """

    scored: int
    aj: float
    delta_avg: float
    oa: float
    jaccard: tuple[float, ...]
    within: tuple[float, ...]
    mean_error: float
    median_error: float
    missing: float


def score(
    truth: Array,
    truth_visible: Bool,
    query_frame: NDArray[np.integer],
    predicted: Array,
    predicted_visible: Bool,
    size: tuple[int, int] | None = None,
    labelled: Bool | None = None,
) -> PointScores:
    """TAP-Vid scores, query-first: only frames after a point's query frame count.

    predicted: a position that is not finite is a point without one: wrong at every threshold. size: (width, height) of the
    pictures, to measure on the 256 x 256 raster as published; None measures in the pictures' own pixels. The errors are
    always in own pixels. labelled: (t,) or (n, t), False where there is no truth, as between BADJA's labelled frames.
    Raises ValueError when shapes do not fit together.
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    truth_visible, predicted_visible = np.asarray(truth_visible, bool), np.asarray(predicted_visible, bool)
    if truth.ndim != 3 or truth.shape[2] != 2 or truth.shape != predicted.shape:
        raise ValueError(f"positions are (n, t, 2) each, got {truth.shape} and {predicted.shape}")
    if not truth_visible.shape == predicted_visible.shape == truth.shape[:2] or len(query_frame) != len(truth):
        raise ValueError("visibility flags are (n, t) and query frames (n,), as many as positions")
    frames = np.arange(truth.shape[1])
    scored = frames > np.asarray(query_frame)[:, None]
    if labelled is not None:
        scored = scored & np.asarray(labelled, bool)
    given: Bool = np.isfinite(predicted[..., 0]) & np.isfinite(predicted[..., 1])
    error = np.where(given[..., None], predicted - truth, np.inf)
    scaled = error if size is None else error * (RASTER / np.array(size, np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        jaccard, within = _by_threshold(
            np.hypot(scaled[..., 0], scaled[..., 1]), scored, truth_visible, predicted_visible
        )
    visible = scored & truth_visible
    pixels = np.hypot(error[..., 0], error[..., 1])[visible & given]
    return PointScores(
        scored=int(scored.sum()),
        aj=float(np.mean(jaccard)),
        delta_avg=float(np.mean(within)),
        oa=_share((truth_visible == predicted_visible) & scored, scored),
        jaccard=jaccard,
        within=within,
        mean_error=float(pixels.mean()) if pixels.size else float("nan"),
        median_error=float(np.median(pixels)) if pixels.size else float("nan"),
        missing=_share(visible & ~given, visible),
    )


def pck(truth: Array, visible: Bool, predicted: Array, tolerance: Array) -> float:
    """Share of visible positions that are at most `tolerance` pixels off. tolerance: (t,), per frame; for BADJA it is
    0.2 * sqrt(area of the object's mask). Positions (n, t, 2), visible (n, t). NaN when nothing is visible.
    """
    error = np.hypot(*np.moveaxis(np.asarray(predicted, np.float64) - truth, 2, 0))
    return _share((error <= tolerance) & visible, np.asarray(visible, bool))


def _by_threshold(
    distance: Array, scored: Bool, truth_visible: Bool, predicted_visible: Bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    jaccard, within = [], []
    visible = scored & truth_visible
    for threshold in THRESHOLDS:
        right = distance < threshold
        found = np.count_nonzero(right & visible & predicted_visible)
        # A position that is claimed to be visible and is hidden, or is elsewhere, is a false alarm.
        false = np.count_nonzero(scored & predicted_visible & (~truth_visible | ~right))
        total = np.count_nonzero(visible) + false
        jaccard.append(found / total if total else float("nan"))
        within.append(_share(right & visible, visible))
    return tuple(jaccard), tuple(within)


def _share(part: Bool, whole: Bool) -> float:
    count = np.count_nonzero(whole)
    return np.count_nonzero(part) / count if count else float("nan")
