"""What an upload has done so far, beside the video's journal: which objects it made, up to which frame figures are stored."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS objects (identity INTEGER PRIMARY KEY, object INTEGER NOT NULL, ours INTEGER NOT NULL);
"""


class Ledger:
    """Use as a context manager. Thread-safe: the writer's thread notes frames, the upload's reads."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=5, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._db.close()

    def get(self, name: str, default: Any = None) -> Any:
        with self._lock:
            row = self._db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def note(self, name: str, value: Any) -> None:
        with self._lock, self._db:
            self._db.execute("REPLACE INTO notes VALUES (?, ?)", (name, json.dumps(value)))

    def objects(self) -> dict[int, tuple[int, bool]]:
        """Object by identity, and whether it was made here."""
        with self._lock:
            rows = self._db.execute("SELECT identity, object, ours FROM objects ORDER BY identity").fetchall()
        return {int(identity): (int(ident), bool(ours)) for identity, ident, ours in rows}

    def note_objects(self, objects: Mapping[int, int], ours: bool) -> None:
        with self._lock, self._db:
            rows = [(identity, ident, ours) for identity, ident in objects.items()]
            self._db.executemany("REPLACE INTO objects VALUES (?, ?, ?)", rows)
