"""Layers -> crops, for a whole batch at once and on any device: the same code on two processor cores and on a GPU.

A layer is an outline (a signed distance field) filled with a skin, placed by an affine map per sample. Edges are as soft as
the layer says, from hard cut-outs to mattes of many pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.atlas import Atlas
from training.shapes import REACH


@dataclass(frozen=True)
class Layer:
    """One layer of b samples in one frame.

    skin, field: (b,) numbers in the atlas. place: (b, 2, 3) from crop pixels to the outline's coordinates (-1..1). paint:
    (b, 2, 3) from those to the skin's (-1..1). ripple: (b, 2, 4) two waves: x and y frequency, phase, height, in the
    outline's coordinates; None = rigid. soft: (b,) width of the edge in the outline's coordinates. opacity: (b,) 0..1. gain, bias:
    (b, 3) on its colours.
    """

    skin: Tensor
    field: Tensor
    place: Tensor
    paint: Tensor
    ripple: Tensor | None
    soft: Tensor
    opacity: Tensor
    gain: Tensor
    bias: Tensor


def pixels(side: int, device: torch.device) -> Tensor:
    """Middles of the pixels of a square crop: (side * side, 3) x, y, 1."""
    middle = torch.arange(side, device=device, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack((x, y, torch.ones_like(x)), -1).reshape(-1, 3)


def waves(points: Tensor, ripple: Tensor) -> Tensor:
    """Displacement (b, n, 2) of points (b, n, 2)."""
    phase, height = ripple[:, None, :, 2], ripple[:, :, 3]
    wave = torch.sin(points @ ripple[:, :, :2].transpose(1, 2) + phase)
    turn = 3 * ripple[:, :, 2]
    return wave @ (torch.stack((torch.cos(turn), torch.sin(turn)), -1) * height[..., None])


def ground(atlas: Atlas, number: Tensor, place: Tensor, side: int) -> Tensor:
    """Crops float32 (b, 3, side, side), 0..255, of grounds (b,); place: (b, 2, 3) crop pixels to their coordinates."""
    grid = (pixels(side, place.device) @ place.transpose(1, 2)).reshape(-1, side, side, 2)
    return functional.grid_sample(
        atlas.grounds[number].float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def layer(atlas: Atlas, part: Layer, side: int) -> tuple[Tensor, Tensor]:
    """Colours (b, 3, side, side) and coverage 0..1 (b, 1, side, side), the latter before the layer's opacity."""
    points = pixels(side, part.place.device) @ part.place.transpose(1, 2)
    if part.ripple is not None:
        points = points + waves(points, part.ripple)
    grid = points.reshape(-1, side, side, 2)
    depth = functional.grid_sample(
        atlas.fields[part.field], grid / REACH, mode="bilinear", padding_mode="border", align_corners=False
    )
    coverage = (0.5 + depth / part.soft[:, None, None, None]).clamp(0, 1)
    on_skin = points @ part.paint[:, :, :2].transpose(1, 2) + part.paint[:, None, :, 2]
    colours = functional.grid_sample(
        atlas.skins[part.skin].float(),
        on_skin.reshape(-1, side, side, 2),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return colours * part.gain[:, :, None, None] + part.bias[:, :, None, None], coverage


def over(picture: Tensor, colours: Tensor, coverage: Tensor) -> Tensor:
    """Colours laid over a picture."""
    return picture + (colours - picture) * coverage


def blurred(picture: Tensor, kernels: Tensor) -> Tensor:
    """Every sample (b, 3, h, w) by its own kernel (b, k, k)."""
    b, c, h, w = picture.shape
    size = kernels.shape[-1]
    padded = functional.pad(picture, (size // 2,) * 4, mode="replicate")
    weight = kernels[:, None, None].expand(b, c, 1, size, size).reshape(b * c, 1, size, size)
    return functional.conv2d(padded.reshape(1, b * c, *padded.shape[2:]), weight, groups=b * c).reshape(b, c, h, w)
