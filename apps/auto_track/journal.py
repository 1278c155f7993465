"""What Auto Track needs to go on after a crash or a pause: small facts and engine snapshots, on disk, never a token."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    track TEXT PRIMARY KEY, server TEXT NOT NULL, context TEXT NOT NULL, state TEXT NOT NULL DEFAULT '{}',
    running INTEGER NOT NULL DEFAULT 1, touched REAL NOT NULL);
CREATE TABLE IF NOT EXISTS legs (track TEXT NOT NULL, facts TEXT NOT NULL, snapshot BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS legs_track ON legs (track);
CREATE TABLE IF NOT EXISTS rows (
    track TEXT NOT NULL, object INTEGER NOT NULL, start INTEGER NOT NULL, frame INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (track, object, start, frame)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owed (track TEXT PRIMARY KEY, data TEXT NOT NULL);
"""
_KEPT_SESSIONS = 50


@dataclass(frozen=True)
class SavedLeg:
    """An engine's run. facts: which objects and where, as JSON."""

    facts: Mapping[str, Any]
    snapshot: bytes


@dataclass(frozen=True)
class Saved:
    """A session as it was last written down."""

    track_id: str
    server: str
    context: Mapping[str, Any]
    state: Mapping[str, Any]
    running: bool
    legs: Sequence[SavedLeg]


class Journal:
    """One file for all sessions of this app. Thread-safe. Ended sessions are kept for "continue", the last fifty."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def begin(self, track_id: str, server: str, context: Mapping[str, Any]) -> None:
        """A session runs from now on. context: of its request, without tokens."""
        with self._lock, self._db:
            self._db.execute(
                "INSERT INTO sessions (track, server, context, touched) VALUES (?, ?, ?, ?) ON CONFLICT (track) DO "
                "UPDATE SET running = 1, touched = excluded.touched, server = excluded.server, context = excluded.context",
                (track_id, server, json.dumps(context), time.time()),
            )

    def save(self, track_id: str, state: Mapping[str, Any], legs: Sequence[SavedLeg] | None = None) -> None:
        """All of it or nothing. legs: None = as they were."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "UPDATE sessions SET state = ?, touched = ? WHERE track = ?",
                (json.dumps(state), time.time(), track_id),
            )
            if legs is not None:
                self._db.execute("DELETE FROM legs WHERE track = ?", (track_id,))
                self._db.executemany(
                    "INSERT INTO legs VALUES (?, ?, ?)",
                    [(track_id, json.dumps(leg.facts), leg.snapshot) for leg in legs],
                )
            self._db.execute("COMMIT")

    def end(self, track_id: str) -> None:
        """The session ended in good order."""
        with self._lock:
            self._db.execute("UPDATE sessions SET running = 0, touched = ? WHERE track = ?", (time.time(), track_id))
            old = self._db.execute(
                "SELECT track FROM sessions WHERE running = 0 ORDER BY touched DESC LIMIT -1 OFFSET ?",
                (_KEPT_SESSIONS,),
            ).fetchall()
        for (track,) in old:
            self.forget(track)

    def keep_running(self, tracks: Sequence[str]) -> None:
        """Their sessions were cut off by the end of the app, not by a person: they are unfinished."""
        with self._lock:
            self._db.executemany("UPDATE sessions SET running = 1 WHERE track = ?", [(track,) for track in tracks])

    def forget(self, track_id: str) -> None:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            for table in ("sessions", "legs", "rows", "owed"):
                self._db.execute(f"DELETE FROM {table} WHERE track = ?", (track_id,))
            self._db.execute("COMMIT")

    def load(self, track_id: str) -> Saved | None:
        with self._lock:
            row = self._db.execute(
                "SELECT server, context, state, running FROM sessions WHERE track = ?", (track_id,)
            ).fetchone()
            if row is None:
                return None
            legs = self._db.execute("SELECT facts, snapshot FROM legs WHERE track = ?", (track_id,)).fetchall()
        found = [SavedLeg(json.loads(facts), snapshot) for facts, snapshot in legs]
        return Saved(track_id, row[0], json.loads(row[1]), json.loads(row[2]), bool(row[3]), found)

    def unfinished(self) -> list[str]:
        """Sessions that ran when the app died."""
        with self._lock:
            return [track for (track,) in self._db.execute("SELECT track FROM sessions WHERE running = 1")]

    # --- transactions of cloud billing that are open ------------------------------------------------------------------

    def owe(self, track_id: str, owed: Sequence[Sequence[Any]]) -> None:
        """(transaction, figures to pay for)."""
        with self._lock, self._db:
            if owed:
                self._db.execute("INSERT OR REPLACE INTO owed VALUES (?, ?)", (track_id, json.dumps(owed)))
            else:
                self._db.execute("DELETE FROM owed WHERE track = ?", (track_id,))

    def owed(self, track_id: str) -> list[list[Any]]:
        with self._lock:
            row = self._db.execute("SELECT data FROM owed WHERE track = ?", (track_id,)).fetchone()
        return [] if row is None else list(json.loads(row[0]))

    # --- what one side of a gap says, until the other side is there ---------------------------------------------------

    def put_rows(self, track_id: str, rows: Sequence[tuple[int, int, int, bytes]]) -> None:
        """(object, start, frame, data)."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", [(track_id, *r) for r in rows])
            self._db.execute("COMMIT")

    def row(self, track_id: str, object_id: int, start: int, frame: int) -> bytes | None:
        with self._lock:
            found = self._db.execute(
                "SELECT data FROM rows WHERE track = ? AND object = ? AND start = ? AND frame = ?",
                (track_id, object_id, start, frame),
            ).fetchone()
        return None if found is None else bytes(found[0])
