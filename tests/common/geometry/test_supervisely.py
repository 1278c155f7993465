"""Geometry JSON against the real SDK classes, both ways, and exact round trips."""

import base64
import copy
import io
import json
import zlib

import numpy as np
import pytest
import supervisely as sly
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from supervisely.annotation.json_geometries_map import GET_GEOMETRY_FROM_STR

from common.errors import PromptInvalid
from common.geometry import supervisely as geometry_json
from common.geometry.measures import oriented
from common.geometry.shapes import Skeleton, to_points
from common.geometry.types import Box, Mask, OrientedBox

from .strategies import HEIGHT, WIDTH, anywhere, whole

BONES = tuple((f"node-{i}", f"node-{i + 1}") for i in range(6))

SAMPLES = {
    "rectangle": sly.Rectangle(top=3, left=4, bottom=30, right=41),
    "oriented_bbox": sly.OrientedBBox(top=3, left=4, bottom=30, right=40, angle=0.3),
    "bitmap": sly.Bitmap(np.array([[1, 1, 0], [0, 1, 1]], bool), sly.PointLocation(7, 9)),
    "polygon": sly.Polygon([[1, 2], [30, 2], [30, 40]], [[[5, 4], [10, 4], [10, 8]]]),
    "point": sly.Point(row=5, col=6),
    "line": sly.Polyline([[1, 2], [3, 4], [8, 8]]),
    "graph": sly.GraphNodes({"a": sly.Node(row=1, col=2), "b": sly.Node(row=3, col=4, disabled=True)}),
}


def parse(kind, data):
    return geometry_json.from_json(kind, data, WIDTH, HEIGHT, BONES)


@pytest.mark.parametrize("kind", geometry_json.GEOMETRY_TYPES)
def test_the_sdks_json_comes_back_as_it_was(kind):
    data = SAMPLES[kind].to_json()
    value = parse(kind, data)
    assert geometry_json.geometry_type(value) == kind == type(SAMPLES[kind]).geometry_name()
    again = geometry_json.to_json(value)
    if kind == "bitmap":  # another PNG of the same picture
        ours = again["bitmap"].pop("data")
        theirs = data["bitmap"].pop("data")
        assert np.array_equal(sly.Bitmap.base64_2_data(ours), sly.Bitmap.base64_2_data(theirs))
    assert json.dumps(again) == json.dumps(data)


@settings(max_examples=300, deadline=None)
@given(whole)
def test_whole_pixels_make_exact_round_trips_through_the_sdk(value):
    kind = geometry_json.geometry_type(value)
    data = json.loads(json.dumps(geometry_json.to_json(value)))
    given_json = copy.deepcopy(data)
    assert parse(kind, data) == value
    assert data == given_json
    theirs = GET_GEOMETRY_FROM_STR(kind).from_json(data).to_json()
    assert parse(kind, theirs) == value
    if kind != "bitmap":
        assert theirs == data


@settings(max_examples=300, deadline=None)
@given(anywhere)
def test_rounding_moves_nothing_by_more_than_half_a_pixel(value):
    back = parse(geometry_json.geometry_type(value), geometry_json.to_json(value))
    half = 0.5 + 1e-4
    match value:
        case Box():
            assert np.abs(back.xyxy - value.xyxy).max() <= half
        case OrientedBox():
            assert back.angle_rad == value.angle_rad
            assert np.abs(back.cxcywh[:2] - value.cxcywh[:2]).max() <= half
            assert np.abs(back.cxcywh[2:] - value.cxcywh[2:]).max() <= 2 * half
        case Mask():
            assert back == value
        case _:
            before, after = to_points(value), to_points(back)
            assert np.abs(before.xy - after.xy).max() <= half
            assert np.array_equal(before.visible, after.visible) and before.edges == after.edges


@settings(max_examples=200, deadline=None)
@given(anywhere)
def test_with_a_frame_nothing_leaves_it(value):
    kind = geometry_json.geometry_type(value)
    stored = GET_GEOMETRY_FROM_STR(kind).from_json(geometry_json.to_json(value, WIDTH, HEIGHT))
    canvas = sly.Rectangle.from_size((HEIGHT, WIDTH))
    if kind == "oriented_bbox":
        assert canvas.contains_point_location(stored.center)
    else:
        assert canvas.contains(stored.to_bbox())


@given(arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))).filter(np.any))
def test_bitmaps_both_ways(array):
    ours = geometry_json.encode_bitmap(array)
    assert np.array_equal(sly.Bitmap.base64_2_data(ours), array)
    assert np.array_equal(geometry_json.decode_bitmap(sly.Bitmap.data_2_base64(array)), array)
    assert np.array_equal(geometry_json.decode_bitmap(ours), array)
    assert ours == geometry_json.encode_bitmap(array.copy())


