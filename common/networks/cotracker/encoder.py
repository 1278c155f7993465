"""The image encoder that CoTracker and PIPs share: a residual network whose four scales are joined at one stride.

Karaev et al., "CoTracker", https://arxiv.org/abs/2307.07635; after Teed & Deng, "RAFT", ECCV 2020. All norms are instance norms
without parameters, so every frame is encoded on its own, however frames are grouped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 128
"""Of the features in the published networks."""
WIDTHS = (64, 96, 128, 128)
"""Channels of the four scales in the published networks."""


class Residual(nn.Module):
    """Two 3x3 convolutions with norm and ReLU, added to the input (projected where the stride changes)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.instance_norm(self.conv1(x)))
        y = F.relu(F.instance_norm(self.conv2(y)))
        if self.downsample is not None:
            x = F.instance_norm(self.downsample(x))
        return F.relu(x + y)


def _pair(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Residual(inputs, outputs, stride), Residual(outputs, outputs, 1))


class Encoder(nn.Module):
    """frames (t, 3, h, w) in -1..1 -> features (t, channels, h // stride, w // stride)."""

    def __init__(self, stride: int, channels: int = CHANNELS, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.stride = stride
        first, second, third, fourth = widths
        self.conv1 = nn.Conv2d(3, first, 7, 2, 3)
        self.layer1 = _pair(first, first, 1)
        self.layer2 = _pair(first, second, 2)
        self.layer3 = _pair(second, third, 2)
        self.layer4 = _pair(third, fourth, 2)
        self.conv2 = nn.Conv2d(sum(widths), 2 * channels, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        size = frames.shape[-2] // self.stride, frames.shape[-1] // self.stride
        x = F.relu(F.instance_norm(self.conv1(frames)))
        scales = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            scales.append(F.interpolate(x, size, mode="bilinear", align_corners=True))
        x = F.relu(F.instance_norm(self.conv2(torch.cat(scales, 1))))
        features: Tensor = self.conv3(x)
        return features
