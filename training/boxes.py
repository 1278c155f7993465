"""Trains the network of the box tracker `tiny` and writes its weights and model card.

    python -m training.boxes [--steps N] [--seed N] [--device auto|cpu|cuda] [--out DIR] [--install]

One command from nothing to the shipped file. It can be stopped (Ctrl-C, kill) and called again: it goes on where it was.
--install copies the finished weights and card to where the tracker reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.networks.device import resolve_device
from common.networks.tiny.network import TinyConfig, TinyMatcher, join
from training import atlas, loop
from training.cards import Card
from training.losses import Losses, compare
from training.samples import Generator, Settings, Window

CARD = Card(
    "boxes",
    "training/samples.py",
    scores="""On generated samples from pictures, textures and outlines that training never saw (larger changes than between the frames of
a video). overlap: mean intersection over union of the box at the surest cell. told: how often the confidence says rightly
whether the object is there. As a tracker: see docs/benchmarks.md.""",
    failures="""- An object that vanishes among things with a like texture: one of them is taken for it, and nothing says "lost".
- Exact boxes: sides are off by several per cent, more where the object's edge is soft; the correlation filter is better at
  rigid things.
- Objects that look alike and cross each other: the network may go on with the other one.
- Longest sides beyond three times the shorter, and objects smaller than about 8 pixels: hardly in the training samples.
- Generated samples only: no real video was seen.""",
)

ECHO = 3
"""Times a batch is used, after the first time mirrored or in other colours: drawing it costs as much as learning from it."""

_CHECKED = 16
"""Batches of held-out samples in a check."""


def main() -> None:
    """See the module."""
    train(loop.arguments(__doc__, "boxes", steps=4000, batch=10))


def train(args: argparse.Namespace) -> None:
    """Goes on until args.steps, then checks and writes the results."""
    device = resolve_device(args.device)
    torch.manual_seed(args.seed)
    network = TinyMatcher(TinyConfig()).to(device=device, memory_format=torch.channels_last)
    generator = Generator(atlas.build(args.seed).to(device), Settings(), args.seed)
    drawn: list[Window] = []

    def learn(optimizer: torch.optim.Optimizer, step: int) -> Losses:
        nonlocal drawn
        echo = step % ECHO
        if not drawn or echo == 0:
            drawn = generator.batch(step // ECHO, args.batch)
        windows = changed(drawn, step, echo % 2 == 1) if echo else drawn
        return advance(network, optimizer, windows, step)

    loop.train(args, CARD, network, ECHO, learn, means, lambda: check(network, args.seed, device, args.batch))


def advance(network: TinyMatcher, optimizer: torch.optim.Optimizer, windows: list[Window], step: int) -> Losses:
    """One step on a batch."""
    network.train()
    losses = both(network, windows, np.random.default_rng((step, 77)))
    loop.descend(network, optimizer, losses.total)
    return losses


def both(network: TinyMatcher, windows: list[Window], rng: np.random.Generator, later: bool | None = None) -> Losses:
    """The object is looked for in both later windows; in the last also, half of the time, with a memory of the one before,
    whose box is about as wrong as a tracker's. later: never or always.
    """
    first, second, third = windows
    seen = network.features(_ready(first.crops))
    memory, kernels = network.remember(seen, first.boxes, recent=False), network.kernels(seen)
    n = len(first.boxes)
    features = network.features(_ready(torch.cat((second.crops, third.crops))))
    answer = compare(network.find(features[:n], memory, kernels), second)
    if rng.random() < 0.5 if later is None else later:
        boxes = wrong(second.boxes, rng) * second.seen[:, None]
        memory = join(memory, network.remember(features[:n], boxes, recent=True))
    last = compare(network.find(features[n:], memory, kernels), third)
    return Losses((answer.total + last.total) / 2, (answer.overlap + last.overlap) / 2, (answer.told + last.told) / 2)


def wrong(boxes: Tensor, rng: np.random.Generator, spread: float = 0.06) -> Tensor:
    """Boxes (n, 4) with their sides moved by about that share of their size."""
    extent = boxes[:, 2:] - boxes[:, :2]
    moved = torch.as_tensor(rng.normal(0, spread, (len(boxes), 4)), dtype=boxes.dtype, device=boxes.device)
    return boxes + moved * torch.cat((extent, extent), 1)


def changed(windows: list[Window], step: int, mirror: bool) -> list[Window]:
    """The same samples with their colour channels exchanged, mirrored if told to."""
    order = torch.from_numpy(np.random.default_rng((step, 78)).permutation(3))
    out = []
    for w in windows:
        crops = w.crops[:, order.to(w.crops.device)]
        if not mirror:
            out.append(Window(crops, w.boxes, w.seen, w.body))
            continue
        side = w.crops.shape[-1]
        x1, y1, x2, y2 = w.boxes.unbind(1)
        boxes = torch.stack((side - x2, y1, side - x1, y2), 1)
        out.append(Window(crops.flip(3), boxes, w.seen, w.body.flip(2)))
    return out


def _ready(crops: Tensor) -> Tensor:
    return crops.contiguous(memory_format=torch.channels_last)


def means(recent: Sequence[Losses]) -> dict[str, float]:
    """What is told of the last batches."""
    return {
        "loss": float(np.mean([float(r.total.detach()) for r in recent])),
        "overlap": float(np.mean([r.overlap for r in recent])),
        "told": float(np.mean([r.told for r in recent])),
    }


@torch.no_grad()
def check(network: TinyMatcher, seed: int, device: torch.device, size: int) -> dict[str, float]:
    """Scores on samples from pictures, textures and outlines that training never sees."""
    network.eval()
    held = atlas.build(seed + 1000, held_out=True, grounds=60, skins=120, outlines=120).to(device)
    generator = Generator(held, Settings(), seed + 1000)
    scores: dict[str, list[float]] = {"overlap": [], "told": [], "overlap_with_memory": []}
    for number in range(_CHECKED):
        windows = generator.batch(number, size)
        alone = both(network, windows, np.random.default_rng(number), later=False)
        scores["overlap"].append(alone.overlap)
        scores["told"].append(alone.told)
        scores["overlap_with_memory"].append(both(network, windows, np.random.default_rng(number), later=True).overlap)
    return {name: float(np.mean(values)) for name, values in scores.items()}


if __name__ == "__main__":
    main()
