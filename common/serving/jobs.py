"""Jobs in line: a few run at once, the rest wait where they can be seen; each keeps its state to itself."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from common.errors import Interrupted, UserError
from common.serving.replies import Rejected, sentence
from common.serving.results import ResultStore

log = logging.getLogger(__name__)


class Stage(StrEnum):
    """The words are the SDK's; clients compare them."""

    WAITING = "Preparing model for inference..."
    RUNNING = "Running inference..."
    FINISHED = "Finished"
    STOPPED = "Cancelled"
    FAILED = "Error"


class StopSignal(threading.Event):
    """An event that also tells whoever waits that it was set: a job in line ends without its turn."""

    def __init__(self) -> None:
        super().__init__()
        self._then: Callable[[], None] | None = None

    def on_set(self, then: Callable[[], None]) -> None:
        self._then = then

    def set(self) -> None:
        first = not self.is_set()
        super().set()
        if first and self._then is not None:
            self._then()


@dataclass(eq=False)
class Job:
    """One piece of work. Only the thread that runs it changes it; anybody may set `stop`.

    work: called once, also when the job was stopped while it waited: then it must only say goodbye.
    done, total: steps. ended: what `work` returned or raised. arrays: results are given as positional arrays.
    owner: fingerprint of the caller. asked: the request, to know it again when it is sent twice.
    """

    kind: str
    work: Callable[[Job], Any]
    track_id: str | None = None
    video_id: int | None = None
    results: ResultStore | None = None
    arrays: bool = False
    owner: bytes = b""
    asked: object = None
    uuid: str = field(default_factory=lambda: uuid.uuid4().hex)
    stop: StopSignal = field(default_factory=StopSignal)
    stage: Stage = Stage.WAITING
    done: int = 0
    total: int = 1
    error: Exception | None = None
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    ended: Future[Any] = field(default_factory=Future)
    keep_until: float | None = None

    def advance(self, done: int, total: int | None = None) -> None:
        """Progress never falls."""
        self.done = max(self.done, done)
        self.total = max(self.total if total is None else total, 1)
        self.updated_at = time.time()

    @property
    def active(self) -> bool:
        return self.stage in (Stage.WAITING, Stage.RUNNING)

    def describe(self, position: int) -> dict[str, Any]:
        """For people who ask what is going on. position: 0 while it runs, 1 for the next in line."""
        return {
            "inference_request_uuid": self.uuid,
            "kind": self.kind,
            "trackId": self.track_id,
            "videoId": self.video_id,
            "stage": str(self.stage),
            "position": position,
            "progress": {"current": self.done, "total": self.total},
            "error": None if self.error is None else sentence(self.error),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


class JobQueue:
    """Runs jobs in the order they came, `workers` at a time, on threads of its own.

    most_waiting: more are refused (503). keep_s, keep_most: how long and how many ended jobs can still be asked about.
    Thread-safe.
    """

    def __init__(
        self, name: str, workers: int = 2, *, most_waiting: int = 64, keep_s: float = 3600.0, keep_most: int = 64
    ) -> None:
        if min(workers, most_waiting, keep_most) < 1:
            raise ValueError("workers, most_waiting and keep_most are at least 1")
        self._name, self._workers, self._most = name, workers, most_waiting
        self._keep_s, self._keep_most = keep_s, keep_most
        self._waiting: deque[Job] = deque()
        self._jobs: dict[str, Job] = {}
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._idle = 0
        self._changed = threading.Condition()

    def submit(self, job: Job) -> Job:
        """Puts a job in line. Raises `Rejected` (503) when the line is too long or the app is ending."""
        job.stop.on_set(lambda: self._let_go(job))
        with self._changed:
            self._forget_old()
            if self._closed:
                raise Rejected("The app is shutting down.", 503)
            if len(self._waiting) >= self._most:
                raise Rejected(f"{len(self._waiting)} jobs are waiting already; try again later.", 503)
            self._jobs[job.uuid] = job
            self._waiting.append(job)
            if self._idle < len(self._waiting) and len(self._threads) < self._workers:
                thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
        if job.stop.is_set():
            self._let_go(job)
        return job

    def get(self, ident: str) -> Job | None:
        with self._changed:
            self._forget_old()
            return self._jobs.get(ident)

    def of_track(self, track_id: str) -> list[Job]:
        """The jobs of a track, latest last."""
        with self._changed:
            return [job for job in self._jobs.values() if job.track_id == track_id]

    def jobs(self) -> list[tuple[Job, int]]:
        """All that are known, with their position in line."""
        with self._changed:
            self._forget_old()
            places = {job.uuid: place for place, job in enumerate(self._waiting, 1)}
            return [(job, places.get(job.uuid, 0)) for job in self._jobs.values()]

    def position(self, job: Job) -> int:
        """0 when it no longer waits."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def forget(self, job: Job, after_s: float = 0.0) -> None:
        """The job can be asked about for so long; its results go at once."""
        if job.results is not None:
            job.results.close()
        with self._changed:
            job.keep_until = time.monotonic() + after_s
            self._forget_old()

    def close(self, timeout_s: float = 10.0) -> None:
        """Stops everything and waits for it."""
        with self._changed:
            self._closed = True
            active = [job for job in self._jobs.values() if job.active]
            self._changed.notify_all()
        for job in active:
            job.stop.set()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        # those that waited say goodbye on threads of their own
        futures.wait([job.ended for job in active], max(0.0, end - time.monotonic()))

    # --- the workers' side -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._waiting and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                job.stage = Stage.RUNNING
            self._run(job)

    def _let_go(self, job: Job) -> None:
        """A stopped job that still waits says goodbye on a thread of its own: whoever stopped it must not wait for that."""
        with self._changed:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
        threading.Thread(target=self._run, args=(job,), name=f"{self._name}-goodbye", daemon=True).start()

    def _run(self, job: Job) -> None:
        outcome: Any = None
        error: Exception | None = None
        try:
            outcome = job.work(job)
        except Interrupted:
            job.stop.set()
        except UserError as caught:
            error = caught
            log.info("%s job %s ended: %s", job.kind, job.uuid, caught)
        except Exception as caught:
            error = caught
            log.exception("%s job %s failed", job.kind, job.uuid)
        job.error = error
        job.stage = Stage.FAILED if error is not None else Stage.STOPPED if job.stop.is_set() else Stage.FINISHED
        job.updated_at = time.time()
        with self._changed:
            if job.keep_until is None:
                job.keep_until = time.monotonic() + self._keep_s
        if error is not None:
            job.ended.set_exception(error)
        else:
            job.ended.set_result(outcome)

    def _forget_old(self) -> None:
        now = time.monotonic()
        ended = [job for job in self._jobs.values() if not job.active]
        for number, job in enumerate(ended):
            if len(ended) - number > self._keep_most or (job.keep_until is not None and job.keep_until <= now):
                if job.results is not None:
                    job.results.close()
                self._jobs.pop(job.uuid, None)
