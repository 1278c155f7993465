"""The whole network: templates once, then one search region per object and frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.networks.mixformer.backbones import Backbone, ConvBackbone, PlainBackbone, TokenBackbone
from common.networks.mixformer.blocks import Kept
from common.networks.mixformer.config import MixFormerConfig
from common.networks.mixformer.heads import CornerHead, EdgeHead, ScoreBranch, TokenScore
from common.networks.vision_layers import to_grid

CONSTANTS = ("backbone.pos_embed_s", "backbone.pos_embed_t")
"""Fixed tables among the parameters."""

UNUSED = (
    "backbone.cls_token",
    "backbone.pos_embed",
    "backbone.norm.weight",
    "backbone.norm.bias",
    "backbone.head.weight",
    "backbone.head.bias",
)
"""Tensors of published checkpoints that no forward pass reads."""


class Templates(NamedTuple):
    """What the search needs of the templates of n objects.

    kept: keys and values per block. first: tokens of the first template (n, tokens, width).
    """

    kept: list[Kept]
    first: Tensor

    def part(self, which: slice) -> Templates:
        """Those of some of the objects."""
        return Templates([(key[which], value[which]) for key, value in self.kept], self.first[which])


class MixFormer(nn.Module):
    """Any of the published variants; objects are the batch."""

    def __init__(self, config: MixFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone
        if config.kind == "v2":
            self.backbone = TokenBackbone(config)
            self.box_head: nn.Module = EdgeHead(config.width)
            self.score_head = TokenScore(config.width)
        else:
            self.backbone = ConvBackbone(config) if config.kind == "convmae" else PlainBackbone(config)
            self.box_head = CornerHead(config.width, config.head)
            self.score_branch = ScoreBranch(config.width)

    def templates(self, images: Tensor) -> Templates:
        """images: (n, k, 3, template_size, template_size), normalised; the object's first template first, k >= 1."""
        return Templates(*self.backbone.templates(images))

    def search(self, images: Tensor, templates: Templates) -> tuple[Tensor, Tensor]:
        """images: (n, 3, search_size, search_size), normalised.

        Returns boxes float32 (n, 4) centre x, centre y, width, height in 0..1 of the search region - width and height may
        be negative - and logits float32 (n,) of the score.
        """
        tokens = self.backbone.search(images, templates.kept)
        if self.config.kind == "v2":
            edges = tokens[:, -4:]
            corners, logits = self.box_head(edges), self.score_head(edges)
        else:
            grid = to_grid(tokens, self.config.search_grid)
            corners = self.box_head(grid)
            logits = self.score_branch(grid, templates.first, corners)
        low, high = corners.float().chunk(2, 1)
        return torch.cat(((low + high) / 2, high - low), 1), logits.float()
