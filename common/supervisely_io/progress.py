"""What a tracking job tells the annotation tool, and how it hears that it should stop."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from common.supervisely_io.server import Server


class ProgressChannel:
    """Messages about one track, on a thread of their own; none of them ever delays or ends the job.

    total: steps in all (frames x objects). source_frame: where the person drew; the first message, before any frame is
    confirmed, names it. session_id and direct: send to one session of the tool (`annotation-tool.run-action`); stop then
    comes some other way. stop: set at once when a reply says "stopped". every_s: at most one message in that time; when
    nothing changes, the last is repeated every `repeat_s`, because stop travels only in replies.
    """

    def __init__(
        self,
        server: Server,
        track_id: str,
        video_id: int,
        total: int,
        *,
        source_frame: int = 0,
        session_id: str | None = None,
        direct: bool = False,
        stop: threading.Event | None = None,
        every_s: float = 0.3,
        repeat_s: float = 1.0,
    ) -> None:
        raise NotImplementedError

    @property
    def stopped(self) -> threading.Event:
        """Set once the person pressed stop."""
        raise NotImplementedError

    def advance(self, frame: int, steps: int = 1, tracked: Sequence[int] = ()) -> None:
        """A frame is confirmed on the server. tracked: source figure ids that got a figure on it."""
        raise NotImplementedError

    def extend(self, steps: int) -> None:
        """The job grew ("continue")."""
        raise NotImplementedError

    def warn(self, message: str) -> None:
        """Shown to the person; the job goes on. The same text is sent once."""
        raise NotImplementedError

    def finish(self, error: str | None = None) -> None:
        """Sends the error if there is one, then the one message with current == total; waits for them (bounded)."""
        raise NotImplementedError
