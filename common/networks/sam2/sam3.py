"""The tracker of SAM 3 (Carion et al. 2025, https://arxiv.org/abs/2511.16719): SAM 2's memory over a large image encoder.

It follows what a person draws; finding things by name is another part of SAM 3, which is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from common.networks.sam2.build import remember_positions, unfilled
from common.networks.sam2.inputs import Normal
from common.networks.sam2.stream import Stream

PATCH = 14
"""Pixels per token of the image encoder."""

_PREFIXES = (
    ("detector_model.vision_encoder.backbone.", "vision_encoder.backbone."),
    ("tracker_neck.", "vision_encoder.neck."),
    ("tracker_model.", ""),
)


@dataclass(frozen=True)
class Sizes:
    """width, intermediate, heads, blocks: of the image encoder. whole: numbers of its blocks that attend to the whole picture.
    window: side of the others' windows, in tokens. trained: side of the pictures that its table of positions was made
    for; it is laid out like tiles. image: side of its pictures, a multiple of 14. Smaller than published: for tests.
    """

    width: int = 1024
    intermediate: int = 4736
    heads: int = 16
    blocks: int = 32
    whole: tuple[int, ...] = (7, 15, 23, 31)
    window: int = 24
    trained: int = 336
    image: int = 1008
    feed_forward: int = 2048
    memory_layers: int = 4


def build(sizes: Sizes) -> nn.Module:
    """The network without weights (its parameters hold anything), in eval mode. float32, on the CPU."""
    from transformers import (
        Sam3TrackerVideoConfig,
        Sam3TrackerVideoMaskDecoderConfig,
        Sam3TrackerVideoModel,
        Sam3TrackerVideoPromptEncoderConfig,
        Sam3VisionConfig,
        Sam3ViTConfig,
    )

    backbone = Sam3ViTConfig(
        hidden_size=sizes.width,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.blocks,
        num_attention_heads=sizes.heads,
        image_size=sizes.image,
        patch_size=PATCH,
        window_size=sizes.window,
        global_attn_indexes=list(sizes.whole),
        pretrain_image_size=sizes.trained,
    )
    config = Sam3TrackerVideoConfig(
        vision_config=Sam3VisionConfig(backbone_config=backbone),
        prompt_encoder_config=Sam3TrackerVideoPromptEncoderConfig(image_size=sizes.image, patch_size=PATCH),
        mask_decoder_config=Sam3TrackerVideoMaskDecoderConfig(mlp_dim=sizes.feed_forward),
        image_size=sizes.image,
        memory_attention_num_layers=sizes.memory_layers,
        memory_attention_feed_forward_hidden_size=sizes.feed_forward,
    )
    with unfilled():
        model: nn.Module = Sam3TrackerVideoModel(config)
    remember_positions(model)
    return model.eval()


@dataclass(frozen=True)
class Sam3Stream(Stream):
    """`Stream`; drawn masks are remembered as drawn, and at most four labelled frames are read, the latest."""

    as_drawn: ClassVar[bool] = True
    normal: ClassVar[Normal] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def convert(entries: dict[str, Any]) -> dict[str, Tensor]:
    """The hub's file of all of SAM 3 -> the tracker's names; what finds things by name is left out."""
    out = {}
    for name, value in entries.items():
        for prefix, replacement in _PREFIXES:
            if name.startswith(prefix):
                out[replacement + name.removeprefix(prefix)] = value
                break
        else:
            if not name.startswith("detector_model."):
                out[name] = value
    return out
