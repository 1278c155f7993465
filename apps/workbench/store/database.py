"""The database: one file, many readers at a time, one writer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.orm import Session

from apps.workbench.store.migrations import migrate

BUSY_TIMEOUT_MS = 20_000


class Database:
    """SQLite through SQLAlchemy, write-ahead log, foreign keys on.

    `read()` and `write()` give sessions for one transaction each. Readers see the state at their start and block nobody;
    writers take turns (a lock in this process, BEGIN IMMEDIATE against other processes), so "database is locked" is not
    something a request can meet within the busy timeout.
    """

    def __init__(self, path: Path) -> None:
        migrate(path)
        self._engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
            pool_size=8,
            max_overflow=56,
        )
        self._writing = threading.Lock()
        event.listen(self._engine, "connect", _on_connect)
        event.listen(self._engine, "begin", _on_begin)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only view; anything changed through it is lost."""
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed when the block ends well, and undone when it raises."""
        with self._writing, Session(self._engine.execution_options(workbench_write=True)) as session, session.begin():
            yield session

    def close(self) -> None:
        self._engine.dispose()


def _on_connect(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.isolation_level = None  # we say BEGIN ourselves: the driver would begin only before a write
    cursor = dbapi_connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "temp_store = MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("workbench_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def new_ids(session: Session, table: str, count: int) -> range:
    """Consecutive ids for `count` rows about to be inserted into `table`; only within `Database.write`.

    Taking them beforehand makes the order of ids the order of the request, whatever the insert does.
    """
    seen = session.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :t"), {"t": table}).scalar()
    start = (seen or 0) + 1
    return range(start, start + count)


def now() -> str:
    """This moment as the platform writes it: 2026-01-31T12:00:00.000Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def portions(idents: Sequence[int]) -> Iterator[Sequence[int]]:
    """So many that one statement takes them: SQLite takes about 32 thousand values."""
    for start in range(0, len(idents), 10_000):
        yield idents[start : start + 10_000]
