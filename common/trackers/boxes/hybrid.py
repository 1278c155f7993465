"""The correlation filter with the tiny network at its side: the filter keeps exact boxes, the network keeps hold.

Imports no torch. See hybrid_run.py.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.trackers.boxes import tiny
from common.trackers.boxes.correlation import CorrelationTracker
from common.trackers.boxes.siamese import pose_of
from common.trackers.boxes.state import State
from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.tracking.snapshot import unpack
from common.video.contract import Image
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.trackers.boxes.hybrid_run import HybridRun
    from common.trackers.boxes.tiny_run import TinyEngine

CARD = TrackerCard(
    name="hybrid",
    title="Correlation filter and tiny network (come with the suite)",
    geometries=frozenset({"box", "oriented_box"}),
    licence="Apache-2.0",
    memory_bound="the number of objects (about 2.5 MB each) and the size of one frame",
    paper="training/cards/boxes.md",
    devices=("cpu", "cuda"),
)


def make(name: str, options: EngineOptions) -> HybridTracker:
    """The tracker `hybrid`. Raises `EngineUnavailable` at the first start where torch is not installed."""
    del name
    return HybridTracker(options)


class HybridTracker:
    """Tracks boxes and oriented boxes. Stateless apart from the network, which is read once."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._engine: TinyEngine | None = None
        self._lock = threading.Lock()

    @property
    def card(self) -> TrackerCard:
        """See `TrackerCard`."""
        return CARD

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> HybridRun:
        """Begin. Exemplars serve the filter. Raises `PromptInvalid` for a geometry that is no box, has no area or lies
        outside the picture."""
        from common.trackers.boxes.hybrid_run import HybridRun

        filtered = CorrelationTracker().start(image, prompts, exemplars)
        rows = np.array([pose_of(p, image) for p in prompts], np.float64).reshape(-1, 5)
        procedure = self._loaded().begin(image, rows[:, :4].copy(), rows[:, 4].copy(), ())
        return HybridRun(State.from_tree(unpack(filtered.save())), procedure)

    def load(self, state: bytes) -> HybridRun:
        """A run from `save`. Raises ValueError when the bytes are not one of this tracker's."""
        from common.trackers.boxes.hybrid_run import HybridRun

        tree = unpack(state)
        if not isinstance(tree, dict) or set(tree) != {"filter", "network"}:
            raise ValueError("this state was not saved by the tracker hybrid")
        return HybridRun(State.from_tree(tree["filter"]), self._loaded().resume(tree["network"]))

    def _loaded(self) -> TinyEngine:
        with self._lock:
            if self._engine is None:
                self._engine = tiny.engine("hybrid", self._options)
            return self._engine
