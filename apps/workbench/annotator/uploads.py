"""Uploads of large files from the page: in pieces, each at the place where the last ended, so that they can be resumed."""

from __future__ import annotations

import re
import secrets
import threading
import time
from pathlib import Path

from apps.workbench.store.errors import Refused, TooLarge, missing

STALE_S = 7 * 24 * 3600
MOST_OPEN = 100
_IDENT = re.compile(r"[0-9a-f]{32}")


class Uploads:
    """Files that are on their way, in a folder of their own. Safe to use from several threads.

    A name that a browser sends becomes no path: a file lies under the id that was made for it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for part in folder.iterdir():
            if time.time() - part.stat().st_mtime > STALE_S:
                part.unlink(missing_ok=True)

    def begin(self, size: int) -> str:
        if size > self._max_bytes:
            raise TooLarge(f"The file is larger than {self._max_bytes} bytes, the most taken here.")
        with self._lock:
            if sum(1 for _ in self._folder.iterdir()) >= MOST_OPEN:
                raise Refused(
                    "Too many uploads were begun and not finished; those of last week are deleted at the next start."
                )
            ident = secrets.token_hex(16)
            self._path(ident).touch(mode=0o600)
        return ident

    def offset(self, ident: str) -> int:
        """How many bytes have arrived. Raises `NotFound`."""
        path = self._path(ident)
        if not path.exists():
            raise missing("upload", ident)
        return path.stat().st_size

    def append(self, ident: str, offset: int, piece: bytes) -> int:
        """How many bytes there are now. A piece that does not begin where the file ends changes nothing."""
        with self._lock:
            there = self.offset(ident)
            if offset != there:
                return there
            if there + len(piece) > self._max_bytes:
                raise TooLarge(f"The file is larger than {self._max_bytes} bytes, the most taken here.")
            with self._path(ident).open("ab") as file:
                file.write(piece)
            return there + len(piece)

    def path(self, ident: str) -> Path:
        self.offset(ident)
        return self._path(ident)

    def remove(self, ident: str) -> None:
        self._path(ident).unlink(missing_ok=True)

    def _path(self, ident: str) -> Path:
        if not _IDENT.fullmatch(ident):
            raise missing("upload", ident[:40])
        return self._folder / ident
