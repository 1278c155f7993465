"""The camera's motion, measured on pictures whose motion is exactly known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from common.association.camera import text
from common.association.camera.motion import CameraMotion
from common.association.settings import CameraMethod
from common.video.reader import open_source

SHAKE = Path(__file__).resolve().parents[4] / "shared" / "data" / "mot" / "shake" / "TUD-Stadtmitte-shake"


def _texture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    grains = [cv2.resize(rng.uniform(0, 1, (height // k, width // k)), (width, height)) for k in (4, 9, 30)]
    picture = sum(g * weight for g, weight in zip(grains, (0.3, 0.4, 0.3), strict=True))
    return np.repeat((255 * picture)[..., None], 3, 2).astype(np.uint8)


def _error(found: np.ndarray, truth: np.ndarray, width: int, height: int) -> float:
    x, y = np.meshgrid(np.linspace(0, width - 1, 7), np.linspace(0, height - 1, 5))
    points = np.stack((x.ravel(), y.ravel(), np.ones(x.size)), 1)
    return float(np.hypot(*(points @ (found - truth).T).T).mean())


TRUE = np.array([[1.01 * np.cos(0.01), -np.sin(0.01), 4.3], [np.sin(0.01), 1.01 * np.cos(0.01), -2.6]])


@pytest.mark.parametrize(("method", "limit"), [("flow", 0.15), ("orb", 1.0), ("ecc", 0.6)])
@pytest.mark.parametrize("factor", [1, 3])
def test_a_known_motion_is_found(method: CameraMethod, limit: float, factor: int) -> None:
    """Also in large pictures, with an object that moves on its own."""
    height, width = 300 * factor, 400 * factor
    scale = np.diag((factor, factor, 1.0))
    true = (scale @ np.vstack((TRUE, (0, 0, 1))) @ np.linalg.inv(scale))[:2]
    first = _texture(height, width)
    second = cv2.warpAffine(first, true, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    object_ = _texture(height // 3, width // 4)[:, ::-1] // 2
    first[: height // 3, : width // 4] = object_
    second[20 * factor : 20 * factor + height // 3, 9 * factor : 9 * factor + width // 4] = object_
    camera = CameraMotion(method)
    assert camera.estimate(first) is None
    found = camera.estimate(second)
    assert found is not None
    assert _error(found, true, width, height) < limit * factor


def test_a_cut_darkness_and_another_size_are_no_motion() -> None:
    camera = CameraMotion("flow")
    camera.estimate(_texture(240, 320))
    assert camera.estimate(np.zeros((240, 320, 3), np.uint8)) is None
    assert camera.estimate(np.zeros((240, 320, 3), np.uint8)) is None
    assert camera.estimate(np.zeros((120, 160, 3), np.uint8)) is None
    assert camera.estimate(np.zeros((1, 1, 3), np.uint8)) is None


@pytest.mark.parametrize("jump", [(70, 0), (-90, 50), (20, -110)])
def test_a_jerk_further_than_points_can_be_followed(jump: tuple[int, int]) -> None:
    world = _texture(700, 900)
    camera = CameraMotion("flow")
    camera.estimate(np.ascontiguousarray(world[150:510, 150:630]))
    x, y = 150 - jump[0], 150 - jump[1]
    found = camera.estimate(np.ascontiguousarray(world[y : y + 360, x : x + 480]))
    assert found is not None and found[:, 2] == pytest.approx(jump, abs=0.2)


def test_it_goes_on_from_a_snapshot() -> None:
    first = _texture(240, 320)
    second = np.roll(first, 3, 1)
    camera, other = CameraMotion("flow"), CameraMotion("flow")
    camera.estimate(first)
    other.restore(camera.state())
    a, b = camera.estimate(second), other.estimate(second)
    assert a is not None and b is not None and np.array_equal(a, b)


@pytest.mark.skipif(not SHAKE.is_dir(), reason="needs ../shared/data (mot/shake)")
def test_real_pictures_under_a_known_camera() -> None:
    truth = text.read(SHAKE / "gmc.txt")
    source = open_source(SHAKE / "video.mp4")
    camera, errors = CameraMotion("flow"), []
    for number, image in enumerate(source.stream(0, source.info.frames)):
        found = camera.estimate(image)
        if number:
            assert found is not None
            errors.append(_error(found, truth[number], source.info.width, source.info.height))
    assert np.mean(errors) < 0.15
