"""Trains the network of the box tracker `tiny` and writes its weights and model card.

    python -m training.boxes [--steps N] [--seed N] [--device auto|cpu|cuda] [--out DIR] [--install]

One command from nothing to the shipped file. It can be stopped (Ctrl-C, kill) and called again: it goes on where it was.
--install copies the finished weights and card to where the tracker reads them.
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.networks.device import resolve_device
from common.networks.tiny.network import TinyConfig, TinyMatcher, join
from training import atlas, runs
from training.losses import Losses, compare
from training.samples import Generator, Settings, Window

log = logging.getLogger("training.boxes")

ECHO = 3
"""Times a batch is used, after the first time mirrored or in other colours: drawing it costs as much as learning from it."""

_CHECKED = 16
"""Batches of held-out samples in a check."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--threads", type=int, default=1, help="on a CPU; results are exactly repeatable for one number"
    )
    parser.add_argument("--out", type=Path, default=Path("out/training/boxes"))
    parser.add_argument("--save-every", type=float, default=120.0, help="seconds between checkpoints")
    parser.add_argument("--install", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    train(args)


def train(args: argparse.Namespace) -> None:
    """Goes on until args.steps, then checks and writes the results."""
    device = resolve_device(args.device)
    torch.manual_seed(args.seed)
    network = TinyMatcher(TinyConfig()).to(device=device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), args.rate, betas=(0.9, 0.98), weight_decay=1e-4)
    settings = {"seed": args.seed, "batch": args.batch, "rate": args.rate, "echo": ECHO}
    path = args.out / f"seed{args.seed}.checkpoint"
    progress = runs.resume(path, network, optimizer, settings)
    generator = Generator(atlas.build(args.seed).to(device), Settings(), args.seed)
    saved, cpu = time.monotonic(), time.process_time()
    drawn: list[Window] = []
    recent: list[Losses] = []
    while progress.step < args.steps:
        echo = progress.step % ECHO
        if not drawn or echo == 0:
            drawn = generator.batch(progress.step // ECHO, args.batch)
        windows = changed(drawn, progress.step, echo % 2 == 1) if echo else drawn
        for group in optimizer.param_groups:
            group["lr"] = runs.rate(progress.step, args.steps, args.rate)
        recent.append(advance(network, optimizer, windows, progress.step))
        progress.step += 1
        runs.average(progress, network)
        now = time.process_time()
        progress.cpu_seconds, cpu = progress.cpu_seconds + now - cpu, now
        if progress.step % 50 == 0:
            row = report(progress, recent, args.steps)
            recent = []
            log.info("  ".join(f"{k} {v:g}" for k, v in row.items()))
        if time.monotonic() - saved > args.save_every or progress.step == args.steps:
            runs.save(path, network, optimizer, progress, settings)
            saved = time.monotonic()
    network.load_state_dict(progress.averaged)
    checked = check(network, args.seed, device, args.batch)
    log.info("held-out samples: " + "  ".join(f"{k} {v:.3f}" for k, v in checked.items()))
    from training import cards

    cards.write(
        args.out,
        "boxes",
        network,
        progress,
        {**settings, "steps": args.steps, **asdict(network.config)},
        checked,
        args.install,
    )


def advance(network: TinyMatcher, optimizer: torch.optim.Optimizer, windows: list[Window], step: int) -> Losses:
    """One step on a batch."""
    network.train()
    losses = both(network, windows, np.random.default_rng((step, 77)))
    optimizer.zero_grad(set_to_none=True)
    losses.total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 3.0)
    optimizer.step()
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


def report(progress: runs.Progress, recent: list[Losses], steps: int) -> dict[str, float]:
    """A row for the history."""
    row = {
        "step": progress.step,
        "loss": round(float(np.mean([float(r.total.detach()) for r in recent])), 4),
        "overlap": round(float(np.mean([r.overlap for r in recent])), 4),
        "told": round(float(np.mean([r.told for r in recent])), 4),
        "cpu_minutes": round(progress.cpu_seconds / 60, 2),
        "of": steps,
    }
    progress.history.append(row)
    return row


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
