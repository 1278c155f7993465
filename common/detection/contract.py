"""The detector contract: pictures in, boxes with scores and classes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Mask
from common.video.contract import Image

Float = NDArray[np.float32]


def _boxes() -> Float:
    return np.zeros((0, 4), np.float32)


def _column() -> Float:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class Detections:
    """What one picture shows, best first or in any order; one row each.

    xyxy: float32 (n, 4), pixels, x1 <= x2, y1 <= y2. scores: float32 (n,), 0..1. classes: int64 (n,), indices into the
    card's class names. masks: n masks of the picture, or None. embeddings: float32 (n, d) of looks, or None.
    """

    xyxy: Float = field(default_factory=_boxes)
    scores: Float = field(default_factory=_column)
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    masks: tuple[Mask, ...] | None = None
    embeddings: Float | None = None

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
        if (self.masks is not None and len(self.masks) != n) or (
            self.embeddings is not None and len(self.embeddings) != n
        ):
            raise ValueError(f"{n} boxes need as many masks and embeddings, where there are any")
        for name, value in (("xyxy", xyxy), ("scores", scores), ("classes", classes)):
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.xyxy)

    def keep(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Those rows, in that order (bool (n,) or indices)."""
        index = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen)
        masks = None if self.masks is None else tuple(self.masks[int(i)] for i in index)
        embeddings = None if self.embeddings is None else self.embeddings[index]
        return Detections(self.xyxy[index], self.scores[index], self.classes[index], masks, embeddings)


@dataclass(frozen=True)
class DetectorCard:
    """What a person needs to choose a detector.

    name: as typed after --detector. classes: what it can tell apart, in the order of class indices; ("",) for one that
    finds things without knowing what they are. temporal: it compares each picture with those before, so the pictures
    must be the frames of one video in order and every video needs a detector of its own. The rest as in `TrackerCard`.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    licence: str
    memory_bound: str
    temporal: bool = False
    weights: str | None = None
    weights_licence: str | None = None
    paper: str = ""
    devices: tuple[str, ...] = ("cpu",)


@runtime_checkable
class Detector(Protocol):
    """Finds objects in pictures. Not shared between threads."""

    @property
    def card(self) -> DetectorCard: ...

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """One `Detections` per picture. The pictures are not kept or changed. Raises ValueError for a temporal detector
        when a picture has another size than those before."""
        ...
