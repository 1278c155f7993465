"""The network of the tracker `tiny_points`: where in a window of the present frame is a point that is known from another one?

The same weights work on every level of a picture pyramid: a coarse level finds, a fine one refines. The point is described by
the features around it; these are correlated with every cell of the window, in groups of channels, for the point alone and
for its surroundings. A head reads these maps together with what the window shows, and how far from the expected place a
cell lies. It gives a score for every cell and the way from there to the point, as the track head of Doersch et al., "TAPIR",
ICCV 2023, and whether the point is seen and the answer exact. Trained by `training/points.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.networks.tiny.network import Residual, convolution

STRIDE = 4
"""Pixels per cell, each way."""

AROUND = 5
"""Cells of a point's surroundings that are remembered, each way, odd."""

NEAR = 3.0
"""Pixels within which an answer counts as exact."""

_REACH = 8.0
"""Pixels that a cell's way to the point may be long in each direction."""


@dataclass(frozen=True)
class PointsConfig:
    """channels: of the features. stem: of the finer level before. groups: of channels that are compared by themselves.
    head: channels of the head. shown: of the window's and of the point's own features that the head sees.
    """

    channels: int = 48
    stem: int = 24
    groups: int = 8
    head: int = 32
    shown: int = 8


class Answer(NamedTuple):
    """Of m points in windows of h x w cells. heat: (m, h, w) logits. way: (m, 2, h, w) pixels from the cell's middle to the
    point. seen, exact: (m,) logits: the point is seen; it is seen and the answer is within `NEAR` pixels of it."""

    heat: Tensor
    way: Tensor
    seen: Tensor
    exact: Tensor


