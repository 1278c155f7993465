"""The tiny network beside Lucas-Kanade: its weights are here and are the card's, it finds what was hidden, and asks for torch."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import EngineUnavailable, WeightsMissing
from common.geometry.types import Points
from common.trackers import registry
from common.trackers.points import tiny_points
from common.trackers.points.tiny_points_look import SIDE, Eye, Pyramid, factors, windows
from common.tracking.contract import Exemplar, Prompt
from common.tracking.snapshot import pack
from common.weights.options import DEFAULT, EngineOptions
from tests.common.trackers.boxes.scenes import texture

ROOT = Path(__file__).parents[4]
FILL = np.array([1, 2, 3], np.uint8)


@pytest.fixture(scope="module")
def eye():
    return Eye(EngineOptions(weights=str(tiny_points.WEIGHTS), device="cpu"))


def points(*xy):
    return Points(np.array(xy, np.float32))


def test_the_weights_are_those_of_the_card():
    content = tiny_points.WEIGHTS.read_bytes()
    assert len(content) < 4_000_000
    assert hashlib.sha256(content).hexdigest() in (ROOT / "training" / "cards" / "points.md").read_text()


def test_it_is_known_by_name_and_imports_without_torch():
    code = (
        "import sys; from common.trackers import registry; "
        "assert registry.make('tiny_points').card.weights is None; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_without_torch_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(tiny_points, "find_spec", lambda module: None)
    with pytest.raises(EngineUnavailable, match="lucas-kanade works without"):
        registry.make("tiny_points").start(np.zeros((40, 40, 3), np.uint8), [Prompt("a", points((5, 5)))])


def test_weights_that_are_not_there_are_told():
    tracker = tiny_points.make("tiny_points", EngineOptions(weights="nowhere.safetensors"))
    with pytest.raises(WeightsMissing):
        tracker.start(np.zeros((40, 40, 3), np.uint8), [Prompt("a", points((5, 5)))])


def test_another_trackers_state_is_refused():
    with pytest.raises(ValueError, match="tiny_points"):
        tiny_points.make("tiny_points", DEFAULT).load(pack({"format": "lucas-kanade/1"}))


def test_windows_show_the_picture_and_its_surroundings():
    picture = np.arange(30 * 40 * 3, dtype=np.int64).reshape(30, 40, 3).astype(np.uint8)
    cut = windows(picture, np.array([[-10, -20], [30, 5]]), FILL)
    assert cut.shape == (2, SIDE, SIDE, 3)
    assert (cut[0, :20] == FILL).all() and (cut[0, :, :10] == FILL).all()
    assert np.array_equal(cut[0, 20:50, 10:50], picture)
    assert np.array_equal(cut[1, :25, :10], picture[5:, 30:]) and (cut[1, 25:] == FILL).all()


@pytest.mark.parametrize("size", [(1, 1), (224, 100), (225, 100), (854, 480), (1080, 1920), (7680, 4320)])
def test_levels_lead_from_a_small_picture_to_the_picture_itself(size):
    made = factors(size)
    assert made[-1] == 1.0 and max(size) / made[0] <= 224.5
    assert all(1 < a / b <= 4.51 for a, b in itertools.pairwise(made))


def test_the_network_finds_points_where_they_went(eye):
    """Twelve points of a picture that moved 50 to the right and 21 down, looked for where they were; exact to two pixels."""
    ground = texture(3, 400, 600, 6)
    rng = np.random.default_rng(0)
    xy = rng.uniform((100, 100), (400, 280), (12, 2))
    looks = eye.learn(ground[:360, :540], xy)
    moved = np.roll(ground, (21, 50), (0, 1))[:360, :540]
    sight = eye.find(Pyramid(moved), looks, xy, np.full(12, 40.0))
    away = np.hypot(*(sight.xy - xy - (50, 21)).T)
    assert np.count_nonzero(away < 2) >= 10
    other = eye.find(Pyramid(texture(9, 360, 540, 6)), looks, xy, np.full(12, 40.0))
    assert np.median(other.exact) < 0.3 < np.median(sight.exact)


def test_points_do_not_disturb_each_other(eye):
    """Also not when they are so many that they go through the network in pieces."""
    ground = texture(4, 120, 300, 6)
    xy = np.random.default_rng(1).uniform((20, 20), (280, 100), (70, 2))
    looks = eye.learn(ground, xy)
    together = eye.find(Pyramid(ground), looks, xy, np.full(70, 5.0))
    alone = eye.find(Pyramid(ground), eye.learn(ground, xy[66:67]), xy[66:67], np.full(1, 5.0))
    np.testing.assert_allclose(together.xy[66:67], alone.xy, atol=1e-2)
    np.testing.assert_allclose(together.exact[66:67], alone.exact, atol=1e-3)


def test_exemplars_give_further_looks():
    ground = texture(5, 80, 120, 6)
    prompt = Prompt("a", points((30, 30), (60, 40)))
    exemplar = Exemplar(ground, [prompt])
    tracker = registry.make("tiny_points")
    run = tracker.start(ground, [prompt], [exemplar, Exemplar(ground[:40], [prompt])])
    assert run._point.tolist() == [0, 1, 0, 1] and len(run._looks) == 4
    again = tracker.load(run.save())
    first, second = run.push(ground)[0][0], again.push(ground)[0][0]
    assert np.array_equal(first.geometry.xy, second.geometry.xy)
    np.testing.assert_allclose(first.geometry.xy, prompt.geometry.xy, atol=0.3)
