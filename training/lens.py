"""What a camera does to a picture: light, blur, noise, loss of colour. Every sample its own, drawn from `rng` and `noise`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training import render
from training.textures import Rng

Array = NDArray[np.float64]

_BLUR = 9


def degrade(picture: Tensor, rng: Rng, noise: torch.Generator, grey: NDArray[np.bool_], coarse: Array) -> Tensor:
    """Pictures float32 (n, 3, h, w). grey: (n,) which lose their colours. coarse: (n,) least blur, pixels."""
    n, device = len(grey), picture.device

    def send(values: NDArray[np.generic]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32).to(device)

    often = (rng.random(n) < 0.5)[:, None]
    gain = np.where(often, rng.uniform(0.65, 1.25, (n, 1)), 1.0)
    bias = np.where(often, rng.normal(0, 14, (n, 1)) + rng.normal(0, 6, (n, 3)), 0.0)
    picture = (picture - 128) * send(gain)[:, :, None, None] + 128 + send(bias)[:, :, None, None]
    grain = np.where(rng.random(n) < 0.35, rng.uniform(1, 9, n), 0.0)
    early = rng.random(n) < 0.5
    white = torch.randn(picture.shape, generator=noise, device=device)
    picture = picture + white * send(grain * early)[:, None, None, None]
    picture = render.blurred(picture, send(_kernels(rng, coarse)))
    picture = picture + white * send(grain * ~early)[:, None, None, None]
    plain = picture.mean(1, keepdim=True).expand_as(picture)
    return torch.where(torch.as_tensor(grey, device=device)[:, None, None, None], plain, picture)


def _kernels(rng: Rng, coarse: Array) -> Array:
    """Blurs (n, k, k): none, round ones for coarse pictures, or along a line for fast motion."""
    n = len(coarse)
    middle = np.arange(_BLUR) - _BLUR // 2
    y, x = middle[:, None], middle[None, :]
    spread = np.maximum(coarse, np.where(rng.random(n) < 0.2, rng.uniform(0.4, 1.6, n), 0.05))
    line = rng.random(n) < 0.15
    turn = rng.uniform(0, np.pi, n)
    long = np.where(line, rng.uniform(1.0, 3.2, n), spread)
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    along, across = x * cos + y * sin, y * cos - x * sin
    wide = np.maximum(np.where(line, 0.45, spread), 0.05)[:, None, None]
    kernel = np.exp(-0.5 * ((along / long[:, None, None]) ** 2 + (across / wide) ** 2))
    kernel[:, _BLUR // 2, _BLUR // 2] += 1e-6
    made: Array = kernel / kernel.sum((1, 2), keepdims=True)
    return made
