"""From search tokens to a box and a score."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.vision_layers import FrozenBatchNorm, Perceptron, attend, split_heads, to_tokens

_CORNERS = ("tl", "br")


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), FrozenBatchNorm(outputs), nn.ReLU())


def _up(grid: Tensor, factor: int) -> Tensor:
    return F.interpolate(grid, scale_factor=float(factor), mode="nearest")


class CornerHead(nn.Module):
    """Top-left and bottom-right corner as expectations over two maps of four times the token grid."""

    def __init__(self, inputs: int, width: int = 384) -> None:
        super().__init__()
        for corner in _CORNERS:
            parts = {
                "conv1": _conv(inputs, width),
                "conv2": _conv(width, width // 2),
                "conv3": _conv(width // 2, width // 4),
                "conv4": _conv(width // 4, width // 8),
                "conv5": nn.Conv2d(width // 8, 1, 1),
                "adjust1": _conv(inputs, width // 2),
                "adjust2": _conv(inputs, width // 4),
                "adjust3": nn.Sequential(
                    _conv(width // 2, width // 4), _conv(width // 4, width // 8), _conv(width // 8, 1)
                ),
                "adjust4": nn.Sequential(_conv(width // 4, width // 8), _conv(width // 8, 1)),
            }
            for name, part in parts.items():
                self.add_module(f"{name}_{corner}", part)

    def score_map(self, grid: Tensor, corner: str) -> Tensor:
        """(n, c, g, g) -> unnormalised map (n, 1, 4 g, 4 g) of one corner, "tl" or "br"."""

        def part(name: str, x: Tensor) -> Tensor:
            done: Tensor = self.get_submodule(f"{name}_{corner}")(x)
            return done

        half = part("conv2", part("conv1", grid))
        quarter = part("conv3", _up(part("adjust1", grid), 2) + _up(half, 2))
        eighth = part("conv4", _up(part("adjust2", grid), 4) + _up(quarter, 2))
        return part("conv5", eighth) + _up(part("adjust3", half), 4) + _up(part("adjust4", quarter), 2)

    def forward(self, grid: Tensor) -> Tensor:
        """(n, c, g, g) -> corners x1, y1, x2, y2 (n, 4), 0..1 of the search region; x1 > x2 is possible."""
        return torch.cat([_expectation(self.score_map(grid, corner)) for corner in _CORNERS], 1)


def _expectation(scores: Tensor) -> Tensor:
    """Expected x and y (n, 2), 0..1, of a map (n, 1, s, s)."""
    side = scores.shape[-1]
    chance = scores.flatten(1).float().softmax(1).view(-1, side, side)
    place = torch.arange(side, device=scores.device, dtype=chance.dtype) / side
    return torch.stack(((chance.sum(1) * place).sum(1), (chance.sum(2) * place).sum(1)), 1)


def region_pool(grid: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """Precise RoI pooling: the mean of the bilinearly interpolated map, zero outside, over each of bins x bins cells.

    grid: (n, c, h, w). boxes: (n, 4) x1, y1, x2, y2 in grid cells, one per map. Returns (n, c, bins, bins), zeros for boxes
    without area. The integral separates into one matrix per axis. Source: Jiang et al., "Acquisition of localization
    confidence for accurate object detection", ECCV 2018.
    """
    low, high = boxes[:, :2].float(), boxes[:, 2:].float()
    extent = (high - low).clamp(min=0)
    across = _bin_weights(low[:, 0], extent[:, 0], grid.shape[3], bins)
    down = _bin_weights(low[:, 1], extent[:, 1], grid.shape[2], bins)
    area = (extent[:, 0] * extent[:, 1]).view(-1, 1, 1, 1) / bins**2
    total = torch.einsum("nih,nchw,njw->ncij", down, grid.float(), across)
    return torch.where(area > 0, total / area.clamp(min=torch.finfo(torch.float32).tiny), 0.0).to(grid.dtype)


def _bin_weights(start: Tensor, extent: Tensor, cells: int, bins: int) -> Tensor:
    """Integral (n, bins, cells) over each bin of the hat function about each cell."""
    edges = start[:, None] + extent[:, None] / bins * torch.arange(bins + 1, device=start.device)
    offset = edges[:, :, None] - torch.arange(cells, device=start.device)
    left, right = (offset + 1).clamp(0, 1), (1 - offset).clamp(0, 1)
    integral = torch.where(offset <= 0, left**2 / 2, 1 - right**2 / 2)
    return integral[:, 1:] - integral[:, :-1]


class ScoreBranch(nn.Module):
    """How well the found box shows the object of the first template: a token that looks at both."""

    def __init__(self, width: int, bins: int = 4) -> None:
        super().__init__()
        self.heads, self.bins, self.scale = width // 64, bins, width**-0.5
        self.score_token = nn.Parameter(torch.zeros(1, 1, width))
        self.score_head = Perceptron((width, width, width, 1))
        self.proj_q = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.proj_k = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.proj_v = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.proj = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, grid: Tensor, template: Tensor, boxes: Tensor) -> Tensor:
        """grid: (n, c, g, g) search map. template: (n, tokens, c) of the first template. boxes: (n, 4) x1, y1, x2, y2 in
        0..1 of the search region. Returns logits (n,).
        """
        found = to_tokens(region_pool(grid, boxes * grid.shape[-1], self.bins))
        token = self.norm1(self.score_token.expand(len(grid), -1, -1))
        for number, memory in enumerate((found, template)):
            query, key, value = (
                split_heads(projection[number](tokens), self.heads)
                for projection, tokens in ((self.proj_q, token), (self.proj_k, memory), (self.proj_v, memory))
            )
            token = self.norm2[number](self.proj[number](attend(query, key, value, self.scale)))
        logits: Tensor = self.score_head(token)[:, 0, 0]
        return logits


class EdgeHead(nn.Module):
    """MixFormerV2's box: each of four tokens becomes a distribution over the positions of one edge."""

    def __init__(self, width: int, bins: int = 96) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            (
                nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU()),
                nn.Sequential(nn.Linear(width, bins), nn.LayerNorm(bins)),
            )
        )

    def chances(self, tokens: Tensor) -> Tensor:
        """Tokens (n, 4, width) of left, right, top, bottom -> chance (n, 4, bins) of each position."""
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.float().softmax(-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """-> left, top, right, bottom (n, 4), 0..1 of the search region."""
        chance = self.chances(tokens)
        place = torch.arange(chance.shape[-1], device=chance.device, dtype=chance.dtype) / chance.shape[-1]
        left, right, top, bottom = (chance * place).sum(-1).unbind(1)
        return torch.stack((left, top, right, bottom), 1)


class TokenScore(nn.Module):
    """MixFormerV2's score: the mean over the four tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((nn.Sequential(nn.Linear(width, width), nn.ReLU()), nn.Linear(width, 1)))

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, 4, width) -> logits (n,)."""
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.mean((1, 2))
