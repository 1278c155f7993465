"""Thresholds per class, suppression, and the way of boxes from a network's input back to the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.detection.contract import Detections
from common.detection.inputs import letterbox, stretch
from common.detection.selection import Selection, select, suppress
from common.geometry.measures import box_iou

NAMES = ("person", "car", "dog")
FOUND = Detections(
    np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [40, 0, 50, 10], [0, 0, 10, 10]], np.float32),
    np.array([0.3, 0.9, 0.5, 0.6, 0.8], np.float32),
    np.array([0, 0, 1, 2, 1]),
)


@pytest.mark.parametrize(
    ("chosen", "scores"),
    [
        (Selection(), [0.9, 0.8, 0.6, 0.5, 0.3]),
        (Selection(0.5), [0.9, 0.8, 0.6, 0.5]),
        (Selection(0.0, most=2), [0.9, 0.8]),
        (Selection(0.95, {"car": 0.4}), [0.8, 0.5]),
        (Selection(0.1, {"car": 0.55}), [0.9, 0.8, 0.6, 0.3]),
        (Selection(0.0, classes=["dog"]), [0.6]),
        (Selection(0.0, {"unknown": 0.1}, classes=[]), []),
        (Selection(0.0, overlap=0.5), [0.9, 0.8, 0.6, 0.5]),
        (Selection(0.0, overlap=0.5, across=True), [0.9, 0.6, 0.5]),
    ],
)
def test_selects(chosen, scores):
    np.testing.assert_allclose(select(FOUND, NAMES, chosen).scores, scores)


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"per_class": {"a": -1}}, {"overlap": 2}, {"most": 0}])
def test_refuses_nonsense(wrong):
    with pytest.raises(ValueError):
        Selection(**wrong)


boxes = st.lists(
    st.tuples(
        *(st.floats(0, 50) for _ in range(2)), *(st.floats(1, 30) for _ in range(2)), st.floats(0, 1), st.integers(0, 2)
    ),
    max_size=25,
)


@given(boxes, st.floats(0.1, 0.9))
def test_suppression_keeps_one_of_each(rows, overlap):
    """What stays does not overlap within its class; what goes overlaps something surer that stays."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    xyxy = np.concatenate((table[:, :2], table[:, :2] + table[:, 2:4]), 1)
    kept = suppress(xyxy, table[:, 4], table[:, 5], overlap)
    iou = box_iou(xyxy, xyxy)
    same = table[:, 5][:, None] == table[:, 5]
    for i in range(len(table)):
        rivals = [k for k in kept if k != i and same[i, k] and iou[i, k] > overlap]
        if i in kept:
            assert not rivals
        else:
            assert any(table[k, 4] >= table[i, 4] for k in rivals)
    assert (np.diff(table[kept, 4]) <= 0).all()


def test_suppression_of_turned_boxes():
    """A cross of two long boxes overlaps little although their hulls are nearly the same."""
    cross = [[50, 50, 60, 6, 0.78], [50, 50, 60, 6, -0.78], [51, 50, 60, 6, 0.80]]
    assert suppress(cross, [0.9, 0.8, 0.7], None, 0.5).tolist() == [0, 1]


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([letterbox, stretch]),
    st.tuples(*(st.floats(0, 1) for _ in range(4))),
)
def test_boxes_come_back(width, height, fit, where):
    image = np.zeros((height, width, 3), np.uint8)
    out, how = fit(image, 96, 64)
    assert out.shape == (64, 96, 3)
    x, y = np.sort(np.array(where)[[0, 1]]) * width, np.sort(np.array(where)[[2, 3]]) * height
    box = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    there = box * np.array([how.sx, how.sy] * 2, np.float32) + np.array([how.dx, how.dy] * 2, np.float32)
    np.testing.assert_allclose(how.boxes(there), box, atol=1e-2)
    far = how.boxes(np.array([[-1e4, -1e4, 1e4, 1e4]], np.float32))
    np.testing.assert_allclose(far, [[0, 0, width, height]])
