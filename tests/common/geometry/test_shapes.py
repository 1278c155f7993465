"""Shapes travel as points and come back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.geometry.shapes import (
    Polygon,
    Polyline,
    SinglePoint,
    Skeleton,
    skeleton,
    to_geometry,
    to_points,
    with_points,
)
from common.geometry.types import Box, Mask, Points

from .strategies import masks, shapes

everywhere = shapes(st.floats(-1e4, 1e4, width=32))


@given(everywhere)
def test_points_and_back(shape):
    back = with_points(shape, to_points(shape))
    assert back == shape and hash(back) == hash(shape) and type(back) is type(shape)


@given(everywhere, st.floats(-50, 50, width=16))
def test_moved_points_move_the_shape(shape, shift):
    points = to_points(shape)
    moved = with_points(shape, Points(points.xy + np.float32(shift), points.visible, points.edges))
    assert np.array_equal(to_points(moved).xy, points.xy + np.float32(shift))
    assert to_points(moved).edges == points.edges


@settings(deadline=None)
@given(masks)
def test_masks_at_rest(mask):
    array = mask.to_array()
    assert Mask.from_array(array) == mask and array.sum() == mask.area
    assert np.array_equal(mask.crop(), array[mask.y :, mask.x :][: mask.window[0], : mask.window[1]])
    assert len(mask.runs) <= mask.window[0] * mask.window[1] + 1


def test_edges_follow_the_outlines():
    square, hole = [[0, 0], [9, 0], [9, 9], [0, 9]], [[2, 2], [4, 2], [4, 4]]
    points = to_points(Polygon(square, (hole,)))
    assert points.edges == ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 4))
    assert to_points(SinglePoint([1, 2])).edges == ()


def test_hidden_points_disable_nodes():
    person = skeleton([("head", 1, 2, False), ("hip", 3, 4, True)], [("head", "hip"), ("hip", "knee")])
    assert person.edges == ((0, 1),)
    assert to_points(person).visible.tolist() == [True, False]
    back = with_points(person, Points([[5, 6], [7, 8]], [False, True]))
    assert back == Skeleton(("head", "hip"), [[5, 6], [7, 8]], [True, False], ((0, 1),))
    assert skeleton({"a": (1, 2)}).disabled.tolist() == [False]


def test_boxes_and_masks_travel_as_they_are():
    box = Box([0, 0, 1, 1])
    assert to_geometry(box) is box
    assert to_geometry(Polyline([[0, 0], [1, 1]])) == Points([[0, 0], [1, 1]], edges=((0, 1),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Polygon([[0, 0], [1, 1]]),
        lambda: Polygon([[0, 0], [1, 1], [2, 0]], ([[0, 0]],)),
        lambda: Polyline([[0, 0]]),
        lambda: Polyline([[0, 0], [np.nan, 1]]),
        lambda: SinglePoint([1, 2, 3]),
        lambda: SinglePoint([[1, 2], [3, 4]]),
        lambda: Skeleton(("a", "a"), [[0, 0], [1, 1]]),
        lambda: Skeleton(("a",), [[0, 0]], [True, False]),
        lambda: Skeleton(("a",), [[0, 0]], edges=((0, 1),)),
        lambda: with_points(SinglePoint([1, 2]), Points([[0, 0], [1, 1]])),
    ],
)
def test_what_cannot_be(make):
    with pytest.raises(ValueError):
        make()
