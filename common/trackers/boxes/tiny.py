"""The small network of our own behind the tracker contract; its weights are part of the suite: nothing to download.

Imports no torch. See tiny_run.py for how objects are followed, and `training` for how the weights were made.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import EngineUnavailable
from common.trackers.boxes.siamese import SiameseTracker
from common.trackers.boxes.siamese_presence import PresenceSettings
from common.tracking.contract import TrackerCard
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.trackers.boxes.tiny_run import TinyEngine

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "own" / "boxes.safetensors"

PRESENCE = PresenceSettings(lost=0.5, found=0.9, patience=5)

CARD = TrackerCard(
    name="tiny",
    title="Tiny network (comes with the suite)",
    geometries=frozenset({"box", "oriented_box"}),
    licence="Apache-2.0",
    memory_bound="the number of objects (about 0.3 MB each)",
    paper="training/cards/boxes.md",
    devices=("cpu", "cuda"),
)


def make(name: str, options: EngineOptions) -> SiameseTracker:
    """The tracker `tiny`. Raises `EngineUnavailable` at the first start where torch is not installed."""
    return SiameseTracker(CARD, lambda: engine(name, options), PRESENCE)


def engine(name: str, options: EngineOptions) -> TinyEngine:
    """The network with the suite's weights, or those that options name, for the tracker of that name.

    Raises `EngineUnavailable` where torch is not installed.
    """
    if find_spec("torch") is None:
        raise EngineUnavailable(
            f"The tracker {name} is a network and needs torch: pip install torch. The tracker correlation works without."
        )
    from common.trackers.boxes.tiny_run import TinyEngine

    return TinyEngine(options if options.weights is not None else replace(options, weights=str(WEIGHTS)))
