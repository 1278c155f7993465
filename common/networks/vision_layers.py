"""Small layers that the networks for boxes share: crops to tensors, attention, frozen normalisation, multilayer heads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def to_input(crops: NDArray[np.uint8], device: torch.device, dtype: torch.dtype) -> Tensor:
    """RGB crops uint8 (n, s, s, 3) -> (n, 3, s, s), normalised by ImageNet's mean and deviation."""
    pixels = torch.from_numpy(np.ascontiguousarray(crops)).to(device).permute(0, 3, 1, 2).float() / 255.0
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    deviation = torch.tensor(DEVIATION, device=device).view(1, 3, 1, 1)
    return ((pixels - mean) / deviation).to(dtype).contiguous()


def pieces(count: int, device: torch.device) -> list[slice]:
    """Which of so many objects go through a network together: on a GPU all of them. A CPU is busy with two, and with more
    intermediate results leave its cache: 20 at once took up to 1.4 times as long for each.

    >>> pieces(5, torch.device("cpu")), pieces(5, torch.device("cuda")), pieces(0, torch.device("cpu"))
    ([slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)], [slice(0, 5, None)], [])
    """
    most = 2 if device.type == "cpu" else max(1, count)
    return [slice(begin, min(begin + most, count)) for begin in range(0, count, most)]


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(n, length, width) -> (n, heads, length, width / heads)."""
    n, length, width = tokens.shape
    return tokens.view(n, length, heads, width // heads).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor:
    """Softmax attention of split heads -> (n, length of query, width). scale: of the products, head width^-0.5 when None."""
    mixed = F.scaled_dot_product_attention(query, key, value, scale=scale)
    n, heads, length, width = mixed.shape
    return mixed.transpose(1, 2).reshape(n, length, heads * width)


def to_tokens(grid: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, h * w, c), row-major."""
    return grid.flatten(2).transpose(1, 2)


def to_grid(tokens: Tensor, side: int) -> Tensor:
    """(n, side * side, c) -> (n, c, side, side)."""
    n, _, width = tokens.shape
    return tokens.transpose(1, 2).reshape(n, width, side, side)


def channel_norm(norm: nn.LayerNorm, grid: Tensor) -> Tensor:
    """Layer normalisation over the channels of (n, c, h, w)."""
    normed: Tensor = norm(grid.permute(0, 2, 3, 1))
    return normed.permute(0, 3, 1, 2)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation by stored statistics that never change: four buffers, nothing to train."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("bias", torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, grid: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return grid * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


class Perceptron(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., first width) -> (..., last width)."""
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens) if number == len(self.layers) - 1 else F.relu(layer(tokens))
        return tokens


def sine_table(width: int, side: int) -> Tensor:
    """Fixed 2-D sine/cosine position table (1, side * side, width) of masked autoencoders.

    The first half of the width is for the column, the second for the row; each half is [sines | cosines]. Computed in
    double precision and rounded, as the published tables are. Source: He et al., "Masked autoencoders are scalable vision
    learners", CVPR 2022.
    """
    rate = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width / 4))
    angle = np.arange(side, dtype=np.float64)[:, None] * rate
    line = np.concatenate((np.sin(angle), np.cos(angle)), 1)
    row, column = np.divmod(np.arange(side * side), side)
    table = np.concatenate((line[column], line[row]), 1)
    return torch.from_numpy(table.astype(np.float32))[None]
