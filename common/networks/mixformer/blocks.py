"""Transformer blocks in which templates see templates only, and the search region sees everything.

So what becomes of the templates does not depend on the search region: their keys and values are computed once and kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.vision_layers import attend, channel_norm, split_heads

Kept = tuple[Tensor, Tensor]
"""Keys and values of the template tokens of one block, each (n, heads, tokens, head width)."""


class MixedAttention(nn.Module):
    """Asymmetric mixed attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, templates: Kept | None) -> tuple[Tensor, Kept]:
        """tokens: (n, length, width) of the templates (templates is None) or of the search region. Also returns the
        tokens' own keys and values.
        """
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(tokens).chunk(3, -1))
        own = key, value
        if templates is not None:
            key, value = torch.cat((templates[0], key), 2), torch.cat((templates[1], value), 2)
        mixed: Tensor = self.proj(attend(query, key, value))
        return mixed, own


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block with mixed attention."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = MixedAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, tokens: Tensor, templates: Kept | None) -> tuple[Tensor, Kept]:
        """See `MixedAttention`."""
        mixed, own = self.attn(self.norm1(tokens), templates)
        tokens = tokens + mixed
        return tokens + self.mlp(self.norm2(tokens)), own


class ConvMlp(nn.Module):
    """`Mlp` on a grid."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(grid)))
        return out


class ConvBlock(nn.Module):
    """Block of the convolutional stages: a depth-wise 5 x 5 convolution stands in for attention."""

    def __init__(self, width: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.conv1 = nn.Conv2d(width, width, 1)
        self.attn = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = ConvMlp(width, mlp_ratio * width)

    def forward(self, grid: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        grid = grid + self.conv2(self.attn(self.conv1(channel_norm(self.norm1, grid))))
        out: Tensor = grid + self.mlp(channel_norm(self.norm2, grid))
        return out
