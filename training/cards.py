"""The files that a training ends with: weights (safetensors, half precision) and their model card."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from training import pictures
from training.runs import Progress

WEIGHTS = Path(__file__).resolve().parents[1] / "common" / "weights" / "own"
CARDS = Path(__file__).resolve().parent / "cards"

KNOWN_FAILURES = """- An object that vanishes among things with a like texture: one of them is taken for it, and nothing says "lost".
- Exact boxes: sides are off by several per cent, more where the object's edge is soft; the correlation filter is better at
  rigid things.
- Objects that look alike and cross each other: the network may go on with the other one.
- Longest sides beyond three times the shorter, and objects smaller than about 8 pixels: hardly in the training samples.
- Generated samples only: no real video was seen."""

log = logging.getLogger("training.cards")


def write(
    folder: Path,
    name: str,
    network: nn.Module,
    progress: Progress,
    settings: Mapping[str, Any],
    checked: Mapping[str, float],
    install: bool,
) -> Path:
    """Writes NAME.safetensors and NAME.md to folder, and where the suite keeps them if told to; returns the weights."""
    path = folder / f"{name}.safetensors"
    tensors = {
        key: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    # One entry: safetensors writes several in any order, and the same training must give the same bytes.
    save_file(tensors, path, metadata={"about": f"Apache-2.0; made by python -m training.{name}"})
    card = folder / f"{name}.md"
    card.write_text(text(name, path, network, progress, settings, checked))
    log.info("%s: %d bytes, sha256 %s", path, path.stat().st_size, digest(path))
    if install:
        for file, where in ((path, WEIGHTS), (card, CARDS)):
            where.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, where / file.name)
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text(
    name: str,
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
    last = progress.history[-1] if progress.history else {}
    command = f"python -m training.{name} --steps {settings['steps']} --seed {settings['seed']} --install"
    return f"""# Weights of our own: {name}

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

Generated while training by `training/samples.py`: procedural textures and windows of these pictures, which ship inside
scikit-image; its documentation states the terms. No recorded video, nothing fetched, no clip that trackers are measured on.

| picture | terms | used for |
|---|---|---|
{used}

## Scores

On generated samples from pictures, textures and outlines that training never saw (larger changes than between the frames of
a video). overlap: mean intersection over union of the box at the surest cell. told: how often the confidence says rightly
whether the object is there. As a tracker: see docs/benchmarks.md.

| | |
|---|---|
{scores}

At the end of training: overlap {last.get("overlap", float("nan")):.3f}, told {last.get("told", float("nan")):.3f}.

## Known failures

{KNOWN_FAILURES}
"""
