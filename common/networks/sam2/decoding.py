"""Features and prompts -> masks, scores and pointers: SAM's heads, for any number of objects at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ABSENT = -1024.0
"""Logit of every pixel of an object that is not in the picture."""

# a mask that a person drew becomes logits of +-10
_SCALE, _BIAS = 20.0, -10.0


@dataclass(frozen=True)
class Features:
    """Of one picture, shared by all objects. top: (HW, 1, C) at stride 16, and its positions. fine: (1, c, h, w) at
    strides 4 and 8, already projected for the mask decoder."""

    top: Tensor
    positions: Tensor
    fine: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Found:
    """Of n objects in one picture. logits: (n, 1, h, w) at stride 4. score: (n, 1) logit of being in the picture.
    pointer: (n, C). quality: (n,) expected overlap of the mask with the object, 0..1.
    """

    logits: Tensor
    score: Tensor
    pointer: Tensor
    quality: Tensor

    def __getitem__(self, index: slice | Tensor) -> Found:
        return Found(self.logits[index], self.score[index], self.pointer[index], self.quality[index])


def join(parts: list[Found]) -> Found:
    return Found(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("logits", "score", "pointer", "quality"))
    )


def encode(model: Any, picture: Tensor) -> Features:
    """The image encoder: most of the work for one object, done once for all. picture: (1, 3, size, size)."""
    out = model.get_image_features(picture, return_dict=True)
    flat, positions = out.fpn_hidden_states, out.fpn_position_encoding
    sizes = model.backbone_feature_sizes
    fine = [f.permute(1, 2, 0).unflatten(2, tuple(size)) for f, size in zip(flat[:2], sizes[:2], strict=True)]
    return Features(flat[2], positions[2], (fine[0], fine[1]))


def as_map(model: Any, flat: Tensor) -> Tensor:
    """(HW, n, C) -> (n, C, h, w)."""
    height, width = model.backbone_feature_sizes[-1]
    return flat.permute(1, 2, 0).reshape(*flat.shape[1:], height, width)


def fresh(model: Any, features: Features) -> Tensor:
    """The top features (1, C, h, w) for an object of which nothing is remembered."""
    return as_map(model, features.top + model.no_memory_embedding)


def head(
    model: Any,
    conditioned: Tensor,
    features: Features,
    points: tuple[Tensor, Tensor] | None = None,
    logits: Tensor | None = None,
    several: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All masks that the decoder offers: logits (n, m, h, w), quality (n, m), tokens (n, m, C), object score (n, 1).

    conditioned: (n, C, h, w). points: (n, 1, k, 2) and labels (n, 1, k). logits: (n, 1, h, w), a mask as prompt.
    several: three masks, for prompts that can mean several things; else one.
    """
    count, device = len(conditioned), conditioned.device
    if points is None:
        points = (torch.zeros(count, 1, 1, 2, device=device), torch.full((count, 1, 1), -1, device=device))
    if logits is not None and logits.shape[-2:] != tuple(model.prompt_encoder.mask_input_size):
        size = model.prompt_encoder.mask_input_size
        logits = functional.interpolate(logits.float(), size, mode="bilinear", align_corners=False, antialias=True)
    sparse, dense = model.prompt_encoder(
        input_points=points[0], input_labels=points[1], input_boxes=None, input_masks=logits
    )
    masks, quality, tokens, score = model.mask_decoder(
        image_embeddings=conditioned,
        image_positional_embeddings=model.get_image_wide_positional_embeddings().expand(count, -1, -1, -1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
        high_resolution_features=[fine.expand(count, -1, -1, -1) for fine in features.fine],
    )
    return masks[:, 0].float(), quality[:, 0].float(), tokens[:, 0], score[:, 0].float()


def decode(
    model: Any,
    conditioned: Tensor,
    features: Features,
    points: tuple[Tensor, Tensor] | None = None,
    logits: Tensor | None = None,
    several: bool = True,
) -> Found:
    """The best mask of each object, and its pointer. Arguments as `head`."""
    masks, quality, tokens, score = head(model, conditioned, features, points, logits, several)
    best = quality.argmax(1)
    rows = torch.arange(len(masks), device=masks.device)
    present = score > 0
    chosen = torch.where(present[:, :, None], masks[rows, best], ABSENT)[:, None]
    token = tokens[rows, best if tokens.shape[1] > 1 else 0]
    pointer = torch.where(present, model.object_pointer_proj(token), model.no_object_pointer)
    return Found(chosen, score, pointer, quality[rows, best])


def mask_logits(mask: Tensor) -> Tensor:
    """Logits of the same size for a drawn mask of 0 and 1."""
    return mask * _SCALE + _BIAS


def drawn(model: Any, mask: Tensor, features: Features) -> Found:
    """A mask that a person drew is taken as it is; the decoder only makes its pointer. mask: (1, 1, size, size), 0 or 1."""
    size = model.prompt_encoder.mask_input_size
    logits = functional.interpolate(mask_logits(mask), size, mode="bilinear", align_corners=False, antialias=True)
    plain = as_map(model, features.top)
    found = decode(model, plain, features, logits=model.mask_downsample(mask.to(plain.dtype)))
    present = mask.flatten(1).amax(1, keepdim=True) > 0
    pointer = torch.where(present, found.pointer, model.no_object_pointer)
    return Found(logits, present * _SCALE + _BIAS, pointer, torch.ones_like(found.quality))
