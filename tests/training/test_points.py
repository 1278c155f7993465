"""The training for points: pairs are what they claim to be, a stopped run goes on exactly, learning learns."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch.nn import functional

from common.networks.tiny_points.network import STRIDE, Answer, PointMatcher, PointsConfig, place
from training import atlas, cards, lens, points, runs
from training.point_samples import PointGenerator, PointSettings

SMALL = PointsConfig(channels=16, stem=8, groups=4, head=8, shown=4)


def generator(sources, seed=5, **settings):
    return PointGenerator(sources, PointSettings(**settings), seed)


def colours(pictures, picture, xy):
    """(m, 3) at places (m, 2)."""
    grid = (xy * (2 / pictures.shape[-1]) - 1)[:, None, None]
    return functional.grid_sample(pictures[picture], grid, align_corners=False)[:, :, 0, 0]


def test_batches_are_functions_of_seed_and_number(sources):
    first, again = generator(sources).batch(7, 3), generator(sources).batch(7, 3)
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(again, name)), name
    other, later = generator(sources, seed=6).batch(7, 3), generator(sources).batch(8, 3)
    assert not torch.equal(first.first, other.first) and not torch.equal(first.first, later.first)


def test_pairs_have_the_promised_form(sources):
    pair = generator(sources).batch(0, 6)
    assert pair.first.shape == pair.second.shape == (6, 3, 80, 80)
    assert pair.first.min() >= 0 and pair.first.max() <= 255
    assert pair.picture.tolist() == [n for n in range(6) for _ in range(8)]
    assert pair.start.min() >= 9 and pair.start.max() <= 71
    shown = pair.truth[pair.seen > 0]
    assert shown.min() >= 0 and shown.max() <= 80
    assert 0.4 < pair.seen.mean() < 1
    assert (pair.doubt >= 1.5).all() and (pair.doubt <= 24).all()


def test_a_point_has_the_same_colour_in_both_pictures(sources, monkeypatch):
    """Without what a camera does, and up to the light on a thing: better there than a pixel and a half away."""
    monkeypatch.setattr(lens, "degrade", lambda picture, *rest: picture)
    here, beside = [], []
    for number in range(6):
        pair = generator(sources, apart=0.0, border=0.0).batch(number, 8)
        seen = pair.seen > 0
        picture, start, truth = pair.picture[seen], pair.start[seen], pair.truth[seen]
        wanted = colours(pair.first, picture, start)
        here.append((colours(pair.second, picture, truth) - wanted).abs().mean(1))
        offsets = [torch.tensor(o) for o in ((1.5, 0.0), (-1.5, 0.0), (0.0, 1.5), (0.0, -1.5))]
        beside.append(
            torch.stack([(colours(pair.second, picture, truth + o) - wanted).abs().mean(1) for o in offsets]).mean(0)
        )
    away, near = torch.cat(beside), torch.cat(here)
    assert len(near) > 250
    textured = away > 8
    assert textured.sum() > 40
    assert near[textured].median() < 0.5 * away[textured].median()


def test_pictures_that_have_nothing_in_common_show_no_point(sources):
    assert not generator(sources, apart=1.0).batch(2, 4).seen.any()


def test_mirrored_samples_stay_true(sources):
    pair = generator(sources).batch(4, 4)
    other = points.changed(pair, 3)
    before = colours(pair.second, pair.picture, pair.truth).sort(1).values
    after = colours(other.second, other.picture, other.truth).sort(1).values
    torch.testing.assert_close(before, after, atol=0.05, rtol=0)


def test_the_place_of_a_perfect_answer_is_exact():
    xy = torch.tensor([[30.3, 41.9], [3.1, 76.6]])
    cell = (torch.arange(20) + 0.5) * STRIDE
    x = (xy[:, 0, None, None] - cell).expand(-1, 20, -1)
    y = (xy[:, 1, None, None] - cell[:, None]).expand(-1, -1, 20)
    none = torch.zeros(2)
    answer = Answer(-(x**2 + y**2) / 8, torch.stack((x, y), 1), none, none)
    torch.testing.assert_close(place(answer), xy, atol=1e-4, rtol=0)


def test_learning_lowers_the_loss(sources):
    torch.manual_seed(0)
    network = PointMatcher(SMALL)
    pair = generator(sources).batch(0, 3)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        found = points.compare(network, pair)
        points.loop.descend(network, optimizer, found.total)
        losses.append(found.total.item())
    assert losses[-1] < 0.8 * losses[0]


def test_a_stopped_training_goes_on_exactly(tmp_path, monkeypatch, sources):
    """Three steps and then two more give what five give, and both the same file."""
    monkeypatch.setattr(points, "PointsConfig", lambda: SMALL)
    monkeypatch.setattr(points, "_CHECKED", 1)
    monkeypatch.setattr(atlas, "build", lambda *args, **settings: sources)
    monkeypatch.setattr(runs, "rate", lambda step, steps, highest: highest)

    def train(folder, steps):
        given = {"seed": 3, "batch": 2, "rate": 1e-3, "device": "cpu", "threads": 1, "save_every": 0.0}
        points.train(argparse.Namespace(steps=steps, out=tmp_path / folder, install=False, **given))
        return cards.digest(tmp_path / folder / "points.safetensors")

    train("twice", 3)
    assert train("twice", 5) == train("once", 5)
    card = (tmp_path / "once" / "points.md").read_text()
    assert cards.digest(tmp_path / "once" / "points.safetensors") in card and "training.points --steps 5" in card


def test_windows_are_read_alike_wherever_the_point_lies():
    """A point is found where it is, whatever part of the picture the window shows; the network need not be trained."""
    torch.manual_seed(1)
    network = PointMatcher(SMALL).eval()
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.integers(0, 256, (1, 3, 96, 96)).astype(np.float32))
    with torch.no_grad():
        features = network.features(picture)
        known = network.describe(features, torch.zeros(1, dtype=torch.long), torch.tensor([[46.0, 50.0]]))
        alone = (features * known[:, :, 2:3, 2:3]).sum(1)[0]
    row, column = divmod(int(alone.argmax()), 24)
    assert (row, column) == (12, 11)
