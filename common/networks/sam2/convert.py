"""Checkpoints -> the names of `transformers`: the official `.pt` files, and the files of the hub, which have them already."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_WHOLE = {
    "maskmem_tpos_enc": "memory_temporal_positional_encoding",
    "no_mem_embed": "no_memory_embedding",
    "no_mem_pos_enc": "no_memory_positional_encoding",
    "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
    "no_obj_ptr": "no_object_pointer",
}

_GAUSSIAN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_POINTS = "sam_prompt_encoder.point_embeddings"

_RENAMES: tuple[tuple[str, str], ...] = (
    # parts
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    # image encoder
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    # memory encoder
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv([12])\.", r".pointwise_conv\1."),
    (r"(memory_fuser\.layers\.\d+)\.norm\.", r"\1.layer_norm."),
    (r"(memory_fuser\.layers\.\d+)\.gamma$", r"\1.scale"),
    # attention and norms
    (r"\.out_proj\.", ".o_proj."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm([1-4])\.", r".layer_norm\1."),
    (r"^memory_attention\.norm\.", "memory_attention.layer_norm."),
    # mask decoder
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    # prompt encoder: conv, norm, activation, conv, norm, activation, conv
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
)

_TWO_LAYERS = re.compile(r"(.*\.(?:blocks|transformer\.layers)\.\d+\.mlp)\.layers\.([01])\.(.*)")
_THREE_LAYERS = re.compile(
    r"(.*(?:iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.\d+|object_pointer_proj))\.layers\.([012])\.(.*)"
)
_MASKS = re.compile(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(.*)")
_MASK_STEPS = 4
"""Convolution, norm and activation, four times, then one convolution more."""


def convert(entries: dict[str, Any]) -> dict[str, Tensor]:
    """entries: what a file holds: {"model": state_dict} of the official repository, or a state_dict of the hub."""
    official = entries.get("model", entries)
    if "shared_image_embedding.positional_embedding" in official:
        return dict(official)
    state = dict(official)
    gaussian = state.pop(_GAUSSIAN)
    out: dict[str, Tensor] = {
        "shared_image_embedding.positional_embedding": gaussian,
        "prompt_encoder.shared_embedding.positional_embedding": gaussian,
        "prompt_encoder.point_embed.weight": torch.cat([state.pop(f"{_POINTS}.{n}.weight") for n in range(4)]),
    }
    out |= {_renamed(name): value for name, value in state.items()}
    return out


def _renamed(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name]
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    name = _MASKS.sub(_mask_step, name)
    name = _TWO_LAYERS.sub(_layer(("proj_in", "proj_out")), name)
    return _THREE_LAYERS.sub(_layer(("proj_in", "layers.0", "proj_out")), name)


def _layer(names: tuple[str, ...]) -> Callable[[re.Match[str]], str]:
    return lambda found: f"{found[1]}.{names[int(found[2])]}.{found[3]}"


def _mask_step(found: re.Match[str]) -> str:
    step, part = divmod(int(found[1]), 3)
    where = "final_conv" if step == _MASK_STEPS else f"layers.{step}.{('conv', 'layer_norm')[part]}"
    return f"memory_encoder.mask_downsampler.{where}.{found[2]}"
