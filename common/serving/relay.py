"""Progress for a caller who listens on the connection that started the job (`/track_stream`)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any


class Relay:
    """Collects what a job tells until the next look. Thread-safe; holds a span and a few sentences, however long the job."""

    def __init__(self, track_id: object, video_id: object, session_id: object) -> None:
        self._about = {"trackId": track_id, "videoId": video_id}
        self._session_id = session_id
        self._span: tuple[int, int] | None = None
        self._warnings: list[str] = []
        self._error: str | None = None
        self._told_end = False
        self._lock = threading.Lock()

    def advance(self, frame: int, steps: int = 1, tracked: Sequence[int] = ()) -> None:
        with self._lock:
            low, high = self._span or (frame, frame)
            self._span = min(low, frame), max(high, frame)

    def extend(self, steps: int) -> None:
        """The job counts its own steps."""

    def warn(self, message: str) -> None:
        with self._lock:
            if message not in self._warnings and len(self._warnings) < 50:
                self._warnings.append(message)

    def finish(self, error: str | None = None, timeout_s: float = 40.0) -> bool:
        with self._lock:
            self._error = error
        return True

    def news(self, done: int, total: int, ended: bool) -> list[dict[str, Any]]:
        """Messages since the last look; when the job ended: the error if there is one, then current == total."""
        with self._lock:
            payloads: list[dict[str, Any]] = [{"type": "warning", "message": text} for text in self._warnings]
            self._warnings.clear()
            if ended and not self._told_end:
                self._told_end = True
                if self._error is not None:
                    payloads.append({"type": "error", "error": {"message": self._error}})
                payloads.append(self._progress(total, total))
            elif self._span is not None:
                payloads.append(self._progress(min(done, total - 1), total))
            self._span = None
            return [
                {"sessionId": self._session_id, "action": "progress", "payload": {**self._about, **payload}}
                for payload in payloads
            ]

    def _progress(self, current: int, total: int) -> dict[str, Any]:
        payload: dict[str, Any] = {"progress": {"current": current, "total": total}}
        if self._span is not None:
            payload["frameRange"] = list(self._span)
        return payload
