"""Pictures as tensors, resized as torchvision does it: smoothly, which is how these networks were evaluated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from common.video.contract import Image


def resized(image: Image, width: int, height: int, device: torch.device) -> Tensor:
    """uint8 (3, height, width) on the device."""
    # a copy: torch takes no read-only memory and no negative strides
    picture = torch.from_numpy(np.array(image, np.uint8, order="C")).to(device).permute(2, 0, 1)
    small: Tensor = tv.resize(picture, [height, width], antialias=True)
    return small


def normalised(picture: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """float32 (3, h, w): 0..1, minus mean, by std, channel by channel."""
    shift = torch.tensor(mean, device=picture.device).view(3, 1, 1)
    scale = torch.tensor(std, device=picture.device).view(3, 1, 1)
    return (picture.float() / 255 - shift) / scale


def stretched(
    images: Sequence[Image],
    width: int,
    height: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
) -> Tensor:
    """A batch (n, 3, height, width); the pictures' shapes are not kept."""
    return torch.stack([normalised(resized(image, width, height, device), mean, std) for image in images])