@pytest.mark.parametrize("variant", ["L", "L255", "1", "P", "P+alpha", "RGB", "RGBA", "LA", "16", "bare PNG"])
def test_bitmap_variants(variant):
    array = np.random.default_rng(1).random((11, 13)) < 0.4
    ones = array.astype(np.uint8)
    transparency = {}
    match variant:
        case "L":
            image = Image.fromarray(ones)
        case "L255" | "bare PNG":
            image = Image.fromarray(ones * 255)
        case "1":
            image = Image.fromarray(array)
        case "P" | "P+alpha":
            image = Image.fromarray(ones)
            image.putpalette([0, 0, 0, 255, 255, 255])
            transparency = {"transparency": 0} if variant == "P+alpha" else {}
        case "RGB":
            image = Image.fromarray(np.repeat(ones[..., None] * 90, 3, 2))
        case "RGBA":  # white everywhere, only alpha tells
            image = Image.fromarray(np.dstack((np.full((11, 13, 3), 255, np.uint8), ones * 255)))
        case "LA":
            image = Image.fromarray(np.dstack((np.full((11, 13), 255, np.uint8), ones * 255)), "LA")
        case "16":
            image = Image.fromarray(array.astype(np.uint16) * 65535)
    out = io.BytesIO()
    image.save(out, "PNG", **transparency)
    raw = out.getvalue() if variant == "bare PNG" else zlib.compress(out.getvalue())
    assert np.array_equal(geometry_json.decode_bitmap(base64.b64encode(raw).decode()), array)


def test_a_bitmap_over_the_edge_is_cut():
    data = {"bitmap": {"origin": [WIDTH - 2, -1], "data": geometry_json.encode_bitmap(np.ones((4, 5), bool))}}
    expected = np.zeros((HEIGHT, WIDTH))
    expected[:3, -2:] = 1
    assert parse("bitmap", data) == Mask.from_array(expected)


def test_rectangles_are_inclusive():
    data = {"points": {"exterior": [[5, 4], [3, 4]], "interior": []}, "shape": "rectangle", "id": 7}
    box = parse("rectangle", data)
    assert box == Box([3, 4, 6, 5])
    theirs = sly.Rectangle.from_json(data)
    assert (theirs.width, theirs.height) == tuple(box.xyxy[2:] - box.xyxy[:2])
    turned = parse("oriented_bbox", {"points": [[3, 4], [5, 4]], "angle": 0})
    assert turned == oriented(box)


@pytest.mark.parametrize(
    ("box", "corners"),
    [
        ([3.2, 3.2, 3.4, 3.4], [[3, 3], [3, 3]]),
        ([3.6, 3.6, 3.9, 3.9], [[3, 3], [3, 3]]),
        ([2.6, 2.6, 5.4, 5.4], [[3, 3], [4, 4]]),
        ([63.8, 47.8, 64, 48], [[63, 47], [63, 47]]),
    ],
)
def test_thin_boxes_keep_a_pixel(box, corners):
    assert geometry_json.to_json(Box(box), WIDTH, HEIGHT)["points"]["exterior"] == corners


def test_short_polygons_are_repaired_as_the_sdk_does():
    data = {"points": {"exterior": [[1, 2], [3, 4]], "interior": []}}
    value = parse("polygon", data)
    assert geometry_json.to_json(value)["points"] == sly.Polygon.from_json(data).to_json()["points"]


def test_bones_of_missing_nodes_are_left_out():
    data = {"nodes": {"node-0": {"loc": [1, 2]}, "node-2": {"loc": [3, 4]}, "node-3": {"loc": [5, 4]}}}
    value = parse("graph", data)
    assert isinstance(value, Skeleton) and value.edges == ((1, 2),)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("cuboid_3d", {}),
        ("rectangle", {}),
        ("rectangle", {"points": None}),
        ("rectangle", {"points": {"exterior": [[1, 2]]}}),
        ("rectangle", {"points": {"exterior": [[1, 2], [float("nan"), 3]]}}),
        ("rectangle", {"points": {"exterior": [["a", 2], [1, 3]]}}),
        ("oriented_bbox", {"points": [[1, 2], [3, 4]], "angle": "x"}),
        ("polygon", {"points": {"exterior": [], "interior": []}}),
        ("line", {"points": {"exterior": [[1, 2]], "interior": []}}),
        ("point", {"points": {"exterior": [[1, 2], [3, 4]], "interior": []}}),
        ("graph", {"nodes": {}}),
        ("graph", {"nodes": {"a": {"loc": [1]}}}),
        ("graph", {"nodes": []}),
        ("bitmap", {"bitmap": {"origin": [0, 0], "data": "!"}}),
        ("bitmap", {"bitmap": {"origin": [0, 0], "data": ""}}),
        ("bitmap", {"bitmap": {"origin": [0, 0], "data": base64.b64encode(b"no picture").decode()}}),
        ("bitmap", {"bitmap": {"origin": [0], "data": ""}}),
    ],
)
def test_damaged_json_is_the_users_to_mend(kind, data):
    with pytest.raises(PromptInvalid):
        parse(kind, data)


def test_an_empty_mask_cannot_be_stored():
    with pytest.raises(ValueError, match="empty"):
        geometry_json.to_json(Mask.from_array(np.zeros((3, 3))))
