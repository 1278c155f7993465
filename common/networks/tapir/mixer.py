"""TAPIR's refinement network: an MLP-mixer whose mixing over time is depthwise convolutions, centred or causal.

The causal one can go on where it stopped: its state is the last two inputs of every convolution over time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL = 3
WIDENING = 4

Context = tuple[Tensor, Tensor]
"""State of one causal mixer for n points: last inputs of the first and of the second convolution of its blocks,
(n, blocks, 2, width) and (n, blocks, 2, 4 * width)."""


def _over_time(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """Depthwise convolution without padding of x (n, t + 2, channels) -> (n, t, outputs), written as three products:
    for one or a few frames far cheaper than the general convolution, which wants time last."""
    weight = conv.weight[:, 0]
    x = x.repeat_interleave(conv.out_channels // conv.in_channels, -1)
    t = x.shape[1] - KERNEL + 1
    total = x[:, :t] * weight[:, 0]
    for step in range(1, KERNEL):
        total = total + x[:, step : step + t] * weight[:, step]
    assert conv.bias is not None
    return total + conv.bias


class ChannelMixer(nn.Module):
    """Two-layer perceptron over channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp2_up = nn.Linear(width, width * WIDENING)
        self.mlp2_down = nn.Linear(width * WIDENING, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mlp2_down(F.gelu(self.mlp2_up(x), approximate="tanh"))
        return y


class Block(nn.Module):
    """Mixes over time, then over channels, both residual."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width, bias=False)
        self.mlp1_up = nn.Conv1d(width, width * WIDENING, KERNEL, groups=width)
        self.mlp1_up_1 = nn.Conv1d(width * WIDENING, width * WIDENING, KERNEL, groups=width * WIDENING)
        self.layer_norm_1 = nn.LayerNorm(width, bias=False)
        self.conv_channels_mixer = ChannelMixer(width)
        self._padding = (0, 0, KERNEL - 1, 0) if causal else (0, 0, 1, 1)

    def forward(self, x: Tensor, before: Context | None) -> tuple[Tensor, Context]:
        """x: (n, t, width). before: the block's last inputs (n, 2, width) and (n, 2, 4 * width), of a causal block."""
        y = self._widen(self.layer_norm(x), None if before is None else before[0])
        first = y[:, -(KERNEL - 1) :]
        y = F.gelu(_over_time(y, self.mlp1_up), approximate="tanh")
        y = self._widen(y, None if before is None else before[1])
        second = y[:, -(KERNEL - 1) :]
        y = _over_time(y, self.mlp1_up_1)
        x = x + y.reshape(*x.shape, WIDENING).sum(-1)
        return x + self.conv_channels_mixer(self.layer_norm_1(x)), (first, second)

    def _widen(self, x: Tensor, before: Tensor | None) -> Tensor:
        return F.pad(x, self._padding) if before is None else torch.cat([before, x], 1)


class Mixer(nn.Module):
    """(n, t, inputs) -> (n, t, outputs)."""

    def __init__(self, inputs: int, outputs: int, causal: bool, blocks: int = 12, width: int = 512) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)
        self.layer_norm = nn.LayerNorm(width, bias=False)
        self.linear_1 = nn.Linear(width, outputs)
        self.blocks = nn.ModuleList([Block(width, causal) for _ in range(blocks)])

    def forward(self, x: Tensor, context: Context | None) -> tuple[Tensor, Context]:
        """context: what the causal mixer knows of earlier frames; None = nothing. Returns the output and the context
        to go on with."""
        x = self.linear(x)
        first, second = [], []
        for number, block in enumerate(self.blocks):
            before = None if context is None else (context[0][:, number], context[1][:, number])
            x, (a, b) = block(x, before)
            first.append(a)
            second.append(b)
        y: Tensor = self.linear_1(self.layer_norm(x))
        return y, (torch.stack(first, 1), torch.stack(second, 1))

    def empty(self, points: int) -> Context:
        """The context of points that have no past."""
        width, blocks, like = self.linear.out_features, len(self.blocks), self.linear.weight
        shape = (points, blocks, KERNEL - 1)
        return like.new_zeros(*shape, width), like.new_zeros(*shape, width * WIDENING)
