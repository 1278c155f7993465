"""EdgeTAM (Zhou et al., CVPR 2025, https://arxiv.org/abs/2501.07256): SAM 2 for small machines.

A light image encoder, and memories of a frame that a perceiver sums up in a few hundred tokens, half of which keep their
place in the picture. `transformers` takes the encoder from another package; here it is `repvit`, with the same names.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from common.networks.sam2 import convert as sam2_names
from common.networks.sam2.attention import rotations
from common.networks.sam2.build import remember_positions, unfilled
from common.networks.sam2.decoding import Found
from common.networks.sam2.memory import Entry
from common.networks.sam2.repvit import RepVit
from common.networks.sam2.stream import Stream


@dataclass(frozen=True)
class Sizes:
    """widths, blocks: of the image encoder's stages. image: side of its pictures, a multiple of 16 and of 16 times the
    side of `latents`. latents: tokens that keep their place, a square number; as many do not. Smaller than published: for tests.
    """

    widths: tuple[int, int, int, int] = (48, 96, 192, 384)
    blocks: tuple[int, int, int, int] = (2, 2, 14, 2)
    image: int = 1024
    latents: int = 256
    feed_forward: int = 2048
    memory_layers: int = 2


def build(sizes: Sizes) -> nn.Module:
    """The network without weights (its parameters hold anything), in eval mode. float32, on the CPU."""
    from transformers import (
        EdgeTamVideoConfig,
        EdgeTamVideoMaskDecoderConfig,
        EdgeTamVideoModel,
        EdgeTamVideoPromptEncoderConfig,
        EdgeTamVisionConfig,
        ResNetConfig,
    )

    vision = EdgeTamVisionConfig(
        # only there until it is replaced
        backbone_config=ResNetConfig(embedding_size=1, hidden_sizes=[1], depths=[1], layer_type="basic"),
        backbone_channel_list=list(sizes.widths[::-1]),
        backbone_feature_sizes=[[sizes.image // stride] * 2 for stride in (4, 8, 16)],
    )
    config = EdgeTamVideoConfig(
        vision_config=vision,
        prompt_encoder_config=EdgeTamVideoPromptEncoderConfig(image_size=sizes.image),
        mask_decoder_config=EdgeTamVideoMaskDecoderConfig(mlp_dim=sizes.feed_forward),
        image_size=sizes.image,
        memory_attention_rope_feat_sizes=[sizes.image // 16] * 2,
        memory_attention_rope_k_sizes=[math.isqrt(sizes.latents)] * 2,
        memory_attention_num_layers=sizes.memory_layers,
        memory_attention_mlp_hidden_size=sizes.feed_forward,
        perceiver_resampler_num_latents=sizes.latents,
        perceiver_resampler_num_latents_2d=sizes.latents,
        # as published, unlike SAM 2.1's
        enable_temporal_pos_encoding_for_object_pointers=False,
        enable_occlusion_spatial_embedding=False,
    )
    with unfilled():
        model: nn.Module = EdgeTamVideoModel(config)
    remember_positions(model)
    model.vision_encoder.backbone = _Backbone(sizes)  # type: ignore[union-attr]
    return model.eval()


class _Backbone(nn.Module):
    """The image encoder as the neck of `transformers` wants it."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.timm_model = RepVit(sizes.widths, sizes.blocks)

    def forward(self, picture: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.timm_model(picture), hidden_states=None)


@dataclass(frozen=True)
class EdgeTamStream(Stream):
    """`Stream`, with memories summed up. Half of their tokens have no place: they are turned by nothing."""

    @property
    def _placeless(self) -> int:
        return int(self.model.config.perceiver_resampler_num_latents)

    @cached_property
    def positions(self) -> Tensor:
        """Where the tokens of every memory lie, (N, c)."""
        side = math.isqrt(self.model.config.perceiver_resampler_num_latents_2d)
        code: Tensor = self.model.spatial_perceiver.positional_encoding(
            torch.Size((1, self.model.mem_dim, side, side)), self.device, torch.float32
        )
        return torch.cat([code.new_zeros(self._placeless, self.model.mem_dim), code.flatten(2)[0].T])

    @cached_property
    def memory_turns(self) -> Tensor:
        attention = self.model.memory_attention
        turns = rotations(attention, attention.position_ids_k)
        return torch.cat([turns.new_ones(self._placeless, turns.shape[1]), turns])

    def _entries(self, maps: Tensor, positions: Tensor, found: Found) -> list[Entry]:
        perceiver, places = self.model.spatial_perceiver, positions[:1].to(maps.dtype)
        # one by one: the perceiver of `transformers` takes no batches
        tokens = [perceiver(own[None], places)[0][0].float() for own in maps]
        return [Entry(t.clone(), p.clone()) for t, p in zip(tokens, found.pointer.float(), strict=True)]


_PERCEIVER: tuple[tuple[str, str], ...] = (
    (r"^spatial_perceiver\.latents$", "spatial_perceiver.latents_1d"),
    (r"^spatial_perceiver\.norm\.", "spatial_perceiver.layer_norm."),
    (r"\.self_attn\.norm\.", ".layer_norm_self."),
    (r"\.attn\.norm_x\.", ".layer_norm_input."),
    (r"\.attn\.norm_latents\.", ".layer_norm_latents."),
    (r"\.self_attn\.to_", ".self_attention.to_"),
    (r"\.attn\.to_", ".cross_attention.to_"),
    (r"\.to_q\.", ".q_proj."),
    (r"\.to_out\.", ".o_proj."),
    (r"\.self_ff\.", ".self_mlp."),
    (r"\.ff\.", ".mlp."),
    (r"mlp\.0\.", "mlp.layer_norm."),
    (r"mlp\.1\.", "mlp.up_proj."),
    (r"mlp\.3\.", "mlp.down_proj."),
)


def convert(entries: dict[str, Any]) -> dict[str, Tensor]:
    """Checkpoint -> names of `transformers`: {"model": state_dict} of the official repository, or a state_dict of the hub."""
    official = entries.get("model", entries)
    if "shared_image_embedding.positional_embedding" in official:
        return dict(official)
    perceiver = {name: value for name, value in official.items() if name.startswith("spatial_perceiver.")}
    out: dict[str, Tensor] = {}
    for name, value in sam2_names.convert({k: v for k, v in official.items() if k not in perceiver}).items():
        name = name.replace("vision_encoder.backbone.body.", "vision_encoder.backbone.timm_model.")
        if name.startswith("memory_attention."):
            name = name.replace(".linear1.", ".mlp.up_proj.").replace(".linear2.", ".mlp.down_proj.")
        out[name] = value
    for name, value in perceiver.items():
        for pattern, replacement in _PERCEIVER:
            name = re.sub(pattern, replacement, name)
        if ".to_kv." in name:
            out[name.replace(".to_kv.", ".k_proj.")], out[name.replace(".to_kv.", ".v_proj.")] = value.chunk(2)
        else:
            out[name] = value
    return out
