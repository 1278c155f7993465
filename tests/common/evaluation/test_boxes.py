"""Box scores on cases worked out by hand, and what must hold for any boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.evaluation import boxes

NAN = [np.nan] * 4
BOX = [10.0, 20.0, 40.0, 30.0]


@pytest.mark.parametrize(
    ("predicted", "overlap"),
    [
        (BOX, 1.0),
        ([50, 20, 40, 30], 0.0),  # touching
        ([30, 20, 40, 30], 1 / 3),
        ([10, 20, 20, 30], 0.5),
        ([10, 20, 0, 30], 0.0),
        (NAN, 0.0),
    ],
)
def test_overlap(predicted, overlap):
    assert boxes.overlaps(np.array([BOX]), np.array([predicted], float)) == pytest.approx([overlap])


def test_curves_use_the_benchmarks_own_inequalities():
    """An overlap must be above its threshold, a distance at most its threshold."""
    truth = np.array([BOX, BOX])
    half, twenty = [10, 20, 20, 30], [30, 20, 40, 30]
    predicted = np.array([half, twenty], float)
    success = boxes.success_curve(truth, predicted)
    assert success[0] == 1 and success[9] == 0.5 and success[10] == 0
    precision = boxes.precision_curve(truth, predicted)
    assert precision[9] == 0 and precision[10] == 0.5 and precision[19] == 0.5 and precision[20] == 1
    share = boxes.normalised_precision_curve(truth, predicted)  # errors of 10/40 and 20/40
    assert share[24] == 0 and share[25] == 0.5 and share[49] == 0.5 and share[50] == 1


def test_summary_of_a_clip_with_absence_and_loss():
    truth = np.array([BOX, NAN, [1, 1, 0, 5], BOX, BOX])
    predicted = np.array([BOX, BOX, BOX, NAN, BOX])
    scores = boxes.score(truth, predicted)
    assert scores.frames == 3
    assert scores.overlap == pytest.approx(2 / 3) and scores.lost == pytest.approx(1 / 3)
    assert scores.auc == pytest.approx(2 / 3 * 20 / 21)
    assert (scores.precision, scores.normalised_precision, scores.normalised_auc) == pytest.approx([2 / 3] * 3)
    nothing = boxes.score(np.array([NAN]), np.array([BOX]))
    assert nothing.frames == 0 and np.isnan(nothing.auc)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="equal in number"):
        boxes.score(np.zeros((3, 4)), np.zeros((2, 4)))


@given(
    arrays(float, (6, 4), elements=st.floats(1, 100, width=32)),
    arrays(float, (6, 4), elements=st.floats(1, 100, width=32)),
    st.floats(0.5, 8),
    st.floats(-300, 300),
)
def test_overlap_is_symmetric_and_ignores_shift_and_scale(a, b, scale, shift):
    overlap = boxes.overlaps(a, b)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    np.testing.assert_allclose(overlap, boxes.overlaps(b, a), atol=1e-12)
    moved = [np.concatenate([v[:, :2] * scale + shift, v[:, 2:] * scale], 1) for v in (a, b)]
    np.testing.assert_allclose(boxes.overlaps(*moved), overlap, atol=1e-9)
    assert (np.diff(boxes.success_curve(a, b)) <= 0).all() and (np.diff(boxes.precision_curve(a, b)) >= 0).all()
