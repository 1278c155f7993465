"""What detectors that are networks have in common: weights read once, when they are first needed, and batches."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from common.detection.contract import Detections, DetectorCard, DetectorSettings
from common.errors import EngineUnavailable, WeightsMissing
from common.video.contract import Image
from common.weights.options import SEEDED, EngineOptions

Model = TypeVar("Model")


class NetworkDetector(ABC, Generic[Model]):
    """A `Detector` made at once; its network is built at the first picture, or with `prepare`, one thread at a time."""

    def __init__(self, card: DetectorCard, options: EngineOptions, settings: DetectorSettings) -> None:
        self._card, self._options, self._settings = card, options, settings
        self._lock = threading.Lock()
        self._model: Model | None = None

    @property
    def card(self) -> DetectorCard:
        """What it tells apart is known for certain once the weights were read."""
        return self._card

    def prepare(self) -> None:
        """Reads the weights now. Raises `WeightsMissing`, `WeightsInvalid`, `EngineUnavailable`."""
        self._ready()

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        if not images:
            return []
        model = self._ready()
        found: list[Detections] = []
        for start in range(0, len(images), self._settings.batch):
            found += self._infer(model, images[start : start + self._settings.batch])
        return found

    def _ready(self) -> Model:
        with self._lock:
            if self._model is None:
                self._model = self._build()
            return self._model

    @abstractmethod
    def _build(self) -> Model:
        """The network with its weights; may replace `self._card` by one that knows the classes."""

    @abstractmethod
    def _infer(self, model: Model, images: Sequence[Image]) -> list[Detections]:
        """One batch."""


def weight_files(name: str, options: EngineOptions) -> list[Path]:
    """The files that a network is filled from: those of the catalogue, or the one file that the options name.

    Raises `WeightsMissing`, `WeightsInvalid`, and `EngineUnavailable` when the options ask for seeded weights, for which
    there are no files.
    """
    from common.weights.entries import catalogue
    from common.weights.store import Store

    if options.weights == SEEDED:
        raise EngineUnavailable(f"{name} is a file and cannot be seeded. Name one with --weights FILE.")
    if options.weights is None:
        return Store.from_env().require(catalogue().find(name))
    path = Path(options.weights).expanduser()
    if not path.is_file():
        raise WeightsMissing(f"There is no file {options.weights!r}. Name a weights file that exists.")
    return [path]
