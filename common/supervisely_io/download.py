"""A video file from the server to disk: in ranges, resumed where it broke, checked at the end."""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common.errors import Interrupted, ServerRefused, ServerUnreachable, VideoUnreadable
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.retry import Retry
from common.supervisely_io.server import Server

log = logging.getLogger(__name__)

_PATIENCE = Retry(total_s=120.0, longest_s=10.0)


class NoRoom(Exception):
    """The file does not fit into the cache now."""


def download(
    server: Server,
    record: VideoRecord,
    part: Path,
    admit: Callable[[int], bool],
    cancelled: threading.Event,
    retry: Retry | None = None,
) -> None:
    """Fills `part` until it is the whole file. What it holds already, from an earlier attempt, is not fetched again.

    admit: told the size before a byte is written; False ends it with `NoRoom`. cancelled: ends it with `Interrupted`
    within a piece; the part stays. retry: its total counts from the last piece that came.
    Raises `ServerRefused`, `ServerUnreachable`, `VideoUnreadable` when the bytes are not those that the server
    announced, `OSError` when the disk is full.
    """
    digests: list[str] = []
    fetch = _Fetch(server, record, part, admit, cancelled, retry or _PATIENCE)
    while True:
        fetch.run()
        digest = _digest(part)
        wanted = fetch.checksum or _as_sha256(record.hash)
        if wanted is None or digest == wanted:
            return
        if digest in digests and fetch.checksum is None:
            # Twice the same bytes were not damaged on their way: this server's hash is of something else.
            log.warning("video %s arrives whole but its hash on the server is not that of its bytes", record.id)
            return
        part.unlink()
        if digests:
            raise VideoUnreadable(f"The file of {record.name} arrived damaged twice. Upload the video again.")
        digests.append(digest)


class _Fetch:
    def __init__(
        self,
        server: Server,
        record: VideoRecord,
        part: Path,
        admit: Callable[[int], bool],
        cancelled: threading.Event,
        retry: Retry,
    ) -> None:
        self._server, self._record, self._part, self._admit = server, record, part, admit
        self._cancelled, self._retry = cancelled, retry
        self._odd_sizes: list[int] = []
        self.checksum: str | None = None

    def run(self) -> None:
        """Until the part is as long as the server says that the file is."""
        chance = random.Random()
        failures, held, end = 0, -1, time.monotonic() + self._retry.total_s
        while True:
            have = self._part.stat().st_size if self._part.exists() else 0
            if have > held:
                failures, held, end = 0, have, time.monotonic() + self._retry.total_s
            try:
                if self._attempt(have):
                    return
            except ServerRefused as error:
                if error.status != 416:
                    raise
                self._part.unlink(missing_ok=True)  # longer than the file: not a part of it
                held = -1
            except ServerUnreachable as error:
                failures += 1
                wait = self._retry.wait(failures, chance, error.retry_after_s)
                if time.monotonic() + wait >= end:
                    raise
                if self._cancelled.wait(wait):
                    raise Interrupted("The download was ended.") from error

    def _attempt(self, have: int) -> bool:
        """One request; True when the file is whole."""
        if have and have == self._record.size_bytes:
            return True
        headers = {"range": f"bytes={have}-"} if have else {}
        with self._server.stream("videos.download", {"id": self._record.id}, headers=headers) as reply:
            if reply.status_code == 206:
                start, total = _range_of(reply.headers.get("content-range", ""))
            else:
                start, total = 0, int(reply.headers.get("content-length") or 0)
            self._check(total)
            self.checksum = _as_sha256(reply.headers.get("x-content-checksum-sha256", ""))
            if start not in (0, have):
                raise ServerUnreachable("The server sent another part of the file than was asked for.")
            if not self._admit(total):
                raise NoRoom
            with self._part.open("r+b" if self._part.exists() else "wb") as file:
                file.truncate(start)
                file.seek(start)
                for piece in reply.iter_raw():  # as it comes: pieces of a set size would be lost half full
                    if self._cancelled.is_set():
                        raise Interrupted("The download was ended.")
                    file.write(piece)
                length = file.tell()
        return total == 0 or length == total

    def _check(self, total: int) -> None:
        """A size other than the announced one is a broken reply, unless the server insists."""
        expected = self._record.size_bytes
        if total and expected and total != expected:
            self._odd_sizes.append(total)
            if self._odd_sizes.count(total) < 3:
                raise ServerUnreachable(
                    f"The file of {self._record.name} has {total} bytes, {expected} were announced."
                )


def _range_of(text: str) -> tuple[int, int]:
    """First byte and size of the whole out of "bytes 5-9/10"."""
    with suppress(ValueError):
        span, total = text.removeprefix("bytes ").split("/")
        return int(span.split("-")[0]), int(total)
    raise ServerUnreachable("The server answered a range of the file without saying which.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _as_sha256(text: str) -> str | None:
    """Hexadecimal digest out of base64 or hexadecimal; None for anything that is no SHA-256."""
    with suppress(ValueError):
        if len(text) == 64:
            return bytes.fromhex(text).hex()
        raw = base64.b64decode(text, validate=True)
        return raw.hex() if len(raw) == 32 else None
    return None
