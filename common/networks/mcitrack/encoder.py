"""Fast-iTPN over search region and templates: two convolutional stages, then attention over all tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.mcitrack.config import MCITrackConfig
from common.networks.vision_layers import attend, channel_norm, split_heads, to_tokens

_RATIO = 3
_EPS = 1e-6


class PatchEmbed(nn.Module):
    """4 x 4 patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, width, s / 4, s / 4)."""
        grid: Tensor = self.proj(images)
        return grid


class ConvMlp(nn.Module):
    """1 x 1 convolutions with normalisation inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, _RATIO * width, 1)
        self.ffn_ln = nn.LayerNorm(_RATIO * width, eps=_EPS)
        self.fc2 = nn.Conv2d(_RATIO * width, width, 1)

    def forward(self, grid: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        out: Tensor = self.fc2(channel_norm(self.ffn_ln, F.gelu(self.fc1(grid))))
        return out


class ConvBlock(nn.Module):
    """Block of the convolutional stages: no attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = ConvMlp(width)

    def forward(self, grid: Tensor) -> Tensor:
        """(n, width, h, w) -> the same shape."""
        out: Tensor = grid + self.mlp(channel_norm(self.norm2, grid))
        return out


class Merge(nn.Module):
    """Halves the grid and doubles the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.reduction = nn.Conv2d(width, 2 * width, 2, 2)

    def forward(self, grid: Tensor) -> Tensor:
        """(n, width, h, w) -> (n, 2 width, h / 2, w / 2)."""
        out: Tensor = self.reduction(channel_norm(self.norm, grid))
        return out


class Attention(nn.Module):
    """Self-attention whose keys have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length, width) -> the same shape."""
        query = F.linear(tokens, self.q_proj.weight, self.q_bias)
        value = F.linear(tokens, self.v_proj.weight, self.v_bias)
        query, key, value = (split_heads(x, self.heads) for x in (query, self.k_proj(tokens), value))
        out: Tensor = self.proj(attend(query, key, value))
        return out


class GatedMlp(nn.Module):
    """Two linear layers in parallel, one as the gate of the other, and normalisation before the third."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, _RATIO * width)
        self.w2 = nn.Linear(width, _RATIO * width)
        self.ffn_ln = nn.LayerNorm(_RATIO * width, eps=_EPS)
        self.w3 = nn.Linear(_RATIO * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length, width) -> the same shape."""
        out: Tensor = self.w3(self.ffn_ln(F.silu(self.w1(tokens)) * self.w2(tokens)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block with learned scales on both residuals."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.ones(width))
        self.gamma_2 = nn.Parameter(torch.ones(width))
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = GatedMlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, length, width) -> the same shape."""
        tokens = tokens + self.gamma_1 * self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.gamma_2 * self.mlp(self.norm2(tokens))
        return out


class Body(nn.Module):
    """The encoder's parts; the neck drives its attention blocks round by round."""

    def __init__(self, config: MCITrackConfig) -> None:
        super().__init__()
        self.config = config
        width, (first, second, main) = config.width, config.depths
        tokens = config.search_grid**2 + config.template_grid**2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.template_background_token = nn.Parameter(torch.zeros(width))
        self.template_foreground_token = nn.Parameter(torch.zeros(width))
        self.search_token = nn.Parameter(torch.zeros(width))
        self.patch_embed = PatchEmbed(width // 4)
        self.blocks = nn.ModuleList(
            (
                *(ConvBlock(width // 4) for _ in range(first)),
                Merge(width // 4),
                *(ConvBlock(width // 2) for _ in range(second)),
                Merge(width // 2),
                *(Block(width, config.heads) for _ in range(main)),
            )
        )
        self.fc_norm = nn.LayerNorm(width, eps=_EPS)

    def embed(self, images: Tensor) -> Tensor:
        """Images (n, 3, s, s) through the convolutional stages -> tokens (n, (s / 16)^2, width)."""
        grid = self.patch_embed(images)
        for block in self.blocks[: self.config.stem]:
            grid = block(grid)
        return to_tokens(grid)

    def templates(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Crops (n, 3, template_size, template_size) and the objects' boxes in them (n, 4) x, y, width, height in 0..1 ->
        tokens (n, tokens, width) that depend on nothing else.
        """
        inside = _inside(boxes.float(), self.config.template_size, 16).unsqueeze(-1).to(images.dtype)
        token = inside * self.template_foreground_token + (1 - inside) * self.template_background_token
        return self.embed(images) + self.pos_embed[:, self.config.search_grid**2 :] + token

    def search(self, images: Tensor) -> Tensor:
        """Crops (n, 3, search_size, search_size) -> tokens (n, tokens, width)."""
        return self.embed(images) + self.pos_embed[:, : self.config.search_grid**2] + self.search_token


def _inside(boxes: Tensor, size: int, patch: int) -> Tensor:
    """Share (n, patches) of each patch's pixels that lie inside the boxes; pixel i does when start <= i < start + extent."""
    pixel = torch.arange(size, device=boxes.device, dtype=boxes.dtype)
    start, extent = (boxes * size).chunk(2, 1)
    within = (pixel >= start[..., None]) & (pixel < (start + extent)[..., None])
    share = within.to(boxes.dtype).view(len(boxes), 2, -1, patch).mean(3)
    grid: Tensor = share[:, 1, :, None] * share[:, 0, None, :]
    return grid.flatten(1)


class Encoder(nn.Module):
    """Holds the body under the checkpoint's name."""

    def __init__(self, config: MCITrackConfig) -> None:
        super().__init__()
        self.body = Body(config)
