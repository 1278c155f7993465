"""Tasks on a Ray cluster: one actor for each GPU, or each few processors where there is none, one task at a time each.

What is never done: more tasks in flight than actors (so a slow cluster holds back whoever makes the tasks), a result held
back because of another task, a task given up because one machine went away. Ray: Moritz et al. 2018, "Ray: A Distributed
Framework for Emerging AI Applications".
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.cluster.contract import Answer, MakeWorker, Outcome, Payload, Task
from common.errors import EngineUnavailable, UserError

log = logging.getLogger(__name__)

HOW_TO_INSTALL = "Ray is not installed here: pip install ray==2.60.0, or leave --executor ray out."
_POLL_S = 0.25
_PROGRESS_EVERY_S = 1.0
_CODE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RayOptions:
    """address: of a cluster that runs ("auto" for the one of this machine's environment); None = the one that RAY_ADDRESS
    names, else one of this machine alone. cpus: processors for each worker where there are no GPUs. gpus: GPUs for each
    worker; less than 1 = several on one. most: workers at most. attempts: how often a task is begun before it counts as
    one that kills its workers. start_s: how long the first worker may take to start."""

    address: str | None = None
    cpus: float = 1.0
    gpus: float = 1.0
    most: int = 64
    attempts: int = 3
    start_s: float = 300.0


class _Actor:
    """Runs in a worker process of the cluster. Three calls at once: the task, its progress, its stop."""

    def __init__(self, make: MakeWorker[Any, Any]) -> None:
        self._make = make
        self._worker: Any = None
        self._stop = threading.Event()
        self._done: tuple[int, int] | None = None

    def ready(self) -> int:
        return os.getpid()

    def run(self, payload: Any) -> tuple[Any, Exception | None]:
        """Errors of the user come back as values: Ray would wrap them."""
        self._done = None
        try:
            if self._worker is None:
                self._worker = self._make()
            return self._worker(payload, self._stop, self._report), None
        except UserError as error:
            return None, error

    def progress(self) -> tuple[int, int] | None:
        return self._done

    def stop(self) -> None:
        self._stop.set()

    def _report(self, done: int, whole: int) -> None:
        self._done = done, whole


@dataclass
class _Slot:
    """One actor, and what it does. reference: of the answer under way."""

    actor: Any
    ready: Any
    up: bool = False
    task: Task[Any] | None = None
    reference: Any = None
    progress: Any = None


@dataclass
class _Crew:
    slots: list[_Slot] = field(default_factory=list)

    @property
    def busy(self) -> list[_Slot]:
        return [slot for slot in self.slots if slot.task is not None]


class RayExecutor:
    """An `Executor`. Raises `EngineUnavailable` without Ray, or when the cluster cannot be reached or has no room."""

    def __init__(self, options: RayOptions | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise EngineUnavailable(HOW_TO_INSTALL) from error
        self._ray = ray
        self._options = options or RayOptions()
        self._ours = not ray.is_initialized()
        if self._ours:
            # Without "local" Ray joins whatever cluster was started last on this machine, and dies with it.
            alone = self._options.address is None and "RAY_ADDRESS" not in os.environ
            try:
                ray.init(
                    address="local" if alone else self._options.address,
                    include_dashboard=False if alone else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=False,
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise EngineUnavailable(f"The Ray cluster cannot be reached: {str(error).splitlines()[0]}") from error

    def close(self) -> None:
        """Leaves the cluster; ends it if it was started here."""
        if self._ours and self._ray.is_initialized():
            self._ray.shutdown()

    def run(
        self,
        make: MakeWorker[Payload, Answer],
        tasks: Iterable[Task[Payload]],
        *,
        stop: threading.Event | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Iterator[Outcome[Answer]]:
        """See `Executor.run`."""
        told = stop or threading.Event()
        waiting = iter(tasks)
        again: list[Task[Payload]] = []
        begun: dict[str, int] = {}
        crew = _Crew()
        ended = asked = False
        deadline = time.monotonic() + self._options.start_s
        shown = 0.0
        try:
            while True:
                if told.is_set() and not asked:
                    asked = True
                    for slot in crew.busy:
                        slot.actor.stop.remote()
                if not told.is_set():
                    ended = self._hand_out(make, crew, waiting, again, begun, ended)
                busy = crew.busy
                if not busy and (told.is_set() or (ended and not again)):
                    return
                for slot in self._look(crew):
                    outcome = self._settle(crew, slot, again, begun, told)
                    if outcome is not None:
                        yield outcome
                if any(slot.up for slot in crew.slots):
                    deadline = time.monotonic() + self._options.start_s
                elif time.monotonic() > deadline:
                    raise EngineUnavailable(
                        f"The Ray cluster gave no worker within {self._options.start_s:.0f} s: it has no free "
                        "processor or GPU. Wait for other jobs, or add machines."
                    )
                if on_progress is not None and time.monotonic() - shown >= _PROGRESS_EVERY_S:
                    shown = time.monotonic()
                    self._tell(crew, on_progress)
        finally:
            for slot in crew.slots:
                self._ray.kill(slot.actor)

    # -- one turn ----------------------------------------------------------------------------------------------------------

    def _hand_out(
        self,
        make: MakeWorker[Any, Any],
        crew: _Crew,
        waiting: Iterator[Task[Payload]],
        again: list[Task[Payload]],
        begun: dict[str, int],
        ended: bool,
    ) -> bool:
        """Gives every free worker a task, and hires workers as long as there are tasks and room. True when the iterable
        is at its end."""
        while True:
            free = next((slot for slot in crew.slots if slot.up and slot.task is None), None)
            if free is None:
                coming = any(not slot.up for slot in crew.slots)
                if coming or len(crew.slots) >= self._room() or (ended and not again):
                    return ended
                crew.slots.append(self._hire(make))
                return ended
            if again:
                task = again.pop(0)
            else:
                found = None if ended else next(waiting, None)
                if found is None:
                    return True
                task = found
            begun[task.key] = begun.get(task.key, 0) + 1
            free.task, free.reference = task, free.actor.run.remote(task.payload)

    def _look(self, crew: _Crew) -> list[_Slot]:
        """Slots of which something is to be had, after a short wait at most."""
        by_reference = {}
        for slot in crew.slots:
            if not slot.up:
                by_reference[slot.ready] = slot
            elif slot.reference is not None:
                by_reference[slot.reference] = slot
        if not by_reference:
            time.sleep(_POLL_S)
            return []
        done, _ = self._ray.wait(list(by_reference), num_returns=len(by_reference), timeout=0)
        if not done:
            done, _ = self._ray.wait(list(by_reference), num_returns=1, timeout=_POLL_S)
        return [by_reference[reference] for reference in done]

    def _settle(
        self,
        crew: _Crew,
        slot: _Slot,
        again: list[Task[Any]],
        begun: dict[str, int],
        told: threading.Event,
    ) -> Outcome[Any] | None:
        """An answer, or None for a worker that is up now, or lost."""
        reference, task = (slot.reference if slot.up else slot.ready), slot.task
        try:
            value = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if task is None:
                raise
            slot.task = slot.reference = None
            raise error.as_instanceof_cause() from error  # a fault of ours in the worker
        except self._ray.exceptions.RayError as error:  # the worker, or its machine, is gone
            crew.slots.remove(slot)
            log.warning("a worker was lost: %s", str(error).splitlines()[0])
            if task is None:
                return None
            if begun[task.key] >= self._options.attempts:
                why = EngineUnavailable(
                    f"{task.key}: {begun[task.key]} workers were lost with it. Memory may be short; see Ray's logs."
                )
                return Outcome(task.key, None, why)
            if not told.is_set():
                again.append(task)
            return None
        if not slot.up:
            slot.up = True
            return None
        assert task is not None
        slot.task = slot.reference = slot.progress = None
        answer, wrong = value
        return Outcome(task.key, answer, wrong)

    def _tell(self, crew: _Crew, on_progress: Callable[[str, int, int], None]) -> None:
        for slot in crew.busy:
            if slot.progress is not None:
                ready, _ = self._ray.wait([slot.progress], timeout=0)
                if not ready:
                    continue
                try:
                    found = self._ray.get(slot.progress)
                except self._ray.exceptions.RayError:
                    continue  # it is noticed where its answer is waited for
                if found is not None and slot.task is not None:
                    on_progress(slot.task.key, *found)
            slot.progress = slot.actor.progress.remote()

    # -- workers -----------------------------------------------------------------------------------------------------------

    def _gpus(self) -> float:
        return float(self._ray.cluster_resources().get("GPU", 0.0))

    def _room(self) -> int:
        """Workers that the cluster has room for, by what it has now."""
        s, gpus = self._options, self._gpus()
        processors = float(self._ray.cluster_resources().get("CPU", 0.0))
        fit = gpus / s.gpus if gpus else processors / s.cpus
        return min(s.most, max(1, int(fit)))

    def _hire(self, make: MakeWorker[Any, Any]) -> _Slot:
        s = self._options
        needs: dict[str, Any] = {"num_gpus": s.gpus, "num_cpus": 1} if self._gpus() else {"num_cpus": s.cpus}
        kind = self._ray.remote(_Actor).options(
            max_concurrency=3,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": {"PYTHONPATH": str(_CODE)}},
            **needs,
        )
        actor = kind.remote(make)
        return _Slot(actor, actor.ready.remote())
