"""The tracker contract for point networks: what is drawn becomes queries, weights are read when tracking first starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from common.trackers.points.network_run import Backend, NetworkRun, queries_of, shapes_of
from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.tracking.snapshot import unpack
from common.video.contract import Image


class NetworkTracker:
    """Tracks the points of any number of objects together.

    make: reads the weights and gives the backend; called once, at the first start, whichever thread comes first. It raises
    `WeightsMissing` when they are not on this machine, and is then called again at the next start.
    """

    def __init__(self, card: TrackerCard, make: Callable[[], Backend]) -> None:
        self._card, self._make = card, make
        self._lock = threading.Lock()
        self._backend: Backend | None = None

    @property
    def card(self) -> TrackerCard:
        return self._card

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> NetworkRun:
        """Begin. Points that are hidden or outside the picture ride on the rest of their object; `PromptInvalid` when an
        object has none inside. The first three exemplars give the points further looks."""
        shapes = shapes_of(image, prompts, self._card.title)
        images, queries = queries_of(image, prompts, shapes, exemplars)
        engine, found = self._loaded().begin(images, queries)
        height, width = image.shape[:2]
        run = NetworkRun(self._card.name, engine, shapes, queries.point, (height, width), skip=1)
        assert run.take(found) == [], "an engine may answer for the first frame only before it gets another"
        return run

    def load(self, state: bytes) -> NetworkRun:
        tree = unpack(state)
        if not isinstance(tree, dict) or tree.get("tracker") != self._card.name:
            raise ValueError(f"not a snapshot of {self._card.title}")
        return NetworkRun.from_tree(self._card.name, tree, self._loaded())

    def _loaded(self) -> Backend:
        with self._lock:
            if self._backend is None:
                self._backend = self._make()
            return self._backend
