"""The progress bar that the annotation tool shows for a track, and what it tells the labeler."""

from __future__ import annotations

import logging
import threading
from collections import deque

from apps.auto_track.updates import TrackContext
from common.supervisely_io.progress import ProgressChannel
from common.supervisely_io.server import Server

log = logging.getLogger(__name__)


class Bar:
    """Shown from the first moment to the end of what was asked for; while a session lingers there is none.

    `advance` and `changed` are called on the writer's thread, everything else on the session's.
    """

    def __init__(self, server: Server, track_id: str, stop: threading.Event) -> None:
        self._server, self._track_id, self._stop = server, track_id, stop
        self._channel: ProgressChannel | None = None
        self._told = self._promised = 0
        self._warnings: deque[str] = deque(maxlen=100)

    @property
    def shown(self) -> bool:
        return self._channel is not None

    def begin(self, context: TrackContext) -> None:
        self._channel = ProgressChannel(
            self._server,
            context.track_id,
            context.video_id,
            1,
            source_frame=context.frame_index,
            session_id=context.session_id,
            direct=context.direct and context.session_id is not None,
            stop=self._stop,
        )
        self._told, self._promised = 1, 0
        while self._warnings:
            self._channel.warn(self._warnings.popleft())

    def promise(self, steps: int) -> None:
        """So many figures are on their way to the server."""
        self._promised += steps

    def extend(self, left: int) -> None:
        """The bar's length is what is done, what is on its way, and what is left; it grows when more is asked for."""
        total = self._promised + left
        if self._channel is not None and total > self._told:
            self._channel.extend(total - self._told)
            self._told = total

    def advance(self, frame: int, steps: int) -> None:
        """So many are there."""
        channel = self._channel
        if channel is not None and steps:
            channel.advance(frame, steps)

    def changed(self, frame: int) -> None:
        """What the tool shows of that frame is no longer so, though nothing more is there."""
        channel = self._channel
        if channel is not None:
            channel.advance(frame, 0)

    def warn(self, message: str) -> None:
        """Now, or as soon as a bar is shown."""
        log.info("track %s: %s", self._track_id, message)
        if self._channel is not None:
            self._channel.warn(message)
        else:
            self._warnings.append(message)

    def end(self, error: str | None = None) -> None:
        """Full; error: told before."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.finish(error)
