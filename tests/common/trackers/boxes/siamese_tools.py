"""Small networks of the published classes with seeded weights, for tests of what is around them."""

from __future__ import annotations

from common.networks.mcitrack import MCITrackConfig
from common.networks.mixformer import MixFormerConfig
from common.networks.transt import TransTConfig
from common.trackers.boxes import mcitrack, mixformer, transt
from common.trackers.boxes.mcitrack_run import MCITrackSettings
from common.trackers.boxes.siamese import SiameseTracker
from common.weights.options import EngineOptions

SEEDED = EngineOptions(weights="seeded", device="cpu")

CONFIGS = {
    "mixformer": MixFormerConfig("vit", 64, 2, 1, 32, 64, 1, head=16),
    "mixformer-convmae-l": MixFormerConfig("convmae", 64, 2, 1, 32, 64, 1, (8, 16), (1, 1), 16),
    "mixformerv2-s": MixFormerConfig("v2", 64, 2, 1, 32, 64, 1),
    "transt": TransTConfig(1, 32, 64, 32, 2, 32, 4, (1, 1, 1)),
    "mcitrack": MCITrackConfig(32, (1, 1, 4), 2, 32, 64, 4, 16, 2),
}


def tiny(name: str, options: EngineOptions = SEEDED) -> SiameseTracker:
    """The tracker of that name with a network so small that a frame takes milliseconds."""
    config = CONFIGS[name]
    if isinstance(config, MixFormerConfig):
        return mixformer.make(name, options, config)
    if isinstance(config, TransTConfig):
        return transt.make(name, options, config)
    # Frequent renewals and a low bar, so that short clips reach every part.
    return mcitrack.make(
        name, options, config, MCITrackSettings(update_threshold=0.1, update_h_t=0.2, update_intervals=10)
    )
