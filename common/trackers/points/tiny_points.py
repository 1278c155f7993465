"""The Lucas-Kanade tracker with a small network of our own at its side, whose weights are part of the suite: no download.

Imports no torch. See tiny_points_run.py for who does what, and `training` for how the weights were made.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import EngineUnavailable
from common.trackers.points.lucas_kanade import LucasKanadeTracker
from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.tracking.snapshot import unpack
from common.video.contract import Image
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.trackers.points.tiny_points_look import Eye
    from common.trackers.points.tiny_points_run import TinyPointsRun

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "own" / "points.safetensors"

CARD = TrackerCard(
    name="tiny_points",
    title="Lucas-Kanade and tiny network (points, come with the suite)",
    geometries=frozenset({"points"}),
    licence="Apache-2.0",
    memory_bound="the number of points (about 20 kB each), up to 24 more for each polygon, and the size of one frame",
    paper="training/cards/points.md",
    devices=("cpu", "cuda"),
)


def make(name: str, options: EngineOptions) -> TinyPointsTracker:
    """The tracker `tiny_points`. Raises `EngineUnavailable` at the first start where torch is not installed."""
    del name
    return TinyPointsTracker(options)


class TinyPointsTracker:
    """Tracks the points of any number of objects together. Stateless apart from the network, which is read once."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._eye: Eye | None = None
        self._lock = threading.Lock()

    @property
    def card(self) -> TrackerCard:
        """See `TrackerCard`."""
        return CARD

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> TinyPointsRun:
        """Begin, as the Lucas-Kanade tracker does. The first exemplars give the points further looks."""
        eye = self._loaded()
        from common.trackers.points.tiny_points_run import TinyPointsRun

        return TinyPointsRun.begin(eye, LucasKanadeTracker().start(image, prompts), image, exemplars)

    def load(self, state: bytes) -> TinyPointsRun:
        """A run from `save`. Raises ValueError when the bytes are not one of this tracker's."""
        tree = unpack(state)
        if not isinstance(tree, dict) or set(tree) != {"lucas-kanade", "looks", "point"}:
            raise ValueError("this state was not saved by the tracker tiny_points")
        eye = self._loaded()
        from common.trackers.points.tiny_points_run import TinyPointsRun

        return TinyPointsRun(eye, LucasKanadeTracker().load(tree["lucas-kanade"]), tree["looks"], tree["point"])

    def _loaded(self) -> Eye:
        with self._lock:
            if self._eye is None:
                self._eye = _eye(self._options)
            return self._eye


def _eye(options: EngineOptions) -> Eye:
    """The network with the suite's weights, or those that options name. Raises `EngineUnavailable`."""
    if find_spec("torch") is None:
        raise EngineUnavailable(
            "The tracker tiny_points is a network and needs torch: pip install torch. The tracker lucas-kanade works without."
        )
    from common.trackers.points.tiny_points_look import Eye

    return Eye(options if options.weights is not None else replace(options, weights=str(WEIGHTS)))
