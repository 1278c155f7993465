"""Trains the network of the mask tracker `tiny_mask`, an experiment, and writes its weights and model card.

    python -m training.masks [--steps N] [--seed N] [--device auto|cpu|cuda] [--out DIR] [--install]

One command from nothing to the weights, which are not shipped (docs/benchmarks.md says why); the features that it compares are those of the box network, which must be there
(`python -m training.boxes`). It can be stopped (Ctrl-C, kill) and called again: it goes on where it was. --install copies the
finished weights and card to where the tracker reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from common.networks.device import resolve_device
from common.networks.tiny_masks.network import FINE, ODDS, MaskConfig, MaskJudge
from training import atlas, cards, loop
from training.cards import Card
from training.mask_samples import MaskGenerator, Sample

CARD = Card(
    "masks",
    "training/samples.py and training/mask_samples.py",
    scores="""On generated samples from pictures, textures and outlines that training never saw. meets: mean intersection over union
with the exact mask, at two pixels per cell and before edges are refined, after one step from a mask that was as wrong as a tracker's
masks are. before: the same of the flow tracker's own answer, which the network corrects. As a tracker: see docs/benchmarks.md.""",
    failures="""- Things that look like the object and touch it: the mask flows over.
- An object of several parts whose hidden parts appear: nothing has shown that they belong to it.
- Legs, ropes, spokes: thinner than four pixels of a window of 144 by 144 pixels they are lost.
- Generated samples only: no real video was seen.""",
)

ECHO = 3
"""Times a batch is used, after the first time mirrored or in other colours: drawing it costs as much as learning from it."""

FEATURES = cards.WEIGHTS / "boxes.safetensors"

_CHECKED = 12
"""Batches of held-out samples in a check."""


class Losses(NamedTuple):
    """total: what is minimised. meets, before: see `CARD`."""

    total: Tensor
    meets: float
    before: float


def main() -> None:
    """See the module."""
    train(loop.arguments(__doc__, "masks", steps=1700, batch=6))


def train(args: argparse.Namespace) -> None:
    """Goes on until args.steps, then checks and writes the results."""
    device = resolve_device(args.device)
    torch.manual_seed(args.seed)
    network = MaskJudge(MaskConfig())
    lend(network)
    network = network.to(device=device, memory_format=torch.channels_last)
    generator = MaskGenerator(atlas.build(args.seed).to(device), args.seed)
    drawn: list[Sample] = []

    def learn(optimizer: torch.optim.Optimizer, step: int) -> Losses:
        echo = step % ECHO
        if not drawn or echo == 0:
            drawn[:] = [generator.batch(step // ECHO, args.batch)]
        network.train()
        losses = compare(network, changed(drawn[0], step, echo % 2 == 1) if echo else drawn[0])
        loop.descend(network, optimizer, losses.total)
        return losses

    lent = f"\n\nThe features that are compared are those of boxes.safetensors, sha256 `{cards.digest(FEATURES)}`."
    card = replace(CARD, scores=CARD.scores + lent)
    loop.train(args, card, network, ECHO, learn, means, lambda: check(network, args.seed, device, args.batch))


def lend(network: MaskJudge) -> None:
    """Gives it the features of the box network, if they fit. Raises FileNotFoundError when that was not trained."""
    entries, own = load_file(FEATURES), network.state_dict()
    lent = {
        name: value.float()
        for name, value in entries.items()
        if name.split(".")[0] in ("stem", "trunk", "key") and own[name].shape == value.shape
    }
    network.load_state_dict(lent, strict=False)


def compare(network: MaskJudge, sample: Sample) -> Losses:
    """The object is outlined in the present picture."""
    first, last, now = (_ready(p) for p in (sample.first, sample.last, sample.now))
    known = network.remember(network.features(first)[1], sample.known)
    recent = network.remember(network.features(last)[1], sample.believed)
    answer = network(now, network.features(now), sample.clues, known, recent)
    return losses(answer, functional.avg_pool2d(sample.clues[:, ODDS], FINE), sample.truth)


def losses(answer: Tensor, odds: Tensor, exact: Tensor) -> Losses:
    """answer, odds: (b, h, w) log odds. exact: (b, FINE * h, FINE * w) share."""
    truth = functional.avg_pool2d(exact, FINE)
    each = functional.binary_cross_entropy_with_logits(answer, truth, reduction="none").mean((1, 2))
    # Small objects count as much as large ones.
    weight = 1 / (truth.mean((1, 2)) + 0.05)
    chance = torch.sigmoid(answer)
    common, union = (chance * truth).sum((1, 2)), (chance + truth - chance * truth).sum((1, 2))
    there = truth.sum((1, 2)) > 4
    missed = torch.where(there, 1 - common / union.clamp(min=1), torch.zeros_like(common))
    total = (each * weight).mean() * 0.3 + missed.mean()
    with torch.no_grad():
        found = [_meets(a > 0, truth > 0.5)[there] for a in (answer, odds)]
    return Losses(total, *(float(f.mean()) if len(f) else 0.0 for f in found))


def _meets(found: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (b,)."""
    return (found & truth).sum((1, 2)) / (found | truth).sum((1, 2)).clamp(min=1)


def changed(sample: Sample, step: int, mirror: bool) -> Sample:
    """The same samples with their colour channels exchanged, mirrored if told to."""
    order = torch.from_numpy(np.random.default_rng((step, 80)).permutation(3)).to(sample.now.device)
    values = [p[:, order] for p in (sample.first, sample.last, sample.now)]
    values += [sample.known, sample.believed, sample.clues, sample.truth]
    return Sample(*(v.flip(-1) for v in values)) if mirror else Sample(*values)


def _ready(pictures: Tensor) -> Tensor:
    return pictures.contiguous(memory_format=torch.channels_last)


def means(recent: Sequence[Losses]) -> dict[str, float]:
    """What is told of the last batches."""
    return {
        "loss": float(np.mean([r.total.item() for r in recent])),
        "meets": float(np.mean([r.meets for r in recent])),
        "before": float(np.mean([r.before for r in recent])),
    }


@torch.no_grad()
def check(network: MaskJudge, seed: int, device: torch.device, size: int) -> dict[str, float]:
    """Scores on samples from pictures, textures and outlines that training never sees."""
    network.eval()
    held = atlas.build(seed + 1000, held_out=True, grounds=60, skins=120, outlines=120).to(device)
    generator = MaskGenerator(held, seed + 1000)
    found = [compare(network, generator.batch(number, size)) for number in range(_CHECKED)]
    return {name: float(np.mean([getattr(f, name) for f in found])) for name in ("meets", "before")}


if __name__ == "__main__":
    main()
