"""A decoded frame -> an upright RGB array."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import atan2, pi
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from common.video.contract import Image

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is made upright: mirrored left-right first if `mirrored`, then turned clockwise.

    rotation: degrees clockwise, one of 0, 90, 180, 270.
    """

    rotation: int = 0
    mirrored: bool = False

    @classmethod
    def from_matrix(cls, a: float, b: float, c: float, d: float) -> Orientation:
        """From the upper left of a display matrix (ISO/IEC 14496-12, 6.2.2): x' = a x + c y, y' = b x + d y, y down.

        Turns that are no multiple of 90 degrees are rounded to one.

        >>> Orientation.from_matrix(0, 1, -1, 0), Orientation.from_matrix(-1, 0, 0, 1)
        (Orientation(rotation=90, mirrored=False), Orientation(rotation=0, mirrored=True))
        """
        mirrored = a * d - b * c < 0
        if mirrored:
            a, b = -a, -b
        return cls(round(atan2(b, a) / (pi / 2)) % 4 * 90, mirrored)

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """From the display matrix that came with the frame; none: upright as stored."""
        # The stubs call the container a TypedDict; it maps the names of side data to buffers.
        data: Any = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
        return cls.from_matrix(a, b, c, d) if (a or b) and (c or d) else cls()

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) once upright."""
        return (height, width) if self.rotation % 180 else (width, height)

    def apply(self, picture: Image) -> Image:
        """The upright picture, contiguous."""
        if self.mirrored:
            picture = np.ascontiguousarray(picture[:, ::-1])
        return cv2.rotate(picture, _TURNS[self.rotation]) if self.rotation else picture


class Painter:
    """Turns frames of one video into RGB. Holds the conversion tables; belongs to one stream of frames.

    width, height: pixels as stored. A frame of another size (the resolution changed on the way) is scaled to it.
    """

    def __init__(self, width: int, height: int, orientation: Orientation) -> None:
        self._width, self._height, self._orientation = width, height, orientation
        self._reformatter = VideoReformatter()

    def stored(self, frame: VideoFrame) -> Image:
        """RGB uint8 (height, width, 3) as stored, not turned; a fresh array."""
        same = frame.width == self._width and frame.height == self._height
        if same:
            rgb = self._reformatter.reformat(frame, format="rgb24")
        else:
            rgb = self._reformatter.reformat(
                frame, format="rgb24", width=self._width, height=self._height, interpolation="BICUBIC"
            )
        return np.ascontiguousarray(rgb.to_ndarray())

    def paint(self, frame: VideoFrame | Image) -> Image:
        """RGB uint8, upright; a fresh array. An array is taken for what `stored` gave."""
        if isinstance(frame, VideoFrame):
            return self._orientation.apply(self.stored(frame))
        upright = self._orientation.apply(frame)
        return upright.copy() if upright is frame else upright
