"""PIPs++: a point through a longer window, by comparing where it is with what it looked like first and a few frames ago.

Zheng et al., "PointOdyssey: A Large-Scale Synthetic Dataset for Long-Term Point Tracking", ICCV 2023,
https://arxiv.org/abs/2307.15055. Positions are (x, y) in cells. It does not say whether a point is visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.cotracker.encoder import CHANNELS, WIDTHS, Encoder
from common.networks.pips.correlation import CORRELATIONS, correlate, read

LAGS = (2, 4)
"""Frames ago."""


@dataclass(frozen=True)
class Config:
    """widths: channels of the residual blocks; others are for tests."""

    stride: int = 8
    iterations: int = 16
    widths: tuple[int, ...] = (128, 128, 256, 256, 512, 512, 1024, 1024)
    channels: int = CHANNELS
    encoder: tuple[int, ...] = WIDTHS


@dataclass(frozen=True)
class Looks:
    """What n points look like for each of t frames (t, n, 128): first, and two and four frames before."""

    first: Tensor
    lagged: tuple[Tensor, ...]

    def frames(self, part: slice) -> Looks:
        """Those of some of the frames."""
        return Looks(self.first[part], tuple(v[part] for v in self.lagged))


@dataclass(frozen=True)
class Window:
    """n points in t frames: xy (t, n, 2) cells, the looks they ended with, and steps: xy after every iteration."""

    xy: Tensor
    looks: Looks
    steps: list[Tensor]


class _Padded(nn.Module):
    """A convolution over time that keeps its length."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


def _normed(x: Tensor) -> Tensor:
    # One frame has no deviation; the published norm refuses it.
    return F.instance_norm(x) if x.shape[-1] > 1 else torch.zeros_like(x)


class _Residual(nn.Module):
    """Two convolutions over time. Where the channels grow, the shortcut is padded on both sides."""

    def __init__(self, inputs: int, outputs: int, first: bool) -> None:
        super().__init__()
        self.conv1 = _Padded(inputs, outputs)
        self.conv2 = _Padded(outputs, outputs)
        self._first = first
        self._growth = ((outputs - inputs) // 2, outputs - inputs - (outputs - inputs) // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self._first else F.relu(_normed(x))
        y = self.conv2(F.relu(_normed(self.conv1(y))))
        result: Tensor = y + F.pad(x, (0, 0, *self._growth))
        return result


class Refiner(nn.Module):
    """(n, inputs, t) -> changes of position (n, t, 2), by convolutions over time."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.first_block_conv = _Padded(inputs, widths[0])
        before = [widths[0], *widths]
        self.basicblock_list = nn.ModuleList(
            [_Residual(a, b, index == 0) for index, (a, b) in enumerate(zip(before, widths, strict=False))]
        )
        self.dense = nn.Linear(widths[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first_block_conv(x))
        for block in self.basicblock_list:
            x = block(x)
        y: Tensor = self.dense(F.relu(x).transpose(1, 2))
        return y


class PipsPlusPlus(nn.Module):
    """The network: `encode` frames, then `track` points through a window of any length."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.fnet = Encoder(config.stride, config.channels, config.encoder)
        inputs = (1 + len(LAGS)) * CORRELATIONS + CHANNELS + 2
        self.delta_block = Refiner(inputs, config.widths)
        self.norm = nn.GroupNorm(1, config.channels)  # in the checkpoint, never used

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (t, 3, h, w) of values 0..255 -> features (t, 128, h', w')."""
        features: Tensor = self.fnet(2 * (frames / 255) - 1)
        return features

    def track(
        self, levels: Sequence[Tensor], start: Tensor, looks: Looks | None = None, damped: bool = False
    ) -> Window:
        """The points in a window.

        levels: features (t, 128, h, w) at four scales. start: (t, n, 2) first guess; its first frame stays. looks: from the
        window before, None = as in the first frame. damped: halve the last quarter of the iterations, for smoother tracks.
        """
        t = start.shape[0]
        if looks is None:
            first = read(levels[0][:1], start[:1]).expand(t, -1, -1)
            looks = Looks(first, (first,) * len(LAGS))
        xy, steps = start, []
        frames = torch.arange(t, device=start.device)
        for iteration in range(self.config.iterations):
            if iteration >= 1:
                earlier = [(frames - lag).clamp_min(0) for lag in LAGS]
                looks = Looks(looks.first, tuple(read(levels[0][i], xy[i]) for i in earlier))
            found = [correlate(levels, look, xy) for look in (looks.first, *looks.lagged)]
            step = xy[1:] - xy[:-1]
            step = torch.cat([step, step[-1:] if t > 1 else torch.zeros_like(xy)])
            x = torch.cat([*found, _waves(step)], -1)
            update = self.delta_block(x.permute(1, 2, 0)).transpose(0, 1)
            if damped and iteration > 3 * self.config.iterations // 4:
                update = update * 0.5
            moved = xy + update
            steps.append(moved)
            xy = torch.cat([start[:1], moved[1:]])
        return Window(xy, looks, steps)


def _waves(x: Tensor) -> Tensor:
    """x (..., 2) -> (..., 130): sines and cosines of each, then the numbers themselves."""
    quarter = CHANNELS // 4
    rates = 1 / 10000 ** (torch.arange(quarter, device=x.device) / (quarter - 1))
    angle = x[..., None] * rates
    waves = torch.stack([angle.sin(), angle.cos()], -2).flatten(-3)
    return torch.cat([waves, x], -1)
