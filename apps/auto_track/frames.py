"""Frames for several engines that work on the same stretch of a video: each is decoded once, a handful is kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from common.video.contract import FrameSource, Image

_KEPT = 4


class Frames:
    """One video's frames as its engines ask for them. Owned by one thread."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._kept: OrderedDict[int, Image] = OrderedDict()
        self._stream: Iterator[Image] | None = None
        self._next, self._step = -1, 1

    def get(self, index: int, step: int = 0) -> Image:
        """Frame `index`; step: +1 or -1 for a caller that will go on that way, 0 for a single frame. Do not change the
        array. Raises `FrameUnreadable`."""
        found = self._kept.get(index)
        if found is not None:
            return found
        if step == 0:
            image = self._source.read(index)
        else:
            if self._stream is None or (self._next, self._step) != (index, step):
                self._close()
                stop = self._source.info.frames if step > 0 else -1
                self._stream, self._step = iter(self._source.stream(index, stop)), step
            self._next = -1  # an error on the way leaves no usable stream
            image = next(self._stream)
            self._next = index + step
        self._kept[index] = image
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return image

    def close(self) -> None:
        self._close()
        self._source.close()

    def _close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()
        self._stream = None
