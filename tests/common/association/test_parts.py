"""Algebra of the parts: filters, assignment, overlaps, camera text."""

from __future__ import annotations

import copy
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.association import kalman, masks, overlap
from common.association.assignment import assign
from common.association.camera import text
from common.association.kalman import MotionModel
from common.association.table import Table
from common.errors import UserError
from common.geometry.types import Mask
from common.tracking.snapshot import pack


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.floats(0.2, 1.2))
@settings(deadline=None, max_examples=60)
def test_assignment_is_the_best_there_is(seed: int, n: int, m: int, limit: float) -> None:
    cost = np.random.default_rng(seed).random((n, m)).round(2)
    rows, columns = assign(cost, limit)
    assert (cost[rows, columns] < limit).all() and len(set(rows)) == len(rows) and len(set(columns)) == len(columns)
    best = 0.0
    wide = np.minimum(cost - limit, 0) if n <= m else np.minimum(cost - limit, 0).T
    for chosen in permutations(range(wide.shape[1]), wide.shape[0]):
        best = min(best, float(wide[np.arange(wide.shape[0]), chosen].sum()))
    assert (cost[rows, columns] - limit).sum() == pytest.approx(best, abs=1e-9)


@given(st.integers(0, 10**6), st.floats(0.1, 5), st.floats(0.1, 5))
@settings(deadline=None, max_examples=40)
def test_two_short_steps_of_prediction_are_one_long_one(seed: int, a: float, b: float) -> None:
    """In the mean; the noise of a step is that of the size the box has then."""
    rng = np.random.default_rng(seed)
    model = MotionModel()
    boxes = np.concatenate((rng.uniform(0, 500, (4, 2)), rng.uniform(20, 90, (4, 2))), 1)
    one, two = kalman.born(boxes, model), kalman.born(boxes, model)
    for motion in (one, two):
        motion.vel[:] = np.full((4, 4), 0.01) * boxes
    kalman.predict(one, a + b, model)
    kalman.predict(two, a, model)
    kalman.predict(two, b, model)
    assert np.allclose(one.pos, two.pos) and np.allclose(one.vel, two.vel)
    assert (one.pp > 0).all() and (one.pp * one.vv > one.pv**2).all()


def test_the_filter_finds_a_constant_speed() -> None:
    model, motion = MotionModel(), kalman.born(np.array([[0.0, 0, 50, 100]]), MotionModel())
    for step in range(1, 60):
        kalman.predict(motion, 1, model)
        kalman.correct(motion, np.array([0]), np.array([[3.0 * step, 0, 50, 100]]), np.array([0.05]))
    assert motion.vel[0, 0] == pytest.approx(3, abs=0.3)  # a little less: speeds fade
    assert motion.pos[0, 0] == pytest.approx(3 * 59, abs=1)


def test_one_step_of_three_ticks_is_as_unsure_as_three_steps() -> None:
    model = MotionModel()
    one, three = (kalman.born(np.array([[100.0, 100, 50, 100]]), model) for _ in range(2))
    kalman.predict(one, 3, model)
    for _ in range(3):
        kalman.predict(three, 1, model)
    assert one.pp[0, 0] == pytest.approx(three.pp[0, 0], rel=0.02)


def test_warp_follows_a_similarity() -> None:
    motion = kalman.born(np.array([[10.0, 20, 30, 40]]), MotionModel())
    kalman.warp(motion, np.array([[0.0, -2, 5], [2, 0, 7]]))
    assert motion.pos[0].tolist() == pytest.approx([-35, 27, 60, 80])


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_overlap_is_that_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 30, (2, 2))
    boxes = np.concatenate((low, low + rng.integers(1, 30, (2, 2))), 1)
    painted = np.zeros((2, 64, 64), bool)
    for picture, (x1, y1, x2, y2) in zip(painted, boxes, strict=True):
        picture[y1:y2, x1:x2] = True
    expected = (painted[0] & painted[1]).sum() / (painted[0] | painted[1]).sum()
    a, b = boxes[:1].astype(float), boxes[1:].astype(float)
    assert overlap.iou(a, b)[0, 0] == pytest.approx(expected)
    assert overlap.iou(a, b, np.zeros((1, 2)))[0, 0] == pytest.approx(expected)
    assert overlap.iou(a, b, np.full((1, 2), 4.0))[0, 0] >= expected
    shapes = [Mask.from_array(p) for p in painted]
    fine = masks.overlap(a, masks.grids(shapes[:1], a), b, masks.grids(shapes[1:], b), np.ones((1, 1), bool))
    assert fine[0, 0] == pytest.approx(expected, abs=0.12)


def test_turned_overlap() -> None:
    box = np.array([[50.0, 50, 80, 20]])
    same = overlap.turned(box, np.zeros(1), box, np.zeros(1))[0, 0]
    half = overlap.turned(box, np.zeros(1), box, np.array([np.pi]))[0, 0]
    across = overlap.turned(box, np.zeros(1), box, np.array([np.pi / 2]))[0, 0]
    away = overlap.turned(box, np.zeros(1), box + np.array([[300, 0, 0, 0]]), np.zeros(1))[0, 0]
    assert same == pytest.approx(1, abs=1e-4) and half == pytest.approx(1, abs=1e-4)
    assert away < 0.01 < across < 0.7


def test_camera_text_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "gmc.txt"
    path.write_text("0\t1 0 0 0 1 0\n1\t1 0 2 0 1 -1\n2\t0 -1 0 1 0 0\n")
    motions = text.read(path)
    there = text.between(motions, 0, 2)
    back = text.between(motions, 2, 0)
    assert there is not None and back is not None
    point = there[:, :2] @ (5.0, 6.0) + there[:, 2]
    assert (back[:, :2] @ point + back[:, 2]).tolist() == pytest.approx([5, 6])
    assert text.between(motions, 5, 6) is None


@pytest.mark.parametrize("line", ["1 2 3", "0 a b c d e f", "-1 1 0 0 0 1 0", "0 nan 0 0 0 1 0", "1 1 2 0 2 4 0"])
def test_camera_text_names_the_wrong_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "gmc.txt"
    path.write_text("0 1 0 0 0 1 0\n" + line)
    with pytest.raises(UserError, match="line 2"):
        text.read(path)


def test_a_copied_state_is_one_state() -> None:
    motion = copy.deepcopy(kalman.born(np.array([[0.0, 0, 50, 100], [9, 9, 20, 30]]), MotionModel()))
    before = motion.pos.copy()
    kalman.correct(motion, np.array([1]), np.array([[12.0, 9, 20, 30]]), np.array([0.05]))
    assert motion.pos[0].tolist() == before[0].tolist()
    assert 9 < motion.pos[1, 0] < 12
    assert np.shares_memory(motion.pos, motion.whole)


def test_sizes_stay_above_nothing_when_the_camera_zooms_out() -> None:
    motion = kalman.born(np.array([[10.0, 10, 5, 5]]), MotionModel())
    kalman.warp(motion, np.array([[1e-6, 0, 0], [0, 1e-6, 0]]))
    assert (motion.pos[:, 2:] == kalman.MIN_SIZE).all()
    assert np.isfinite(kalman.mahalanobis(motion, np.array([[0.0, 0, 5, 5]]), 0.05)).all()


def test_a_snapshot_does_not_tell_which_rows_were_chosen() -> None:
    motion = kalman.born(np.array([[0.0, 0, 50, 100], [9, 9, 20, 30]]), MotionModel())
    table = Table.rows(motion, 8)
    assert pack(table.keep(np.array([True, True])).state()) == pack(table.state())
    assert pack(Table.from_state(table.state()).state()) == pack(table.state())
