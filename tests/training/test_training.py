"""The training: samples are what they claim to be, a stopped run goes on exactly, nothing held out is trained on."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch

from common.networks.tiny.network import OBJECT, STRIDE, TinyConfig, TinyMatcher, fused, join
from training import atlas, boxes, cards, pictures, runs, shapes
from training.losses import compare
from training.samples import Generator, Settings
from training.scenes import TARGET, fresh

SMALL = TinyConfig(channels=16, stem=16, key=8, value=4, correlation=8)


def generator(sources, seed=5, **settings):
    return Generator(sources, Settings(**settings), seed)


def test_batches_are_functions_of_seed_and_number(sources):
    first, again = generator(sources).batch(7, 3), generator(sources).batch(7, 3)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.crops, b.crops) and torch.equal(a.boxes, b.boxes) and torch.equal(a.body, b.body)
    other, later = generator(sources, seed=6).batch(7, 3), generator(sources).batch(8, 3)
    assert not torch.equal(first[0].crops, other[0].crops) and not torch.equal(first[0].crops, later[0].crops)


def test_windows_have_the_promised_form(sources):
    for window, side in zip(generator(sources).batch(0, 6), (88, 144, 144), strict=True):
        assert window.crops.shape == (6, 3, side, side)
        assert window.crops.min() >= 0 and window.crops.max() <= 255
        assert window.body.shape == (6, side // STRIDE, side // STRIDE)
        assert window.body.min() >= 0 and window.body.max() <= 1
        assert set(window.seen.tolist()) <= {0.0, 1.0}
        assert (window.boxes[:, 2:] > window.boxes[:, :2]).all()


def test_the_first_window_shows_the_object_in_the_middle_at_the_usual_size(sources):
    window = generator(sources, border=0.0).batch(1, 24)[0]
    extent = window.boxes[:, 2:] - window.boxes[:, :2]
    middle = (window.boxes[:, 2:] + window.boxes[:, :2]) / 2
    inside = (extent < 88).all(1)
    assert inside.sum() > 12
    torch.testing.assert_close(
        extent[inside].prod(1).sqrt(), torch.full((int(inside.sum()),), OBJECT), atol=2.5, rtol=0
    )
    torch.testing.assert_close(middle[inside], torch.full_like(middle[inside], 44.0), atol=0.5, rtol=0)


def test_boxes_bound_what_shows_the_object(sources):
    """Cells that show the object lie in its box, and reach its sides where nothing hides them."""
    settings = {"border": 0.0, "hidden": 0.0, "gone": 0.0}
    reached = []
    for number in range(4):
        for window in generator(sources, **settings).batch(number, 12)[1:]:
            for box, body, seen in zip(window.boxes.numpy(), window.body.numpy(), window.seen, strict=True):
                rows, columns = np.nonzero(body > 0.5)
                if not seen or not len(rows) or box.min() <= 0 or box.max() >= 144:
                    continue
                low = np.array([columns.min(), rows.min()]) * STRIDE
                high = np.array([columns.max() + 1, rows.max() + 1]) * STRIDE
                assert (low > box[:2] - STRIDE).all() and (high < box[2:] + STRIDE).all()
                reached.append(np.prod(high - low) / np.prod(box[2:] - box[:2]))
    assert len(reached) > 20 and 0.6 < np.median(reached) < 1.3


def test_an_object_that_is_gone_is_not_to_be_found(sources):
    windows = generator(sources, gone=1.0, still=0.0, hidden=0.0).batch(2, 8)
    assert windows[0].seen.all() and not windows[1].seen.any() and not windows[1].body.any()


def test_nothing_held_out_is_trained_on():
    used = {p.file for p, _ in pictures.read()}
    kept = {p.file for p, _ in pictures.read(held_out=True)}
    assert used and kept and not used & kept
    assert all(p.terms for p in pictures.PICTURES)


def test_outlines_are_stretched_to_their_frame():
    rng = np.random.default_rng(0)
    found = [f for f in (shapes.field(shapes.draw(rng)) for _ in range(20)) if f is not None]
    assert len(found) > 10
    for depth, hull in found:
        assert depth[0].max() < 0 and depth[:, 0].max() < 0 and depth.max() > 0
        np.testing.assert_allclose([hull.min(0), hull.max(0)], [[-1, -1], [1, 1]], atol=0.05)


def arguments(folder, steps):
    return argparse.Namespace(
        steps=steps, seed=3, batch=2, rate=1e-3, device="cpu", threads=1, out=folder, save_every=0.0, install=False
    )


def test_a_stopped_training_goes_on_exactly(tmp_path, monkeypatch, sources):
    """Two steps and then three more give what five give, and both the same file."""
    monkeypatch.setattr(boxes, "TinyConfig", lambda: SMALL)
    monkeypatch.setattr(boxes, "_CHECKED", 1)
    monkeypatch.setattr(atlas, "build", lambda *args, **settings: sources)
    monkeypatch.setattr(runs, "rate", lambda step, steps, highest: highest)
    for steps in (2, 5):
        boxes.train(arguments(tmp_path / "twice", steps))
    boxes.train(arguments(tmp_path / "once", 5))
    assert cards.digest(tmp_path / "twice" / "boxes.safetensors") == cards.digest(
        tmp_path / "once" / "boxes.safetensors"
    )
    card = (tmp_path / "once" / "boxes.md").read_text()
    assert cards.digest(tmp_path / "once" / "boxes.safetensors") in card and "astronaut.png" in card
    with pytest.raises(ValueError, match="was begun with"):
        boxes.train(argparse.Namespace(**{**vars(arguments(tmp_path / "once", 6)), "batch": 3}))


def test_learning_lowers_the_loss(sources):
    torch.manual_seed(0)
    network = TinyMatcher(SMALL)
    windows = generator(sources, gone=0.0).batch(0, 4)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = [float(boxes.advance(network, optimizer, windows, 0).total.detach()) for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_perfect_answer_has_overlap_one(sources):
    window = generator(sources, gone=0.0, border=0.0, hidden=0.0).batch(3, 4)[1]
    n, h, w = window.body.shape
    x = (torch.arange(w) * STRIDE + STRIDE / 2)[None, None, :].expand(n, h, w)
    y = (torch.arange(h) * STRIDE + STRIDE / 2)[None, :, None].expand(n, h, w)
    x1, y1, x2, y2 = (window.boxes[:, k, None, None] for k in range(4))
    sides = torch.stack((x - x1, y - y1, x2 - x, y2 - y), 1)
    middle = 8 - ((x - (x1 + x2) / 2) ** 2 + (y - (y1 + y2) / 2) ** 2) / 20
    from common.networks.tiny.network import Answer

    assert compare(Answer(middle, window.body, sides), window).overlap == pytest.approx(1.0, abs=1e-4)


def test_fused_norms_change_nothing():
    torch.manual_seed(0)
    network = TinyMatcher(SMALL)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    network.eval()

    def answer(net):
        rng = np.random.default_rng(0)
        first, later = (torch.from_numpy(rng.integers(0, 256, (2, 3, s, s)).astype(np.uint8)) for s in (88, 144))
        seen = net.features(first)
        box = torch.tensor([[20.0, 20, 68, 68]]).repeat(2, 1)
        memory = join(net.remember(seen, box, recent=False), net.remember(seen, box, recent=True))
        return net.find(net.features(later), memory, net.kernels(seen))

    with torch.no_grad():
        before = [t.clone() for t in answer(network)]
        after = answer(fused(network))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_fresh_scenes_repeat_and_show_their_target():
    scene = fresh(3, frames=2)
    assert np.array_equal(scene.render(1), fresh(3, frames=2).render(1))
    assert scene.truth(0)[TARGET].visible_fraction > 0.3
