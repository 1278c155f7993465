"""MCITrack behind the tracker contract. Imports no torch: that waits until tracking starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.trackers.boxes.siamese import SiameseTracker
from common.trackers.boxes.siamese_contract import Engine
from common.trackers.boxes.siamese_presence import PresenceSettings
from common.tracking.contract import TrackerCard
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.networks.mcitrack import MCITrackConfig
    from common.trackers.boxes.mcitrack_run import MCITrackSettings

# Title, the authors' configuration, memory per object: the carried state and the bank of templates.
_VARIANTS = {
    "mcitrack": ("MCITrack B224", "mcitrack_b224", "54 MB"),
    "mcitrack-t224": ("MCITrack T224", "mcitrack_t224", "41 MB"),
    "mcitrack-s224": ("MCITrack S224", "mcitrack_s224", "41 MB"),
    "mcitrack-l224": ("MCITrack L224", "mcitrack_l224", "80 MB"),
    "mcitrack-l384": ("MCITrack L384", "mcitrack_l384", "234 MB"),
}

PRESENCE = PresenceSettings(lost=0.3, found=0.6)
"""The score is the centre map's at the place chosen."""


def make(
    name: str,
    options: EngineOptions,
    config: MCITrackConfig | None = None,
    settings: MCITrackSettings | None = None,
) -> SiameseTracker:
    """The tracker of a name in the catalogue of weights. config, settings: None = as published."""
    title, published, memory = _VARIANTS[name]

    def open_engine() -> Engine:
        from common.networks.mcitrack import CONFIGS
        from common.trackers.boxes.mcitrack_run import MCITrackEngine, MCITrackSettings

        return MCITrackEngine.open(name, options, config or CONFIGS[published], settings or MCITrackSettings())

    card = TrackerCard(
        name=name,
        title=f"{title} (weights without a stated licence)",
        geometries=frozenset({"box", "oriented_box"}),
        licence="Apache-2.0",
        memory_bound=f"the number of objects (about {memory} each), taken at the start",
        weights=name,
        weights_licence="NOASSERTION",
        paper="https://arxiv.org/abs/2412.11023",
        devices=("cpu", "cuda"),
    )
    return SiameseTracker(card, open_engine, PRESENCE)
