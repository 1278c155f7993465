"""J and F on cases worked out by hand, and against TrackEval's copy of the official boundary map."""

from __future__ import annotations

import numpy as np
import pytest
from trackeval.metrics import JAndF

from common.evaluation import masks

EMPTY = np.zeros((60, 80), bool)


def _square(y, x, side=20, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    mask[y : y + side, x : x + side] = True
    return mask


@pytest.mark.parametrize(
    ("truth", "predicted", "j", "f"),
    [
        (_square(10, 10), _square(10, 10), 1.0, 1.0),
        (EMPTY, EMPTY, 1.0, 1.0),
        (_square(10, 10), EMPTY, 0.0, 0.0),
        (EMPTY, _square(10, 10), 0.0, 0.0),
        (_square(10, 10), _square(10, 50), 0.0, 0.0),
        (_square(10, 10), _square(10, 11), 19 / 21, 1.0),  # the diagonal is 100: one pixel is tolerated
        (_square(10, 10), _square(10, 20), 1 / 3, None),
    ],
)
def test_pairs(truth, predicted, j, f):
    assert masks.region_similarity(truth, predicted) == pytest.approx(j)
    if f is not None:
        assert masks.boundary_accuracy(truth, predicted) == pytest.approx(f)
    for measure in (masks.region_similarity, masks.boundary_accuracy):
        assert measure(truth, predicted) == pytest.approx(measure(predicted, truth))


def test_tolerance_is_rounded_up_and_round():
    """Boundaries two pixels apart match where the tolerance is two; a diagonal step of (2, 2) is farther."""
    truth, beside = _square(10, 10), _square(10, 12)
    assert masks.boundary_accuracy(truth, beside, tolerance=0.011) == 1.0
    assert masks.boundary_accuracy(truth, beside, tolerance=0.01) < 1.0
    one, other = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    one[20, 20], other[24, 24] = True, True  # both boundaries are 2 x 2 blocks; nearest corners are (3, 3) apart
    assert masks.boundary_accuracy(one, other, tolerance=0.03) == 0.0
    assert masks.boundary_accuracy(one, other, tolerance=0.05) > 0.0


@pytest.mark.parametrize("seed", range(5))
def test_boundary_is_the_official_one(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((17, 23)) < 0.6
    np.testing.assert_array_equal(masks.boundary(mask), JAndF._seg2bmap(mask))


@pytest.mark.parametrize(("skip", "frames", "j"), [("none", 4, 0.75), ("first", 3, 2 / 3), ("first-last", 2, 0.5)])
def test_which_frames_count(skip, frames, j):
    square = _square(10, 10)
    pairs = [(square, square), (square, EMPTY), (square, square), (square, square)]
    scores = masks.score(iter(pairs), skip)
    assert scores.frames == frames and scores.j == scores.f == scores.jf == scores.j_recall == pytest.approx(j)


def test_nothing_to_score_and_wrong_shapes():
    assert np.isnan(masks.score([(EMPTY, EMPTY)]).jf)
    with pytest.raises(ValueError, match="one shape"):
        masks.region_similarity(EMPTY, np.zeros((60, 81), bool))
