"""What a tracking job tells the annotation tool, and how it hears that it should stop."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError
from common.supervisely_io.background import Background
from common.supervisely_io.retry import Retry
from common.supervisely_io.server import Server

log = logging.getLogger(__name__)

Span = tuple[int, int]
"""First and last frame, both within."""

FIRST_S, EVERY_S, REPEAT_S = 0.4, 1.8, 2.5
"""Seconds, see `ProgressChannel`: `EVERY_S` is a little less than `writer.PACE_S`, so that each writing is told of at once."""

_SOON_S = 0.2
_MOST_SPANS = 8
_UNDERWAY = Retry(total_s=2.0, first_s=0.1, longest_s=0.5)
_FINAL = Retry(total_s=30.0, longest_s=4.0)
_MOST_WARNINGS = 50
_TEXT_LENGTH = 1000


@dataclass
class _State:
    """What there is to tell."""

    total: int
    done: int = 0
    news: list[Span] = field(default_factory=list)
    """Frames confirmed since the last message that told of them arrived."""
    spans: list[Span] = field(default_factory=list)
    """Frames confirmed in all."""


class ProgressChannel:
    """Messages about one track, on a thread of their own; none of them ever delays or ends the job.

    total: steps in all (frames x objects). source_frame: where the person drew; messages before any frame is confirmed
    name it. session_id and direct: send to one session of the tool (`annotation-tool.run-action`); stop then comes some
    other way. stop: set at once when a reply says "stopped". first_s: so long the first message waits for a confirmed frame
    to tell of. every_s: at most one message in that time, and one as soon as there is something new; when nothing changes
    the last is repeated every repeat_s, because the wish to stop travels only in replies. Warnings do not wait.

    Progress never falls, and exactly one message has current == total: the last one, sent by `finish` however the job
    ended. frameRange ascends and holds confirmed frames only (frames confirmed in several places are told of one after another). Messages that get lost are counted, and what they told is
    part of the next.
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
        first_s: float = FIRST_S,
        every_s: float = EVERY_S,
        repeat_s: float = REPEAT_S,
    ) -> None:
        if direct and session_id is None:
            raise ValueError("direct messages need the session they go to")
        # The job's stop must not keep the last messages from being sent, so the server gets an event of our own.
        self._given_up = threading.Event()
        self._server = server.to(session_id=session_id, stop=self._given_up)
        self._track_id, self._video_id, self._source = track_id, video_id, source_frame
        self._session_id, self._direct = session_id, direct
        self._stop = stop or threading.Event()
        self._first_s, self._every_s, self._repeat_s = first_s, every_s, repeat_s
        self._state = _State(max(1, total))
        self._tracked: dict[int, int] = {}
        self._warnings: deque[str] = deque()
        self._warned: set[str] = set()
        self._error: str | None = None
        self._finishing = False
        self._lost = 0
        self._changed = threading.Condition()
        self._thread = Background(self._run, f"progress-{track_id}")

    @property
    def stopped(self) -> threading.Event:
        """Set once the person pressed stop."""
        return self._stop

    @property
    def lost(self) -> int:
        """Messages that never arrived."""
        with self._changed:
            return self._lost

    def advance(self, frame: int, steps: int = 1, tracked: Sequence[int] = ()) -> None:
        """A frame is confirmed on the server. tracked: ids of the source figures that got a figure on it."""
        with self._changed:
            state = self._state
            state.done += max(0, steps)
            state.news, state.spans = joined(state.news, (frame, frame)), joined(state.spans, (frame, frame))
            for ident in tracked:
                self._tracked[ident] = self._tracked.get(ident, 0) + 1
            self._changed.notify_all()

    def extend(self, steps: int) -> None:
        """The job grew by so many steps ("continue")."""
        with self._changed:
            self._state.total += max(0, steps)

    def warn(self, message: str) -> None:
        """Shown to the person; the job goes on. A text is sent once, and at most fifty are."""
        with self._changed:
            if message in self._warned or len(self._warned) >= _MOST_WARNINGS:
                return
            self._warned.add(message)
            self._warnings.append(message)
            self._changed.notify_all()

    def finish(self, error: str | None = None, timeout_s: float = 40.0) -> bool:
        """Sends the error if there is one, then the one message with current == total, and waits for them.

        False when they had not arrived after timeout_s; they are then given up. A second call changes nothing.
        """
        with self._changed:
            if not self._finishing:
                self._finishing, self._error = True, error
            self._changed.notify_all()
        if not self._thread.join(timeout_s):
            self._given_up.set()
            self._thread.join(1.0)
        self._thread.check()
        with self._changed:
            return self._thread.ended and not self._given_up.is_set() and not self._state.news

    def _run(self) -> None:
        told, next_news = 0, 0.0
        silent_until = time.monotonic() + self._first_s
        while True:
            with self._changed:
                while not (self._finishing or self._warnings):
                    now = time.monotonic()
                    news = self._state.done != told or bool(self._state.news)
                    due = next_news if news else silent_until
                    if due <= now:
                        break
                    self._changed.wait(min(due - now, threading.TIMEOUT_MAX))
                finishing = self._finishing
                warnings = list(self._warnings)
                self._warnings.clear()
                done = self._state.done
            for message in warnings:
                self._send_warning(message)
            if finishing:
                break
            if warnings:
                continue
            self._send_progress(final=False)
            told, now = done, time.monotonic()
            # Frames in another place, or a message that got lost: that is told of soon.
            next_news = now + (min(_SOON_S, self._every_s) if self._state.news else self._every_s)
            silent_until = now + self._repeat_s if not self._direct else float("inf")
        while len(self._state.news) > 1 and self._send_progress(final=False):
            pass  # frames in several places: the last message can tell of one
        if self._error is not None:
            self._send_error(self._error)
        self._send_progress(final=True)

    def _send_progress(self, final: bool) -> bool:
        """One message; whether it arrived."""
        with self._changed:
            state = self._state
            here = (self._source, self._source)
            if final and len(state.spans) == 1:
                told = state.spans[0]
            else:
                told = state.news[0] if state.news else state.spans[-1] if final and state.spans else here
            # The tool takes current == total for the end, so only the last message may say it.
            current = state.total if final else min(state.done, state.total - 1)
            data: dict[str, Any] = {
                "trackId": self._track_id,
                "videoId": self._video_id,
                "frameRange": list(told),
                "progress": {"current": current, "total": state.total},
            }
            if self._tracked and not self._direct:
                data["trackedFigures"] = {str(ident): count for ident, count in self._tracked.items()}
            sent, state.news = state.news[:1], state.news[1:]
        reply = self._send("videos:fetch-figures-in-range", data, _FINAL if final else _UNDERWAY)
        if reply is None:
            with self._changed:
                for span in sent or [here] * final:
                    state.news = joined(state.news, span)
            return False
        if isinstance(reply, dict) and reply.get("stopped") is True:
            self._stop.set()
        return True

    def _send_error(self, message: str) -> None:
        error = {"message": message[:_TEXT_LENGTH]}
        if self._direct:
            data = {"trackId": self._track_id, "videoId": self._video_id, "type": "error", "error": error}
        else:
            data = {"trackId": self._track_id, "videoId": str(self._video_id), "error": error}
        self._send("videos:tracking-error", data, _FINAL)

    def _send_warning(self, message: str) -> None:
        text = message[:_TEXT_LENGTH]
        if self._direct:
            data = {"trackId": self._track_id, "videoId": self._video_id, "type": "warning", "message": text}
        else:
            data = {"videoId": str(self._video_id), "trackId": str(self._track_id), "message": text}
        self._send("videos:tracking-warning", data, _UNDERWAY)

    def _send(self, kind: str, data: dict[str, Any], patience: Retry) -> Any:
        """The reply, None when there is none to be had: the figures are safe, so a lost message must not end the job."""
        try:
            if self._direct:
                payload = {
                    "sessionId": self._session_id,
                    "action": "figures/setDirectTrackingProgress",
                    "payload": data,
                }
                reply = self._server.call("annotation-tool.run-action", payload, retry=patience)
            else:
                reply = self._server.call("videos.notify-annotation-tool", {"type": kind, "data": data}, retry=patience)
        except UserError as error:
            with self._changed:
                self._lost += 1
            log.warning("a %s message of track %s was lost: %s", kind, self._track_id, error)
            return None
        return {} if reply is None else reply


def joined(spans: Sequence[Span], new: Span) -> list[Span]:
    """Ascending spans that do not touch, with one more. Beyond `_MOST_SPANS` the two nearest become one.

    >>> joined([(1, 3), (9, 9)], (4, 4)), joined([(1, 3), (5, 9)], (4, 4)), joined([(5, 5)], (1, 2))
    ([(1, 4), (9, 9)], [(1, 9)], [(1, 2), (5, 5)])
    """
    result: list[Span] = []
    for first, last in sorted([*spans, new]):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    while len(result) > _MOST_SPANS:
        _, place = min((result[i + 1][0] - result[i][1], i) for i in range(len(result) - 1))
        result[place : place + 2] = [(result[place][0], result[place + 1][1])]
    return result
