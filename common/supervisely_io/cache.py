"""Video files of servers on this machine's disk: fetched once, shared by processes, bounded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.video.contract import FrameSource


class VideoCache:
    """A folder of video files, at most max_bytes of them; the least recently used go first, none that is open goes.

    Several processes may share the folder. Thread-safe.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        raise NotImplementedError

    def open(self, server: Server, record: VideoRecord) -> FrameSource:
        """Frames of that video, at once: single frames come from the server until the whole file is here."""
        raise NotImplementedError

    def warm(self, server: Server, record: VideoRecord, ranges: Sequence[tuple[int, int]] = ()) -> None:
        """Begins to fetch a video in the background (`smart_cache`). ranges: frames (first, last) that come first."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends downloads; what they have so far stays for the next time."""
        raise NotImplementedError
