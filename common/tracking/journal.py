"""A tracking job's results on disk: every finished frame is safe within a fraction of a second, whatever kills the job.

SQLite in write-ahead mode. Results of a pass are rows (frame, object); a snapshot of the session is stored with the rows
that it has seen, in one transaction, so a job that was killed continues from its last snapshot and rewrites the rows
after it with identical ones. Frames between two key figures are tracked from both sides; the second side to arrive is
fused with the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from common.geometry import codec
from common.tracking.contract import Prediction
from common.tracking.fusion import blendable, fuse
from common.tracking.job_file import open_job, storing
from common.tracking.live import Tracked
from common.tracking.plan import KeyFigure, gaps

COMMIT_EVERY_S = 0.25
"""Finished results wait at most this long before they are on disk."""
SNAPSHOT_EVERY_S = 3.0
"""A killed job repeats at most about this much work, unless saving is slow. Lower = less repeated, more time spent saving."""
SAVING_SHARE = 0.05
"""Most of a job's time that goes into snapshots: those of big networks hold tens of megabytes."""

_SCHEMA = """
CREATE TABLE job (id INTEGER PRIMARY KEY CHECK (id = 1), fingerprint TEXT NOT NULL, seconds REAL NOT NULL DEFAULT 0);
CREATE TABLE results (
    frame INTEGER NOT NULL, object INTEGER NOT NULL, label INTEGER NOT NULL DEFAULT 0, step INTEGER NOT NULL,
    geometry BLOB, score REAL NOT NULL, visible INTEGER NOT NULL, PRIMARY KEY (frame, object, step)
) WITHOUT ROWID;
CREATE TABLE passes (step INTEGER PRIMARY KEY, snapshot BLOB, done INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True)
class Result:
    """One object in one frame, final. labelled: a person drew it (key figure)."""

    frame: int
    prediction: Prediction
    labelled: bool


class Journal:
    """Open with `Journal(path, fingerprint, key_figures)`; use as a context manager.

    fingerprint: text that identifies the job (video, prompts, tracker, options). A journal of another job is discarded.
    Rows are ordered by object in the order in which keys first appear in `key_figures`.
    """

    def __init__(self, path: Path, fingerprint: str, key_figures: Sequence[KeyFigure]) -> None:
        self._keys = list(dict.fromkeys(figure.prompt.key for figure in key_figures))
        self._number = {key: number for number, key in enumerate(self._keys)}
        self._gaps = {
            key: gaps(figure.frame for figure in key_figures if figure.prompt.key == key) for key in self._keys
        }
        self._folder = path.parent
        with self.storing():
            self._db, self.resumed = open_job(path, fingerprint, _SCHEMA)
            if not self.resumed:
                for figure in key_figures:
                    self._write(figure.frame, Prediction(figure.prompt.key, figure.prompt.geometry, 1.0, True), 0, True)
                self._db.commit()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def storing(self) -> AbstractContextManager[None]:
        """Raises `OutputUnusable` for what the database cannot do: no space left, or another process is at it."""
        return storing(self._folder)

    def sink(self, step: int) -> JournalSink:
        """Where the pass of that direction writes."""
        return JournalSink(self, step)

    def snapshot(self, step: int) -> bytes | None:
        """Where the pass of that direction can continue, None when it has not begun."""
        row = self._db.execute("SELECT snapshot FROM passes WHERE step = ?", (step,)).fetchone()
        return row[0] if row else None

    def is_done(self, step: int) -> bool:
        """Whether that pass has run to its end."""
        row = self._db.execute("SELECT done FROM passes WHERE step = ?", (step,)).fetchone()
        return bool(row and row[0])

    def finish(self, step: int) -> None:
        """The pass has run to its end; its snapshot is not needed any more."""
        self._db.execute("REPLACE INTO passes (step, snapshot, done) VALUES (?, NULL, 1)", (step,))
        self._db.commit()

    @property
    def seconds(self) -> float:
        """Time spent tracking so far, over all starts of the job."""
        return float(self._db.execute("SELECT seconds FROM job").fetchone()[0])

    def results(self) -> Iterator[list[Result]]:
        """Final results frame by frame, ascending; frames without any are left out. Memory: one frame."""
        rows: list[Result] = []
        query = "SELECT frame, object, label, step, geometry, score, visible FROM results ORDER BY frame, object, step"
        for frame, number, label, step, blob, score, visible in self._db.execute(query):
            if rows and rows[0].frame != frame:
                yield rows
                rows = []
            prediction = Prediction(self._keys[number], codec.decode(blob) if blob else None, score, bool(visible))
            result = Result(frame, prediction, bool(label))
            if rows and rows[-1].prediction.key == prediction.key:
                if step == 0:  # both sides of a gap have arrived: the fused row stands, its sides do not
                    rows[-1] = result
                continue
            rows.append(result)
        if rows:
            yield rows

    def count(self) -> int:
        """Frames that have results."""
        return int(self._db.execute("SELECT COUNT(DISTINCT frame) FROM results").fetchone()[0])

    def _write(self, frame: int, prediction: Prediction, step: int, labelled: bool = False) -> None:
        """step: 0 = final; +1 and -1 = one side of a gap between key figures, waiting for the other."""
        blob = codec.encode(prediction.geometry) if prediction.geometry is not None else None
        self._db.execute(
            "REPLACE INTO results (frame, object, label, step, geometry, score, visible) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (frame, self._number[prediction.key], labelled, step, blob, prediction.score, prediction.visible),
        )

    def _waiting(self, frame: int, key: str, step: int) -> Prediction | None:
        row = self._db.execute(
            "SELECT geometry, score, visible FROM results WHERE frame = ? AND object = ? AND step = ?",
            (frame, self._number[key], step),
        ).fetchone()
        return Prediction(key, codec.decode(row[0]) if row[0] else None, row[1], bool(row[2])) if row else None

    def _add(self, result: Tracked, step: int) -> None:
        frame, prediction = result.frame, result.prediction
        gap = next((gap for gap in self._gaps[prediction.key] if gap[0] < frame < gap[1]), None)
        if gap is None:
            self._write(frame, prediction, 0)
            return
        other = self._waiting(frame, prediction.key, -step)
        self._write(frame, prediction, step)
        if other is not None:
            forward, backward = (prediction, other) if step > 0 else (other, prediction)
            position = (frame - gap[0]) / (gap[1] - gap[0])
            nearer = forward if position < 0.5 else backward
            alike = blendable(forward.geometry, backward.geometry)
            self._write(frame, fuse(forward, backward, position) if alike else nearer, 0)


class JournalSink:
    """`session.Sink` that writes one pass to the journal: rows often, snapshots now and then."""

    def __init__(self, journal: Journal, step: int) -> None:
        self._journal = journal
        self._step = step
        self._started = self._committed = time.monotonic()
        self._next_save = self._started + SNAPSHOT_EVERY_S

    def put(self, results: Sequence[Tracked], snapshot: Callable[[], bytes]) -> None:
        with self._journal.storing():
            for result in results:
                self._journal._add(result, self._step)
            now = time.monotonic()
            if now >= self._next_save:
                self.save(snapshot)
            elif now - self._committed >= COMMIT_EVERY_S:
                self._journal._db.commit()
                self._committed = now

    def save(self, snapshot: Callable[[], bytes]) -> None:
        """Put everything on disk now, with a snapshot to continue from."""
        now = time.monotonic()
        db, state = self._journal._db, snapshot()
        with self._journal.storing():
            db.execute("REPLACE INTO passes (step, snapshot, done) VALUES (?, ?, 0)", (self._step, state))
            db.execute("UPDATE job SET seconds = seconds + ?", (now - self._started,))
            db.commit()
        self._started = now
        self._committed = time.monotonic()
        self._next_save = self._committed + max(SNAPSHOT_EVERY_S, (self._committed - now) / SAVING_SHARE)
