"""Pictures and prompts -> what the network takes. Pre-processing as in the official predictor, not as in `transformers`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

Normal = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and deviation that a network's pictures are normalised by, red, green, blue."""

IMAGENET: Normal = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = 0, 1, 2, 3


@dataclass(frozen=True)
class Clicks:
    """xy: float32 (n, 2), pixels of the picture. labels: int (n,): 1 on the object, 0 beside it, 2 and 3 corners of a box."""

    xy: NDArray[np.float32]
    labels: NDArray[np.int64]

    @classmethod
    def of_box(
        cls,
        xyxy: NDArray[np.float32],
        positive: NDArray[np.float32] | None = None,
        negative: NDArray[np.float32] | None = None,
    ) -> Clicks:
        """A box, and clicks that say more about it."""
        none = np.zeros((0, 2), np.float32)
        more = (none if positive is None else positive, none if negative is None else negative)
        xy = np.concatenate([np.asarray(xyxy, np.float32).reshape(2, 2), *more])
        labels = [TOP_LEFT, BOTTOM_RIGHT, *[FOREGROUND] * len(more[0]), *[BACKGROUND] * len(more[1])]
        return cls(xy, np.array(labels, np.int64))


def pixels(image: NDArray[np.uint8], size: int, normal: Normal = IMAGENET) -> Tensor:
    """float32 (1, 3, size, size). image: RGB uint8 (H, W, 3); its aspect is not kept."""
    mean, deviation = torch.tensor(normal)[..., None, None]
    resized = PilImage.fromarray(np.ascontiguousarray(image)).resize((size, size))
    tensor = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float().div_(255)
    return tensor.sub_(mean).div_(deviation)[None]


def mask_input(mask: NDArray[np.bool_], size: int) -> Tensor:
    """float32 (1, 1, size, size), 0 or 1. mask: bool (H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
    scaled = functional.interpolate(tensor, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return (scaled >= 0.5).float()


def click_input(clicks: Clicks, shape: tuple[int, int], size: int) -> tuple[Tensor, Tensor]:
    """Points float32 (1, 1, n, 2) in pixels of the square picture, labels int64 (1, 1, n). shape: (H, W) of the picture."""
    height, width = shape
    xy = torch.from_numpy(np.asarray(clicks.xy, np.float32)) / torch.tensor([width, height]) * size
    return xy[None, None], torch.from_numpy(np.asarray(clicks.labels, np.int64))[None, None]


def to_picture(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    """Low-resolution logits (n, 1, h, w) -> float32 (n, H, W) on the picture's pixels; above 0 is the object."""
    return functional.interpolate(logits.float(), shape, mode="bilinear", align_corners=False)[:, 0]
