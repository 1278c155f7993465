"""The network of the tracker `tiny`: plain convolutions, attention to remembered cells, and a head without anchors.

A window of the present frame is compared with what is remembered of the object in three ways: every cell of the window
attends to the remembered cells, whose values tell where in the object's box they lay (a learned Hough vote: Leibe et al.,
"Robust object detection with interleaved categorization and segmentation", IJCV 2008); its greatest likeness to cells
inside and outside the box; and a depthwise correlation with the middle of the first picture, as in Li et al.,
"SiamRPN++", CVPR 2019. The head gives for every cell whether it is the object's centre, whether it belongs to the object,
and the distances to the sides of the box, as in Tian et al., "FCOS", ICCV 2019. Trained by `training/boxes.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)

STRIDE = 8
"""Pixels of a crop per cell, each way."""

TEMPLATE = 88
"""Side of the crops that are remembered, pixels. Searched crops may have any side that is a multiple of the stride."""

OBJECT = 48.0
"""The square root of the object's area in either crop, pixels."""


@dataclass(frozen=True)
class TinyConfig:
    """channels: of the features; raising them makes the network slower and surer. stem: of the finer level before. key, value, correlation: channels of the
    three comparisons. kernel: cells of the first picture that are correlated, each way, odd.
    """

    channels: int = 64
    stem: int = 32
    key: int = 48
    value: int = 16
    correlation: int = 48
    kernel: int = 7


class Memory(NamedTuple):
    """What is remembered of n objects: keys (n, key, m) of unit length, values (n, 3 + value, m), inside (n, m) share of
    the cell within the box, recent (n, m) 1 for cells of later pictures than the first."""

    keys: Tensor
    values: Tensor
    inside: Tensor
    recent: Tensor


class Answer(NamedTuple):
    """centre, body: logits (n, h, w); sides: distances (n, 4, h, w) left, top, right, bottom in pixels, positive."""

    centre: Tensor
    body: Tensor
    sides: Tensor


def convolution(inside: int, outside: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


class Residual(nn.Module):
    """Two convolutions beside what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


class TinyMatcher(nn.Module):
    """See the module. Crops are uint8 or float tensors (n, 3, side, side), RGB, 0..255."""

    def __init__(self, config: TinyConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TinyConfig()
        c = config.channels
        self.stem = nn.Sequential(convolution(3, config.stem, 4, 7), convolution(config.stem, config.stem))
        self.trunk = nn.Sequential(convolution(config.stem, c, 2), Residual(c), Residual(c))
        self.key = nn.Conv2d(c, config.key, 1)
        self.value = nn.Conv2d(c, config.value, 1)
        self.template_part = nn.Conv2d(c, config.correlation, 1)
        self.search_part = nn.Conv2d(c, config.correlation, 1)
        self.own = nn.Conv2d(c, c // 2, 1)
        self.sharpness = nn.Parameter(torch.tensor(2.5))
        self.recency = nn.Parameter(torch.tensor(0.0))
        self.correlation_norm = nn.BatchNorm2d(config.correlation)
        joined = c // 2 + config.correlation + 3 + config.value + 2
        self.mix = convolution(joined, c, kernel=1)
        self.head = nn.Sequential(convolution(c, c), Residual(c))
        self.out = nn.Conv2d(c, 6, 3, padding=1)
        nn.init.normal_(self.out.weight, 0, 0.01)
        assert self.out.bias is not None
        with torch.no_grad():
            self.out.bias.copy_(torch.tensor([-3.5, -1.5, 0.0, 0.0, 0.0, 0.0]))

    def features(self, crops: Tensor) -> Tensor:
        """Features (n, channels, side / 8, side / 8) of crops."""
        features: Tensor = self.trunk(self.stem(crops.to(self.out.weight.dtype) / 64.0 - 2.0))
        return features

    def remember(self, features: Tensor, boxes: Tensor, recent: bool) -> Memory:
        """features: of template crops. boxes: (n, 4) x1, y1, x2, y2 of the objects in the crops, pixels."""
        _, _, h, w = features.shape
        across, inside_x = _along(boxes[:, 0], boxes[:, 2], w)
        down, inside_y = _along(boxes[:, 1], boxes[:, 3], h)
        inside = inside_y[:, :, None] * inside_x[:, None, :]
        place = torch.stack((inside, across[:, None, :] * inside, down[:, :, None] * inside), 1)
        values = torch.cat((place, self.value(features)), 1).flatten(2)
        keys = functional.normalize(self.key(features).flatten(2), dim=1)
        return Memory(keys, values, inside.flatten(1), torch.full_like(inside.flatten(1), float(recent)))

    def kernels(self, features: Tensor) -> Tensor:
        """The middle of the first picture (n, correlation, kernel, kernel), from the features of its crop."""
        part: Tensor = self.template_part(features)
        top, left = (part.shape[2] - self.config.kernel) // 2, (part.shape[3] - self.config.kernel) // 2
        return part[:, :, top : top + self.config.kernel, left : left + self.config.kernel]

    def find(self, features: Tensor, memory: Memory, kernels: Tensor) -> Answer:
        """features: (n, channels, h, w) of search crops."""
        n, _, h, w = features.shape
        keys = functional.normalize(self.key(features).flatten(2), dim=1)
        likeness = keys.transpose(1, 2) @ memory.keys
        weight = torch.softmax(likeness * self.sharpness.exp() + memory.recent[:, None] * self.recency, -1)
        read = (weight @ memory.values.transpose(1, 2)).transpose(1, 2).reshape(n, -1, h, w)
        outside = 2.0 * (memory.inside < 0.5)[:, None].to(likeness.dtype)
        within = 2.0 * (memory.inside > 0.3)[:, None].to(likeness.dtype)
        best = torch.stack(((likeness - outside).amax(-1), (likeness - within).amax(-1)), 1).reshape(n, 2, h, w)
        part = self.search_part(features)
        size = self.config.kernel
        wide = part.reshape(1, -1, h, w)
        correlated = functional.conv2d(
            wide, kernels.reshape(-1, 1, size, size), padding=size // 2, groups=wide.shape[1]
        )
        correlated = self.correlation_norm(correlated.reshape(part.shape))
        joined = torch.cat((self.own(features), correlated, read, best), 1)
        out = self.out(self.head(self.mix(joined)))
        return Answer(out[:, 0], out[:, 1], functional.softplus(out[:, 2:] + 1.5) * 16.0)


def join(first: Memory, later: Memory) -> Memory:
    """Both memories as one."""
    return Memory(*(torch.cat(pair, -1) for pair in zip(first, later, strict=True)))


def _along(low: Tensor, high: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """For boxes low..high (n,) along one axis: where the middles of the cells lie in the box (-1..1 from side to side),
    and what share of every cell does: (n, cells) each."""
    middle = torch.arange(cells, device=low.device, dtype=low.dtype) * STRIDE + STRIDE / 2
    low, high = low[:, None], high[:, None]
    extent = (high - low).clamp(min=STRIDE)
    place = (middle - (low + high) / 2) / extent * 2
    covered = torch.minimum(high, middle + STRIDE / 2) - torch.maximum(low, middle - STRIDE / 2)
    return place, (covered / STRIDE).clamp(0, 1)


def fused(network: Network) -> Network:
    """The same network with every batch norm that follows a convolution taken into it: a fifth faster. For inference."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for name, (first, second) in enumerate(itertools.pairwise(list(module))):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    module[name] = fuse_conv_bn_eval(first, second)
                    module[name + 1] = nn.Identity()
    return network
