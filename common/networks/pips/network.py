"""PIPs: a point through eight frames, by comparing its features with the picture around a guess and refining the guess.

Harley et al., "Particle Video Revisited: Tracking Through Occlusions Using Point Trajectories", ECCV 2022,
https://arxiv.org/abs/2204.04153. Positions are (x, y) in cells. Points never influence each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.networks.cotracker.encoder import CHANNELS, WIDTHS, Encoder
from common.networks.pips.correlation import CORRELATIONS, correlate

WAVES = 64


@dataclass(frozen=True)
class Config:
    """window: frames looked at together. The values are the published ones; other widths and depths are for tests."""

    window: int = 8
    stride: int = 4
    iterations: int = 6
    width: int = 512
    depth: int = 12
    channels: int = CHANNELS
    encoder: tuple[int, ...] = WIDTHS


@dataclass(frozen=True)
class Window:
    """n points in the frames of a window: xy (t, n, 2) cells and visible (t, n) logits; steps: xy after every iteration."""

    xy: Tensor
    visible: Tensor
    steps: list[Tensor]


class _Residual(nn.Module):
    """A norm over channels and a perceptron, residual."""

    def __init__(self, width: int, inner: nn.Sequential) -> None:
        super().__init__()
        self.fn = inner
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.fn(self.norm(x))
        return result


class _MeanOverTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Mixer(nn.Module):
    """An MLP-mixer over the frames of a window: (n, t, inputs) -> (n, t, outputs)."""

    def __init__(self, config: Config, inputs: int, outputs: int) -> None:
        super().__init__()
        t, width = config.window, config.width
        self._shape = (t, outputs)
        layers: list[nn.Module] = [nn.Linear(inputs, width)]
        for _ in range(config.depth):
            # The published layers have dropouts, without parameters, in the places of the identities.
            over_time = nn.Sequential(nn.Conv1d(t, 4 * t, 1), nn.GELU(), nn.Identity(), nn.Conv1d(4 * t, t, 1))
            among = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Identity(), nn.Linear(4 * width, width))
            layers.append(nn.Sequential(_Residual(width, over_time), _Residual(width, among)))
        layers += [nn.LayerNorm(width), _MeanOverTime(), nn.Linear(width, t * outputs)]
        self.to_delta = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.to_delta(x)
        return y.view(len(x), *self._shape)


class Pips(nn.Module):
    """The network: `encode` frames, then `track` points through a window of them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.fnet = Encoder(config.stride, channels, config.encoder)
        self.delta_block = Mixer(config, channels + CORRELATIONS + 3 * WAVES + 3, channels + 2)
        self.norm = nn.GroupNorm(1, channels)
        self.ffeat_updater = nn.Sequential(nn.Linear(channels, channels), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(channels, 1))

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (t, 3, h, w) of values 0..255 -> features (t, 128, h', w')."""
        features: Tensor = self.fnet(2 * (frames / 255) - 1)
        return features

    def track(self, levels: Sequence[Tensor], looks: Tensor, start: Tensor) -> Window:
        """The points in a window of frames.

        levels: features (t, 128, h, w) at four scales (see `pyramid`). looks: (n, 128) of the points. start: (n, 2) where
        they are in the first frame, which stays so.
        """
        t, n = self.config.window, len(looks)
        xy = start.expand(t, -1, -1)
        features = looks.expand(t, -1, -1)
        # From 0 to t inclusive, not t - 1: so the network was trained.
        times = torch.linspace(0, t, t, device=xy.device)[:, None, None].expand(-1, n, -1)
        steps = []
        for _ in range(self.config.iterations):
            found = correlate(levels, features, xy)
            moved = _waves(torch.cat([xy - xy[:1], times], -1))
            update = self.delta_block(torch.cat([features, found, moved], -1).transpose(0, 1)).transpose(0, 1)
            change = self.norm(update[..., 2:].reshape(-1, self.config.channels))
            features = features + self.ffeat_updater(change).view_as(features)
            xy = torch.cat([start[None], (xy + update[..., :2])[1:]])
            steps.append(xy)
        return Window(xy, self.vis_predictor(features)[..., 0], steps)


def _waves(x: Tensor) -> Tensor:
    """x (..., 3) -> (..., 195): for each of the three 32 sines and cosines in turn, then the numbers themselves."""
    rates = torch.arange(0, WAVES, 2, device=x.device, dtype=x.dtype) * (1000 / WAVES)
    angle = x[..., None] * rates
    waves = torch.stack([angle.sin(), angle.cos()], -1).flatten(-3)
    return torch.cat([waves, x], -1)


def without_wrapper(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published checkpoint's entries without the prefix that training on several GPUs leaves."""
    return {name.removeprefix("module."): value for name, value in entries.items()}
