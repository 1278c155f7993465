"""Pictures as networks want them, and boxes back in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.contract import Image

Float = NDArray[np.float32]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Fit:
    """How a picture lies in a network's input: input = picture * (sx, sy) + (dx, dy). width, height: the picture's."""

    width: int
    height: int
    sx: float
    sy: float
    dx: float = 0.0
    dy: float = 0.0

    def points(self, xy: Float) -> Float:
        """Input coordinates (..., 2) in the picture's pixels."""
        moved = (xy - np.array([self.dx, self.dy], np.float32)) / np.array([self.sx, self.sy], np.float32)
        return np.asarray(moved, np.float32)

    def boxes(self, xyxy: Float) -> Float:
        """Input boxes (n, 4) in the picture's pixels, cut at its edges; corners in the wrong order are put right."""
        corners = self.points(np.asarray(xyxy, np.float32).reshape(-1, 2, 2))
        corners = np.stack((corners.min(1), corners.max(1)), 1)
        limit = np.array([self.width, self.height], np.float32)
        return np.asarray(np.clip(corners, 0, limit).reshape(-1, 4), np.float32)


def letterbox(image: Image, width: int, height: int, fill: int = 114) -> tuple[Image, Fit]:
    """The picture as large as it fits, its shape kept, in the middle of a grey input (the YOLO family's way)."""
    rows, columns = image.shape[:2]
    scale = min(width / columns, height / rows)
    w, h = max(1, round(columns * scale)), max(1, round(rows * scale))
    left, top = round((width - w) / 2 - 0.1), round((height - h) / 2 - 0.1)
    out = np.full((height, width, 3), fill, np.uint8)
    small = image if (w, h) == (columns, rows) else cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    out[top : top + h, left : left + w] = small
    return out, Fit(columns, rows, scale, scale, float(left), float(top))


def stretch(image: Image, width: int, height: int, interpolation: int = cv2.INTER_LINEAR) -> tuple[Image, Fit]:
    """The picture made to fill the input, its shape not kept (the DETR family's way)."""
    rows, columns = image.shape[:2]
    out = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
    return out, Fit(columns, rows, width / columns, height / rows)


def planes(
    images: Sequence[Image],
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
) -> Float:
    """Pictures of one size as float32 (n, 3, h, w): 0..1, minus mean, by std, channel by channel."""
    stacked: Float = np.stack(images).astype(np.float32) / np.float32(255)
    stacked = np.asarray((stacked - np.asarray(mean, np.float32)) / np.asarray(std, np.float32), np.float32)
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def multiple(value: float, of: int) -> int:
    """The least multiple that is not smaller.

    >>> multiple(641, 32), multiple(640, 32), multiple(0.5, 32)
    (672, 640, 32)
    """
    return max(of, int(np.ceil(value / of)) * of)
