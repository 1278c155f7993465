"""What a picture shows of a value, against Shapely and the SDK's bounds check."""

from itertools import pairwise

import numpy as np
import pytest
import supervisely as sly
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, box
from shapely.geometry import Polygon as ShapelyPolygon
from supervisely.annotation.json_geometries_map import GET_GEOMETRY_FROM_STR

from common.geometry import supervisely as geometry_json
from common.geometry.clip import clip_to_frame, cut_line, cut_ring, visible_bounds
from common.geometry.shapes import Polygon, Polyline, SinglePoint, Skeleton, skeleton
from common.geometry.types import Box, Mask, OrientedBox

from .strategies import HEIGHT, WIDTH, anywhere, ring

FRAME = box(-0.5, -0.5, WIDTH - 0.5, HEIGHT - 0.5)
# Shapely does not cut right where places differ by 1e-38 of a pixel.
coordinates = st.floats(-60, 120, width=32).map(lambda at: round(at * 1024) / 1024)


@settings(max_examples=300, deadline=None)
@given(anywhere)
def test_what_is_left_fits_the_sdk(value):
    canvas = sly.Rectangle.from_size((HEIGHT, WIDTH))
    for part in clip_to_frame(value, WIDTH, HEIGHT):
        kind = geometry_json.geometry_type(part)
        assert kind == geometry_json.geometry_type(value)
        stored = GET_GEOMETRY_FROM_STR(kind).from_json(geometry_json.to_json(part, WIDTH, HEIGHT))
        if kind == "oriented_bbox":
            assert canvas.contains_point_location(stored.center)
        else:
            assert canvas.contains(stored.to_bbox())


@settings(max_examples=300, deadline=None)
@given(ring(coordinates, 3))
def test_outlines_are_cut_as_shapely_cuts(vertices):
    whole = ShapelyPolygon(vertices)
    if not whole.is_valid or whole.area < 1e-3:
        return
    part = cut_ring(vertices.astype(float), WIDTH, HEIGHT)
    shown = 0.0
    if len(part) >= 3:
        x, y = part.T
        shown = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
        assert part.min() >= -0.5 and (part.max(0) <= (WIDTH - 0.5, HEIGHT - 0.5)).all()
    assert shown == pytest.approx(whole.intersection(FRAME).area, abs=1e-5 * whole.area + 1e-9)


@settings(max_examples=300, deadline=None)
@given(ring(coordinates, 2))
def test_lines_are_cut_as_shapely_cuts(vertices):
    pieces = cut_line(vertices.astype(float), WIDTH, HEIGHT)
    length = sum(np.linalg.norm(np.diff(p, axis=0), axis=1).sum() for p in pieces)
    # Segment by segment: Shapely counts a stretch that a line runs along twice once only.
    expected = sum(LineString(pair).intersection(FRAME).length for pair in pairwise(vertices))
    assert length == pytest.approx(expected, abs=1e-4)


def test_a_line_that_leaves_and_comes_back_is_two():
    line = Polyline([[10, 10], [-10, 10], [-10, 20], [10, 20]])
    assert clip_to_frame(line, 64, 48) == [Polyline([[10, 10], [-0.5, 10]]), Polyline([[-0.5, 20], [10, 20]])]
    inside = Polyline([[1, 1], [5, 5], [1, 1]])
    assert clip_to_frame(inside, 64, 48) == [inside]


def test_a_polygon_around_the_picture_fills_it():
    huge = Polygon([[-500, -500], [500, -500], [500, 500], [-500, 500]], ([[900, 900], [901, 900], [901, 901]],))
    (part,) = clip_to_frame(huge, 64, 48)
    assert part.holes == () and part.exterior.min() == -0.5 and part.exterior.max() == 63.5
    assert clip_to_frame(Polygon([[70, 1], [90, 1], [90, 9]]), 64, 48) == []


def test_nodes_outside_are_disabled_at_the_edge():
    person = skeleton({"a": (10, 10), "b": (-5, 90)}, [("a", "b")])
    assert clip_to_frame(person, 64, 48) == [Skeleton(("a", "b"), [[10, 10], [0, 47]], [False, True], ((0, 1),))]
    assert clip_to_frame(skeleton({"a": (-10, 10)}), 64, 48) == []


def test_an_oriented_box_is_refitted_only_when_its_centre_is_gone():
    inside = OrientedBox([2, 20, 30, 8], 0.2)
    assert clip_to_frame(inside, 64, 48) == [inside]
    (part,) = clip_to_frame(OrientedBox([-4, 20, 30, 8], 0.2), 64, 48)
    assert part.angle_rad == 0.2 and 0 <= part.cxcywh[0] < 64 and part.cxcywh[2] < 15
    assert clip_to_frame(OrientedBox([-12, -12, 30, 4], -np.pi / 4), 64, 48) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Box([-4, -4, 5, 5]), [0, 0, 5, 5]),
        (SinglePoint([3, 4]), [3, 4, 4, 5]),
        (SinglePoint([-3, 4]), None),
        (Polyline([[10, 10], [-10, 10], [-10, 20], [10, 20]]), [0, 10, 11, 21]),
        (Mask.from_array(np.zeros((48, 64))), None),
    ],
)
def test_visible_bounds(value, expected):
    found = visible_bounds(value, 64, 48)
    assert (found is None and expected is None) or found == Box(expected)
