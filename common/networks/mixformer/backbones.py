"""Crops to tokens: three backbones with one interface.

`templates` turns all templates of an object into what the search needs of them; `search` turns search regions into tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.mixformer.blocks import Block, ConvBlock, Kept
from common.networks.mixformer.config import MixFormerConfig
from common.networks.vision_layers import channel_norm, sine_table, to_tokens


class PatchEmbed(nn.Module):
    """Patches to tokens by one convolution."""

    def __init__(self, inputs: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, width, h / patch, w / patch)."""
        grid: Tensor = self.proj(images)
        return grid


class NormedPatchEmbed(PatchEmbed):
    """`PatchEmbed`, then normalisation and GELU."""

    def __init__(self, inputs: int, width: int, patch: int) -> None:
        super().__init__(inputs, width, patch)
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, images: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, width, h / patch, w / patch)."""
        return F.gelu(channel_norm(self.norm, self.proj(images)))


class Backbone(nn.Module):
    """What the three have in common: position tables and the run through the blocks."""

    pos_embed_s: Tensor
    pos_embed_t: Tensor

    def __init__(self, config: MixFormerConfig) -> None:
        super().__init__()
        self.register_buffer("pos_embed_s", sine_table(config.width, config.search_grid))
        self.register_buffer("pos_embed_t", sine_table(config.width, config.template_grid))

    def embed(self, images: Tensor) -> Tensor:
        """Images (n, 3, s, s) -> tokens (n, tokens, width) without positions."""
        raise NotImplementedError

    def stages(self) -> nn.ModuleList:
        """The blocks with mixed attention."""
        raise NotImplementedError

    def templates(self, images: Tensor) -> tuple[list[Kept], Tensor]:
        """images: (n, k, 3, s, s), the first template of each object first. Returns keys and values of every block, and
        the first template's tokens after the last one (n, tokens, width).
        """
        n, k = images.shape[:2]
        tokens = self.embed(images.flatten(0, 1)) + self.pos_embed_t
        each = tokens.shape[1]
        tokens = tokens.reshape(n, k * each, -1)
        kept: list[Kept] = []
        for block in self.stages():
            tokens, own = block(tokens, None)
            kept.append(own)
        return kept, tokens[:, :each]

    def search(self, images: Tensor, templates: list[Kept]) -> Tensor:
        """images: (n, 3, s, s) -> tokens (n, tokens, width)."""
        tokens = self.embed(images) + self.pos_embed_s
        for block, kept in zip(self.stages(), templates, strict=True):
            tokens, _ = block(tokens, kept)
        return tokens


class PlainBackbone(Backbone):
    """Vision transformer on 16 x 16 patches."""

    def __init__(self, config: MixFormerConfig) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbed(3, config.width, 16)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))

    def embed(self, images: Tensor) -> Tensor:
        """See `Backbone`."""
        return to_tokens(self.patch_embed(images))

    def stages(self) -> nn.ModuleList:
        """See `Backbone`."""
        return self.blocks


class TokenBackbone(PlainBackbone):
    """`PlainBackbone` with four tokens for the box's edges, which belong to the search region (MixFormerV2)."""

    def __init__(self, config: MixFormerConfig) -> None:
        super().__init__(config)
        self.reg_tokens = nn.Parameter(torch.zeros(1, 4, config.width))
        self.pos_embed_reg = nn.Parameter(torch.zeros(1, 4, config.width))

    def search(self, images: Tensor, templates: list[Kept]) -> Tensor:
        """images: (n, 3, s, s) -> (n, tokens + 4, width), the edges' tokens last."""
        edges = (self.reg_tokens + self.pos_embed_reg).expand(len(images), -1, -1)
        tokens = torch.cat((self.embed(images) + self.pos_embed_s, edges), 1)
        for block, kept in zip(self.stages(), templates, strict=True):
            tokens, _ = block(tokens, kept)
        return tokens


class ConvBackbone(Backbone):
    """Two convolutional stages before the transformer (ConvMAE)."""

    def __init__(self, config: MixFormerConfig) -> None:
        super().__init__(config)
        first, second = config.stem_widths
        self.patch_embed1 = NormedPatchEmbed(3, first, 4)
        self.patch_embed2 = NormedPatchEmbed(first, second, 2)
        self.patch_embed3 = NormedPatchEmbed(second, config.width, 2)
        self.patch_embed4 = nn.Linear(config.width, config.width)
        self.blocks1 = nn.ModuleList(ConvBlock(first, config.mlp_ratio) for _ in range(config.stem_depths[0]))
        self.blocks2 = nn.ModuleList(ConvBlock(second, config.mlp_ratio) for _ in range(config.stem_depths[1]))
        self.blocks3 = nn.ModuleList(Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth))

    def embed(self, images: Tensor) -> Tensor:
        """See `Backbone`."""
        grid = self.patch_embed1(images)
        for block in self.blocks1:
            grid = block(grid)
        grid = self.patch_embed2(grid)
        for block in self.blocks2:
            grid = block(grid)
        tokens: Tensor = self.patch_embed4(to_tokens(self.patch_embed3(grid)))
        return tokens

    def stages(self) -> nn.ModuleList:
        """See `Backbone`."""
        return self.blocks3
