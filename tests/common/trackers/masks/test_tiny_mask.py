"""The tiny mask tracker, an experiment: the network is asked and heeded, runs repeat and resume, and it asks for torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import EngineUnavailable, WeightsMissing
from common.geometry.types import Mask
from common.networks.tiny_masks.network import FINE, MaskConfig, MaskJudge
from common.trackers.masks import tiny
from common.trackers.masks.flow import FlowTracker
from common.trackers.masks.target import Clues
from common.trackers.masks.tiny_run import TinyJudge, held_back, planes, seen_size
from common.tracking.contract import Prompt
from common.weights.options import EngineOptions
from tests.common.trackers.boxes.scenes import texture


def picture(seed=0, height=120, width=160):
    return texture(np.random.default_rng(seed), height, width)


def disc(x, y, radius=18, height=120, width=160):
    rows, columns = np.mgrid[:height, :width]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def test_without_torch_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(tiny, "find_spec", lambda module: None)
    with pytest.raises(EngineUnavailable, match="flow works without"):
        tiny.make("tiny_mask", EngineOptions()).start(picture(), [Prompt("a", Mask.from_array(disc(80, 60)))])


def test_weights_that_are_not_there_are_told():
    tracker = tiny.make("tiny_mask", EngineOptions(weights="nowhere.safetensors"))
    with pytest.raises(WeightsMissing):
        tracker.start(picture(), [Prompt("a", Mask.from_array(disc(80, 60)))])


def test_runs_repeat_themselves_and_resume_exactly():
    tracker = tiny.make("tiny_mask", EngineOptions(weights="seeded", device="cpu"))
    first, second = picture(), np.roll(picture(), 3, 1)
    one, other = (tracker.start(first, [Prompt("a", Mask.from_array(disc(80, 60)))]) for _ in range(2))
    for image in (second, np.roll(second, 3, 1)):
        other = tracker.load(other.save())
        assert one.push(image)[0][0].score == other.push(image)[0][0].score
        assert one.save() == other.save()


def test_an_untrained_network_only_repeats_the_odds():
    torch.manual_seed(0)
    network = MaskJudge(MaskConfig()).eval()
    window = torch.rand(1, 3, 48, 64) * 255
    clues = torch.randn(1, 6, 48, 64)
    features = network.features(window)
    known = network.remember(features[1], torch.ones(1, 48, 64))
    with torch.no_grad():
        answer = network(window, features, clues, known, known)
    wanted = 4 * torch.nn.functional.avg_pool2d(clues[:, 5], FINE)
    torch.testing.assert_close(answer, wanted)


def test_what_the_network_is_told_lies_where_the_clues_do():
    height, width = 60, 90
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    prior, certainty, moves = columns / width, rows / height, np.sin(rows / 9)
    looks, known = (np.full((6, 9), v, np.float32) for v in (0.5, -0.25))
    looks[:, 5:] = -0.5
    clues = Clues(prior, certainty, moves, looks.ravel(), known.ravel(), np.zeros((54, 1), np.float32), (9, 6))
    size = seen_size(width, height)
    told = planes(clues, 4 * prior, size)
    assert told.shape == (6, size[1], size[0]) and all(side % 8 == 0 for side in size)
    np.testing.assert_allclose(told[0, :, -1], 1, atol=0.05)
    np.testing.assert_allclose(told[1, 0], 0, atol=0.06)
    assert told[3, 0, 0] == pytest.approx(0.5) and told[3, 0, -1] == pytest.approx(-0.5)
    np.testing.assert_allclose(told[4], -0.25)
    np.testing.assert_allclose(told[5] * 2, told[0] + 1, atol=1e-5)


def test_the_network_may_add_only_where_the_mask_moved_to():
    found, odds = np.array([3, 3, 3, -5, -5], np.float32), np.array([-1, -1, -1, 2, 2], np.float32)
    prior = np.array([0, 0.25, 0.5, 0, 1], np.float32)
    np.testing.assert_allclose(held_back(found, odds, prior), [-1, 1, 3, -5, -5])


class Naysayer:
    """A judge that sees no object in the left part of a window."""

    def keep(self, image, mask):
        return np.zeros((1, 2, 2), np.float32)

    def judge(self, shown, before, share, picture, clues, odds):
        assert before.shape == picture.shape == (*odds.shape, 3) and share.shape == odds.shape
        odds = odds.copy()
        odds[:, : int(0.42 * odds.shape[1])] = -8
        return odds


def test_the_judge_has_the_last_word_and_is_kept_in_snapshots():
    image = picture()
    mask = disc(80, 60, 34)
    tracker = FlowTracker(judge=Naysayer())
    run = tracker.start(image, [Prompt("a", Mask.from_array(mask))])
    found = tracker.load(run.save()).push(image)[0][0].geometry.to_array()
    alone = FlowTracker().start(image, [Prompt("a", Mask.from_array(mask))]).push(image)[0][0].geometry.to_array()
    assert found[:, :60].sum() < 0.1 * mask[:, :60].sum() and found[:, 92:].sum() > 0.8 * mask[:, 92:].sum()
    assert alone[:, :60].sum() > 0.8 * mask[:, :60].sum()


def test_the_labelled_picture_is_kept_small_and_whole():
    judge = TinyJudge(EngineOptions(weights="seeded", device="cpu"))
    kept = judge.keep(picture(1, 700, 900), Mask.from_array(disc(450, 350, 200, 700, 900)))
    assert kept.dtype == np.float32 and kept.shape[1] * kept.shape[2] < 1.2 * (144 / 8) ** 2
    # The window: the disc's box and half as much on every side, as far as the picture goes.
    assert kept[0].mean() == pytest.approx(np.pi * 200**2 / (700 * 800), abs=0.02)
