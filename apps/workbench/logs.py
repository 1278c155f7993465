"""A log file that cannot grow for ever: when full it becomes name.1, name.2 ... and the oldest goes."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO


class RotatingLog:
    """Bytes appended to a file of at most `limit` bytes, with `keep` older ones beside it."""

    def __init__(self, path: Path, limit: int = 5 * 1024 * 1024, keep: int = 3) -> None:
        self._path, self._limit, self._keep = path, limit, keep
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab")

    def write(self, data: bytes) -> None:
        if self._file.tell() + len(data) > self._limit:
            self._file.close()
            for number in range(self._keep - 1, 0, -1):
                older = self._older(number)
                if older.exists():
                    older.replace(self._older(number + 1))
            self._path.replace(self._older(1))
            self._file = self._path.open("ab")
        self._file.write(data)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
