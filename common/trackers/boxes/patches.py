"""Square windows of a picture, turned and resampled to a fixed grid, at any size and over the picture's edge."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.contract import Image

Array = NDArray[np.float32]
Double = NDArray[np.float64]

_SMALLEST_LEVEL = 16


class Pyramid:
    """A picture and its halvings, made when first needed, so that large windows shrink without aliasing.

    Holds a reference to the image for as long as the frame is worked on; it is never changed.
    """

    def __init__(self, image: Image) -> None:
        self._levels: list[NDArray[np.uint8]] = [image]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        height, width = self._levels[0].shape[:2]
        return width, height

    def level(self, number: int) -> NDArray[np.uint8]:
        """The picture halved `number` times, or as often as its size allows."""
        while len(self._levels) <= number and min(self._levels[-1].shape[:2]) >= 2 * _SMALLEST_LEVEL:
            last = self._levels[-1]
            half = cv2.resize(last, (last.shape[1] // 2, last.shape[0] // 2), interpolation=cv2.INTER_AREA)
            self._levels.append(half.astype(np.uint8, copy=False))
        return self._levels[min(number, len(self._levels) - 1)]

    def crop(self, centre: Double, side: float, angle: float, size: int) -> NDArray[np.uint8]:
        """Window of `side` pixels about `centre` (box coordinates), turned by `angle`, as uint8 (size, size, 3).

        Pixels beyond the picture's edge repeat the edge.
        """
        step = side / size
        source = self.level(max(0, int(np.floor(np.log2(max(step, 1.0)) + 0.25))))
        width, height = self.size
        zoom = np.array([source.shape[1] / width, source.shape[0] / height])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * step
        origin = np.asarray(centre, np.float64) + turn @ np.full(2, 0.5 - size / 2)
        matrix = np.concatenate((turn * zoom[:, None], (origin * zoom - 0.5)[:, None]), 1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        window: NDArray[np.uint8] = cv2.warpAffine(
            source, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE
        ).astype(np.uint8, copy=False)
        return window
