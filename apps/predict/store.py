"""Jobs on disk: what was asked for, which videos, how far each is; read by every request, written by the one that runs them."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.errors import OutputUnusable

Status = Literal["queued", "running", "stopping", "stopped", "finished", "failed"]
VideoStatus = Literal["waiting", "working", "done", "skipped", "stopped", "failed"]

OVER: tuple[Status, ...] = ("stopped", "finished", "failed")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, created REAL NOT NULL, ended REAL, status TEXT NOT NULL, parameters TEXT NOT NULL,
    address TEXT NOT NULL, message TEXT NOT NULL DEFAULT '', project INTEGER, stop_after INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS videos (
    job TEXT NOT NULL, number INTEGER NOT NULL, video INTEGER NOT NULL, name TEXT NOT NULL, frames INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'waiting', done INTEGER NOT NULL DEFAULT 0, whole INTEGER NOT NULL DEFAULT 0,
    target INTEGER, told TEXT NOT NULL DEFAULT '{}', message TEXT NOT NULL DEFAULT '', PRIMARY KEY (job, video)
);
CREATE TABLE IF NOT EXISTS portions (
    job TEXT NOT NULL, portion INTEGER NOT NULL, images TEXT NOT NULL, PRIMARY KEY (job, portion)
);
CREATE TABLE IF NOT EXISTS made (
    job TEXT NOT NULL, kind TEXT NOT NULL, source INTEGER NOT NULL, target INTEGER NOT NULL,
    PRIMARY KEY (job, kind, source)
);
"""
_VIDEO = ("video", "name", "frames", "status", "done", "whole", "target", "told", "message")


@dataclass(frozen=True)
class Job:
    """parameters: JSON of `RunParameters`. project: id of the one that results go to, once it is known."""

    id: str
    created: float
    status: Status
    parameters: dict[str, Any]
    address: str
    message: str
    project: int | None
    stop_after: bool


@dataclass(frozen=True)
class VideoRow:
    """One video of a job. done, whole: of the work on it. told: what came of it."""

    video: int
    name: str
    frames: int
    status: VideoStatus
    done: int
    whole: int
    target: int | None
    told: dict[str, Any]
    message: str

    def to_json(self) -> dict[str, Any]:
        share = 1.0 if self.status in ("done", "skipped") else min(self.done / self.whole, 1.0) if self.whole else 0.0
        return {
            "video_id": self.video,
            "name": self.name,
            "frames": self.frames,
            "status": self.status,
            "share": round(share, 4),
            "result_video_id": self.target,
            "message": self.message,
            **self.told,
        }


class JobStore:
    """Thread-safe. Tokens are never written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, timeout=5, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise OutputUnusable(f"The jobs cannot be kept in {path.parent}: {error}.") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def create(self, parameters: dict[str, Any], address: str, stop_after: bool = False) -> str:
        ident = uuid.uuid4().hex
        with self._writing() as db:
            db.execute(
                "INSERT INTO jobs (id, created, status, parameters, address, stop_after) VALUES (?, ?, 'queued', ?, ?, ?)",
                (ident, time.time(), json.dumps(parameters), address, stop_after),
            )
        return ident

    def job(self, ident: str) -> Job | None:
        rows = self._read("SELECT * FROM jobs WHERE id = ?", ident)
        return _job(rows[0]) if rows else None

    def jobs(self, most: int = 50) -> list[Job]:
        """The newest first."""
        return [_job(row) for row in self._read("SELECT * FROM jobs ORDER BY created DESC LIMIT ?", most)]

    def unfinished(self) -> list[Job]:
        """In the order in which they were asked for."""
        marks = ",".join("?" * len(OVER))
        return [
            _job(r) for r in self._read(f"SELECT * FROM jobs WHERE status NOT IN ({marks}) ORDER BY created", *OVER)
        ]

    def set_status(self, ident: str, status: Status, message: str = "") -> None:
        ended = time.time() if status in OVER else None
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET status = ?, message = ?, ended = ? WHERE id = ?", (status, message, ended, ident)
            )

    def set_project(self, ident: str, project: int) -> None:
        with self._writing() as db:
            db.execute("UPDATE jobs SET project = ? WHERE id = ?", (project, ident))

    def add_videos(self, job: str, videos: list[tuple[int, str, int]]) -> None:
        """(id, name, frames) each; those that are known stay as they are."""
        with self._writing() as db:
            db.executemany(
                "INSERT OR IGNORE INTO videos (job, number, video, name, frames) VALUES (?, ?, ?, ?, ?)",
                [(job, number, *video) for number, video in enumerate(videos)],
            )

    def add_portions(self, job: str, portions: list[tuple[str, tuple[int, ...]]]) -> None:
        """Of images: (name, ids) each. A portion is kept as a video is, under the id of its first image."""
        with self._writing() as db:
            db.executemany(
                "INSERT OR IGNORE INTO portions VALUES (?, ?, ?)",
                [(job, images[0], json.dumps(images)) for _, images in portions],
            )
            db.executemany(
                "INSERT OR IGNORE INTO videos (job, number, video, name, frames) VALUES (?, ?, ?, ?, ?)",
                [(job, number, images[0], name, len(images)) for number, (name, images) in enumerate(portions)],
            )

    def portions(self, job: str) -> dict[int, tuple[int, ...]]:
        """Ids of images by portion; {} for a job of videos."""
        rows = self._read("SELECT portion, images FROM portions WHERE job = ?", job)
        return {int(portion): tuple(json.loads(images)) for portion, images in rows}

    def of_images(self, job: str) -> bool:
        return bool(self._read("SELECT 1 FROM portions WHERE job = ? LIMIT 1", job))

    def videos(self, job: str) -> list[VideoRow]:
        rows = self._read(f"SELECT {', '.join(_VIDEO)} FROM videos WHERE job = ? ORDER BY number", job)
        return [VideoRow(**dict(zip(_VIDEO, row, strict=True)) | {"told": json.loads(row[7])}) for row in rows]

    def set_video(self, job: str, video: int, **changes: Any) -> None:
        if "told" in changes:
            changes["told"] = json.dumps(changes["told"])
        names = ", ".join(f"{name} = ?" for name in changes)
        with self._writing() as db:
            db.execute(f"UPDATE videos SET {names} WHERE job = ? AND video = ?", (*changes.values(), job, video))

    def made(self, job: str, kind: str, source: int) -> int | None:
        """What was made on the server for that source in that job."""
        rows = self._read("SELECT target FROM made WHERE job = ? AND kind = ? AND source = ?", job, kind, source)
        return int(rows[0][0]) if rows else None

    def note_made(self, job: str, kind: str, source: int, target: int) -> None:
        with self._writing() as db:
            db.execute("REPLACE INTO made VALUES (?, ?, ?, ?)", (job, kind, source, target))

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with self._db:
                    yield self._db
            except sqlite3.Error as error:
                raise OutputUnusable(f"The jobs cannot be written: {error}.") from error


def _job(row: Any) -> Job:
    ident, created, _, status, parameters, address, message, project, stop_after = row
    return Job(ident, created, status, json.loads(parameters), address, message, project, bool(stop_after))
