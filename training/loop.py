"""The course of a training, whatever is trained: from nothing or from where it was stopped, to weights and model card."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from training import cards, runs

log = logging.getLogger("training")

Result = TypeVar("Result")


def arguments(doc: str | None, name: str, steps: int, batch: int) -> argparse.Namespace:
    """The command line of a training; also sets up logging and the number of threads."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--threads", type=int, default=1, help="on a CPU; results are exactly repeatable for one number"
    )
    parser.add_argument("--out", type=Path, default=Path("out/training") / name)
    parser.add_argument("--save-every", type=float, default=120.0, help="seconds between checkpoints")
    parser.add_argument("--install", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    return args


def settings(args: argparse.Namespace, echo: int) -> dict[str, Any]:
    """What a training cannot change when it goes on."""
    return {"seed": args.seed, "batch": args.batch, "rate": args.rate, "echo": echo}


def train(
    args: argparse.Namespace,
    card: cards.Card,
    network: nn.Module,
    echo: int,
    learn: Callable[[torch.optim.Optimizer, int], Result],
    means: Callable[[Sequence[Result]], dict[str, float]],
    check: Callable[[], dict[str, float]],
) -> None:
    """Goes on until args.steps, then checks and writes the results.

    learn: one batch, a function of the step's number. means: what is told of the last batches. check: scores of the network
    with the averaged weights.
    """
    optimizer = torch.optim.AdamW(network.parameters(), args.rate, betas=(0.9, 0.98), weight_decay=1e-4)
    path, held = args.out / f"seed{args.seed}.checkpoint", settings(args, echo)
    progress = runs.resume(path, network, optimizer, held)
    saved, cpu = time.monotonic(), time.process_time()
    recent: list[Result] = []
    while progress.step < args.steps:
        for group in optimizer.param_groups:
            group["lr"] = runs.rate(progress.step, args.steps, args.rate)
        recent.append(learn(optimizer, progress.step))
        progress.step += 1
        runs.average(progress, network)
        now = time.process_time()
        progress.cpu_seconds, cpu = progress.cpu_seconds + now - cpu, now
        if progress.step % 50 == 0:
            told = {name: round(value, 4) for name, value in means(recent).items()}
            row = {"step": progress.step, **told, "cpu_minutes": round(progress.cpu_seconds / 60, 2), "of": args.steps}
            progress.history.append(row)
            recent = []
            log.info("  ".join(f"{k} {v:g}" for k, v in row.items()))
        if time.monotonic() - saved > args.save_every or progress.step == args.steps:
            runs.save(path, network, optimizer, progress, held)
            saved = time.monotonic()
    network.load_state_dict(progress.averaged)
    checked = check()
    log.info("held-out samples: " + "  ".join(f"{k} {v:.3f}" for k, v in checked.items()))
    told = {**held, "steps": args.steps, **asdict(network.config)}  # type: ignore[arg-type]
    cards.write(args.out, card, network, progress, told, checked, args.install)


def descend(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the loss's gradient."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 3.0)
    optimizer.step()
