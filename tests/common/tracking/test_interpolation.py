"""Interpolation: exact at the ends, symmetric, and turning shapes keep their size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.interpolation import Between, blend_masks, distance_field, interpolate, same_sides

number = st.floats(-500, 500, width=32)
length = st.floats(0, 300, width=32)
angle = st.floats(-7, 7)
part = st.floats(0, 1)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y, w, h = draw(number), draw(number), draw(length), draw(length)
    return Box(np.array([x, y, x + w, y + h], np.float32))


@st.composite
def oriented(draw: st.DrawFn) -> OrientedBox:
    return OrientedBox(np.array([draw(number), draw(number), draw(length), draw(length)]), draw(angle))


def ring(n: int) -> tuple[tuple[int, int], ...]:
    return tuple((i, (i + 1) % n) for i in range(n))


@st.composite
def point_pairs(draw: st.DrawFn) -> tuple[Points, Points]:
    n = draw(st.integers(1, 7))
    edges = draw(st.sampled_from([(), ring(n)]))
    xy = st.lists(st.tuples(number, number), min_size=n, max_size=n)
    seen = st.lists(st.booleans(), min_size=n, max_size=n)
    a, b = (Points(np.array(draw(xy)), np.array(draw(seen)), edges) for _ in range(2))
    return a, b


@st.composite
def masks(draw: st.DrawFn, height: int = 40, width: int = 50) -> Mask:
    picture = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(0, 3))):
        x, y, r = draw(st.integers(-3, width + 3)), draw(st.integers(-3, height + 3)), draw(st.integers(0, 12))
        if draw(st.booleans()):
            cv2.circle(picture, (x, y), r, 1, -1)
        else:
            cv2.rectangle(picture, (x, y), (x + 2 * r, y + r), 1, -1)
    return Mask.from_array(picture)


pairs = st.one_of(
    st.tuples(boxes(), boxes()), st.tuples(oriented(), oriented()), point_pairs(), st.tuples(masks(), masks())
)


def iou(a: Mask, b: Mask) -> float:
    x, y = a.to_array(), b.to_array()
    return float((x & y).sum() / max((x | y).sum(), 1))


def same_region(a: Geometry, b: Geometry, within: float = 0.05) -> None:
    if isinstance(a, Box) and isinstance(b, Box):
        np.testing.assert_allclose(a.xyxy, b.xyxy, atol=within)
    elif isinstance(a, OrientedBox) and isinstance(b, OrientedBox):
        for corner in a.corners():
            assert np.linalg.norm(b.corners() - corner, axis=1).min() < within
    elif isinstance(a, Points) and isinstance(b, Points):
        np.testing.assert_allclose(a.xy, b.xy, atol=within)
    else:
        raise AssertionError(f"{a} is not {b}")


@given(pairs, part)
@settings(max_examples=150, deadline=None)
def test_the_ends_are_the_key_figures_and_the_kind_stays(pair: tuple[Geometry, Geometry], t: float) -> None:
    a, b = pair
    between = Between(a, b)
    assert between(0) == a
    assert between(1) == b
    assert type(between(t)) is type(a)
    assert interpolate(a, a, t) == a


@given(st.one_of(st.tuples(boxes(), boxes()), st.tuples(oriented(), oriented()), point_pairs()), part)
@settings(max_examples=150, deadline=None)
def test_both_directions_agree(pair: tuple[Geometry, Geometry], t: float) -> None:
    a, b = pair
    if isinstance(a, OrientedBox) and isinstance(b, OrientedBox):
        cxcywh, turned = same_sides(a, b)
        if abs(abs(turned - a.angle_rad) - np.pi / 2) < 1e-3:
            return  # a quarter turn has no shorter arc
        back = same_sides(b, a)
        swapped = abs(np.log((cxcywh[2] + 1) / (b.cxcywh[2] + 1))) > 1e-6
        if swapped != (abs(np.log((back[0][2] + 1) / (a.cxcywh[2] + 1))) > 1e-6):
            return  # two descriptions that cost the same
    if isinstance(a, Points) and isinstance(b, Points):
        if abs(abs(Between(a, b)._points.angle) - np.pi) < 1e-3:  # type: ignore[union-attr]
            return  # a half turn has no shorter arc
        t = 0.25 if t == 0.5 else t
    same_region(interpolate(a, b, t), interpolate(b, a, 1 - t))


@given(point_pairs(), st.floats(-3, 3), st.floats(0.3, 3), part)
@settings(max_examples=100, deadline=None)
def test_rigid_shapes_stay_rigid(pair: tuple[Points, Points], turn: float, scale: float, t: float) -> None:
    """A turned, moved and scaled copy keeps its shape in between: every distance scales alike."""
    xy = pair[0].xy.astype(np.float64)
    n = len(xy)
    a = Points(xy.astype(np.float32), edges=ring(n))
    c, s = np.cos(turn) * scale, np.sin(turn) * scale
    b = Points((xy @ np.array([[c, s], [-s, c]]) + (30, -20)).astype(np.float32), edges=ring(n))
    mid = interpolate(a, b, t)
    assert isinstance(mid, Points)

    def distances(p: Points) -> np.ndarray:
        return np.linalg.norm(p.xy[:, None].astype(np.float64) - p.xy[None], axis=-1)

    np.testing.assert_allclose(distances(mid), distances(a) * (1 - t + t * scale), atol=0.05, rtol=1e-3)


def test_a_line_turns_instead_of_shrinking() -> None:
    a = Points(np.array([[0, 0], [10, 0]]), edges=((0, 1),))
    b = Points(np.array([[5, -5], [5, 5]]), edges=((0, 1),))
    mid = interpolate(a, b, 0.5)
    assert isinstance(mid, Points)
    assert np.linalg.norm(mid.xy[1] - mid.xy[0]) == pytest.approx(10, abs=1e-4)
    loose = interpolate(Points(a.xy), Points(b.xy), 0.5)
    assert isinstance(loose, Points)
    np.testing.assert_allclose(loose.xy, [[2.5, -2.5], [7.5, 2.5]], atol=1e-5)


def test_a_moving_limb_leaves_the_body_still() -> None:
    body = np.array([[0, 0], [40, 0], [80, 5], [80, 60], [30, 66], [0, 60], [-9, 33]], np.float32)
    a = Points(np.vstack((body, [[120, 0]])), edges=ring(8))
    b = Points(np.vstack((body, [[100, 90]])), edges=ring(8))
    mid = interpolate(a, b, 0.5)
    assert isinstance(mid, Points)
    np.testing.assert_allclose(mid.xy[:7], body, atol=0.1)


@pytest.mark.parametrize(
    ("a", "b", "t", "expected"),
    [
        ((0, 0, 100, 10, 0.0), (0, 0, 100, 10, 1.0), 0.5, (0, 0, 100, 10, 0.5)),
        ((0, 0, 100, 10, 0.1), (0, 0, 10, 100, 0.3 - np.pi / 2), 0.5, (0, 0, 100, 10, 0.2)),  # sides swapped
        ((0, 0, 100, 10, 0.1), (0, 0, 100, 10, 0.3 + np.pi), 0.5, (0, 0, 100, 10, 0.2)),  # half a turn is none
        ((0, 0, 100, 10, -1.5), (0, 0, 100, 10, 1.5), 0.5, (0, 0, 100, 10, -np.pi / 2)),  # across the vertical
        ((0, 0, 100, 95, 0.0), (0, 0, 95, 100, 0.0), 0.5, (0, 0, 97.5, 97.5, 0.0)),  # longer side changed, no turn
        ((0, 0, 100, 100, 0.0), (0, 0, 100, 100, 1.5), 0.5, (0, 0, 100, 100, (1.5 - np.pi / 2) / 2)),  # square
        ((0, 0, 50, 10, 0.0), (20, 8, 70, 30, 0.4), 0.25, (5, 2, 55, 15, 0.1)),
    ],
)
def test_oriented_boxes(a: tuple, b: tuple, t: float, expected: tuple) -> None:
    got = interpolate(*(OrientedBox(np.array(v[:4]), v[4]) for v in (a, b)), t)
    same_region(got, OrientedBox(np.array(expected[:4]), expected[4]), 1e-3)


@given(masks(), st.integers(-8, 8), st.integers(-8, 8))
@settings(max_examples=60, deadline=None)
def test_a_moved_mask_moves(mask: Mask, dx: int, dy: int) -> None:
    picture = np.pad(mask.to_array(), 20)
    a = Mask.from_array(picture)
    b = Mask.from_array(np.roll(picture, (2 * dy, 2 * dx), (0, 1)))
    expected = Mask.from_array(np.roll(picture, (dy, dx), (0, 1)))
    assert interpolate(a, b, 0.5) == expected


@given(masks(), masks(), st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_masks_between_two_masks_are_neither_empty_nor_cut_differently_backward(a: Mask, b: Mask, t: float) -> None:
    got = interpolate(a, b, t)
    assert isinstance(got, Mask)
    assert (got.height, got.width) == (40, 50)
    if a.area and b.area:
        assert got.area > 0
        back = interpolate(b, a, 1 - t)
        assert isinstance(back, Mask)
        if t < 0.49 or t > 0.51:
            assert abs(got.area - back.area) <= 0.1 * max(got.area, back.area) + 8


def bar(angle_deg: float, width: int = 200, height: int = 160) -> Mask:
    picture = np.zeros((height, width), np.uint8)
    corners = cv2.boxPoints(((100, 80), (110, 16), angle_deg))
    cv2.fillPoly(picture, [np.round(corners).astype(np.int32)], 1)
    return Mask.from_array(picture)


@pytest.mark.parametrize(("start", "end"), [(0, 60), (20, -40), (70, 110)])
def test_a_turning_bar_turns(start: float, end: float) -> None:
    for t in (0.25, 0.5, 0.75):
        got = interpolate(bar(start), bar(end), t)
        assert isinstance(got, Mask)
        assert iou(got, bar(start + t * (end - start))) > 0.85


def test_masks_scale_and_touch_the_edge() -> None:
    small, big = np.zeros((100, 100), bool), np.zeros((100, 100), bool)
    small[10:20, 10:20] = True
    big[40:100, 40:100] = True
    got = interpolate(Mask.from_array(small), Mask.from_array(big), 0.5)
    assert isinstance(got, Mask)
    assert (got.x, got.y, got.window) == (25, 25, (35, 35))
    assert got.area >= 35 * 35 - 4  # the four corner pixels may round off


def test_two_parts_stay_two() -> None:
    a, b = np.zeros((60, 120), np.uint8), np.zeros((60, 120), np.uint8)
    for picture, x in ((a, 10), (b, 30)):
        cv2.circle(picture, (x + 10, 30), 9, 1, -1)
        cv2.circle(picture, (x + 50, 30), 9, 1, -1)
    got = interpolate(Mask.from_array(a), Mask.from_array(b), 0.5)
    assert isinstance(got, Mask)
    assert cv2.connectedComponents(got.to_array().astype(np.uint8))[0] - 1 == 2


def test_an_empty_key_figure_holds_the_other_until_half_way() -> None:
    full, empty = bar(0), Mask.from_array(np.zeros((160, 200), bool))
    assert interpolate(full, empty, 0.4) == full
    assert interpolate(full, empty, 0.6) == empty
    assert interpolate(empty, empty, 0.3) == empty


@pytest.mark.parametrize(
    ("a", "b", "t"),
    [
        (Box(np.zeros(4)), OrientedBox(np.zeros(4), 0), 0.5),
        (Box(np.zeros(4)), Box(np.zeros(4)), 1.01),
        (Box(np.zeros(4)), Box(np.zeros(4)), -0.01),
        (Box(np.zeros(4)), Box(np.zeros(4)), float("nan")),
        (Points(np.zeros((2, 2))), Points(np.zeros((3, 2))), 0.5),
        (Points(np.zeros((2, 2)), edges=((0, 1),)), Points(np.zeros((2, 2))), 0.5),
        (Mask.from_array(np.ones((3, 4))), Mask.from_array(np.ones((4, 3))), 0.5),
    ],
)
def test_what_cannot_be_interpolated_is_refused(a: Geometry, b: Geometry, t: float) -> None:
    with pytest.raises(ValueError):
        interpolate(a, b, t)


def test_distance_field_is_half_a_pixel_off_at_the_outline() -> None:
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    field = distance_field(mask)
    assert field[2, 3] == pytest.approx(0.5)
    assert field[2, 4] == pytest.approx(-0.5)
    assert field[2, 6] == pytest.approx(-2.5)


@given(masks(), masks(), part)
@settings(max_examples=60, deadline=None)
def test_blending_keeps_what_both_say(a: Mask, b: Mask, t: float) -> None:
    """Pixels of both masks stay, pixels of neither stay out (unless one mask is empty)."""
    if a.area and b.area:
        got, x, y = blend_masks(a, b, t).to_array(), a.to_array(), b.to_array()
        assert got[x & y].all()
        assert not got[~x & ~y].any()
