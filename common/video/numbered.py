"""A stretch of a video frame by frame, on past frames that cannot be had."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from common.errors import FrameUnreadable
from common.video.contract import FrameSource, Image
from common.video.prefetch import prefetch


def numbered(
    source: FrameSource, start: int, stop: int
) -> Generator[tuple[int, Image] | tuple[int, FrameUnreadable], None, None]:
    """(number, picture) of the frames of `source.stream(start, stop)`, decoded ahead on another thread.

    A frame that cannot be had is given as (number, what is wrong with it), and the next one follows. Close it
    (`contextlib.closing`) where it may outlive its loop.
    """
    step = 1 if stop > start else -1
    while start != stop:
        with closing(prefetch(source.stream(start, stop))) as images:
            try:
                for image in images:
                    yield start, image
                    start += step
                return
            except FrameUnreadable as error:
                yield start, error
                start += step
