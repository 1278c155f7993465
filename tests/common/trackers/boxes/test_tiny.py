"""The network of our own, alone and beside the filter: its weights are here, are the card's, and several objects are as one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import EngineUnavailable, WeightsMissing
from common.geometry.measures import iou
from common.geometry.types import Box
from common.trackers import registry
from common.trackers.boxes import hybrid, tiny
from common.trackers.boxes.patches import Pyramid
from common.trackers.boxes.tiny_run import TinySettings, cut, pick
from common.tracking.contract import Prompt
from common.weights.options import DEFAULT, EngineOptions
from tests.common.trackers.boxes.scenes import paste, texture
from tests.contract.clips import clip, play, prompts, scene

ROOT = Path(__file__).parents[4]
MAKERS = {"tiny": tiny.make, "hybrid": hybrid.make}


def test_the_weights_are_those_of_the_card():
    content = tiny.WEIGHTS.read_bytes()
    assert len(content) < 4_000_000
    assert hashlib.sha256(content).hexdigest() in (ROOT / "training" / "cards" / "boxes.md").read_text()


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_known_by_name_and_needs_no_download(name):
    assert registry.make(name).card.weights is None
    assert name not in registry.DEFAULTS.values() or name == "hybrid"


def test_it_imports_without_torch():
    code = (
        "import sys; from common.trackers import registry; "
        "[registry.make(n).card for n in ('tiny', 'hybrid')]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", MAKERS)
def test_without_torch_it_says_what_to_do(name, monkeypatch):
    monkeypatch.setattr(tiny, "find_spec", lambda module: None)
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(EngineUnavailable, match="correlation works without"):
        MAKERS[name](name, DEFAULT).start(image, [Prompt("a", Box(np.array([5, 5, 20, 20], np.float32)))])


def test_weights_that_are_not_there_are_told():
    tracker = tiny.make("tiny", EngineOptions(weights="nowhere.safetensors"))
    with pytest.raises(WeightsMissing):
        tracker.start(np.zeros((40, 40, 3), np.uint8), [Prompt("a", Box(np.array([5, 5, 20, 20], np.float32)))])


@pytest.mark.parametrize("name", MAKERS)
def test_objects_do_not_disturb_each_other(name):
    """One pass for three objects finds what three passes find, up to the rounding of larger products."""
    options = {"speed": 1.5, "noise": 2}
    images, made = clip(31, 6, 200, 150, 3, **options), scene(31, 6, 200, 150, 3, **options)
    wanted = prompts(made.truth(0), "box")
    together = play(MAKERS[name](name, DEFAULT), images, wanted)
    for number, prompt in enumerate(wanted):
        alone = play(MAKERS[name](name, DEFAULT), images, [prompt])
        for both, one in zip(together[1:], alone[1:], strict=True):
            assert iou(both[number].geometry, one[0].geometry) > 0.98


@pytest.mark.parametrize(("name", "coarse"), [("tiny", 90), ("hybrid", 12)])
def test_it_says_when_the_object_is_gone_and_finds_it_again(name, coarse):
    """The network alone on plain ground only: among blotches like the object's it takes one of them for it."""
    ground, patch = texture(1, 180, 240, coarse), texture(2, 40, 40, 5)
    there = [paste(ground, patch, (90.0 + 2 * t, 90.0)) for t in range(10)]
    images = [*there, *[ground] * 12, *[there[-1]] * 8]
    prompt = Prompt("a", Box(np.array([70, 70, 110, 110], np.float32)))
    found = [frame[0] for frame in play(MAKERS[name](name, DEFAULT), images, [prompt])]
    assert all(p.visible for p in found[1:10])
    assert not found[20].visible
    assert found[-1].visible and iou(found[-1].geometry, Box(np.array([88, 70, 128, 110], np.float32))) > 0.6


def test_pick_takes_the_box_of_the_surest_cell():
    chance, sides = np.full((2, 24, 24), 0.01, np.float32), np.full((2, 4, 24, 24), 24.0)
    chance[0, 10, 14], chance[1, 12, 6] = 0.9, 0.8
    picked = pick(chance, sides, np.full((2, 2), 48.0), TinySettings())
    np.testing.assert_allclose(picked.middle, [[14 * 8 + 4, 10 * 8 + 4], [6 * 8 + 4, 12 * 8 + 4]], atol=0.5)
    np.testing.assert_allclose(picked.extent, 48.0)
    np.testing.assert_allclose(picked.chance, [0.9, 0.8], rtol=1e-6)


def test_crops_hold_the_box_in_the_middle_upright():
    picture = np.full((120, 160, 3), 90, np.uint8)
    cv2.rectangle(picture, (60, 40), (99, 59), (255, 0, 0), -1)
    crops = cut(
        Pyramid(picture), np.array([[60.0, 40, 40, 20]] * 2), np.array([0.0, np.pi / 2]), np.array([4.0, 4.0]), 192
    )
    red = crops[..., 0] > 200
    high, wide = red.any(2).sum(1), red.any(1).sum(1)
    assert wide[0] == pytest.approx(68, abs=2) and high[0] == pytest.approx(34, abs=2)
    assert wide[1] == pytest.approx(34, abs=2) and high[1] == pytest.approx(68, abs=2)
    rows, columns = np.nonzero(red[0])
    assert rows.mean() == pytest.approx(95.5, abs=1) and columns.mean() == pytest.approx(95.5, abs=1)


def test_crops_over_the_border_show_the_mean_colour():
    picture = np.full((120, 160, 3), 90, np.uint8)
    crop = cut(Pyramid(picture), np.array([[0.0, 0, 40, 40]]), np.zeros(1), np.array([4.0]), 64)[0]
    assert (crop == 90).all()
    bright = np.zeros((120, 160, 3), np.uint8)
    bright[:, 80:] = 200
    crop = cut(Pyramid(bright), np.array([[0.0, 0, 40, 40]]), np.zeros(1), np.array([4.0]), 64)[0]
    assert abs(int(crop[2, 2, 0]) - 100) < 8
