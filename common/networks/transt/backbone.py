"""ResNet-50 up to its third stage, at stride 8, and the fixed position table."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions with a shortcut; stride and dilation sit in the 3 x 3."""

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, grid: Tensor) -> Tensor:
        """(n, inputs, h, w) -> (n, 4 width, h / stride, w / stride)."""
        shortcut = grid if self.downsample is None else self.downsample(grid)
        out = torch.relu_(self.bn1(self.conv1(grid)))
        out = torch.relu_(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += shortcut
        return torch.relu_(out)


class Body(nn.Module):
    """Stages one to three. The third keeps stride 1, and only its first block is dilated."""

    def __init__(self, width: int, depths: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, depths[0])
        self.layer2 = _stage(4 * width, 2 * width, depths[1], stride=2)
        self.layer3 = _stage(8 * width, 4 * width, depths[2], dilation=2)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, 16 width, s / 8, s / 8)."""
        grid = F.max_pool2d(torch.relu_(self.bn1(self.conv1(images))), 3, 2, 1)
        out: Tensor = self.layer3(self.layer2(self.layer1(grid)))
        return out


def _stage(inputs: int, width: int, depth: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride, dilation)
    return nn.Sequential(first, *(Bottleneck(4 * width, width) for _ in range(depth - 1)))


class Joiner(nn.Module):
    """Holds the body under the checkpoint's name."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """See `Body`."""
        grid: Tensor = self.body(images)
        return grid


def position_table(width: int, side: int) -> Tensor:
    """Fixed positions (1, side * side, width): first half for the row, second for the column; sine and cosine alternate.

    Source: Carion et al., "End-to-end object detection with transformers", ECCV 2020.
    """
    place = torch.arange(1, side + 1, dtype=torch.float32) / (side + 1e-6) * (2 * math.pi)
    number = torch.arange(width // 2, dtype=torch.float32)
    rate = 10000 ** (2 * torch.div(number, 2, rounding_mode="floor") / (width // 2))
    angle = place[:, None] / rate
    line = torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1)
    row = line[:, None].expand(-1, side, -1)
    column = line[None].expand(side, -1, -1)
    return torch.cat((row, column), 2).reshape(1, side * side, width)
