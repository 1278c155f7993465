"""TAP-Vid scores against a plain, slow transcription of the paper's definitions, and cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.evaluation import points


def _plain(truth, truth_visible, query, predicted, predicted_visible, width, height):
    """The definitions, one point and frame at a time."""
    jaccards, deltas = [], []
    right_flags = flags = 0
    for threshold in (1, 2, 4, 8, 16):
        tp = fp = fn = within = visible = 0
        for n in range(len(truth)):
            for t in range(query[n] + 1, truth.shape[1]):
                dx = (predicted[n, t, 0] - truth[n, t, 0]) * 256 / width
                dy = (predicted[n, t, 1] - truth[n, t, 1]) * 256 / height
                near = math.hypot(dx, dy) < threshold
                if truth_visible[n, t]:
                    visible += 1
                    within += near
                    tp += near and predicted_visible[n, t]
                    fn += not (near and predicted_visible[n, t])
                fp += predicted_visible[n, t] and not (near and truth_visible[n, t])
                if threshold == 1:
                    flags += 1
                    right_flags += truth_visible[n, t] == predicted_visible[n, t]
        jaccards.append(tp / (tp + fp + fn))
        deltas.append(within / visible)
    return np.mean(jaccards), np.mean(deltas), right_flags / flags


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_definitions(seed):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 200, (7, 12, 2))
    predicted = truth + rng.normal(0, 6, truth.shape) * rng.random((7, 12, 1))
    visible, claimed = rng.random((7, 12)) < 0.7, rng.random((7, 12)) < 0.7
    query = rng.integers(0, 6, 7)
    scores = points.score(truth, visible, query, predicted, claimed, (400, 200))
    expected = _plain(truth, visible, query, predicted, claimed, 400, 200)
    assert (scores.aj, scores.delta_avg, scores.oa) == pytest.approx(expected, abs=1e-12)


def _case(offset=0.0, claimed=True, frames=4):
    truth = np.zeros((1, frames, 2)) + 50
    return (
        truth,
        np.ones((1, frames), bool),
        np.zeros(1, int),
        truth + np.array([offset, 0]),
        np.full((1, frames), claimed),
    )


def test_own_pixels_and_the_raster():
    own = points.score(*_case(3.0))
    assert own.within == (0, 0, 1, 1, 1) and own.delta_avg == own.aj == pytest.approx(0.6)
    assert own.mean_error == own.median_error == pytest.approx(3)
    raster = points.score(*_case(3.0), size=(512, 512))
    assert raster.within == (0, 1, 1, 1, 1) and raster.mean_error == pytest.approx(3)


def test_a_wrong_visible_position_is_both_missed_and_a_false_alarm():
    assert points.score(*_case(100.0)).jaccard == (0, 0, 0, 0, 0)
    half = _case()
    half[3][0, 2:] += 100  # frames 1..3 count: one right, two wrong -> 1 / (3 + 2)
    assert points.score(*half).jaccard[0] == pytest.approx(1 / 5)
    assert points.score(*_case(claimed=False)).aj == 0 and points.score(*_case(claimed=False)).delta_avg == 1


def test_lost_points_labels_and_nothing_to_score():
    lost = list(_case())
    lost[3][0, 1] = np.nan
    scores = points.score(*lost)
    assert scores.missing == pytest.approx(1 / 3) and scores.within[0] == pytest.approx(2 / 3)
    assert scores.mean_error == 0
    assert points.score(*_case(), labelled=np.array([True, False, True, False])).scored == 1
    empty = points.score(*_case(frames=1))
    assert empty.scored == 0 and np.isnan(empty.aj) and np.isnan(empty.mean_error)


def test_pck():
    truth, visible = np.zeros((2, 3, 2)), np.array([[True, True, True], [True, False, False]])
    predicted = truth + np.array([3.0, 4.0])
    assert points.pck(truth, visible, predicted, np.array([5.0, 4.9, 5.0])) == pytest.approx(3 / 4)
    predicted[0, 0] = np.nan
    assert points.pck(truth, visible, predicted, np.array([5.0, 4.9, 5.0])) == pytest.approx(2 / 4)


@pytest.mark.parametrize("wrong", [0, 1, 2, 3, 4])
def test_shapes_are_checked(wrong):
    case = list(_case())
    case[wrong] = np.repeat(case[wrong], 2, 0)
    with pytest.raises(ValueError, match="are \\(n, t"):
        points.score(*case)
