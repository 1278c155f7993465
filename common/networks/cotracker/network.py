"""CoTracker3: points are tracked together, by comparing 7 x 7 patches around them and refining whole windows.

Karaev et al., "CoTracker3: Simpler and Better Point Tracking by Pseudo-Labelling Real Videos", 2024,
https://arxiv.org/abs/2410.11831. Positions are (x, y) in cells: pixels of the network's picture divided by the stride.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.networks.cotracker.encoder import CHANNELS, WIDTHS, Encoder
from common.networks.cotracker.update import Perceptron, UpdateFormer

OCTAVES = 10


@dataclass(frozen=True)
class Config:
    """window: frames that the network looks at together, the length of its table of times. resolution: height and width
    of the network's picture. The other values are those of the published checkpoints."""

    window: int = 16
    resolution: tuple[int, int] = (384, 512)
    stride: int = 4
    radius: int = 3
    levels: int = 4
    virtual: int = 64
    width: int = 384
    hidden: int = 384
    correlation: int = 256
    depth: int = 3
    iterations: int = 6
    channels: int = CHANNELS
    encoder: tuple[int, ...] = WIDTHS

    @property
    def inputs(self) -> int:
        """Width of a token: two logits, correlations, and the embedding of two displacements."""
        return 2 + self.levels * self.correlation + 4 * (1 + 2 * OCTAVES)


@dataclass(frozen=True)
class Tracks:
    """n points in t frames: xy (t, n, 2) cells, logits of visibility and confidence (t, n)."""

    xy: Tensor
    visibility: Tensor
    confidence: Tensor


class CoTracker(nn.Module):
    """The network: `encode` frames, take the `support` of points, `refine` a window."""

    time_emb: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.fnet = Encoder(config.stride, config.channels, config.encoder)
        self.updateformer = UpdateFormer(config.inputs, config.width, 8, config.depth, config.virtual)
        side = 2 * config.radius + 1
        self.corr_mlp = Perceptron(side**4, config.hidden, config.correlation, "none")
        self.register_buffer("time_emb", _times(config.window, config.inputs))

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Frames (t, 3, h, w) of values 0..255, of the network's resolution -> features (t, 128, h', w') per level."""
        x = self.fnet(2 * (frames / 255) - 1)
        pyramid = [x / x.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()]
        for _ in range(self.config.levels - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        return pyramid

    def support(self, pyramid: Sequence[Tensor], xy: Tensor) -> Tensor:
        """The patches around points xy (n, 2), cells, of one encoded frame: (n, levels, 49, 128)."""
        return torch.stack([self._patches(level, (xy / 2**i)[None])[0] for i, level in enumerate(pyramid)], 1)

    def refine(self, pyramid: Sequence[Tensor], support: Tensor, start: Tracks, chunk: int = 64) -> Tracks:
        """The points in a window of encoded frames, from a first guess.

        support: (n, levels, 49, 128), zero for points that are not known yet. chunk: points compared at a time, which
        bounds the memory and changes nothing.
        """
        xy, visibility, confidence = start.xy, start.visibility, start.confidence
        t, n = xy.shape[:2]
        if n == 0:
            return start
        times = self._times(t)
        scale = xy.new_tensor(self.config.resolution[::-1]) / self.config.stride
        for _ in range(self.config.iterations):
            parts = [
                self._compare(pyramid, support[rows], xy[:, rows])
                for rows in (slice(i, i + chunk) for i in range(0, n, chunk))
            ]
            ahead = F.pad(xy[:-1] - xy[1:], (0, 0, 0, 0, 0, 1)) / scale
            behind = F.pad(xy[1:] - xy[:-1], (0, 0, 0, 0, 1, 0)) / scale
            moved = _waves(torch.cat([ahead, behind], -1))
            logits = torch.stack([visibility, confidence], -1)
            tokens = torch.cat([logits, torch.cat(parts, 1), moved], -1).transpose(0, 1) + times
            update = self.updateformer(tokens).transpose(0, 1)
            xy = xy + update[..., :2]
            visibility, confidence = visibility + update[..., 2], confidence + update[..., 3]
        return Tracks(xy, visibility, confidence)

    def _compare(self, pyramid: Sequence[Tensor], support: Tensor, xy: Tensor) -> Tensor:
        """Every place of the patches around xy (t, n, 2) with every place of the support: (t, n, levels * 256)."""
        found = []
        for i, level in enumerate(pyramid):
            here = self._patches(level, xy / 2**i)
            volume = torch.einsum("tnpc,nqc->tnpq", here, support[:, i])
            found.append(self.corr_mlp(volume.flatten(2)))
        return torch.cat(found, -1)

    def _patches(self, level: Tensor, xy: Tensor) -> Tensor:
        """Features (t, n, 49, 128) of level (t, 128, h, w) around xy (t, n, 2). The first axis of a patch runs along x."""
        r = self.config.radius
        steps = torch.arange(-r, r + 1, device=xy.device, dtype=xy.dtype)
        dx, dy = torch.meshgrid(steps, steps, indexing="ij")
        where = xy[:, :, None] + torch.stack([dx, dy], -1).reshape(-1, 2)
        h, w = level.shape[-2:]
        where = where * xy.new_tensor([2 / max(w - 1, 1), 2 / max(h - 1, 1)]) - 1
        return F.grid_sample(level, where, padding_mode="border", align_corners=True).permute(0, 2, 3, 1)

    def _times(self, frames: int) -> Tensor:
        if frames == self.time_emb.shape[1]:
            return self.time_emb
        return F.interpolate(self.time_emb.transpose(1, 2), frames, mode="linear").transpose(1, 2)


def _times(frames: int, width: int) -> Tensor:
    """Sines and cosines of the frame's number, (1, frames, width)."""
    rates = 1 / 10000 ** (torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = torch.arange(frames, dtype=torch.float64)[:, None] * rates
    return torch.cat([angle.sin(), angle.cos()], 1).float()[None]


def _waves(x: Tensor) -> Tensor:
    """x (..., 4), with its sines and cosines in ten octaves: (..., 84)."""
    octaves = 2.0 ** torch.arange(OCTAVES, device=x.device, dtype=x.dtype)
    angle = (x[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([x, torch.sin(torch.cat([angle, angle + 0.5 * math.pi], -1))], -1)


def grid(side: int, resolution: tuple[int, int]) -> Tensor:
    """Support points spread over the picture, (side * side, 2) pixels, row by row, as the published code places them."""
    height, width = resolution
    margin = width / 64
    y, x = torch.meshgrid(
        torch.linspace(margin, height - margin, side), torch.linspace(margin, width - margin, side), indexing="ij"
    )
    return torch.stack([x, y], -1).reshape(-1, 2)
