"""Results that wait to be fetched: bounded, so that a caller who fetches slowly slows the tracker instead of filling memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from common.errors import Interrupted, UserError

ARRAY_LENGTH = 17
"""Fields of the SDK's FigureInfo, in whose order apps built on it give figures."""


class ResultsNotFetched(UserError):
    """Nobody came for the results for so long that the job ends."""


class ResultStore:
    """Figures of one job by frame. Thread-safe.

    max_bytes: `put` waits while more than this waits to be fetched. idle_s: how long it waits for the next fetch. size: about
    how many bytes an entry takes.
    """

    def __init__(
        self,
        max_bytes: int = 16 * 1024 * 1024,
        idle_s: float = 600.0,
        size: Callable[[Mapping[str, Any]], int] | None = None,
    ) -> None:
        self._max_bytes, self._idle_s, self._size = max_bytes, idle_s, size or _size
        self._frames: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        self._bytes = 0
        self._fetched_at = time.monotonic()
        self._waits = self._closed = False
        self._changed = threading.Condition()

    @property
    def paused(self) -> bool:
        """Whether the tracker waits for somebody to fetch."""
        with self._changed:
            return self._waits

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._frames.values()))

    def put(self, frame: int, figures: list[dict[str, Any]], stop: threading.Event) -> None:
        """Raises `Interrupted` once stop is set or the store is closed, `ResultsNotFetched` when nobody fetches."""
        sized = [(self._size(figure), figure) for figure in figures]
        more = sum(size for size, _ in sized)
        with self._changed:
            began = time.monotonic()
            while self._bytes and self._bytes + more > self._max_bytes:
                if stop.is_set() or self._closed:
                    break
                if time.monotonic() - max(began, self._fetched_at) > self._idle_s:
                    raise ResultsNotFetched(f"Nobody fetched the results for {self._idle_s:.0f} s.")
                self._waits = True
                self._changed.wait(0.2)  # the stop event wakes nobody here
            self._waits = False
            if stop.is_set() or self._closed:
                raise Interrupted("Stopped before the results were fetched.")
            if sized:
                self._frames.setdefault(frame, []).extend(sized)
            self._bytes += more

    def pop(self, frame_range: tuple[int, int] | None = None) -> list[dict[str, Any]]:
        """The figures on those frames (first, last; both within, in either order), or all; they are gone from here then."""
        with self._changed:
            if frame_range is None:
                frames = list(self._frames)
            else:
                low, high = min(frame_range), max(frame_range)
                frames = [frame for frame in self._frames if low <= frame <= high]
            taken = [entry for frame in frames for entry in self._frames.pop(frame)]
            self._bytes -= sum(size for size, _ in taken)
            self._fetched_at = time.monotonic()
            self._changed.notify_all()
            return [figure for _, figure in taken]

    def close(self) -> None:
        """Drops everything; what is put from now on is refused."""
        with self._changed:
            self._frames.clear()
            self._bytes = 0
            self._closed = True
            self._changed.notify_all()


def _size(figure: Mapping[str, Any]) -> int:
    """About how many bytes a figure takes, without writing it out."""
    geometry = figure.get("geometry") or {}
    bitmap = geometry.get("bitmap")
    if isinstance(bitmap, Mapping):
        return 1000 + len(bitmap.get("data") or "")
    nodes = geometry.get("nodes")
    if isinstance(nodes, Mapping):
        return 1000 + 400 * len(nodes)
    points = geometry.get("points")
    if isinstance(points, Mapping):
        rings = [points.get("exterior") or [], *(points.get("interior") or [])]
        return 1000 + 150 * sum(map(len, rings))
    return 1500


def as_array(figure: Mapping[str, Any]) -> list[Any]:
    """The figure as a positional array, as SDK apps answer: id, ..., objectId (5), frame (8), type (9), geometry (10),
    meta (13)."""
    row: list[Any] = [None] * ARRAY_LENGTH
    row[0], row[5] = figure["id"], figure["objectId"]
    row[8], row[9], row[10] = figure["meta"]["frame"], figure["geometryType"], figure["geometry"]
    row[13] = figure["meta"]
    return row
