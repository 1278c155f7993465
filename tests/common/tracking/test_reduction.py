"""Key-figure reduction: the bound always holds, and what a person drew always stays."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.reduction import ErrorBound, Figure, Kept, rebuild, reduce_figures


def made(kind: str, t: float, rough: float, rng: np.random.Generator) -> Geometry:
    """A shape on a curved path with noise of `rough` pixels."""
    x, y, a = 60 + 40 * np.sin(t / 9), 50 + t / 2 % 37, t / 15
    x, y = (np.array([x, y]) + rng.normal(0, rough, 2)).tolist()
    match kind:
        case "box":
            return Box(np.array([x, y, x + 20 + t / 10, y + 30]))
        case "oriented":
            return OrientedBox(np.array([x, y, 30, 12]), a)
        case "points":
            ring = np.array([[-9, -5], [9, -5], [12, 6], [-7, 5]])
            turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
            return Points(ring @ turn + (x, y), rng.random(4) < 1 - 0.02 * rough, ((0, 1), (1, 2), (2, 3), (3, 0)))
        case _:
            picture = np.zeros((130, 140), np.uint8)
            cv2.ellipse(picture, ((x, y), (34, 16), float(np.degrees(a))), 1, -1)
            return Mask.from_array(picture)


@given(
    st.sampled_from(["box", "oriented", "points", "mask"]),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.3, 3.0]),
    st.integers(1, 40),
    st.sampled_from([1, -1]),
)
@settings(max_examples=60, deadline=None)
def test_the_bound_holds(kind: str, seed: int, rough: float, max_gap: int, way: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 25 if kind == "mask" else 90))
    shown, seen = True, True
    figures: list[Figure] = []
    for i in range(n):
        shown ^= rng.random() < 0.04
        seen ^= rng.random() < 0.03
        if rng.random() < 0.02:
            continue  # a frame number left out
        geometry = made(kind, i, rough, rng) if shown else None
        figures.append(Figure(way * i, geometry, seen, human=rng.random() < 0.03))
    bound = ErrorBound(pixels=2.0, iou=0.85, max_gap=max_gap)
    kept = list(reduce_figures(figures, bound))
    back = {f.frame: f for f in rebuild(kept)}
    given_ = {f.frame: f for f in figures if f.geometry is not None}
    assert list(back) == list(given_)
    for frame, figure in given_.items():
        rebuilt = back[frame]
        assert figure.geometry is not None
        assert rebuilt.geometry is not None
        assert bound.allows(figure.geometry, rebuilt.geometry)
        assert rebuilt.visible == figure.visible
    frames = [k.figure.frame for k in kept]
    assert {f.frame for f in given_.values() if f.human} <= set(frames)
    assert all(abs(b.figure.frame - a) <= max_gap for a, b in zip(frames, kept[1:], strict=False) if b.joined)
    ends = [f for f in given_ if f - way not in given_ or f + way not in given_]
    assert set(ends) <= set(frames)


@pytest.mark.parametrize(
    ("true", "rebuilt", "expected"),
    [
        (Box(np.array([0, 0, 9, 9])), Box(np.array([1.2, 0, 9, 11])), False),  # bottom left: hypot(1.2, 2)
        (Box(np.array([0, 0, 9, 9])), Box(np.array([1.2, 0, 9, 10.5])), True),
        (OrientedBox(np.array([0, 0, 9, 4]), 0), OrientedBox(np.array([0, 0, 4, 9]), np.pi / 2), True),
        (OrientedBox(np.array([0, 0, 9, 4]), 0), OrientedBox(np.array([0, 0, 9, 4]), 0.6), False),
        (Points(np.zeros((2, 2))), Points(np.array([[0, 0], [1, 1]])), True),
        (Points(np.zeros((2, 2))), Points(np.array([[0, 0], [2, 2]])), False),
        (Points(np.zeros((2, 2))), Points(np.zeros((2, 2)), np.array([True, False])), False),
        (Points(np.zeros((2, 2))), Points(np.zeros((3, 2))), False),
        (Box(np.zeros(4)), OrientedBox(np.zeros(4), 0), False),
        (Mask.from_array(np.eye(4)), Mask.from_array(np.eye(4)), True),
        (Mask.from_array(np.eye(4)), Mask.from_array(np.zeros((4, 4))), False),
        (Mask.from_array(np.eye(4)), Mask.from_array(np.eye(5)), False),
    ],
)
def test_what_a_bound_allows(true: Geometry, rebuilt: Geometry, expected: bool) -> None:
    assert ErrorBound(2.0, 0.9).allows(true, rebuilt) is expected


def test_straight_motion_needs_two_figures_and_a_corner_a_third() -> None:
    path = [(n, 0) for n in range(30)] + [(29, n) for n in range(1, 30)]
    figures = [Figure(i, Box(np.array([x, y, x + 5, y + 5]))) for i, (x, y) in enumerate(path)]
    kept = list(reduce_figures(figures, ErrorBound(pixels=0.01)))
    assert [k.figure.frame for k in kept] == [0, 29, 58]
    assert [k.joined for k in kept] == [False, True, True]


def test_neighbours_of_gaps_and_changes_stay() -> None:
    box = Box(np.array([0, 0, 5, 5]))
    figures = [Figure(n, None if n in (10, 11) else box, visible=n < 20, human=n == 25) for n in range(30) if n != 15]
    kept = list(reduce_figures(figures))
    assert [k.figure.frame for k in kept] == [0, 9, 12, 14, 16, 19, 20, 25, 29]
    assert [k.joined for k in kept] == [False, True, False, True, False, True, True, True, True]


def test_a_single_figure_stays() -> None:
    figure = Figure(7, Box(np.zeros(4)))
    assert list(reduce_figures([figure])) == [Kept(figure, joined=False)]
    assert list(reduce_figures([])) == []


def test_it_streams() -> None:
    """Never reads further than max_gap figures past what it gave out."""
    read = 0

    def endless() -> Iterator[Figure]:
        nonlocal read
        while True:
            yield Figure(read, Box(np.array([read % 50, 0, 60, 9])))
            read += 1

    given_out = 0
    for kept in reduce_figures(endless(), ErrorBound(max_gap=20)):
        assert read - given_out <= 21
        given_out = kept.figure.frame
        if given_out > 500:
            break


@pytest.mark.parametrize("frames", [(1, 1), (1, 2, 2), (1, 2, 1), (5, 4, 6)])
def test_frames_out_of_order_are_refused(frames: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one way"):
        list(reduce_figures(Figure(f, Box(np.zeros(4))) for f in frames))


@pytest.mark.parametrize("bad", [{"pixels": -1}, {"iou": 1.1}, {"max_gap": 0}])
def test_bounds_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        ErrorBound(**bad)  # type: ignore[arg-type]
