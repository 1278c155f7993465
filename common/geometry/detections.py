"""What a detector found in one picture, as arrays: what detectors give and associators take."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Mask

Float = NDArray[np.float32]


def _boxes() -> Float:
    return np.zeros((0, 4), np.float32)


def _column() -> Float:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class Detections:
    """What one picture shows, best first or in any order; one row each.

    xyxy: float32 (n, 4), pixels, x1 <= x2, y1 <= y2. scores: float32 (n,), 0..1. classes: int64 (n,), indices into the
    detector's class names. masks: n masks of the picture, or None. embeddings: float32 (n, d) of looks, or None.
    oriented: float32 (n, 5), centre x, y, width, height and turn in radians as in `OrientedBox`, or None; `xyxy` is then
    the upright hull. keypoints: float32 (n, k, 3), x, y in pixels and score 0..1, or None; k as the detector's keypoints.
    """

    xyxy: Float = field(default_factory=_boxes)
    scores: Float = field(default_factory=_column)
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    masks: tuple[Mask, ...] | None = None
    embeddings: Float | None = None
    oriented: Float | None = None
    keypoints: Float | None = None

    def __post_init__(self) -> None:
        xyxy = np.array(self.xyxy, np.float32).reshape(-1, 4)
        scores, classes = np.array(self.scores, np.float32), np.array(self.classes, np.int64)
        n = len(xyxy)
        if scores.shape != (n,) or classes.shape != (n,):
            raise ValueError(f"{n} boxes need {n} scores and classes, got {scores.shape} and {classes.shape}")
        if not np.isfinite(xyxy).all() or (xyxy[:, 2:] < xyxy[:, :2]).any():
            raise ValueError("boxes are finite with x1 <= x2 and y1 <= y2")
        if n and not (np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1 and classes.min() >= 0):
            raise ValueError("scores are 0..1 and classes indices")
        if self.masks is not None and len(self.masks) != n:
            raise ValueError(f"{n} boxes need as many masks, where there are any")
        for name, value in (("xyxy", xyxy), ("scores", scores), ("classes", classes)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        for name, row in (("embeddings", (-1,)), ("oriented", (5,)), ("keypoints", (-1, 3))):
            self._check_column(name, row)

    def _check_column(self, name: str, row: tuple[int, ...]) -> None:
        """An optional column has a finite row of that shape for each box."""
        given = getattr(self, name)
        if given is None:
            return
        value = np.array(given, np.float32)
        fits = value.ndim == len(row) + 1 and all(
            want in (-1, got) for want, got in zip(row, value.shape[1:], strict=True)
        )
        if len(value) != len(self) or not fits or not np.isfinite(value).all():
            raise ValueError(f"{len(self)} boxes need as many finite {name}, got shape {value.shape}")
        value.setflags(write=False)
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.xyxy)

    def keep(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Those rows, in that order (bool (n,) or indices)."""
        index = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen)
        masks = None if self.masks is None else tuple(self.masks[int(i)] for i in index)
        columns = {name: getattr(self, name) for name in ("embeddings", "oriented", "keypoints")}
        kept = {name: None if column is None else column[index] for name, column in columns.items()}
        return Detections(self.xyxy[index], self.scores[index], self.classes[index], masks, **kept)
