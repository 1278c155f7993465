"""What every source of frames promises, be it a video file, a folder of images or a clip rendered by code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB picture, uint8, shape (height, width, 3), C-contiguous."""


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video once it is open.

    frames: how many frames can be decoded, counted in presentation order.
    width, height: pixels of a frame as `read` returns it, after the rotation.
    fps: average frames per second (frames / duration); 0.0 when there is no clock, as in a folder of images.
    rotation: degrees clockwise (0, 90, 180, 270) that the reader applied so that the picture stands upright.
    name: for people: the file's or folder's name.
    damage: a sentence about frames that are missing from the file, None for a sound one.
    """

    frames: int
    width: int
    height: int
    fps: float
    rotation: int = 0
    name: str = ""
    damage: str | None = None


class FrameSource(Protocol):
    """Frames by number. Indices are 0-based and count decoded frames in presentation order."""

    @property
    def info(self) -> VideoInfo: ...

    def read(self, index: int) -> Image:
        """One frame. Raises `FrameUnreadable` when index is outside 0..frames-1 or the frame is damaged.

        The caller may keep and change the array.
        """
        ...

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        """Frames start, start+1 ... stop-1; with stop < start: start, start-1 ... stop+1 (stop may be -1).

        Each group of pictures is decoded once; memory does not depend on the number of frames. Raises `FrameUnreadable`
        at the first frame that cannot be had, after every frame before it was given out.
        """
        ...

    def close(self) -> None: ...
