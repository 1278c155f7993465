"""Boxes that move in a known way, as detections frame by frame."""

from __future__ import annotations

import numpy as np

from common.association.contract import Associator, Tracks
from common.geometry.detections import Detections


def detections(boxes: np.ndarray, scores: float | np.ndarray = 0.9, classes: int | np.ndarray = 0) -> Detections:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    return Detections(
        boxes, np.broadcast_to(np.float32(scores), n).copy(), np.broadcast_to(np.int64(classes), n).copy()
    )


def walkers(count: int, frames: int, seed: int = 0) -> np.ndarray:
    """float64 (frames, count, 4), x1, y1, x2, y2: people on lanes of their own, at their own constant speeds."""
    rng = np.random.default_rng(seed)
    size = rng.uniform((30, 80), (50, 120), (count, 2))
    start = np.stack((rng.uniform(0, 1500, count), 150.0 * np.arange(count)), 1)
    speed = np.stack((rng.uniform(-4, 4, count), np.zeros(count)), 1)
    at = start + np.arange(frames)[:, None, None] * speed
    return np.concatenate((at, at + size), 2)


def everything(associator: Associator, parts: list[Detections], **options: object) -> Tracks:
    """All rows of a run."""
    found = [associator.update(part, **options) for part in parts]  # type: ignore[arg-type]
    return Tracks.joined([*found, associator.flush()])
