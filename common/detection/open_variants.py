"""The published sizes of open-vocabulary detectors that transformers implements, as data.

Sources: Grounding DINO, Liu et al. 2023, https://arxiv.org/abs/2303.05499; OWLv2, Minderer et al. 2023,
https://arxiv.org/abs/2306.09683.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class OpenVariant:
    """family: of transformers' classes. kind: how pictures and words go in. side: longer side of the input in pixels, short:
    shorter side (of the square, for OWLv2). backbone, config: what differs from transformers' defaults."""

    family: str
    kind: Literal["grounding", "owl"]
    title: str
    paper: str
    side: int
    short: int
    backbone: tuple[str, Mapping[str, Any]] | None
    config: Mapping[str, Any]


_GROUNDING = "Liu et al. 2023, Grounding DINO, https://arxiv.org/abs/2303.05499"
_OWL = "Minderer et al. 2023, Scaling open-vocabulary object detection (OWLv2), https://arxiv.org/abs/2306.09683"


def _swin(**sizes: Any) -> tuple[str, Mapping[str, Any]]:
    return "SwinConfig", {"out_indices": [2, 3, 4], **sizes}


OPEN: Mapping[str, OpenVariant] = {
    "grounding-dino-tiny": OpenVariant(
        "GroundingDino",
        "grounding",
        "Grounding DINO tiny",
        _GROUNDING,
        1333,
        800,
        _swin(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, image_size=224),
        {},
    ),
    "grounding-dino-base": OpenVariant(
        "GroundingDino",
        "grounding",
        "Grounding DINO base",
        _GROUNDING,
        1333,
        800,
        _swin(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], window_size=12, image_size=384),
        {},
    ),
    "owlv2-base": OpenVariant(
        "Owlv2",
        "owl",
        "OWLv2 base, patch 16, ensemble",
        _OWL,
        960,
        960,
        None,
        {"vision_config": {"image_size": 960, "patch_size": 16}},
    ),
    "owlv2-large": OpenVariant(
        "Owlv2",
        "owl",
        "OWLv2 large, patch 14, ensemble",
        _OWL,
        1008,
        1008,
        None,
        {
            "projection_dim": 768,
            "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
            "vision_config": {
                "image_size": 1008,
                "patch_size": 14,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
            },
        },
    ),
}
"""By the name of their weights."""
