"""The published sizes of SAM 2.1, built from the classes of `transformers` with its parameter names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

POSITIONS = "shared_image_embedding.positional_embedding"
COPY = "prompt_encoder.shared_embedding.positional_embedding"
"""The same random frequencies, stored twice: `tie` copies them."""


@dataclass(frozen=True)
class Sizes:
    """width: channels of the first stage. heads: of the first stage; both double from stage to stage. blocks: per stage.
    whole: numbers of the blocks that attend to the whole picture. windows: side of the others' windows, per stage.
    background: side of the coarse table of positions. image: side, in pixels, that pictures are brought to; published
    weights are for 1024, and the multiples of 256 below it work, less precisely. hidden, feed_forward, decoder,
    memory_layers: of attention and decoder; only tests have them smaller than published.
    """

    width: int
    heads: int
    blocks: tuple[int, int, int, int]
    whole: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7
    image: int = 1024
    feed_forward: int = 2048
    memory_layers: int = 4


TINY = Sizes(96, 1, (1, 2, 7, 2), (5, 7, 9))
SMALL = Sizes(96, 1, (1, 2, 11, 2), (7, 10, 13))
BASE_PLUS = Sizes(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14)
LARGE = Sizes(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8))


def build(sizes: Sizes) -> nn.Module:
    """The network without weights (its parameters hold anything), in eval mode. float32, on the CPU."""
    from transformers import (
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoModel,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    widths = [sizes.width << stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        hidden_size=sizes.width,
        num_attention_heads=sizes.heads,
        image_size=[sizes.image, sizes.image],
        blocks_per_stage=list(sizes.blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[sizes.heads << stage for stage in range(4)],
        window_size_per_stage=list(sizes.windows),
        window_positional_embedding_background_size=[sizes.background] * 2,
        global_attention_blocks=list(sizes.whole),
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[sizes.image // stride] * 2 for stride in (4, 8, 16)],
    )
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(image_size=sizes.image),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(mlp_dim=sizes.feed_forward),
        image_size=sizes.image,
        memory_attention_rope_feat_sizes=[sizes.image // 16] * 2,
        memory_attention_num_layers=sizes.memory_layers,
        memory_attention_feed_forward_hidden_size=sizes.feed_forward,
    )
    with unfilled():
        model: nn.Module = Sam2VideoModel(config)
    remember_positions(model)
    return model.eval()


class _Positions(nn.Module):
    """Codes of the places of a map, computed once: the module of `transformers` remembers one size of the several that
    each frame has. side: of the only maps whose codes anybody reads, None = all; others get zeros.
    """

    def __init__(self, module: nn.Module, side: int | None) -> None:
        super().__init__()
        self._module, self._side = module, side
        self._known: dict[tuple[object, ...], Tensor] = {}

    def forward(self, shape: torch.Size, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Codes of maps (n, c, h, w)."""
        if self._side not in (None, shape[-1]):
            return torch.zeros((), dtype=dtype, device=device).expand(shape)
        key = (*shape[1:], str(device), dtype)
        if key not in self._known:
            self._known[key] = self._module(torch.Size((1, *shape[1:])), device, dtype)
        return self._known[key].expand(shape)


def remember_positions(model: Any) -> None:
    """Lets the image encoder and the memory encoder compute their codes of places once."""
    neck, memory, side = model.vision_encoder.neck, model.memory_encoder, model.backbone_feature_sizes[-1][0]
    neck.position_encoding = _Positions(neck.position_encoding, side)
    memory.position_encoding = _Positions(memory.position_encoding, None)


@torch.no_grad()
def tie(model: Any) -> None:
    """After weights were given: the second copy of the prompts' frequencies, which checkpoints may lack."""
    entries = model.state_dict()
    if COPY in entries:
        entries[COPY].copy_(entries[POSITIONS])


@contextmanager
def unfilled() -> Iterator[None]:
    """Random weights for 200 million parameters take seconds, and the real ones replace them."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        yield
