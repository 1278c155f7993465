"""The SQLite file of one job: opened where it was left, begun anew for another job or when it is damaged.

Its schema has a table `job` with one row and a column `fingerprint`: text that identifies the job.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import OutputUnusable


def connect(path: Path) -> sqlite3.Connection:
    """A database that one process uses: two runs of one job would write through each other."""
    db = sqlite3.connect(path, timeout=1)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -2000")
    return db


def open_job(path: Path, fingerprint: str, schema: str) -> tuple[sqlite3.Connection, bool]:
    """The job's database, and whether it was there already. A file of another job is discarded.

    Raises `sqlite3.Error`, so use it within `storing`.
    """
    if path.exists():
        try:
            db = connect(path)
            (found,) = db.execute("SELECT fingerprint FROM job").fetchone() or (None,)
            if found == fingerprint:
                return db, True
            db.close()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise
        for leftover in path.parent.glob(path.name + "*"):
            leftover.unlink()
    db = connect(path)
    db.executescript("BEGIN;" + schema)
    db.execute("INSERT INTO job (id, fingerprint) VALUES (1, ?)", (fingerprint,))
    db.commit()
    return db, False


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Raises `OutputUnusable` for what the database cannot do: no space left, or another process is at it."""
    try:
        yield
    except sqlite3.Error as error:
        busy = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
        why = "another run is writing there; wait for it, or choose another folder" if busy else f"{error}"
        raise OutputUnusable(f"The results cannot be written to {folder}: {why}.") from error
