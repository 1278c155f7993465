"""The training for masks: samples are what they claim to be, a stopped run goes on exactly, learning learns."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from torch.nn import functional

from common.networks.tiny.network import TinyConfig
from common.networks.tiny_masks.network import CLUES, FINE, ODDS, MaskConfig, MaskJudge
from training import atlas, cards, masks, runs
from training.mask_samples import SIDES, MaskGenerator, worn

SMALL = MaskConfig(8, 8, 16, 4, TinyConfig(channels=16, stem=16, key=8, value=4, correlation=8))


@pytest.fixture(scope="module")
def sample(sources):
    return MaskGenerator(sources, 5).batch(7, 4)


def test_batches_are_functions_of_seed_and_number(sources, sample):
    again, other = MaskGenerator(sources, 5).batch(7, 4), MaskGenerator(sources, 6).batch(7, 4)
    for name, value in vars(sample).items():
        assert torch.equal(value, getattr(again, name)), name
    assert sample.now.shape != other.now.shape or not torch.equal(sample.now, other.now)


def test_samples_have_the_promised_form(sample):
    side = sample.now.shape[-1]
    assert side in SIDES and sample.first.shape == sample.last.shape == sample.now.shape == (4, 3, side, side)
    assert sample.clues.shape == (4, CLUES, side, side) and torch.isfinite(sample.clues).all()
    for values in (sample.known, sample.believed, sample.truth):
        assert values.shape == (4, side, side) and values.min() >= 0 and values.max() <= 1
    assert (sample.known.sum((1, 2)) > 60).all()


def test_the_clues_mostly_know_the_object_and_the_last_mask_is_near(sources):
    met = []
    for number in range(2):
        sample = MaskGenerator(sources, 5).batch(number, 3)
        truth = functional.avg_pool2d(sample.truth, FINE) > 0.5
        met.append(
            masks.losses(
                torch.zeros_like(truth, dtype=torch.float32),
                functional.avg_pool2d(sample.clues[:, ODDS], FINE),
                sample.truth,
            ).before
        )
    assert 0.5 < np.mean(met) < 0.98


def test_a_worn_mask_is_near_the_exact_one():
    rows, columns = np.mgrid[:96, :96]
    exact = ((columns - 48) ** 2 + (rows - 48) ** 2 < 20**2).astype(np.float32)
    rng = np.random.default_rng(0)
    meets = [(lambda m: (m * exact).sum() / np.maximum(m, exact).sum())(worn(rng, exact)) for _ in range(60)]
    assert min(meets) > 0.3 and 0.7 < np.median(meets) < 0.99 and max(meets) == 1


def test_mirrored_samples_stay_true(sample):
    other = masks.changed(sample, 1, mirror=True)
    assert torch.equal(other.truth.flip(2), sample.truth) and torch.equal(other.clues.flip(3), sample.clues)
    assert torch.equal(other.now.flip(3).sort(1).values, sample.now.sort(1).values)


def test_a_perfect_answer_meets_the_truth(sample):
    truth = functional.avg_pool2d(sample.truth, FINE)
    found = masks.losses(20 * (truth - 0.5), torch.zeros_like(truth) - 1, sample.truth)
    assert found.meets == pytest.approx(1.0) and found.before < 0.01


def test_learning_lowers_the_loss_and_leaves_the_lent_features(sample):
    torch.manual_seed(0)
    network = MaskJudge(SMALL).train()
    lent = {
        name: value.clone() for name, value in network.state_dict().items() if name.split(".")[0] in ("stem", "trunk")
    }
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-4)
    losses = []
    for _ in range(6):
        found = masks.compare(network, sample)
        masks.loop.descend(network, optimizer, found.total)
        losses.append(found.total.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, lent[name]) for name, value in network.state_dict().items() if name in lent)


def test_the_features_are_those_of_the_box_network():
    network = MaskJudge(MaskConfig())
    masks.lend(network)
    entries = masks.load_file(masks.FEATURES)
    for name in ("stem.0.0.weight", "trunk.2.second.1.running_var", "key.weight"):
        assert torch.equal(network.state_dict()[name], entries[name].float())


def test_a_stopped_training_goes_on_exactly(tmp_path, monkeypatch, sources):
    """Two steps and then two more give what four give, and both the same file."""
    monkeypatch.setattr(masks, "MaskConfig", lambda: SMALL)
    monkeypatch.setattr(masks, "_CHECKED", 1)
    monkeypatch.setattr(atlas, "build", lambda *args, **settings: sources)
    monkeypatch.setattr(runs, "rate", lambda step, steps, highest: highest)

    def train(folder, steps):
        given = {"seed": 3, "batch": 2, "rate": 1e-3, "device": "cpu", "threads": 1, "save_every": 0.0}
        masks.train(argparse.Namespace(steps=steps, out=tmp_path / folder, install=False, **given))
        return cards.digest(tmp_path / folder / "masks.safetensors")

    train("twice", 2)
    assert train("twice", 4) == train("once", 4)
    card = (tmp_path / "once" / "masks.md").read_text()
    assert cards.digest(tmp_path / "once" / "masks.safetensors") in card and "training.masks --steps 4" in card
