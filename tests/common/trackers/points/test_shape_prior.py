"""Half of the vertices hidden, and their measurements anywhere: shapes stay where the truth of synthetic scenes has them."""

from __future__ import annotations

import numpy as np
import pytest

from common.evaluation.scenes import random_scene
from common.trackers.points.shape_prior import Shape, settle, shapes_from_tree, shapes_to_tree
from common.tracking.snapshot import pack, unpack


def ring(n: int) -> tuple[tuple[int, int], ...]:
    return tuple((i, (i + 1) % n) for i in range(n))


def chain(n: int) -> tuple[tuple[int, int], ...]:
    return tuple((i, i + 1) for i in range(n - 1))


def tracked(kind: str, seed: int, frame: int) -> tuple[Shape, np.ndarray]:
    """A shape on the first frame of a scene whose objects turn, grow and move, and where it truly is later."""
    scene = random_scene(seed, 30, 320, 240, 1, size=0.45, turn=0.05, grow=0.03, speed=3)
    drawn, later = (scene.truth(t).objects[0].points for t in (0, frame))
    assert drawn is not None and later is not None
    # An outline goes round; the scene's points are in no such order.
    middle = drawn.xy.mean(0)
    order = np.argsort(np.arctan2(*(drawn.xy - middle).T)) if kind != "skeleton" else np.arange(len(drawn.xy))
    edges = {"polygon": ring, "line": chain, "skeleton": lambda n: tuple((0, i) for i in range(1, n))}[kind](len(order))
    return Shape("a", 0, len(order), edges, drawn.xy[order].astype(float)), later.xy[order].astype(float)


@pytest.mark.parametrize("kind", ["polygon", "line", "skeleton"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("wild", [True, False], ids=["anywhere", "left behind"])
def test_half_of_the_vertices_hidden(kind, seed, wild):
    shape, truth = tracked(kind, seed, 12)
    rng = np.random.default_rng(seed)
    hidden = np.zeros(shape.count, bool)
    hidden[rng.permutation(shape.count)[: shape.count // 2]] = True
    elsewhere = rng.uniform(0, (320, 240), truth.shape) if wild else shape.rest
    measured = np.where(hidden[:, None], elsewhere, truth + rng.normal(0, 0.3, truth.shape))
    probability = np.where(hidden, rng.uniform(0, 0.5, shape.count), rng.uniform(0.7, 1, shape.count))
    xy, seen = settle(shape, measured, probability, np.ones(shape.count, bool))
    assert np.hypot(*(xy - truth).T).max() < 3
    assert not seen[hidden].any() and seen[~hidden].all()


@pytest.mark.parametrize("kind", ["polygon", "skeleton"])
@pytest.mark.parametrize("seed", range(4))
def test_a_vertex_that_ran_away_is_called_back(kind, seed):
    """The network says that it sees it, on another object."""
    shape, truth = tracked(kind, seed, 8)
    measured = truth.copy()
    measured[1] += (70, -50)
    xy, seen = settle(shape, measured, np.full(shape.count, 0.8), np.ones(shape.count, bool))
    assert np.hypot(*(xy[1] - truth[1])) < 6 and not seen[1]
    assert seen.sum() == shape.count - 1


@pytest.mark.parametrize("seed", range(4))
def test_a_hidden_shape_stays_a_shape(seed):
    """Nothing is seen and every vertex has its own idea: the polygon keeps its edges' lengths, about."""
    shape, truth = tracked("polygon", seed, 6)
    rng = np.random.default_rng(seed)
    measured = truth + rng.normal(0, 12, truth.shape)
    xy, seen = settle(shape, measured, np.full(shape.count, 0.2), np.ones(shape.count, bool))
    a, b = np.array(shape.edges).T
    drawn, found = (np.hypot(*(v[a] - v[b]).T) for v in (shape.rest, xy))
    wandering = np.hypot(*(measured[a] - measured[b]).T)
    assert not seen.any()
    assert np.abs(np.log(found / drawn)).max() < 0.7
    assert np.abs(np.log(found / drawn)).mean() < 0.5 * np.abs(np.log(wandering / drawn)).mean()


def test_moving_the_world_moves_the_answer():
    """A turn and a shift of everything measured turns and shifts what is found."""
    shape, truth = tracked("polygon", 3, 5)
    probability = np.where(np.arange(shape.count) % 2 == 0, 0.9, 0.1)
    known = np.ones(shape.count, bool)
    measured = np.where(probability[:, None] > 0.5, truth, truth + 30)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    xy, seen = settle(shape, measured, probability, known)
    turned, seen_too = settle(shape, measured @ turn.T + (5, -7), probability, known)
    np.testing.assert_allclose(turned, xy @ turn.T + (5, -7), atol=0.2)
    assert (seen == seen_too).all()


@pytest.mark.parametrize("edges", [(), ring(6)], ids=["loose", "polygon"])
def test_points_that_were_never_asked_for_ride_along(edges):
    rest = np.array([(10, 10), (30, 8), (45, 20), (40, 40), (22, 44), (8, 30)], float)
    shape = Shape("a", 0, 6, edges, rest)
    known = np.array([True, True, True, True, False, False])
    measured = np.where(known[:, None], rest + np.array((12, 5)), 0)
    xy, seen = settle(shape, measured, np.where(known, 0.9, 0.0), known)
    np.testing.assert_allclose(xy, rest + np.array((12, 5)), atol=0.5)
    assert (seen == known).all()


def test_loose_points_are_left_alone():
    rng = np.random.default_rng(0)
    shape = Shape("a", 0, 5, (), rng.uniform(0, 50, (5, 2)))
    measured, probability = rng.uniform(0, 200, (5, 2)), np.array([0.9, 0.1, 0.6, 0.5, 1.0])
    xy, seen = settle(shape, measured, probability, np.ones(5, bool))
    assert np.array_equal(xy, measured) and seen.tolist() == [True, False, True, False, True]


@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_shapes(count):
    shape = Shape("a", 0, count, chain(count), np.arange(2.0 * count).reshape(count, 2))
    for probability in (0.0, 0.2, 0.9):
        xy, seen = settle(shape, shape.rest + 3, np.full(count, probability), np.ones(count, bool))
        assert np.isfinite(xy).all() and seen.all() == (probability > 0.5)
        xy, seen = settle(shape, shape.rest * 0, np.zeros(count), np.zeros(count, bool))
        np.testing.assert_allclose(xy, shape.rest)
        assert not seen.any()


def test_shapes_survive_a_snapshot():
    shape, _ = tracked("polygon", 1, 1)
    (again,) = shapes_from_tree(unpack(pack(shapes_to_tree([shape]))))
    assert again.edges == shape.edges and again.part == shape.part and np.array_equal(again.rest, shape.rest)
