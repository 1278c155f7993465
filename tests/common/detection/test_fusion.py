"""Weighted boxes fusion: what several detectors agree on gets surer, what one sees alone less sure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.detection import registry
from common.detection.contract import Detections, Detector
from common.detection.fusion import weighted_fusion
from common.geometry.types import Mask


def found(*rows):
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


A = (0, 0, 10, 10, 0.8, 0)
B = (0, 0, 12, 10, 0.4, 0)
ELSEWHERE = (50, 50, 60, 60, 0.6, 0)
OTHER_CLASS = (0, 0, 10, 10, 0.5, 1)


@pytest.mark.parametrize(
    ("several", "weights", "boxes", "scores", "classes"),
    [
        ([found(A), found(A)], None, [A[:4]], [0.8], [0]),
        ([found(A), found(B)], None, [(0, 0, 32 / 3, 10)], [0.6], [0]),
        ([found(A), found(B), found()], None, [(0, 0, 32 / 3, 10)], [0.4], [0]),
        ([found(A), found(ELSEWHERE)], None, [A[:4], ELSEWHERE[:4]], [0.4, 0.3], [0, 0]),
        ([found(A), found(OTHER_CLASS)], None, [A[:4], A[:4]], [0.4, 0.25], [0, 1]),
        ([found(A, ELSEWHERE)], None, [A[:4], ELSEWHERE[:4]], [0.8, 0.6], [0, 0]),
        ([found(A), found()], [3, 1], [A[:4]], [0.6], [0]),
        ([found(A), found(B)], [1, 2], [(0, 0, 11, 10)], [0.8 * 2 / 3], [0]),
        ([found(), found()], None, [], [], []),
        ([], None, [], [], []),
    ],
)
def test_fuses(several, weights, boxes, scores, classes):
    out = weighted_fusion(several, weights)
    np.testing.assert_allclose(out.xyxy, np.array(boxes, np.float32).reshape(-1, 4), rtol=1e-5)
    np.testing.assert_allclose(out.scores, scores, rtol=1e-5)
    assert out.classes.tolist() == classes


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_fusion_stays_within_what_was_seen(seed, count):
    rng = np.random.default_rng(seed)
    several = []
    for _ in range(count):
        xy, wh = rng.uniform(0, 40, (12, 2)), rng.uniform(2, 30, (12, 2))
        rows = np.concatenate((xy, xy + wh, rng.uniform(0.01, 1, (12, 1)), rng.integers(0, 2, (12, 1))), 1)
        several.append(found(*rows))
    out = weighted_fusion(several)
    everything = np.concatenate([one.xyxy for one in several])
    assert (out.xyxy >= everything.min(0) - 1e-3).all() and (out.xyxy <= everything.max(0) + 1e-3).all()
    assert out.scores.max() <= max(one.scores.max() for one in several) + 1e-6
    assert (np.diff(out.scores) <= 1e-7).all()
    same = weighted_fusion(several[::-1])
    np.testing.assert_allclose(np.sort(same.scores), np.sort(out.scores), atol=1e-4)


def test_masks_are_those_of_the_surest():
    mask = [Mask.from_array(np.full((4, 4), n)) for n in (True, False)]
    a, b = (
        Detections(np.array([[0, 0, 4, 4]]), np.array([s]), np.array([0]), (m,))
        for s, m in zip((0.3, 0.9), mask, strict=True)
    )
    assert weighted_fusion([a, b]).masks == (mask[1],)
    assert weighted_fusion([a, found(A)]).masks is None


@pytest.mark.parametrize(("weights", "overlap"), [([1.0], 0.5), ([1, 0], 0.5), (None, 1.5)])
def test_refuses_nonsense(weights, overlap):
    with pytest.raises(ValueError):
        weighted_fusion([found(A), found(B)], weights, overlap)


def test_names_with_plus_are_one_detector():
    both = registry.make("hog+motion")
    assert isinstance(both, Detector)
    assert both.card.classes == ("person", "") and both.card.temporal and both.card.name == "hog+motion"
    image = np.random.default_rng(0).integers(0, 255, (160, 120, 3), dtype=np.uint8)
    assert len(both.detect([image, image])) == 2
