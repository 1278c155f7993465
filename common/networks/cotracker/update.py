"""CoTracker's transformer: tokens attend over time, and to each other through a few virtual tracks.

The names of the layers, misspelt one included, are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention of x (b, n, width) to context (b, m, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(width, 2 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        key, value = self.to_kv(context).chunk(2, -1)
        query, key, value = (self._split(part) for part in (self.to_q(x), key, value))
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(found)
        return out

    def _split(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        return x.view(b, n, self.heads, width // self.heads).transpose(1, 2)


class Perceptron(nn.Module):
    """Two layers with a GELU between, exact or by tanh."""

    def __init__(self, inputs: int, hidden: int, outputs: int, approximate: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)
        self._approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x), approximate=self._approximate))
        return y


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


class SelfBlock(nn.Module):
    """Attention among the tokens of a group, then a perceptron, both residual and after a norm without parameters."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = Perceptron(width, 4 * width, width, "tanh")

    def forward(self, x: Tensor) -> Tensor:
        y = _normed(x)
        x = x + self.attn(y, y)
        result: Tensor = x + self.mlp(_normed(x))
        return result


class CrossBlock(nn.Module):
    """The same with attention to other tokens, whose norm has parameters."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_context = nn.LayerNorm(width)
        self.cross_attn = Attention(width, heads)
        self.mlp = Perceptron(width, 4 * width, width, "tanh")

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.cross_attn(_normed(x), self.norm_context(context))
        result: Tensor = x + self.mlp(_normed(x))
        return result


class UpdateFormer(nn.Module):
    """tokens (n, t, inputs) -> updates (n, t, 4): dx, dy in cells, and of the logits of visibility and confidence."""

    def __init__(self, inputs: int, width: int = 384, heads: int = 8, depth: int = 3, virtual: int = 64) -> None:
        super().__init__()
        self.input_transform = nn.Linear(inputs, width)
        self.virual_tracks = nn.Parameter(torch.zeros(1, virtual, 1, width))
        self.time_blocks = nn.ModuleList([SelfBlock(width, heads) for _ in range(depth)])
        self.space_virtual_blocks = nn.ModuleList([SelfBlock(width, heads) for _ in range(depth)])
        self.space_point2virtual_blocks = nn.ModuleList([CrossBlock(width, heads) for _ in range(depth)])
        self.space_virtual2point_blocks = nn.ModuleList([CrossBlock(width, heads) for _ in range(depth)])
        self.flow_head = nn.Linear(width, 2)
        self.vis_conf_head = nn.Linear(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        n, t, _ = tokens.shape
        virtual = self.virual_tracks[0].expand(-1, t, -1)
        x = torch.cat([self.input_transform(tokens), virtual], 0)
        for over_time, listen, among, tell in zip(
            self.time_blocks,
            self.space_virtual2point_blocks,
            self.space_virtual_blocks,
            self.space_point2virtual_blocks,
            strict=True,
        ):
            x = over_time(x).transpose(0, 1)
            points, virtual = x[:, :n], x[:, n:]
            virtual = among(listen(virtual, points))
            points = tell(points, virtual)
            x = torch.cat([points, virtual], 1).transpose(0, 1)
        x = x[:n]
        return torch.cat([self.flow_head(x), self.vis_conf_head(x)], -1)
