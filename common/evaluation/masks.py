"""How well a mask follows one object: region similarity J and boundary accuracy F, as DAVIS defines them.

Sources: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016 (J, F);
Pont-Tuset et al., "The 2017 DAVIS Challenge", 2017 (objects of a clip are averaged, then clips). The official tools leave
out the first frame, which is given, and the last; say so with `skip`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Skip = Literal["none", "first", "first-last"]
"""Which frames of a clip are not scored: none; the first, which was given; or first and last, as DAVIS's tools do."""

TOLERANCE = 0.008
"""How far apart two boundaries may be and still match, as a share of the picture's diagonal."""


@dataclass(frozen=True)
class MaskScores:
    """frames: how many were scored. j: mean region similarity, f: mean boundary accuracy, jf: their mean. j_recall,
    f_recall: share of frames above 0.5. All 0..1, NaN when there was no frame to score.
    """

    frames: int
    j: float
    f: float
    jf: float
    j_recall: float
    f_recall: float


def region_similarity(truth: Bool, predicted: Bool) -> float:
    """J: intersection over union of two (H, W) masks; 1 when both are empty."""
    truth, predicted = _checked(truth, predicted)
    union = np.count_nonzero(truth | predicted)
    return 1.0 if union == 0 else np.count_nonzero(truth & predicted) / union


def boundary_accuracy(truth: Bool, predicted: Bool, tolerance: float = TOLERANCE) -> float:
    """F: harmonic mean of the share of the predicted boundary near the true one, and the other way round.

    Near means within ceil(tolerance * diagonal) pixels. Two masks without boundary (empty, or the whole picture) score 1,
    one alone scores 0.
    """
    truth, predicted = _checked(truth, predicted)
    of_truth, of_predicted = boundary(truth), boundary(predicted)
    count_truth, count_predicted = np.count_nonzero(of_truth), np.count_nonzero(of_predicted)
    if count_truth == 0 and count_predicted == 0:
        return 1.0
    if count_truth == 0 or count_predicted == 0:
        return 0.0
    radius = int(np.ceil(tolerance * np.hypot(*truth.shape)))
    precision = np.count_nonzero(of_predicted & _grown(of_truth, radius)) / count_predicted
    recall = np.count_nonzero(of_truth & _grown(of_predicted, radius)) / count_truth
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def boundary(mask: Bool) -> Bool:
    """Pixels (H, W) whose right, lower or lower-right neighbour differs: one pixel wide, shifted half a pixel up and left."""
    edge = np.zeros(mask.shape, bool)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def score(pairs: Iterable[tuple[Bool, Bool]], skip: Skip = "first") -> MaskScores:
    """One object over one clip. pairs: (truth, predicted) of every frame, in order; read once, one pair held at a time."""
    regions: list[float] = []
    boundaries: list[float] = []
    for number, (truth, predicted) in enumerate(pairs):
        if number > 0 or skip == "none":
            regions.append(region_similarity(truth, predicted))
            boundaries.append(boundary_accuracy(truth, predicted))
    if skip == "first-last":
        regions, boundaries = regions[:-1], boundaries[:-1]
    if not regions:
        return MaskScores(0, *[float("nan")] * 5)
    j, f = np.array(regions), np.array(boundaries)
    means = float(j.mean()), float(f.mean())
    return MaskScores(len(j), *means, sum(means) / 2, float((j > 0.5).mean()), float((f > 0.5).mean()))


def _checked(truth: Bool, predicted: Bool) -> tuple[Bool, Bool]:
    truth, predicted = np.asarray(truth, bool), np.asarray(predicted, bool)
    if truth.ndim != 2 or truth.shape != predicted.shape:
        raise ValueError(f"masks have one shape (H, W), got {truth.shape} and {predicted.shape}")
    return truth, predicted


def _grown(edge: Bool, radius: int) -> Bool:
    """Everything within `radius` pixels of the edge, measured between pixel centres."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    grown: Bool = cv2.dilate(edge.astype(np.uint8), disk).astype(bool)
    return grown
