"""The recurrence in time of TAPNext: a Griffin block with a real-gated linear recurrent unit, one frame at a time.

De et al., "Griffin: Mixing Gated Linear Recurrences with Local Attention", 2024, https://arxiv.org/abs/2402.19427.
Here n tokens (patches of the picture and points) each have a state of fixed size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXT = 3
"""Earlier frames that the short convolution sees."""

State = tuple[Tensor, Tensor]
"""Of one block: recurrent state (n, width) float32, and the convolution's last inputs (n, 3, width)."""


class RMSNorm(nn.Module):
    """Scales tokens to unit root mean square, then by 1 + scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (self.scale + 1)


class BlockDiagonal(nn.Module):
    """A linear layer whose matrix is block-diagonal, one block per head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(heads, width // heads, width // heads))
        self.b = nn.Parameter(torch.zeros(heads, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        heads, side = self.b.shape
        parts = x.view(len(x), heads, side).transpose(0, 1)
        return (torch.bmm(parts, self.w) + self.b[:, None]).transpose(0, 1).flatten(1)


class LinearRecurrentUnit(nn.Module):
    """h' = a * h + sqrt(1 - a^2) * gated input, with a gate per token and channel; the very first input counts in full."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.a_param = nn.Parameter(torch.zeros(width))
        self.input_gate = BlockDiagonal(width, heads)
        self.a_gate = BlockDiagonal(width, heads)

    def forward(self, x: Tensor, before: Tensor | None) -> Tensor:
        gated = x.float() * torch.sigmoid(self.input_gate(x).float())
        if before is None:
            return gated
        log_a = -8.0 * torch.sigmoid(self.a_gate(x).float()) * F.softplus(self.a_param)
        return torch.exp(log_a) * before + gated * torch.sqrt(1 - torch.exp(2 * log_a))


class ShortConvolution(nn.Module):
    """Causal depthwise convolution over four frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(CONTEXT + 1, width))
        self.b = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        if before is None:
            before = x.new_zeros(len(x), CONTEXT, x.shape[-1])
        seen = torch.cat([before, x[:, None]], 1)
        return (seen * self.w).sum(1) + self.b, seen[:, 1:]


class Recurrent(nn.Module):
    """The recurrent branch, gated by a linear one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.linear_y = nn.Linear(width, width)
        self.linear_x = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.conv_1d = ShortConvolution(width)
        self.rg_lru = LinearRecurrentUnit(width, heads)

    def forward(self, x: Tensor, before: State | None) -> tuple[Tensor, State]:
        lru, convolved = (None, None) if before is None else before
        gate = F.gelu(self.linear_y(x), approximate="tanh")
        u, convolved = self.conv_1d(self.linear_x(x), convolved)
        lru = self.rg_lru(u, lru)
        out: Tensor = self.linear_out(lru.to(gate.dtype) * gate)
        return out, (lru, convolved)


class GatedInput(nn.Module):
    """Two linear layers of the same input, one of them the gate."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, width, hidden))
        self.b = nn.Parameter(torch.zeros(2, 1, 1, hidden))

    def forward(self, x: Tensor) -> Tensor:
        gate, value = (torch.addmm(self.b[i, 0, 0].to(x.dtype), x, self.w[i].to(x.dtype)) for i in (0, 1))
        return F.gelu(gate, approximate="tanh") * value


class GatedPerceptron(nn.Module):
    """A perceptron with a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffw_up = GatedInput(width, 4 * width)
        self.ffw_down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.ffw_down(self.ffw_up(x))
        return y


class TimeBlock(nn.Module):
    """One frame of tokens x (n, width), with what the block knows of earlier ones."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.temporal_pre_norm = RMSNorm(width)
        self.recurrent_block = Recurrent(width, heads)
        self.channel_pre_norm = RMSNorm(width)
        self.mlp_block = GatedPerceptron(width)

    def forward(self, x: Tensor, before: State | None) -> tuple[Tensor, State]:
        update, state = self.recurrent_block(self.temporal_pre_norm(x), before)
        x = x + update
        return x + self.mlp_block(self.channel_pre_norm(x)), state
