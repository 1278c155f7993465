"""Pictures out: an MP4 that every browser plays, for overlays."""

from __future__ import annotations

import os
from fractions import Fraction
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from common.errors import OutputUnusable
from common.video.contract import Image

FALLBACK_FPS = 25.0
_BT709 = 1


class VideoWriter:
    """Writes RGB pictures as H.264 (yuv420p, constant frame rate, index in front) into an MP4.

    path: the file; it appears, whole, when the writer is closed and not before - after an error, or when nothing was
    written, there is none, and an older file of that name is left as it was. width, height: pixels of every picture; an
    odd size gets its last column or row doubled, since H.264 halves colour. fps: frames per second; 0 (a folder of
    images) and other impossible values become 25. Memory does not depend on the number of pictures. Not for use by two
    threads at once. Raises `OutputUnusable` when the file cannot be written.

        with VideoWriter(out / "overlay.mp4", info.width, info.height, info.fps) as writer:
            for image in source.stream(0, info.frames):
                writer.write(image)
    """

    def __init__(self, path: str | os.PathLike[str], width: int, height: int, fps: float) -> None:
        if width < 1 or height < 1:
            raise ValueError(f"a picture has at least 1 x 1 pixels, got {width} x {height}")
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.{id(self):x}.part")
        self._width, self._height = width, height
        # H.264 needs even sizes, and the encoder refuses fewer than 16 pixels.
        self._pad = (max(16, height + height % 2) - height, max(16, width + width % 2) - width)
        rate = Fraction(fps if isfinite(fps) and 0.01 <= fps <= 1000 else FALLBACK_FPS).limit_denominator(1001)
        self._reformatter = VideoReformatter()
        self._count = 0
        self._closed = False
        try:
            # Two passes over the file at closing (faststart) put the index in front, so that playing begins at once.
            self._container = av.open(
                f"file:{self._partial}", "w", format="mp4", container_options={"movflags": "+faststart"}
            )
            self._stream: VideoStream = self._container.add_stream(
                "libx264", rate=rate, options={"preset": "veryfast", "crf": "20"}
            )
            context = self._stream.codec_context
            context.width, context.height = width + self._pad[1], height + self._pad[0]
            context.pix_fmt = "yuv420p"
            context.time_base = 1 / rate
            context.thread_count = min(os.cpu_count() or 1, 4)
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = ColorRange.MPEG
            self._container.start_encoding()
        except (FFmpegError, OSError) as error:
            raise self._unusable(error) from error

    def write(self, image: Image) -> None:
        """The next picture, RGB uint8 (height, width, 3). ValueError for another shape or type. Not changed, not kept."""
        if self._closed:
            raise ValueError("the video is closed")
        if image.shape != (self._height, self._width, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"a picture is uint8 of shape {(self._height, self._width, 3)}, got {image.dtype} {image.shape}"
            )
        down, right = self._pad
        if down or right:
            image = np.pad(image, ((0, down), (0, right), (0, 0)), mode="edge")
        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = self._count, self._stream.codec_context.time_base
        try:
            self._container.mux(self._stream.encode(frame))
        except (FFmpegError, OSError) as error:
            self.abandon()
            raise self._unusable(error) from error
        self._count += 1

    def close(self) -> None:
        """Finish the file and put it in place. Calling it again does nothing."""
        if self._closed:
            return
        if not self._count:
            self.abandon()
            return
        self._closed = True
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._partial.replace(self._path)
        except (FFmpegError, OSError) as error:
            self._partial.unlink(missing_ok=True)
            raise self._unusable(error) from error

    def abandon(self) -> None:
        """Stop without a result: nothing appears under the name."""
        if self._closed:
            return
        self._closed = True
        try:
            self._container.close()
        except (FFmpegError, OSError):
            pass  # the half-made file goes anyway
        finally:
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _unusable(self, error: Exception) -> OutputUnusable:
        return OutputUnusable(f"The video {self._path} cannot be written: {getattr(error, 'strerror', None) or error}.")
