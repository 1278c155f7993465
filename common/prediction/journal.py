"""One video's predictions on disk: rows, and a snapshot to go on from, in one transaction; killed anywhere, it continues.

SQLite in write-ahead mode. Rows and the snapshot that has seen exactly those rows are stored together, so a job that was
killed repeats a few seconds of work and writes nothing twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.association.contract import Affine, Given, Tracks
from common.detection.contract import DetectorCard, Finds
from common.geometry import codec
from common.geometry.detections import Detections
from common.geometry.types import Geometry
from common.prediction import kept
from common.prediction.pipeline import Part
from common.tracking.job_file import open_job, storing

SAVE_EVERY_S = 2.0
"""A killed job repeats at most about this much work, or one batch."""

_SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY CHECK (id = 1), fingerprint TEXT NOT NULL, seconds REAL NOT NULL DEFAULT 0,
    next INTEGER NOT NULL DEFAULT 0, state BLOB, done INTEGER NOT NULL DEFAULT 0, about TEXT, damage TEXT,
    lost INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE rows (
    frame INTEGER NOT NULL, id INTEGER NOT NULL, x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL, y2 REAL NOT NULL,
    score REAL NOT NULL, class INTEGER NOT NULL, row INTEGER NOT NULL, turned BLOB, PRIMARY KEY (frame, id)
) WITHOUT ROWID;
CREATE TABLE geometry (
    frame INTEGER NOT NULL, row INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (frame, row)
) WITHOUT ROWID;
CREATE TABLE motions (frame INTEGER PRIMARY KEY, affine BLOB NOT NULL);
CREATE TABLE looks (id INTEGER PRIMARY KEY, total BLOB NOT NULL, count INTEGER NOT NULL);
"""
_LATER = """
CREATE TABLE IF NOT EXISTS seen (frame INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS people (frame INTEGER PRIMARY KEY, most INTEGER NOT NULL, data BLOB NOT NULL);
"""
"""Tables that journals of earlier versions lack; `keeps_all` says whether one was filled from the start."""
_COLUMNS = "frame, id, x1, y1, x2, y2, score, class, row, turned"
_AT_ONCE = 50_000
_FRAMES_AT_ONCE = 64


