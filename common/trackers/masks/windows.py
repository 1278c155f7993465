"""The part of the picture around one object, at the bounded resolution at which the object is tracked.

Every object gets its own window, so that two pixels in a 4K frame are followed at full resolution and a mask that fills
the frame is followed at a reduced one, at the same cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Mask
from common.video.contract import Image

Float = NDArray[np.float32]

SMALLEST_SIDE = 24
"""Least working pixels along a side: dense flow matches 8-pixel patches and needs a few of them."""


SMALL_OBJECT = 20
"""Working pixels along an object's shorter side below which its window is enlarged: the edge filter works at half of them."""

LARGEST_SCALE = 4.0
"""Most that a window is enlarged."""


@dataclass(frozen=True)
class Window:
    """A rectangle of the frame and the size at which it is worked on.

    x0, y0, x1, y1: whole pixels, x1 and y1 exclusive, inside the frame. width, height: working pixels.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    @property
    def scale(self) -> tuple[float, float]:
        """Working pixels per frame pixel along x and y."""
        return self.width / (self.x1 - self.x0), self.height / (self.y1 - self.y0)

    def cut(self, image: Image) -> Image:
        """The window of a picture, uint8 (height, width, 3) in working pixels."""
        part = image[self.y0 : self.y1, self.x0 : self.x1]
        return np.asarray(_resize(part, self.width, self.height), np.uint8)

    def cut_mask(self, mask: Mask) -> Float:
        """The window of a mask, float32 (height, width): the share of each working pixel that the mask covers."""
        part = np.zeros((self.y1 - self.y0, self.x1 - self.x0), np.float32)
        rows, columns = mask.window
        left, top = max(self.x0, mask.x), max(self.y0, mask.y)
        right, bottom = min(self.x1, mask.x + columns), min(self.y1, mask.y + rows)
        if left < right and top < bottom:
            inner = mask.crop()[top - mask.y : bottom - mask.y, left - mask.x : right - mask.x]
            part[top - self.y0 : bottom - self.y0, left - self.x0 : right - self.x0] = inner
        return np.asarray(_resize(part, self.width, self.height), np.float32)

    def paste(self, values: Float) -> Float:
        """Working pixels back to frame pixels: float32 (y1 - y0, x1 - x0)."""
        return np.asarray(
            cv2.resize(values, (self.x1 - self.x0, self.y1 - self.y0), interpolation=cv2.INTER_LINEAR), np.float32
        )


def _resize(part: NDArray[np.generic], width: int, height: int) -> NDArray[np.generic]:
    shrinks = width < part.shape[1] or height < part.shape[0]
    resized: NDArray[np.generic] = cv2.resize(
        part, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return resized


def window_around(
    box: tuple[float, float, float, float], frame: tuple[int, int], margin: float, margin_px: float, pixels: int
) -> Window:
    """Window around a box (x0, y0, x1, y1; exclusive ends) of a frame (height, width).

    margin: room on each side as a share of the box's longer side; raising it follows faster motion and costs resolution.
    margin_px: least room. pixels: most working pixels; a smaller window is worked on at full
    resolution, that of a small object enlarged.
    """
    height, width = frame
    x0, y0, x1, y1 = box
    room = max(margin_px, margin * max(x1 - x0, y1 - y0))
    left, top = min(max(0, int(x0 - room)), width - 1), min(max(0, int(y0 - room)), height - 1)
    right, bottom = max(left + 1, min(width, int(x1 + room) + 1)), max(top + 1, min(height, int(y1 + room) + 1))
    w, h = right - left, bottom - top
    enlarge = min(LARGEST_SCALE, max(1.0, SMALL_OBJECT / max(1.0, min(x1 - x0, y1 - y0))))
    factor = min(enlarge, (pixels / (w * h)) ** 0.5)
    return Window(
        left, top, right, bottom, max(SMALLEST_SIDE, round(w * factor)), max(SMALLEST_SIDE, round(h * factor))
    )


def carry_over(values: Float, old: Window, new: Window) -> Float:
    """Working pixels of one window seen in another: float32 (new.height, new.width), 0 where the old one did not reach."""
    (ox, oy), (nx, ny) = old.scale, new.scale
    # Pixel centres: frame = (work + 0.5) / scale - 0.5 + origin, in both windows.
    ax, ay = ox / nx, oy / ny
    shift = ((new.x0 - old.x0) * ox + 0.5 * ax - 0.5, (new.y0 - old.y0) * oy + 0.5 * ay - 0.5)
    matrix = np.array([[ax, 0, shift[0]], [0, ay, shift[1]]], np.float64)
    size = (new.width, new.height)
    return np.asarray(cv2.warpAffine(values, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), np.float32)
