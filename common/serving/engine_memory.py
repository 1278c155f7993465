"""What trackers remember between the batches of one tracking: snapshots under a handle, bounded in number, bytes and time.

Snapshots, not live trackers: their size is known, two requests cannot disturb each other, and a batch that is sent again
after a failure finds the state it started from.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from common.geometry.shapes import Value


@dataclass(frozen=True)
class MemoryKey:
    """Whose memory of what. owner: fingerprint of the caller, so that nobody continues another's tracking by its handle."""

    owner: bytes
    session: str
    video_id: int
    step: int


@dataclass(frozen=True)
class Remembered:
    """One tracker with the objects it follows.

    engine: tracker name. snapshot: of its `LiveTrack`. frame: the last one it was given. last: the value given out last
    of every object that it still follows; what a caller must send back to continue it. drawn: the value that each was
    started from, which what is given out resembles (a polygon that was cut at the picture's edge has other vertices).
    """

    engine: str
    snapshot: bytes
    frame: int
    last: Mapping[str, Value]
    drawn: Mapping[str, Value]

    def __len__(self) -> int:
        return len(self.snapshot)


class EngineMemory:
    """Memory of many trackings; the least recently used is forgotten first. Thread-safe.

    ttl_s: a tracking that nobody continued for so long is forgotten. A single one above max_bytes is not kept at all.
    """

    def __init__(self, max_entries: int = 64, max_bytes: int = 512 * 1024 * 1024, ttl_s: float = 900.0) -> None:
        self._max_entries, self._max_bytes, self._ttl_s = max_entries, max_bytes, ttl_s
        self._kept: OrderedDict[MemoryKey, tuple[float, int, tuple[Remembered, ...]]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        with self._lock:
            return self._bytes

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept)

    def get(self, key: MemoryKey) -> tuple[Remembered, ...]:
        """What is remembered, () when nothing is."""
        with self._lock:
            self._expire()
            entry = self._kept.get(key)
            if entry is None:
                return ()
            self._kept.move_to_end(key)
            return entry[2]

    def put(self, key: MemoryKey, trackers: tuple[Remembered, ...]) -> None:
        """Replaces what was remembered under the key."""
        size = sum(map(len, trackers))
        with self._lock:
            self._drop(key)
            self._expire()
            if not trackers or size > self._max_bytes:
                return
            while len(self._kept) >= self._max_entries or self._bytes + size > self._max_bytes:
                self._drop(next(iter(self._kept)))
            self._kept[key] = (time.monotonic(), size, trackers)
            self._bytes += size

    def _expire(self) -> None:
        old = time.monotonic() - self._ttl_s
        for key in [key for key, (used, _, _) in self._kept.items() if used < old]:
            self._drop(key)

    def _drop(self, key: MemoryKey) -> None:
        entry = self._kept.pop(key, None)
        if entry is not None:
            self._bytes -= entry[1]
