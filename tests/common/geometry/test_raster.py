"""Masks and polygons give each other back, pixel for pixel, and the SDK agrees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from supervisely import PointLocation
from supervisely import Polygon as SlyPolygon

from common.geometry import raster
from common.geometry.shapes import Polygon
from common.geometry.types import Mask

masks = arrays(bool, st.tuples(st.integers(1, 16), st.integers(1, 16)))


def sly_mask(polygons, width, height):
    canvas = np.zeros((height, width), np.uint8)
    for p in polygons:
        rings = [[PointLocation(int(y), int(x)) for x, y in np.rint(ring)] for ring in p.rings]
        SlyPolygon(rings[0], rings[1:]).draw(canvas, 1)
    return Mask.from_array(canvas)


@settings(max_examples=300, deadline=None)
@given(masks)
def test_contours_give_the_mask_back(array):
    mask = Mask.from_array(array)
    parts = raster.contours(mask)
    assert raster.fill_all(parts, mask.width, mask.height) == mask
    assert sly_mask(parts, mask.width, mask.height) == mask


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("density", [0.1, 0.5, 0.7, 0.95])
def test_contours_of_noise(seed, density):
    mask = Mask.from_array(np.random.default_rng(seed).random((60, 80)) < density)
    parts = raster.contours(mask)
    assert raster.fill_all(parts, 80, 60) == mask
    assert sly_mask(parts, 80, 60) == mask


def test_a_ring_with_an_island_is_two_parts_one_with_a_hole():
    array = np.zeros((40, 40), bool)
    array[5:30, 5:30] = True
    array[10:25, 10:25] = False
    array[14:20, 14:20] = True
    big, island = raster.contours(Mask.from_array(array))
    assert len(big.holes) == 1 and len(island.holes) == 0
    assert big.exterior.min() == 5 and big.exterior.max() == 29
    assert big.holes[0].min() == 10 and big.holes[0].max() == 24
    assert [c.area for c in raster.components(Mask.from_array(array))] == [25 * 25 - 15 * 15, 36]


def test_full_and_single_pixel_and_empty():
    assert raster.contours(Mask.from_array(np.zeros((3, 4)))) == []
    assert raster.components(Mask.from_array(np.zeros((3, 4)))) == []
    (full,) = raster.contours(Mask.from_array(np.ones((3, 4))))
    assert sorted(map(tuple, full.exterior.tolist())) == [(0, 0), (0, 2), (3, 0), (3, 2)]
    dot = np.zeros((3, 4))
    dot[1, 2] = 1
    (single,) = raster.contours(Mask.from_array(dot))
    assert single.exterior.tolist() == [[2, 1]] * 3


@given(masks)
def test_components_make_the_mask_again(array):
    mask = Mask.from_array(array)
    parts = raster.components(mask)
    assert (raster.union(parts) if parts else Mask.from_array(np.zeros(array.shape))) == mask
    assert sum(p.area for p in parts) == mask.area


def test_a_union_needs_one_picture():
    with pytest.raises(ValueError, match="one picture"):
        raster.union([])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-30, 60), st.floats(-30, 60)), min_size=3, max_size=8),
    st.lists(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30)), min_size=3, max_size=5), max_size=2),
)
def test_filling_as_the_sdk_fills(exterior, holes):
    polygon = Polygon(np.array(exterior), tuple(np.array(h) for h in holes))
    whole = Polygon(np.rint(polygon.exterior), tuple(np.rint(h) for h in polygon.holes))
    assert raster.fill(polygon, 32, 28) == raster.fill(whole, 32, 28) == sly_mask([polygon], 32, 28)


def test_tolerance_drops_vertices_and_stays_near():
    y, x = np.mgrid[:200, :200]
    mask = Mask.from_array((x - 100) ** 2 + (y - 90) ** 2 < 80**2)
    (fine,), (coarse,) = raster.contours(mask), raster.contours(mask, tolerance=2.0)
    assert len(coarse.exterior) < len(fine.exterior) / 4
    difference = raster.fill(coarse, 200, 200).to_array() ^ mask.to_array()
    assert 0 < difference.sum() < 0.06 * mask.area


def test_small_parts_can_be_left_out():
    array = np.zeros((30, 30), bool)
    array[2:20, 2:20] = True
    array[5, 5] = False
    array[25, 25] = True
    (part,) = raster.contours(Mask.from_array(array), min_area=4)
    assert part.holes == ()
