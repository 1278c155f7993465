"""TransT behind the tracker contract. Imports no torch: that waits until tracking starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.trackers.boxes.siamese import SiameseTracker
from common.trackers.boxes.siamese_contract import Engine
from common.trackers.boxes.siamese_presence import PresenceSettings
from common.tracking.contract import TrackerCard
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.networks.transt import TransTConfig
    from common.trackers.boxes.transt_run import TransTSettings

_VARIANTS = {"transt": ("TransT-N4", "TransT-N4"), "transt-n2": ("TransT-N2", "TransT-N2")}

PRESENCE = PresenceSettings(lost=0.3, found=0.7)
"""The score is the chosen token's share for the object; nothing trained it to be low once the object has gone."""


def make(
    name: str,
    options: EngineOptions,
    config: TransTConfig | None = None,
    settings: TransTSettings | None = None,
) -> SiameseTracker:
    """The tracker of a name in the catalogue of weights. config, settings: None = as published."""
    title, published = _VARIANTS[name]

    def open_engine() -> Engine:
        from common.networks.transt import CONFIGS
        from common.trackers.boxes.transt_run import TransTEngine, TransTSettings

        return TransTEngine.open(name, options, config or CONFIGS[published], settings or TransTSettings())

    card = TrackerCard(
        name=name,
        title=title,
        geometries=frozenset({"box", "oriented_box"}),
        licence="Apache-2.0",
        memory_bound="the number of objects (about 1 MB each)",
        weights=name,
        weights_licence="NOASSERTION",
        paper="https://arxiv.org/abs/2103.15436",
        devices=("cpu", "cuda"),
    )
    return SiameseTracker(card, open_engine, PRESENCE)
