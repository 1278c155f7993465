"""Between frames of a video and what the network sees: sizes, normalisation, padding, and back to the frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_MULTIPLE = 16


def by_short_side(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width with the shorter one brought to `side`, the other in proportion, rounded down; -1 changes nothing."""
    if side < 0:
        return height, width
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


@dataclass(frozen=True)
class Frame:
    """How pictures of one clip are prepared. size, working: (height, width) of the video's frames and of what the network
    sees of them before padding.
    """

    size: tuple[int, int]
    working: tuple[int, int]

    @property
    def padded(self) -> tuple[int, int]:
        """The working size brought up to multiples of 16."""
        height, width = (-(-side // _MULTIPLE) * _MULTIPLE for side in self.working)
        return height, width

    @property
    def _margins(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom; the odd pixel goes right and down."""
        down, right = (p - w for p, w in zip(self.padded, self.working, strict=True))
        return right // 2, right - right // 2, down // 2, down - down // 2

    def picture(self, image: Tensor, device: torch.device) -> Tensor:
        """uint8 (H, W, 3) of any size to (1, 3, padded height, padded width) float32: normalised, then scaled, then padded
        with zeros, in this order, as published.
        """
        mean, deviation = (torch.tensor(v, device=device).view(3, 1, 1) for v in (_MEAN, _DEVIATION))
        picture = image.to(device).permute(2, 0, 1).float().div_(255).sub_(mean).div_(deviation)[None]
        if picture.shape[2:] != self.working:
            picture = functional.interpolate(
                picture, self.working, mode="bilinear", align_corners=False, antialias=True
            )
        return functional.pad(picture, self._margins)

    def masks(self, masks: Tensor, device: torch.device) -> Tensor:
        """(n, H, W), > 0 = object, to (n, padded height, padded width) float32 of 0 and 1.

        A mask too thin to survive the nearest neighbour keeps every place that any of its pixels falls on.
        """
        full = (masks.to(device) > 0).float()[None]
        if full.shape[2:] == self.working:
            return functional.pad(full[0], self._margins)
        scaled = functional.interpolate(full, self.working, mode="nearest")[0]
        lost = ((scaled.sum((1, 2)) == 0) & (full[0].sum((1, 2)) > 0)).nonzero()[:, 0]
        if len(lost):
            scaled[lost] = functional.adaptive_max_pool2d(full[0, lost], self.working)
        return functional.pad(scaled, self._margins)

    def unpad(self, maps: Tensor) -> Tensor:
        """(n, padded height, padded width) to (n, working height, working width)."""
        left, _, top, _ = self._margins
        height, width = self.working
        return maps[:, top : top + height, left : left + width]

    def restore(self, maps: Tensor) -> Tensor:
        """(n, working height, working width) to (n, H, W) of the video's frames."""
        if self.working == self.size:
            return maps
        return functional.interpolate(maps[:, None], self.size, mode="bilinear", align_corners=False)[:, 0]

    def labels(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Largest channel and its value at every pixel of the video's frame, from maps of the working size.

        int16 (H, W) and float32 (H, W). One channel at a time: memory does not depend on the number of objects.
        """
        value = self.restore(maps[:1])[0]
        label = torch.zeros(value.shape, dtype=torch.int16, device=maps.device)
        for channel in range(1, len(maps)):
            other = self.restore(maps[channel : channel + 1])[0]
            label = torch.where(other > value, channel, label).to(torch.int16)
            value = torch.maximum(value, other)
        return label, value
