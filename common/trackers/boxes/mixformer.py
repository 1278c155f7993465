"""MixFormer and MixFormerV2 behind the tracker contract. Imports no torch: that waits until tracking starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.trackers.boxes.siamese import SiameseTracker
from common.trackers.boxes.siamese_contract import Engine
from common.trackers.boxes.siamese_presence import PresenceSettings
from common.tracking.contract import TrackerCard
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.networks.mixformer import MixFormerConfig
    from common.trackers.boxes.mixformer_run import MixFormerSettings

# Title, the authors' configuration, expected memory per object.
_VARIANTS = {
    "mixformer": ("MixFormer ViT-L", "mixformer_vit_online/baseline_large", "175 MB"),
    "mixformer-convmae-l": ("MixFormer ConvMAE-L", "mixformer_convmae_online/baseline_large", "145 MB"),
    "mixformer-vit-b": ("MixFormer ViT-B", "mixformer_vit_online/baseline", "30 MB"),
    "mixformer-convmae-b": ("MixFormer ConvMAE-B", "mixformer_convmae_online/baseline", "27 MB"),
    "mixformerv2-b": ("MixFormerV2-B", "mixformer2_vit_online/288_depth8_score", "7 MB"),
    "mixformerv2-s": ("MixFormerV2-S", "mixformer2_vit_online/224_depth4_mlp1_score", "3 MB"),
}
_SECOND = "mixformerv2"

PRESENCE = PresenceSettings(lost=0.25, found=0.6)
"""The score is trained to tell good boxes from bad ones at 0.5, where the published procedure takes templates."""


def make(
    name: str,
    options: EngineOptions,
    config: MixFormerConfig | None = None,
    settings: MixFormerSettings | None = None,
) -> SiameseTracker:
    """The tracker of a name in the catalogue of weights. config, settings: None = as published."""
    title, published, memory = _VARIANTS[name]
    second = name.startswith(_SECOND)

    def open_engine() -> Engine:
        from common.networks.mixformer import CONFIGS
        from common.trackers.boxes.mixformer_run import MixFormerEngine, MixFormerSettings

        usual = MixFormerSettings(online_size=1) if second else MixFormerSettings()
        return MixFormerEngine.open(name, options, config or CONFIGS[published], settings or usual)

    card = TrackerCard(
        name=name,
        title=title,
        geometries=frozenset({"box", "oriented_box"}),
        licence="MIT",
        memory_bound=f"the number of objects (about {memory} each), taken within the first 50 frames",
        weights=name,
        weights_licence="NOASSERTION",
        paper="https://arxiv.org/abs/2305.15896" if second else "https://arxiv.org/abs/2302.02814",
        devices=("cpu", "cuda"),
    )
    return SiameseTracker(card, open_engine, PRESENCE)
