"""Two-sided fusion: key figures win at their ends, agreement helps, contradiction picks a side."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.geometry.measures import iou
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.contract import Prediction
from common.tracking.fusion import FusionSettings, fuse


def disc(x: float, y: float = 40, r: int = 15) -> Mask:
    picture = np.zeros((80, 200), np.uint8)
    cv2.circle(picture, (round(x), round(y)), r, 1, -1)
    return Mask.from_array(picture)


def box(x: float) -> Box:
    return Box(np.array([x - 15, 25, x + 15, 55]))


def turned(x: float, angle: float = 0.3) -> OrientedBox:
    return OrientedBox(np.array([x, 40, 40, 20]), angle)


def shape(x: float) -> Points:
    return Points(np.array([[x, 30], [x + 20, 30], [x + 10, 50]]), edges=((0, 1), (1, 2), (2, 0)))


KINDS = [disc, box, turned, shape]
unit = st.floats(0, 1)


def said(geometry: Geometry | None, score: float = 0.8, visible: bool = True) -> Prediction:
    return Prediction("car", geometry, score, visible)


@given(st.sampled_from(KINDS), unit, unit, st.floats(0, 60), st.floats(0.01, 0.99))
@settings(max_examples=80, deadline=None)
def test_ends_symmetry_and_range(kind, a: float, b: float, apart: float, position: float) -> None:  # type: ignore[no-untyped-def]
    forward, backward = said(kind(60), a), said(kind(60 + apart), b)
    assert fuse(forward, backward, 0) == forward
    assert fuse(forward, backward, 1) == backward
    one, other = fuse(forward, backward, position), fuse(backward, forward, 1 - position)
    assert 0 <= one.score <= 1
    assert type(one.geometry) is type(forward.geometry)
    trust = (max(a, 1e-6) * (1 - position), max(b, 1e-6) * position)
    if abs(trust[0] - trust[1]) > 1e-6:
        assert one.score == pytest.approx(other.score, abs=1e-6)
        if not isinstance(one.geometry, Points):
            assert one.geometry is not None
            assert other.geometry is not None
            assert iou(one.geometry, other.geometry) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_agreement_raises_and_contradiction_lowers_the_score(kind) -> None:  # type: ignore[no-untyped-def]
    same = fuse(said(kind(60), 0.6), said(kind(60), 0.6), 0.5)
    assert same.score > 0.8
    apart = fuse(said(kind(60), 0.6), said(kind(130), 0.6), 0.4)
    assert apart.score < 0.5
    assert apart.geometry == kind(60)
    assert fuse(said(kind(60), 0.6), said(kind(130), 0.6), 0.6).geometry == kind(130)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("scores", "position", "chosen"), [((0.9, 0.2), 0.6, 60), ((0.2, 0.9), 0.4, 130), ((0.5, 0.5), 0.1, 60)]
)
def test_contradiction_takes_the_more_trusted_side(kind, scores, position: float, chosen: int) -> None:  # type: ignore[no-untyped-def]
    got = fuse(said(kind(60), scores[0]), said(kind(130), scores[1]), position)
    assert got.geometry == kind(chosen)


def test_agreement_blends() -> None:
    got = fuse(said(box(60)), said(box(64)), 0.5).geometry
    assert isinstance(got, Box)
    np.testing.assert_allclose(got.xyxy, box(62).xyxy, atol=1e-3)
    got = fuse(said(box(60)), said(box(64)), 0.25).geometry
    assert isinstance(got, Box)
    np.testing.assert_allclose(got.xyxy, box(61).xyxy, atol=1e-3)
    mask = fuse(said(disc(60)), said(disc(64)), 0.5).geometry
    assert isinstance(mask, Mask)
    assert iou(mask, disc(62)) > 0.93


def test_oriented_boxes_half_a_turn_apart_agree() -> None:
    got = fuse(said(turned(60, 0.1)), said(turned(60, np.pi - 0.1)), 0.5)
    assert isinstance(got.geometry, OrientedBox)
    assert abs(np.sin(got.geometry.angle_rad)) < 1e-6
    assert got.score > 0.8


def test_points_one_by_one() -> None:
    a = Points(np.array([[10, 10], [50, 50], [90, 10], [20, 70]]), np.array([True, True, True, False]))
    b = Points(np.array([[12, 10], [50, 150], [94, 10], [30, 70]]), np.array([True, True, False, True]))
    got = fuse(said(a), said(b), 0.5 - 1e-6).geometry
    assert isinstance(got, Points)
    np.testing.assert_allclose(got.xy[0], [11, 10], atol=1e-3)  # agree: the middle
    np.testing.assert_allclose(got.xy[1], [50, 50], atol=1e-3)  # contradict: one of them
    assert got.xy[2, 0] < 91.5  # hidden on one side: mostly the other
    np.testing.assert_allclose(got.xy[3], [30, 70], atol=1e-3)  # hidden here, far apart: where it is seen
    assert got.visible.tolist() == [True, True, True, False]


def test_one_side_lost() -> None:
    near = fuse(said(box(60)), said(None, 0, False), 0.1)
    far = fuse(said(box(60)), said(None, 0, False), 0.9)
    assert near.geometry == far.geometry == box(60)
    assert 0.8 > near.score > far.score > 0
    assert fuse(said(None, 0, False), said(box(60)), 0.9).score == pytest.approx(near.score)
    assert fuse(said(None, 0, False), said(None, 0, False), 0.5) == said(None, 0, False)
    empty = Mask.from_array(np.zeros((80, 200)))
    assert fuse(said(empty), said(disc(60)), 0.3).geometry == disc(60)
    assert fuse(said(empty), said(empty), 0.3).geometry == empty


def test_a_good_tracking_from_both_sides_beats_each() -> None:
    """Forward drifts with time, backward drifts the other way: fused is nearer to the truth than either, over the gap."""
    rng = np.random.default_rng(3)
    errors: list[list[float]] = []
    for n in range(1, 40):
        t = n / 40
        truth = box(60 + n)
        forward = said(box(60 + n + 8 * t + rng.normal()), 1 - 0.4 * t)
        backward = said(box(60 + n - 8 * (1 - t) + rng.normal()), 1 - 0.4 * (1 - t))
        fused = fuse(forward, backward, t)
        errors.append([1 - iou(p.geometry, truth) for p in (fused, forward, backward) if p.geometry is not None])
    mean = np.mean(errors, axis=0)
    assert mean[0] < 0.7 * min(mean[1:])


@pytest.mark.parametrize(
    ("forward", "backward", "position"),
    [
        (said(box(0)), Prediction("dog", box(0), 1, True), 0.5),
        (said(box(0)), said(turned(0)), 0.5),
        (said(box(0)), said(box(0)), 1.5),
        (said(shape(0)), said(Points(np.zeros((2, 2)))), 0.5),
        (said(disc(50)), said(Mask.from_array(np.ones((4, 4)))), 0.5),
    ],
)
def test_what_cannot_be_fused_is_refused(forward: Prediction, backward: Prediction, position: float) -> None:
    with pytest.raises(ValueError):
        fuse(forward, backward, position)


@pytest.mark.parametrize("bad", [{"agree": 0.2}, {"differ": -0.1}, {"point_reach": 0}])
def test_settings_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        FusionSettings(**bad)
