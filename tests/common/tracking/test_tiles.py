"""Tiles: the object's centre is the tile's centre and its rim at `zoom`, at every size, turn and level of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.tiles import TILE, Levels, alike, frame_of, look_of, turn_of

HEIGHT, WIDTH = 400, 600


def ramp(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Red tells x and green tells y, 0..240 over the picture."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = np.stack((240 * x / (width - 1), 240 * y / (height - 1), 0 * x), -1)
    return np.ascontiguousarray(np.rint(channels).astype(np.uint8))


def where(colour: np.ndarray, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return colour[:2].astype(float) / 240 * (width - 1, height - 1)


@pytest.mark.parametrize(
    "geometry",
    [
        Box(np.array([200, 150, 260, 190])),
        Box(np.array([100, 50, 500, 350])),
        Box(np.array([300, 200, 304, 206])),
        OrientedBox(np.array([300, 200, 120, 60]), 0.7),
        Mask.from_array(np.pad(np.ones((60, 90)), ((120, HEIGHT - 180), (200, WIDTH - 290)))),
        Points(np.array([[200, 100], [330, 180], [240, 260]])),
        Points(np.array([[200, 100], [330, 180], [240, 260]]), edges=((0, 1), (1, 2), (2, 0))),
    ],
)
def test_tiles_show_the_right_place(geometry: Geometry) -> None:
    frame = frame_of(geometry, 6)
    assert frame is not None
    tile = Levels(ramp()).tile(frame)
    middle = (TILE - 1) / 2
    for local in ((0, 0), (0.9, 0), (0, -0.9), (-0.8, 0.8)):
        x, y = middle + np.array(local) * frame.zoom
        spot = tile[round(y), round(x)]
        expected = frame.centre + frame.axes @ ((np.array([round(x), round(y)]) - middle) / frame.zoom)
        np.testing.assert_allclose(
            where(spot), expected, atol=4
        )  # one colour step is 2.5 pixels, and every level rounds


def outline(xy: np.ndarray, hidden: bool = False) -> Points:
    count = len(xy)
    return Points(xy, np.full(count, not hidden), tuple((i, (i + 1) % count) for i in range(count)))


@pytest.mark.parametrize("way", [1, -1])
def test_the_frame_of_an_outline_turns_and_grows_with_it_whichever_vertices_are_seen(way: int) -> None:
    rest = np.array([[0, -44], [30, -10], [4, 46], [-26, 8], [-30, -10]])[::way] + 0.0
    drawn = frame_of(outline(rest + 200), 6)
    assert drawn is not None
    for angle, scale in ((0.3, 1.0), (-2.9, 1.4), (3.1, 0.7)):
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        matrix = np.array([[c, -s], [s, c]])
        now = frame_of(outline(rest @ matrix.T + (320, 210), hidden=True), 6)
        assert now is not None
        np.testing.assert_allclose(now.axes, matrix @ drawn.axes, atol=1e-4 * 60)
        np.testing.assert_allclose(now.samples, drawn.samples, atol=1e-4)
        np.testing.assert_allclose(now.centre, matrix @ (drawn.centre - 200) + (320, 210), atol=1e-3)
        assert (now.cover != drawn.cover).mean() < 0.02
    assert drawn.seen is not None and drawn.seen.all()
    assert len(drawn.samples) == 36 and np.abs(drawn.samples).max() < 0.9


def test_outlines_without_a_direction_of_their_own_stand_as_points_do() -> None:
    bow = outline(np.array([[0, 0], [60, 40], [60, 0], [0, 40]]) + 100.0)
    assert turn_of(bow) is None and turn_of(Points(bow.xy)) is None and turn_of(Box(np.array([0, 0, 5, 5]))) is None
    crossed, loose = frame_of(bow, 6), frame_of(Points(bow.xy), 6)
    assert crossed is not None and loose is not None
    np.testing.assert_array_equal(crossed.axes, loose.axes)
    strip = outline(np.array([[0, 0], [80, 0], [80, 4], [0, 4]]) + 100.0)
    turn = turn_of(strip)
    assert turn is not None
    upright = frame_of(strip, 6, turn)
    assert upright is not None
    np.testing.assert_allclose(upright.axes, np.diag([40, 6]), atol=1e-6)


def test_an_outline_that_is_hardly_more_than_a_rim_has_samples_on_it() -> None:
    angle = np.linspace(0.1, 2 * np.pi - 0.1, 40)
    rim = np.stack([np.cos(angle), np.sin(angle)], 1)
    frame = frame_of(outline(np.concatenate([80 * rim, 68 * rim[::-1]]) + 150), 6)
    assert frame is not None and not frame.own and len(frame.samples) > 20
    radius = np.hypot(*((frame.samples @ frame.axes.T + frame.centre - 150).T))
    assert (np.abs(radius - 74) < 14).all()


def test_places_of_an_outline_between_its_limbs_are_none_of_its_own() -> None:
    letter = np.array([[0, 0], [90, 0], [90, 30], [30, 30], [30, 60], [90, 60], [90, 90], [0, 90]]) + 100.0  # a C
    frame = frame_of(outline(letter), 6)
    assert frame is not None and frame.seen is not None
    pixels = frame.centre + frame.samples @ frame.axes.T - 100
    between = (np.abs(pixels[:, 0] - 65) < 20) & (np.abs(pixels[:, 1] - 45) < 6)
    assert between.any() and not frame.seen[between].any()
    assert frame.seen[pixels[:, 0] < 24].all()


def test_large_pictures_are_reduced_and_places_stay() -> None:
    small, large = ramp(), ramp(2000, 3000)
    frame = frame_of(Box(np.array([200, 150, 300, 250])), 6)
    five = frame_of(Box(np.array([200, 150, 300, 250]) * 5), 6)
    assert frame is not None
    assert five is not None
    a, b = Levels(small).tile(frame), Levels(large).tile(five)
    assert np.abs(a.astype(int) - b).max() <= 2


@pytest.mark.parametrize("shape", [(1, 3000), (3, 3), (2000, 2)])
def test_odd_pictures(shape: tuple[int, int]) -> None:
    frame = frame_of(Box(np.array([0, 0, shape[1], shape[0]])), 6)
    assert frame is not None
    assert Levels(np.zeros((*shape, 3), np.uint8)).tile(frame).shape == (TILE, TILE, 3)


def test_looks() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 60, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    looks = []
    for x in (200, 203, 320):
        frame = frame_of(Box(np.array([x, 150, x + 100, 250])), 6)
        assert frame is not None
        looks.append(look_of(Levels(image).tile(frame), frame, image.shape))
    assert alike(looks[0], looks[0]) == pytest.approx(1)
    assert alike(looks[0], looks[1]) > 0.6
    assert alike(looks[0], looks[2]) < 0.4
    darker = looks[0].copy()
    darker[..., :3] *= 0.8
    assert alike(looks[0], darker) > 0.8


def test_what_is_off_the_picture_weighs_nothing() -> None:
    frame = frame_of(Box(np.array([-50, 100, 50, 200])), 6)
    assert frame is not None
    look = look_of(Levels(ramp()).tile(frame), frame, (HEIGHT, WIDTH, 3))
    assert (look[:, :8, 3] == 0).all()
    assert (look[:, 8:, 3] == 1).all()


def test_an_empty_mask_has_no_frame() -> None:
    assert frame_of(Mask.from_array(np.zeros((4, 4))), 6) is None
