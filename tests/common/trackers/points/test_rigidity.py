"""The shape prior gives back what is rigid, and one lost vertex does not break the rest."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from common.trackers.points.rigidity import common_turn, hold, meshed, springs


def outline(n: int, seed: int = 0) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = 60 * (1 + 0.25 * np.sin(3 * angle + rng.uniform(0, 6)))
    return np.stack([100 + radius * np.cos(angle), 90 + radius * np.sin(angle)], 1), tuple(
        (i, (i + 1) % n) for i in range(n)
    )


def moved(xy: np.ndarray, angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return xy @ np.array([[c, s], [-s, c]]) + np.array(shift)


def crosses(xy: np.ndarray) -> bool:
    """Whether the closed outline intersects itself."""
    n = len(xy)
    p, d = xy, np.roll(xy, -1, 0) - xy

    def cross(u: np.ndarray, v: np.ndarray) -> float:
        return float(u[0] * v[1] - u[1] * v[0])

    for i in range(n):
        for j in range(i + 2, n):
            if (j + 1) % n == i:
                continue
            base = cross(d[i], d[j])
            if abs(base) < 1e-12:
                continue
            t, u = cross(p[j] - p[i], d[j]) / base, cross(p[j] - p[i], d[i]) / base
            if 0 < t < 1 and 0 < u < 1:
                return True
    return False


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(3, 24),
    angle=st.floats(-3, 3),
    scale=st.floats(0.5, 2),
    shift=st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
    hidden=st.integers(0, 2**24 - 1),
)
def test_a_similar_motion_comes_back_exactly_although_some_vertices_are_hidden(
    n: int, angle: float, scale: float, shift: tuple[float, float], hidden: int
) -> None:
    rest, edges = outline(n)
    truth = moved(rest, angle, scale, shift)
    pull = np.array([not hidden >> i & 1 for i in range(n)], float)
    pull[:2] = 1
    measured = np.where(pull[:, None] > 0, truth, truth + 500.0)
    assert np.abs(hold(rest, springs(rest, edges), measured, pull)[0] - truth).max() < 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 15), st.floats(20, 300), st.floats(0, 6.3))
def test_one_outlier_moves_the_others_by_little_and_is_called_back(who: int, far: float, direction: float) -> None:
    rest, edges = outline(16)
    truth = moved(rest, 0.3, 1.1, (12, -7))
    measured = truth.copy()
    measured[who] += far * np.array([np.cos(direction), np.sin(direction)])
    error = np.hypot(*(hold(rest, springs(rest, edges), measured, np.ones(16))[0] - truth).T)
    assert np.delete(error, who).max() < 2.0
    assert error[who] < max(2.0, 0.5 * far)


@settings(max_examples=60, deadline=None)
@given(
    angle=st.floats(-3, 3),
    scale=st.floats(0.5, 2),
    who=st.integers(0, 11),
    far=st.floats(25, 400),
    way=st.floats(0, 6.3),
)
def test_how_the_surroundings_turned_tells_one_left_behind_from_a_shape_that_grows(
    angle: float, scale: float, who: int, far: float, way: float
) -> None:
    """Two neighbours are right and a third is not: by their places alone, the shape may as well have grown."""
    rest, edges = outline(12)
    truth = moved(rest, angle, scale, (12, -7))
    pull = np.zeros(12)
    pull[[who, (who + 1) % 12, (who + 6) % 12]] = 1
    measured = truth.copy()
    measured[(who + 6) % 12] += far * np.array([np.cos(way), np.sin(way)])
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    rng = np.random.default_rng(who)
    turns = np.array([[c, -s], [s, c]]) @ (np.eye(2) + rng.normal(0, 0.01, (12, 2, 2)))
    turns[(who + 6) % 12] = np.eye(2)
    held, trust = hold(rest, springs(rest, edges), measured, pull, usual=common_turn(turns, pull))
    assert np.delete(np.hypot(*(held - truth).T), (who + 6) % 12).max() < 0.06 * 150 * scale
    assert trust[(who + 6) % 12] < 0.3 and trust[who] > 0.3


def test_the_common_turn_is_that_of_most() -> None:
    rng = np.random.default_rng(5)
    for angle in (-3.1, -1.0, 0.0, 3.1):
        c, s = 1.3 * np.cos(angle), 1.3 * np.sin(angle)
        turns = np.concatenate([
            np.array([[c, -s], [s, c]]) + rng.normal(0, 0.01, (6, 2, 2)), rng.normal(0, 1, (5, 2, 2))
        ])  # fmt: skip
        found = common_turn(turns, np.ones(11))
        assert np.abs(found - [[c, -s], [s, c]]).max() < 0.25


def test_a_mesh_of_places_on_one_line_is_what_was_drawn() -> None:
    line = np.stack([np.arange(5.0), np.zeros(5)], 1)
    drawn = springs(line, ((0, 1), (1, 2)))
    assert np.array_equal(meshed(line, drawn), drawn)
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]], float)
    assert {tuple(p) for p in meshed(square, drawn).tolist()} >= {(0, 4), (1, 4), (2, 4), (3, 4)}


def test_half_the_vertices_hidden_keep_a_sane_shape_while_the_object_bends() -> None:
    rest, edges = outline(24)
    rng = np.random.default_rng(3)
    for trial in range(20):
        bent = rest + 6 * np.sin(rest[:, ::-1] / 35 + trial)
        truth = moved(bent, 0.1 * trial - 1, 1.0 + 0.02 * trial, (3 * trial, 10))
        pull = np.zeros(24)
        start = int(rng.integers(24))
        pull[(start + np.arange(12)) % 24] = 1
        measured = np.where(pull[:, None] > 0, truth + rng.normal(0, 0.3, truth.shape), 0.0)
        held = hold(rest, springs(rest, edges), measured, pull)[0]
        size = np.hypot(*np.ptp(truth, axis=0))
        assert np.hypot(*(held - truth).T).mean() < 0.06 * size
        assert not crosses(held)


def test_loose_points_and_nothing_seen_come_back_as_measured() -> None:
    rest, edges = outline(8)
    measured = moved(rest, 1.0, 1.0, (5, 5))
    assert np.array_equal(hold(rest, springs(rest, ()), measured, np.ones(8))[0], measured)
    assert np.array_equal(hold(rest, springs(rest, edges), measured, np.zeros(8))[0], measured)


def test_coinciding_vertices_do_no_harm() -> None:
    rest = np.full((4, 2), 7.0)
    held = hold(rest, springs(rest, ((0, 1), (1, 2), (2, 3))), rest + 3, np.ones(4))[0]
    assert np.isfinite(held).all()
    assert np.abs(held - rest - 3).max() < 0.01
