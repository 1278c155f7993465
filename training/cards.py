"""The files that a training ends with: weights (safetensors, half precision) and their model card."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from training import pictures
from training.runs import Progress

WEIGHTS = Path(__file__).resolve().parents[1] / "common" / "weights" / "own"
CARDS = Path(__file__).resolve().parent / "cards"


@dataclass(frozen=True)
class Card:
    """What a kind of weights tells of itself. name: of the file and of the training's module. samples: file that generates them.
    scores, failures: Markdown.
    """

    name: str
    samples: str
    scores: str
    failures: str


_NOT_TOLD = ("step", "loss", "cpu_minutes", "of")

log = logging.getLogger("training.cards")


def write(
    folder: Path,
    card: Card,
    network: nn.Module,
    progress: Progress,
    settings: Mapping[str, Any],
    checked: Mapping[str, float],
    install: bool,
) -> Path:
    """Writes NAME.safetensors and NAME.md to folder, and where the suite keeps them if told to; returns the weights."""
    path = folder / f"{card.name}.safetensors"
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    # One entry: safetensors writes several in any order, and the same training must give the same bytes.
    save_file(tensors, path, metadata={"about": f"Apache-2.0; made by python -m training.{card.name}"})
    written = folder / f"{card.name}.md"
    written.write_text(text(card, path, network, progress, settings, checked))
    log.info("%s: %d bytes, sha256 %s", path, path.stat().st_size, digest(path))
    if install:
        for file, where in ((path, WEIGHTS), (written, CARDS)):
            where.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, where / file.name)
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text(
    card: Card,
    path: Path,
    network: nn.Module,
    progress: Progress,
    settings: Mapping[str, Any],
    checked: Mapping[str, float],
) -> str:
    """The card's Markdown."""
    used = "\n".join(f"| {p.file} | {p.terms} | {'check' if p.held_out else 'training'} |" for p in pictures.PICTURES)
    table = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
    scores = "\n".join(f"| {key.replace('_', ' ')} | {value:.3f} |" for key, value in checked.items())
    kept = progress.history[-1] if progress.history else {}
    last = ", ".join(f"{key} {value:.3f}" for key, value in kept.items() if key not in _NOT_TOLD)
    device, threads = next(network.parameters()).device.type, torch.get_num_threads()
    # other devices and other numbers of threads round differently, so they make other bytes
    how = f"--device {device} --threads {threads}"
    command = f"python -m training.{card.name} --steps {settings['steps']} --seed {settings['seed']} {how} --install"
    return f"""# Weights of our own: {card.name}

| | |
|---|---|
| file | common/weights/own/{path.name}, {path.stat().st_size} bytes, float16 |
| sha256 | `{digest(path)}` |
| licence | Apache-2.0 |
| parameters | {sum(p.numel() for p in network.parameters())} |
| made by | `{command}` |
| steps | {progress.step} batches, {progress.cpu_seconds / 60:.0f} minutes of one processor core |
| torch | {torch.__version__} |

## Settings

| | |
|---|---|
{table}

## Data

Generated while training by `{card.samples}`: procedural textures and windows of these pictures, which ship inside
scikit-image; its documentation states the terms. No recorded video, nothing fetched, no clip that trackers are measured on.

| picture | terms | used for |
|---|---|---|
{used}

## Scores

{card.scores}

| | |
|---|---|
{scores}

At the end of training: {last}.

## Known failures

{card.failures}
"""
