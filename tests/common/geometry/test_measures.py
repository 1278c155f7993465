"""Overlaps, limits and sizes against slow oracles."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from shapely.geometry import Polygon as ShapelyPolygon

from common.geometry import measures
from common.geometry.types import Box, Mask, OrientedBox, Points

masks = arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))
TRIANGLE = Points([[-900, -300], [900, -300], [50, 900]], edges=((0, 1), (1, 2), (2, 0)))
rotated = st.tuples(
    st.floats(-20, 20), st.floats(-20, 20), st.floats(0.5, 30), st.floats(0.5, 30), st.floats(-7, 7)
).map(np.array)


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (Box([1, 2, 3, 4]), [1, 2, 3, 4]),
        (OrientedBox([5, 5, 4, 2], np.pi / 2), [4, 3, 6, 7]),
        (Points([[3, 4], [5, 9]], [True, False]), [3, 4, 6, 10]),
        (Mask.from_array(np.pad(np.ones((2, 3)), ((4, 1), (5, 1)))), [5, 4, 8, 6]),
    ],
)
def test_bounds(geometry, expected):
    assert_allclose(measures.bounds(geometry).xyxy, expected, atol=1e-5)


def test_the_middle_of_a_box_is_the_middle_of_its_mask():
    picture = np.zeros((20, 30))
    picture[4:9, 11:17] = 1
    mask = Mask.from_array(picture)
    box = measures.bounds(mask)
    assert_allclose(measures.centre(mask), measures.centre(box))
    assert_allclose(measures.centre(measures.oriented(box)), measures.centre(box))
    assert measures.area(mask) == measures.area(box) == measures.area(measures.oriented(box)) == 30
    assert_allclose(measures.centre(Points([[0, 0], [4, 2], [9, 9]], [True, True, False])), [2, 1])


def test_an_empty_mask_has_no_place():
    empty = Mask.from_array(np.zeros((4, 5)))
    assert measures.bounds(empty) is None and measures.centre(empty) is None
    assert measures.crop_to_frame(empty, 5, 4) is None and measures.minimum_rectangle(empty) is None
    assert measures.boundary(empty) == empty and measures.mask_iou(empty, empty) == 1.0


def test_box_iou_by_counting_pixels():
    rng = np.random.default_rng(3)
    low = rng.integers(0, 20, (12, 2))
    boxes = np.concatenate((low, low + rng.integers(0, 20, (12, 2))), 1)
    table = measures.box_iou(boxes[:5], boxes)
    for i in range(5):
        for j in range(12):
            a, b = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
            a[boxes[i][1] : boxes[i][3], boxes[i][0] : boxes[i][2]] = True
            b[boxes[j][1] : boxes[j][3], boxes[j][0] : boxes[j][2]] = True
            union = (a | b).sum()
            assert table[i, j] == pytest.approx((a & b).sum() / union if union else 0)
    assert measures.box_iou(np.zeros((0, 4)), boxes).shape == (0, 12)


@settings(max_examples=300, deadline=None)
@given(rotated, rotated)
def test_oriented_iou_against_polygon_clipping(a, b):
    p, q = measures.oriented_corners(np.stack((a, b)))
    common = ShapelyPolygon(p).intersection(ShapelyPolygon(q)).area
    expected = common / (a[2] * a[3] + b[2] * b[3] - common)
    found = measures.oriented_iou(a, b)[0, 0]
    assert found == pytest.approx(expected, abs=1e-6)
    assert measures.oriented_iou(b, a)[0, 0] == pytest.approx(found, abs=1e-9)


@settings(deadline=None)
@given(rotated, st.floats(-1000, 1000))
def test_oriented_iou_with_itself_is_one_anywhere(a, shift):
    turned = a + np.array([0, 0, 0, 0, np.pi])
    moved = a + np.array([shift, shift, 0, 0, 0])
    assert measures.oriented_iou(a, a)[0, 0] == pytest.approx(1)
    assert measures.oriented_iou(a, turned)[0, 0] == pytest.approx(1)
    assert measures.oriented_iou(moved, moved)[0, 0] == pytest.approx(1)


def test_unturned_oriented_boxes_overlap_like_boxes():
    rng = np.random.default_rng(5)
    low = rng.uniform(0, 20, (9, 2))
    xyxy = np.concatenate((low, low + rng.uniform(1, 15, (9, 2))), 1)
    rows = np.concatenate(((xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2], np.zeros((9, 1))), 1)
    assert_allclose(measures.oriented_iou(rows, rows), measures.box_iou(xyxy, xyxy), atol=1e-9)


@given(st.data())
def test_mask_iou_by_counting_pixels(data):
    first = data.draw(masks)
    second = data.draw(arrays(bool, first.shape))
    a, b = Mask.from_array(first), Mask.from_array(second)
    union = (first | second).sum()
    assert measures.mask_iou(a, b) == ((first & second).sum() / union if union else 1.0)
    assert measures.mask_ious([a, b], [a]).shape == (2, 1)


def test_masks_of_different_pictures_do_not_compare():
    with pytest.raises(ValueError, match="different pictures"):
        measures.mask_iou(Mask.from_array(np.ones((2, 2))), Mask.from_array(np.ones((2, 3))))
    with pytest.raises(TypeError):
        measures.iou(Box([0, 0, 1, 1]), Points([[0, 0]]))


@given(masks)
def test_boundary_is_the_mask_less_its_erosion(array):
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    eroded = cv2.erode(array.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    assert np.array_equal(measures.boundary(Mask.from_array(array)).to_array(), array & ~eroded.astype(bool))


@given(masks, st.integers(-30, 30), st.integers(-30, 30))
def test_placing_cuts_at_the_edge(array, x, y):
    canvas = np.zeros((12 + 120, 15 + 120), bool)
    canvas[60 + y : 60 + y + array.shape[0], 60 + x : 60 + x + array.shape[1]] = array
    assert measures.place(array, x, y, 15, 12) == Mask.from_array(canvas[60:72, 60:75])


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (Box([-5, -5, 5, 5]), Box([0, 0, 5, 5])),
        (Box([-5, -5, 200, 500]), Box([0, 0, 100, 80])),
        (Box([-5, -5, 0, 5]), None),
        (Box([100, 5, 120, 9]), None),
        (Box([4, 4, 4, 4]), Box([4, 4, 4, 4])),
        (Points([[-1, 0], [5, 5]]), Points([[-1, 0], [5, 5]], [False, True])),
        (Points([[-0.5, 79.4]]), Points([[-0.5, 79.4]])),
        (Points([[99.5, 3]]), None),
        # A line through the frame, one past it, an outline around the frame and one beside it.
        (Points([[-9, 9], [120, 9]], edges=((0, 1),)), Points([[-9, 9], [120, 9]], [False, False], ((0, 1),))),
        (Points([[-9, 9], [9, -20]], edges=((0, 1),)), None),
        (TRIANGLE, Points(TRIANGLE.xy, [False] * 3, TRIANGLE.edges)),
        (Points(TRIANGLE.xy + 2000, edges=TRIANGLE.edges), None),
        (Points(TRIANGLE.xy, edges=TRIANGLE.edges[:2]), None),
        # The hull reaches into the frame, the turned box does not.
        (OrientedBox([-12, -12, 30, 4], -np.pi / 4), None),
        # The centre is outside, a part is inside.
        (OrientedBox([-5, 40, 30, 4], 0.1), OrientedBox([-5, 40, 30, 4], 0.1)),
        (Mask.from_array(np.ones((80, 100))), Mask.from_array(np.ones((80, 100)))),
        (Mask.from_array(np.ones((90, 90))), Mask.from_array(np.pad(np.ones((80, 90)), ((0, 0), (0, 10))))),
    ],
)
def test_crop_to_frame(geometry, expected):
    assert measures.crop_to_frame(geometry, 100, 80) == expected
    assert measures.intersects_frame(geometry, 100, 80) == (expected is not None)


@settings(deadline=None)
@given(rotated)
def test_hull_and_back(row):
    box = OrientedBox(row[:4], row[4])
    back = measures.unhull(measures.hull(box), box.angle_rad, float(row[2] / row[3]))
    assert_allclose(back.cxcywh, box.cxcywh, atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(masks)
def test_the_minimum_rectangle_holds_the_mask(array):
    box = measures.minimum_rectangle(Mask.from_array(array))
    if box is None:
        assert not array.any()
        return
    assert measures.area(box) >= array.sum() - 1e-2
    bounds = measures.bounds(Mask.from_array(array))
    assert measures.area(box) <= measures.area(bounds) + 1e-2
