"""Trains the network of the point tracker `tiny_points` and writes its weights and model card.

    python -m training.points [--steps N] [--seed N] [--device auto|cpu|cuda] [--out DIR] [--install]

One command from nothing to the shipped file. It can be stopped (Ctrl-C, kill) and called again: it goes on where it was.
--install copies the finished weights and card to where the tracker reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from common.networks.device import resolve_device
from common.networks.tiny_points.network import NEAR, STRIDE, Answer, PointMatcher, PointsConfig, place
from training import atlas, loop
from training.cards import Card
from training.point_samples import Pair, PointGenerator, PointSettings

CARD = Card(
    "points",
    "training/point_samples.py",
    scores="""On generated pairs of pictures from pictures, textures and outlines that training never saw (larger changes than between the
frames of a video). near: share of the visible points that are found within 2 pixels. error: their median distance, pixels. told:
how often the network says rightly whether a point is seen. As a tracker: see docs/benchmarks.md.""",
    failures="""- Points on plain ground and along straight edges: the place along the edge is a guess.
- Turns beyond about 40 degrees and changes of size beyond about a factor of 1.5 since the frame the point was drawn on:
  hardly in the training samples.
- Texture that repeats itself: a like place is taken, unless the expected place is known well.
- Generated samples only: no real video was seen.""",
)

ECHO = 2
"""Times a batch is used, the second time mirrored and in other colours."""

_CHECKED = 16
"""Batches of held-out samples in a check."""


class Losses(NamedTuple):
    """total: what is minimised. near, error: of the visible points, see `CARD`. told: share of right visibilities."""

    total: Tensor
    near: float
    error: float
    told: float


def main() -> None:
    """See the module."""
    train(loop.arguments(__doc__, "points", steps=3000, batch=4))


def train(args: argparse.Namespace) -> None:
    """Goes on until args.steps, then checks and writes the results."""
    device = resolve_device(args.device)
    torch.manual_seed(args.seed)
    network = PointMatcher(PointsConfig()).to(device=device, memory_format=torch.channels_last)
    generator = PointGenerator(
        atlas.build(args.seed, grounds=120, skins=240, outlines=200).to(device), PointSettings(), args.seed
    )
    drawn: list[Pair] = []

    def learn(optimizer: torch.optim.Optimizer, step: int) -> Losses:
        if not drawn or step % ECHO == 0:
            drawn[:] = [generator.batch(step // ECHO, args.batch)]
        network.train()
        losses = compare(network, changed(drawn[0], step) if step % ECHO else drawn[0])
        loop.descend(network, optimizer, losses.total)
        return losses

    loop.train(args, CARD, network, ECHO, learn, means, lambda: check(network, args.seed, device, args.batch))


def compare(network: PointMatcher, pair: Pair) -> Losses:
    """Every point is looked for in the second picture as a whole."""
    first, second = (
        network.features(p.contiguous(memory_format=torch.channels_last)) for p in (pair.first, pair.second)
    )
    points = network.describe(first, pair.picture, pair.start)
    return losses(network.find(second[pair.picture], points, pair.expected, pair.doubt), pair)


def losses(answer: Answer, pair: Pair) -> Losses:
    """Losses of the answers for m points."""
    _, h, w = answer.heat.shape
    truth, seen = pair.truth, pair.seen
    device = truth.device
    x = (torch.arange(w, device=device) + 0.5) * STRIDE
    y = (torch.arange(h, device=device) + 0.5) * STRIDE
    to_x, to_y = truth[:, 0, None, None] - x[None, None, :], truth[:, 1, None, None] - y[None, :, None]
    away = to_x**2 + to_y**2
    count = seen.sum().clamp(min=1)
    bell = torch.softmax((-0.5 * away / 2.5**2).flatten(1), 1)
    heat = -(bell * torch.log_softmax(answer.heat.flatten(1), 1)).sum(1)
    wanted = torch.stack((to_x.expand(-1, h, -1), to_y.expand(-1, -1, w)), 1)
    close = (away < 7.0**2).float() * seen[:, None, None]
    gap = functional.smooth_l1_loss(answer.way, wanted, reduction="none", beta=0.5).sum(1)
    way = (gap * close).sum() / close.sum().clamp(min=1)
    with torch.no_grad():
        error = (place(answer) - truth).norm(dim=1)
        right = ((error < NEAR) & (seen > 0)).float()
    judged = functional.binary_cross_entropy_with_logits(answer.seen, seen)
    judged = judged + functional.binary_cross_entropy_with_logits(answer.exact, right)
    told = float(((answer.seen > 0) == (seen > 0)).float().mean())
    visible = error[seen > 0]
    near = float((visible < 2).float().mean()) if len(visible) else 0.0
    middle = float(visible.median()) if len(visible) else 0.0
    return Losses((heat * seen).sum() / count + 0.7 * way + judged, near, middle, told)


def changed(pair: Pair, step: int) -> Pair:
    """The same samples with their colour channels exchanged, mirrored; points stay those of the first picture."""
    order = torch.from_numpy(np.random.default_rng((step, 79)).permutation(3)).to(pair.first.device)
    side = pair.first.shape[-1]

    def mirrored(xy: Tensor) -> Tensor:
        return torch.stack((side - xy[:, 0], xy[:, 1]), 1)

    first, second = (p[:, order].flip(3) for p in (pair.first, pair.second))
    start, truth, expected = (mirrored(xy) for xy in (pair.start, pair.truth, pair.expected))
    return Pair(first, second, pair.picture, start, truth, pair.seen, expected, pair.doubt)


def means(recent: Sequence[Losses]) -> dict[str, float]:
    """What is told of the last batches."""
    return {
        "loss": float(np.mean([r.total.item() for r in recent])),
        "near": float(np.mean([r.near for r in recent])),
        "error": float(np.mean([r.error for r in recent])),
        "told": float(np.mean([r.told for r in recent])),
    }


@torch.no_grad()
def check(network: PointMatcher, seed: int, device: torch.device, size: int) -> dict[str, float]:
    """Scores on samples from pictures, textures and outlines that training never sees."""
    network.eval()
    held = atlas.build(seed + 1000, held_out=True, grounds=60, skins=120, outlines=120).to(device)
    generator = PointGenerator(held, PointSettings(), seed + 1000)
    found = [compare(network, generator.batch(number, size)) for number in range(_CHECKED)]
    return {name: float(np.mean([getattr(f, name) for f in found])) for name in ("near", "error", "told")}


if __name__ == "__main__":
    main()
