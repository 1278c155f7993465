"""What PIPs and PIPs++ have in common: features read at points, and compared with the picture around points.

Positions are (x, y) in cells: pixels divided by the stride.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 4
RADIUS = 3
CORRELATIONS = LEVELS * (2 * RADIUS + 1) ** 2


def pyramid(features: Tensor) -> list[Tensor]:
    """Features (t, c, h, w) at four scales, each half of the one before."""
    levels = [features]
    for _ in range(LEVELS - 1):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def read(features: Tensor, xy: Tensor) -> Tensor:
    """Features (t, n, c) of (t, c, h, w) at xy (t, n, 2). Beyond the edge the cells of the edge count, weighted as if they
    lay where they are asked for (the published code clips the cells, not the weights)."""
    h, w = features.shape[-2:]
    low = xy.floor()
    share = xy - low
    flat = features.flatten(2)
    total = torch.zeros((), device=xy.device)
    for right in (0, 1):
        for down in (0, 1):
            x = (low[..., 0] + right).clamp(0, w - 1).long()
            y = (low[..., 1] + down).clamp(0, h - 1).long()
            wx = share[..., 0] if right else 1 - share[..., 0]
            wy = share[..., 1] if down else 1 - share[..., 1]
            index = (y * w + x)[:, None].expand(-1, flat.shape[1], -1)
            total = total + flat.gather(2, index) * (wx * wy)[:, None]
    return total.transpose(1, 2)


def correlate(levels: Sequence[Tensor], looks: Tensor, xy: Tensor) -> Tensor:
    """How like looks (t, n, c) the pictures (t, c, h, w) are at 7 x 7 places around xy (t, n, 2), per level: (t, n, 196).

    The first axis of the 7 x 7 places runs along x; beyond the edge there is nothing.
    """
    steps = torch.arange(-RADIUS, RADIUS + 1, device=xy.device, dtype=xy.dtype)
    dx, dy = torch.meshgrid(steps, steps, indexing="ij")
    around = torch.stack([dx, dy], -1).reshape(-1, 2)
    found = []
    for index, level in enumerate(levels):
        h, w = level.shape[-2:]
        where = (xy / 2**index)[:, :, None] + around
        where = where * xy.new_tensor([2 / max(w - 1, 1), 2 / max(h - 1, 1)]) - 1
        patches = F.grid_sample(level, where, align_corners=True)
        found.append(torch.einsum("tcnp,tnc->tnp", patches, looks) / math.sqrt(looks.shape[-1]))
    return torch.cat(found, -1)
