"""A training that can be stopped at any time and goes on exactly where it was."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Progress:
    """step: batches done. averaged: the weights' moving average, which is what is shipped. history: rows of what was
    printed. cpu_seconds: processor time so far."""

    step: int = 0
    averaged: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    cpu_seconds: float = 0.0


def rate(step: int, steps: int, highest: float, warm: int = 100, falling: float = 0.25) -> float:
    """Learning rate: rises, stays, and falls straight to zero over the last part of the steps.

    Until it falls it does not depend on `steps`, so a training may be made longer or shorter while it runs.

    >>> rate(0, 1000, 1.0) < rate(50, 1000, 1.0) < rate(500, 1000, 1.0) == 1.0
    True
    >>> rate(999, 1000, 1.0) < 0.01
    True
    """
    start = steps * (1 - falling)
    fall = 1.0 if step < start else max(0.0, (steps - step) / (steps - start))
    return highest * min(1.0, (step + 1) / warm) * fall


@torch.no_grad()
def average(progress: Progress, module: nn.Module, slow: float = 0.995) -> None:
    """Moves the average towards the module's weights; quickly at first."""
    entries = module.state_dict()
    if not progress.averaged:
        progress.averaged = {name: value.clone() for name, value in entries.items()}
        return
    keep = min(slow, (progress.step + 1) / (progress.step + 20))
    for name, value in entries.items():
        if value.is_floating_point():
            progress.averaged[name].lerp_(value, 1 - keep)
        else:
            progress.averaged[name].copy_(value)


def save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, settings: dict[str, Any]
) -> None:
    """Writes everything that `resume` needs; a reader never sees half a file. Batches are functions of their number, so
    there is no generator whose state would have to be kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress),
        "settings": settings,
        "saved": time.time(),
    }
    part = path.with_suffix(".part")
    torch.save(held, part)
    part.replace(path)


def resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, Any]) -> Progress:
    """The progress so far, with module and optimizer as they were; a new one when there is no file.

    Raises ValueError when the file belongs to a training with other settings.
    """
    if not path.exists():
        return Progress()
    held = torch.load(path, weights_only=True, map_location="cpu")
    if held["settings"] != settings:
        raise ValueError(f"{path} was begun with {held['settings']}, not {settings}; choose another --out or remove it")
    module.load_state_dict(held["module"])
    optimizer.load_state_dict(held["optimizer"])
    return Progress(**held["progress"])
