"""What running tracks say about themselves, for whoever watches: kept for a while, handed to subscribers, answered.

All calls happen in the event loop's thread, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from apps.workbench.store.database import now

Kind = Literal["notify", "action", "stop", "task", "change"]

KEPT = 1000
QUEUE = 500
REMEMBERED_STOPS = 10_000


@dataclass(frozen=True)
class Event:
    """One message. number rises by one with each; body is what the app sent (never a token: apps send none here)."""

    number: int
    kind: Kind
    time: str
    body: dict[str, Any]

    @property
    def track_id(self) -> str | None:
        inner = self.body.get("data") or self.body.get("payload") or self.body
        track_id = inner.get("trackId") if isinstance(inner, dict) else None
        return None if track_id is None else str(track_id)

    def to_json(self) -> dict[str, Any]:
        return {"number": self.number, "kind": self.kind, "time": self.time, "body": self.body}


@dataclass
class Subscription:
    """Events for one watcher that may be slow: the oldest are dropped, and counted, once too many wait."""

    queue: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    dropped: int = 0

    def put(self, event: Event | None) -> None:
        """None: there will be no more."""
        if self.queue.full():
            self.queue.get_nowait()
            self.dropped += 1
        self.queue.put_nowait(event)


class Hub:
    """Notifications, subscribers, and which tracks were asked to stop."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._next = 1
        self._subscriptions: list[Subscription] = []
        self._stopped: OrderedDict[str, None] = OrderedDict()
        self._closed = False

    def publish(self, kind: Kind, body: dict[str, Any]) -> Event:
        event = Event(self._next, kind, now(), body)
        self._next += 1
        self._events.append(event)
        for subscription in self._subscriptions:
            subscription.put(event)
        return event

    @property
    def last(self) -> int:
        """Number of the newest event."""
        return self._next - 1

    def running(self, video_id: int) -> list[dict[str, Any]]:
        """The latest progress of each track of a video that has not said that it is done."""
        found: dict[str, dict[str, Any]] = {}
        for event in self._events:
            data = event.body.get("data")
            if event.kind != "notify" or not isinstance(data, dict) or str(data.get("videoId")) != str(video_id):
                continue
            track, progress = event.track_id, data.get("progress")
            if track is None or not isinstance(progress, dict):
                continue
            found.pop(track, None)
            if progress.get("current", 0) < progress.get("total", 0):
                found[track] = data
        return list(found.values())

    def close(self) -> None:
        """Ends the streams of all watchers, which a server that shuts down would otherwise wait for."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.put(None)

    def recent(self, after: int = 0, track_id: str | None = None) -> list[Event]:
        """The last events (at most `KEPT`) with a number above `after`."""
        return [e for e in self._events if e.number > after and track_id in (None, e.track_id)]

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        subscription = Subscription()
        if self._closed:
            subscription.put(None)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)

    def stop(self, track_id: str) -> None:
        """From now on every progress message of that track is answered with "stopped"."""
        self._stopped[track_id] = None
        self._stopped.move_to_end(track_id)
        while len(self._stopped) > REMEMBERED_STOPS:
            self._stopped.popitem(last=False)
        self.publish("stop", {"trackId": track_id})

    def resume(self, track_id: str) -> None:
        """Forgets the request to stop: the same track was started again."""
        self._stopped.pop(track_id, None)

    def stopped(self, track_id: str) -> bool:
        return track_id in self._stopped
