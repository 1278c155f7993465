"""OSNet, by its official parameter names: omni-scale features for telling people apart.

Source: Zhou, Yang, Cavallaro and Xiang 2019, "Omni-Scale Feature Learning for Person Re-Identification", arXiv:1905.00953.
A block looks at its input in four streams that see ever further (one to four light 3 x 3 convolutions); a gate, shared by
the streams, weighs their channels before they are added.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = {
    "osnet_x1_0": (64, 256, 384, 512),
    "osnet_x0_75": (48, 192, 288, 384),
    "osnet_x0_5": (32, 128, 192, 256),
    "osnet_x0_25": (16, 64, 96, 128),
}
"""Channels after the stem and after each stage."""

FEATURES = 512
INPUT = (256, 128)
"""Height and width of what the networks were trained on."""


class _Conv(nn.Module):
    """Convolution, batch norm, and ReLU unless `linear`."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, linear: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self._linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x if self._linear else torch.relu(x)


class _Light(nn.Module):
    """3 x 3 convolution taken apart: across channels, then in space."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv2(self.conv1(x))))


class _Gate(nn.Module):
    """How much each channel of a stream counts, 0..1, from its mean over the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))
        return x * weight


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = _Conv(inputs, middle, 1)
        self.conv2a = _Light(middle)
        self.conv2b = nn.Sequential(*(_Light(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(_Light(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(_Light(middle) for _ in range(4)))
        self.gate = _Gate(middle)
        self.conv3 = _Conv(middle, outputs, 1, linear=True)
        self.downsample = _Conv(inputs, outputs, 1, linear=True) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        streams = [self.gate(stream(y)) for stream in (self.conv2a, self.conv2b, self.conv2c, self.conv2d)]
        y = self.conv3(streams[0] + streams[1] + streams[2] + streams[3])
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class OsNet(nn.Module):
    """float32 (n, 3, 256, 128), RGB normalised by ImageNet's mean and deviation -> features float32 (n, 512)."""

    def __init__(self, name: str = "osnet_x1_0") -> None:
        super().__init__()
        stem, first, second, third = WIDTHS[name]
        self.conv1 = _Conv(3, stem, 7, stride=2)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.conv2 = self._stage(stem, first, reduce=True)
        self.conv3 = self._stage(first, second, reduce=True)
        self.conv4 = self._stage(second, third, reduce=False)
        self.conv5 = _Conv(third, third, 1)
        self.fc = nn.Sequential(nn.Linear(third, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())

    @staticmethod
    def _stage(inputs: int, outputs: int, reduce: bool) -> nn.Sequential:
        blocks: list[nn.Module] = [_Block(inputs, outputs), _Block(outputs, outputs)]
        if reduce:
            blocks.append(nn.Sequential(_Conv(outputs, outputs, 1), nn.AvgPool2d(2, 2)))
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.conv4(self.conv3(self.conv2(x))))
        features: Tensor = self.fc(x.mean((2, 3)))
        return features
