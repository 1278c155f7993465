"""What travels between the apps and the workbench, in the order of its arrival."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/public/api/v3/"
KEPT = 20_000


@dataclass(frozen=True)
class Call:
    method: str
    body: Any


class Log:
    """Calls of REST methods with their JSON bodies; the oldest go."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def of_track(self, track_id: str) -> list[Call]:
        """Figures written and messages sent for a track."""
        with self._lock:
            calls = list(self._calls)
        return [call for call in calls if track_id in _tracks(call.body)]


def _tracks(body: Any) -> set[Any]:
    if not isinstance(body, dict):
        return set()
    figures = body.get("figures")
    inside = [body.get("data"), body.get("payload"), *(figures if isinstance(figures, list) else ())]
    return {part.get("trackId") for part in inside if isinstance(part, dict)}


class Wiretap:
    """ASGI middleware that writes down calls that carry JSON; it changes none."""

    def __init__(self, app: ASGIApp, log: Log) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or not path.startswith(API) or b"json" not in headers.get(b"content-type", b""):
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                parts.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self._log.add(Call(path.removeprefix(API), json.loads(b"".join(parts) or b"null")))
            return message

        await self._app(scope, heard, send)