class Journal:
    """Use as a context manager. fingerprint: of the job (video, settings); another job's journal is discarded."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._folder = path.parent
        self._started = self._saved = time.monotonic()
        self._pending: list[Part] = []
        self._damage: list[tuple[str, int]] = []
        with self._storing():
            self._db, self.resumed = open_job(path, fingerprint, _SCHEMA)
            self._db.executescript("BEGIN;" + _LATER + "COMMIT;")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    # -- writing ---------------------------------------------------------------------------------------------------------

    def describe(self, card: DetectorCard) -> None:
        """What the rows' classes and geometries mean; known once the detector's weights were read."""
        about = {
            "classes": card.classes,
            "finds": card.finds,
            "keypoints": card.keypoints,
            "bones": card.bones,
            "detector": card.title,
        }
        with self._storing():
            self._db.execute("UPDATE job SET about = ?", (json.dumps(about),))
            self._db.commit()

    def add(self, part: Part) -> None:
        """Is on disk with the next `save`."""
        self._pending.append(part)

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved >= SAVE_EVERY_S

    def save(self, next_frame: int, state: bytes | None, *, done: bool = False) -> None:
        """Everything added, and where to go on, at once. done: the video is through."""
        with self._storing():
            for part in self._pending:
                self._write(part)
            if self._damage:
                noted = (self._damage[0][0], sum(count for _, count in self._damage))
                self._db.execute("UPDATE job SET damage = COALESCE(damage, ?), lost = lost + ?", noted)
            now = time.monotonic()
            self._db.execute(
                "UPDATE job SET next = ?, state = ?, done = ?, seconds = seconds + ?",
                (next_frame, state, done, now - self._started),
            )
            self._db.commit()
        self._pending.clear()
        self._damage.clear()
        self._started = now
        self._saved = time.monotonic()

    def note_damage(self, what: str, count: int = 1) -> None:
        """Frames that cannot be had, and why the first of them cannot; is on disk with the next `save`."""
        self._damage.append((what, count))

    def _write(self, part: Part) -> None:
        tracks, db = part.tracks, self._db
        turned: Sequence[bytes | None] = [None] * len(tracks)
        if tracks.oriented is not None:
            turned = [row.astype("<f4").tobytes() for row in tracks.oriented]
        columns = [tracks.frames, tracks.ids, *tracks.xyxy.T.astype(np.float64), tracks.scores.astype(np.float64)]
        lists = [column.tolist() for column in (*columns, tracks.classes, tracks.rows)]
        db.executemany(
            f"REPLACE INTO rows ({_COLUMNS}) VALUES ({','.join('?' * 10)})", zip(*lists, turned, strict=True)
        )
        db.executemany(
            "REPLACE INTO geometry VALUES (?, ?, ?)", ((f, r, data) for (f, r), data in part.geometry.items())
        )
        db.executemany(
            "REPLACE INTO motions VALUES (?, ?)", ((f, m.astype("<f8").tobytes()) for f, m in part.motions.items())
        )
        db.executemany("REPLACE INTO seen VALUES (?, ?)", part.seen.items())
        for frame, data in part.people.items():
            most = int(kept.decode_people(data).ids.max())
            db.execute("REPLACE INTO people VALUES (?, ?, ?)", (frame, most, data))
        for identity, (total, count) in part.looks.items():
            known = db.execute("SELECT total, count FROM looks WHERE id = ?", (identity,)).fetchone()
            if known is not None:
                total, count = total + np.frombuffer(known[0], "<f4"), count + known[1]
            db.execute("REPLACE INTO looks VALUES (?, ?, ?)", (identity, total.astype("<f4").tobytes(), count))

    # -- reading ---------------------------------------------------------------------------------------------------------

    @property
    def next_frame(self) -> int:
        return int(self._job("next"))

    @property
    def state(self) -> bytes | None:
        found: bytes | None = self._job("state")
        return found

    @property
    def done(self) -> bool:
        return bool(self._job("done"))

    @property
    def seconds(self) -> float:
        """Spent on prediction so far, over all starts."""
        return float(self._job("seconds"))

    @property
    def damage(self) -> str | None:
        """A sentence about frames that could not be had."""
        first, lost = self.lost
        return None if first is None else f"{first} Frames that could not be read: {lost}."

    @property
    def lost(self) -> tuple[str | None, int]:
        """Why the first of the frames that could not be had could not, and how many there are."""
        return self._job("damage"), int(self._job("lost"))

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._about.get("classes", ()))

    @property
    def finds(self) -> Finds:
        found: Finds = self._about.get("finds", "box")
        return found

    @property
    def skeleton(self) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
        """Names of the keypoints, and the bones between them."""
        bones = tuple((int(a), int(b)) for a, b in self._about.get("bones", ()))
        return tuple(self._about.get("keypoints", ())), bones

    @property
    def detector(self) -> str:
        return str(self._about.get("detector", ""))

    def tracks(self) -> Tracks:
        """All rows: 60 bytes a box."""
        parts = list(self._chunks())
        return Tracks.joined(parts)

    def frames(self) -> Iterator[Tracks]:
        """Frame by frame; frames without rows are left out. Memory: some thousand rows."""
        rest: Tracks | None = None
        for chunk in self._chunks():
            whole = chunk if rest is None else Tracks.joined([rest, chunk])
            starts = np.flatnonzero(np.diff(whole.frames)) + 1
            pieces = np.split(np.arange(len(whole)), starts)
            for piece in pieces[:-1]:
                yield whole.keep(piece)
            rest = whole.keep(pieces[-1])
        if rest is not None:
            yield rest

    def geometries(self, frame: int) -> dict[int, Geometry]:
        """Masks or keypoints of a frame by row of its detections."""
        found = self._db.execute("SELECT row, data FROM geometry WHERE frame = ?", (frame,))
        return {int(row): codec.decode(data) for row, data in found}

    def motions(self) -> dict[int, Affine]:
        found = self._db.execute("SELECT frame, affine FROM motions ORDER BY frame")
        return {int(frame): np.frombuffer(data, "<f8").reshape(2, 3) for frame, data in found}

    @property
    def keeps_all(self) -> bool:
        """Whether the detections of each frame that has rows are here, followed or not: they are not when the job was begun
        by a version that did not keep them, or was put together from parts."""
        missing = "SELECT EXISTS (SELECT 1 FROM rows WHERE frame NOT IN (SELECT frame FROM seen))"
        found: int = self._db.execute(missing).fetchone()[0]
        return not found

    def seen(self, *, backward: bool = False) -> Iterator[tuple[int, Detections]]:
        """What was kept of each frame, by rising or falling number. Memory: some dozens of frames."""
        cursor = self._db.execute(f"SELECT frame, data FROM seen ORDER BY frame {'DESC' if backward else 'ASC'}")
        while rows := cursor.fetchmany(_FRAMES_AT_ONCE):
            for frame, data in rows:
                yield int(frame), kept.decode(data)

    def people(self, frame: int) -> Given | None:
        """What people had labelled on a frame when it was looked at."""
        found = self._db.execute("SELECT data FROM people WHERE frame = ?", (frame,)).fetchone()
        return None if found is None else kept.decode_people(found[0])

    @property
    def most_of_people(self) -> int:
        """The largest identity that people gave; 0 = none."""
        return int(self._db.execute("SELECT COALESCE(MAX(most), 0) FROM people").fetchone()[0])

    def looks(self) -> dict[int, NDArray[np.float32]]:
        """Unit vectors by identity."""
        found = {}
        for identity, data, _ in self._db.execute("SELECT id, total, count FROM looks"):
            vector = np.frombuffer(data, "<f4")
            length = float(np.linalg.norm(vector))
            if length > 1e-6:
                found[int(identity)] = np.asarray(vector / length, np.float32)
        return found

    def identities(self) -> list[tuple[int, int, int, int, int]]:
        """(id, class, first frame, last frame, boxes) by id; the class as voted by score over the whole video."""
        votes = "SELECT id, class, SUM(score) AS v FROM rows GROUP BY id, class ORDER BY id, v DESC, class"
        chosen: dict[int, int] = {}
        for identity, label, _ in self._db.execute(votes):
            chosen.setdefault(int(identity), int(label))
        spans = self._db.execute("SELECT id, MIN(frame), MAX(frame), COUNT(*) FROM rows GROUP BY id ORDER BY id")
        return [(int(i), chosen[int(i)], int(first), int(last), int(n)) for i, first, last, n in spans]

    def _chunks(self) -> Iterator[Tracks]:
        cursor = self._db.execute(f"SELECT {_COLUMNS} FROM rows ORDER BY frame, id")
        while rows := cursor.fetchmany(_AT_ONCE):
            numbers = np.array([row[:9] for row in rows], np.float64)
            turned = None
            if rows[0][9] is not None:
                turned = np.frombuffer(b"".join(row[9] for row in rows), "<f4").reshape(-1, 5)
            whole = numbers[:, [0, 1, 7, 8]].astype(np.int64)
            yield Tracks(
                whole[:, 0],
                whole[:, 1],
                numbers[:, 2:6].astype(np.float32),
                numbers[:, 6].astype(np.float32),
                whole[:, 2],
                whole[:, 3],
                turned,
            )

    @property
    def _about(self) -> Mapping[str, Any]:
        text = self._job("about")
        found: Mapping[str, Any] = {} if text is None else json.loads(text)
        return found

    def _job(self, column: str) -> Any:
        return self._db.execute(f"SELECT {column} FROM job").fetchone()[0]

    # -- the file --------------------------------------------------------------------------------------------------------

    def _storing(self) -> AbstractContextManager[None]:
        return storing(self._folder)
