"""Tiles: the object's centre is the tile's centre and its rim at `zoom`, at every size, turn and level of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.tiles import TILE, Levels, alike, frame_of, look_of

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
