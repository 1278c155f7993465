"""Turned copies of labelled objects: how large the box becomes, and that boxes of turned things are put better for it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from common.detection.exemplar import refining, turning
from common.detection.exemplar.learning import _colours
from common.detection.exemplar.settings import ExemplarPicture, ExemplarSettings
from common.geometry.measures import box_iou
from common.geometry.types import Mask

BOX = np.array([50, 40, 110, 80], np.float32)


def ground(seed: int) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(30, 110, (12, 16, 3), np.uint8)
    return cv2.resize(rough, (160, 120), interpolation=cv2.INTER_CUBIC)


def drawn(picture: np.ndarray, middle: tuple[float, float], angle_rad: float, shape: str = "rectangle") -> np.ndarray:
    """A striped thing of 60 x 40 pixels, put into the picture; its box."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    x, y = np.einsum("ij,jkl->ikl", turning.rotation(-angle_rad), np.stack((columns - middle[0], rows - middle[1])))
    inside = (abs(x) < 30) & (abs(y) < 20) if shape == "rectangle" else (x / 30) ** 2 + (y / 20) ** 2 < 1
    picture[inside] = np.where(np.sin(x / 3)[..., None] > 0, (250, 210, 60), (170, 40, 30))[inside]
    down, across = np.nonzero(inside)
    return np.array([across.min(), down.min(), across.max() + 1, down.max() + 1], np.float32)


@pytest.mark.parametrize("shape", ["rectangle", "ellipse"])
@pytest.mark.parametrize("known", [False, True], ids=["seen", "drawn by a person"])
def test_the_box_of_a_turned_thing_is_known(shape, known):
    picture = ground(1)
    box = drawn(picture, (80, 60), 0.0, shape)
    area = None
    if known:
        bits = np.zeros((120, 160), bool)
        apart = ground(1)
        drawn(apart, (80, 60), 0.0, shape)
        bits[(apart != ground(1)).any(2)] = True
        area = Mask.from_array(bits)
    found = turning.cut_out(picture, box, area)
    assert found is not None
    np.testing.assert_allclose(turning.turned(found.hull, (80, 60), 0.0), box, atol=1e-3)
    for angle in (-0.3, 0.2):
        wanted = drawn(ground(1), (80, 60), angle, shape)
        assert box_iou(turning.turned(found.hull, np.array((80, 60)), angle)[None], wanted[None])[0, 0] > 0.93


def test_what_cannot_be_told_from_its_ground_is_no_cutout():
    assert turning.cut_out(ground(1), BOX, Mask.from_array(np.zeros((120, 160), bool))) is None
    half = np.zeros((120, 160), bool)
    half[40:80, 50:75] = True
    assert turning.cut_out(ground(1), BOX, Mask.from_array(half)) is None


def test_boxes_of_turned_things_on_other_ground_are_put_better_for_the_copies(monkeypatch):
    picture = ground(1)
    boxes = np.stack([drawn(picture, middle, 0.0) for middle in ((40, 30), (110, 80))])
    example = ExemplarPicture(lambda: picture, boxes, np.zeros(2, np.int64))
    table = _colours([example], 1)
    rng = np.random.default_rng(0)

    def mean_iou(refiners: tuple[refining.Refiner, ...]) -> float:
        values = []
        for seed, angle in enumerate((-0.28, -0.2, 0.2, 0.28), 2):
            image = ground(seed)
            real = np.stack([drawn(image, (80, 60), angle)])
            off = np.repeat(real, 8, 0) + rng.normal(0, 4, (8, 4)).astype(np.float32)
            put = refining.refined(image, off, np.zeros(8, np.int64), refiners, ExemplarSettings(), table)
            values += box_iou(put, real)[:, 0].tolist()
        return float(np.mean(values))

    with_copies = mean_iou(refining.fit([example], 1, ExemplarSettings(), table))
    monkeypatch.setattr(refining, "_CUT_OUT", 0)
    without = mean_iou(refining.fit([example], 1, ExemplarSettings(), table))
    assert with_copies > without + 0.03, (with_copies, without)