class PointMatcher(nn.Module):
    """See the module. Pictures are uint8 or float tensors (n, 3, height, width), RGB, 0..255."""

    def __init__(self, config: PointsConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PointsConfig()
        c, g, s = config.channels, config.groups, config.shown
        self.stem = nn.Sequential(convolution(3, config.stem, 2, 5), convolution(config.stem, config.stem))
        self.trunk = nn.Sequential(convolution(config.stem, c, 2), Residual(c), Residual(c))
        self.key = nn.Conv2d(c, c, 1)
        self.taps = nn.Parameter(torch.zeros(g, AROUND, AROUND))
        self.show_window = nn.Conv2d(c, s, 1)
        self.show_point = nn.Linear(c, s)
        joined = 2 * g + 2 * s + 2
        self.mix = nn.Sequential(convolution(joined, config.head), Residual(config.head))
        self.out = nn.Conv2d(config.head, 3, 1)
        self.shortcut = nn.Parameter(torch.tensor([8.0, 8.0, 1.0]))
        self.judge = nn.Sequential(nn.Linear(2 * config.head + 3, 32), nn.ReLU(), nn.Linear(32, 2))
        with torch.no_grad():
            self.out.weight.mul_(0.1)

    def features(self, pictures: Tensor) -> Tensor:
        """Keys (n, channels, height / 4, width / 4) of pictures, every group of channels of unit length."""
        keys = self.key(self.trunk(self.stem(pictures.to(self.taps.dtype) / 64.0 - 2.0)))
        n, c, h, w = keys.shape
        grouped = functional.normalize(keys.reshape(n, self.config.groups, -1, h, w), dim=2)
        return grouped.reshape(n, c, h, w)

    def describe(self, features: Tensor, picture: Tensor, xy: Tensor) -> Tensor:
        """What is remembered of m points: (m, channels, AROUND, AROUND).

        picture: (m,) number of the picture in features that a point is on. xy: (m, 2) pixels of it, middles of pixels at
        halves.
        """
        _, c, h, w = features.shape
        step = torch.arange(AROUND, device=xy.device, dtype=xy.dtype) - AROUND // 2
        x = (xy[:, 0, None, None] / STRIDE + step[None, None, :]).expand(-1, AROUND, -1) * (2 / w) - 1
        y = (xy[:, 1, None, None] / STRIDE + step[None, :, None]).expand(-1, -1, AROUND) * (2 / h) - 1
        grid = torch.stack((x, y), -1).to(features.dtype)
        out = features.new_empty(len(xy), c, AROUND, AROUND)
        for number in range(len(features)):
            (mine,) = torch.nonzero(picture == number, as_tuple=True)
            rows = grid[mine].reshape(1, -1, AROUND, 2)
            found = functional.grid_sample(
                features[number : number + 1], rows, padding_mode="border", align_corners=False
            )
            out = out.index_copy(0, mine, found.reshape(c, -1, AROUND, AROUND).transpose(0, 1))
        return out

    def find(self, windows: Tensor, points: Tensor, expected: Tensor, doubt: Tensor) -> Answer:
        """windows: features (m, channels, h, w), one window per point. points: from `describe`. expected: (m, 2) pixels of the
        window where each point should be. doubt: (m,) pixels that this may be off (standard deviation)."""
        m, c, h, w = windows.shape
        g = self.config.groups
        grouped = windows.reshape(m, g, c // g, h, w)
        middle = points[:, :, AROUND // 2, AROUND // 2]
        alone = (grouped * middle.reshape(m, g, c // g, 1, 1)).sum(2)
        surroundings = points.reshape(m, g, c // g, AROUND, AROUND)
        weight = torch.softmax(self.taps.flatten(1), 1).reshape(g, 1, AROUND, AROUND)
        around = _correlate(grouped, surroundings * weight)
        x = (torch.arange(w, device=windows.device, dtype=windows.dtype) + 0.5) * STRIDE
        y = (torch.arange(h, device=windows.device, dtype=windows.dtype) + 0.5) * STRIDE
        away = (x[None, None, :] - expected[:, 0, None, None]) ** 2 + (
            y[None, :, None] - expected[:, 1, None, None]
        ) ** 2
        unlikely = 0.5 * away / (doubt[:, None, None] ** 2 + STRIDE**2 / 4)
        width = (torch.log(doubt) / 3)[:, None, None].expand(-1, h, w)
        own = self.show_point(middle)[:, :, None, None].expand(-1, -1, h, w)
        joined = torch.cat(
            (alone, around, self.show_window(windows), own, torch.exp(-unlikely)[:, None], width[:, None]), 1
        )
        mixed = self.mix(joined)
        heat, x_way, y_way = self.out(mixed).unbind(1)
        # What is alike and near is likely: true before anything is learned, so that learning begins there.
        alike = torch.cat((alone, around), 1).reshape(m, 2, g, h, w).mean(2)
        heat = heat + (alike * self.shortcut[:2, None, None]).sum(1) - self.shortcut[2] * unlikely.clamp(max=12)
        chance = torch.softmax(heat.flatten(1), 1)
        read = (mixed.flatten(2) @ chance[:, :, None])[:, :, 0]
        sure = torch.stack((chance.amax(1), heat.flatten(1).amax(1) / 8, alone.flatten(2).mean(1).amax(1)), 1)
        judged = self.judge(torch.cat((read, mixed.flatten(2).mean(2), sure), 1))
        way = torch.stack((x_way, y_way), 1)
        return Answer(heat, _REACH * torch.tanh(way), judged[:, 0], judged[:, 1])


def _correlate(grouped: Tensor, kernels: Tensor) -> Tensor:
    """Maps (m, g, h, w) of windows (m, g, c, h, w) under kernels (m, g, c, side, side)."""
    m, g, c, h, w = grouped.shape
    side = kernels.shape[-1]
    each = kernels.reshape(m * g, c, side, side)
    maps = functional.conv2d(grouped.reshape(1, m * g * c, h, w), each, padding=side // 2, groups=m * g)
    return maps.reshape(m, g, h, w)


def place(answer: Answer) -> Tensor:
    """Positions (m, 2) in the windows, pixels: what the best cell and its neighbours say, weighted by their chance."""
    _, h, w = answer.heat.shape
    chance = torch.softmax(answer.heat.flatten(1), 1)
    best = chance.argmax(1)
    row, column = best // w, best % w
    step = torch.arange(-1, 2, device=best.device)
    rows = (row[:, None, None] + step[:, None]).clamp(0, h - 1).expand(-1, 3, 3)
    columns = (column[:, None, None] + step).clamp(0, w - 1).expand(-1, 3, 3)
    index = (rows * w + columns).flatten(1)
    weight = chance.gather(1, index)
    weight = weight / weight.sum(1, keepdim=True)
    way = answer.way.flatten(2).gather(2, index[:, None].expand(-1, 2, -1))
    x = (columns.flatten(1) + 0.5) * STRIDE + way[:, 0]
    y = (rows.flatten(1) + 0.5) * STRIDE + way[:, 1]
    return torch.stack(((x * weight).sum(1), (y * weight).sum(1)), 1)
