"""Tasks in processes of this machine, one task at a time each; a process that dies is replaced and its task begun again."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from common.cluster.contract import Answer, MakeWorker, Outcome, Payload, Task
from common.errors import EngineUnavailable, UserError

log = logging.getLogger(__name__)

_POLL_S = 0.25
_END_S = 10.0


@dataclass
class _Slot:
    """One process, this side of its pipe, and the task that it does. answered: whether it has ever said anything."""

    process: Any
    pipe: Connection
    task: Task[Any] | None = None
    answered: bool = False


class ProcessExecutor:
    """An `Executor`. most: processes at once, None = one for each processor. attempts: how often a task is begun before it
    counts as one that kills its workers. Workers, payloads and answers are pickled."""

    def __init__(self, most: int | None = None, attempts: int = 3) -> None:
        self._most, self._attempts = most or os.cpu_count() or 1, attempts
        self._context = multiprocessing.get_context("spawn")

    def run(
        self,
        make: MakeWorker[Payload, Answer],
        tasks: Iterable[Task[Payload]],
        *,
        stop: threading.Event | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Iterator[Outcome[Answer]]:
        """See `Executor.run`."""
        told, waiting = stop or threading.Event(), iter(tasks)
        asked = self._context.Event()
        slots: list[_Slot] = []
        again: list[Task[Payload]] = []
        begun: dict[str, int] = {}
        ended = False
        try:
            while True:
                if told.is_set():
                    asked.set()
                else:
                    ended = self._hand_out(make, asked, slots, waiting, again, begun, ended)
                busy = [slot for slot in slots if slot.task is not None]
                if not busy and (told.is_set() or (ended and not again)):
                    return
                ready = wait([slot.pipe for slot in busy], _POLL_S)
                for slot in [one for one in busy if one.pipe in ready]:
                    outcome = self._heard(slot, slots, again, begun, told, on_progress)
                    if outcome is not None:
                        yield outcome
        finally:
            asked.set()
            for slot in slots:
                self._end(slot)

    def close(self) -> None:
        """Nothing is kept between runs."""

    def _hand_out(
        self,
        make: MakeWorker[Any, Any],
        asked: Any,
        slots: list[_Slot],
        waiting: Iterator[Task[Payload]],
        again: list[Task[Payload]],
        begun: dict[str, int],
        ended: bool,
    ) -> bool:
        """Gives every free process a task, and starts processes as long as there are tasks. True at the iterable's end."""
        while True:
            free = next((slot for slot in slots if slot.task is None), None)
            if free is None and len(slots) >= self._most:
                return ended
            task = again.pop(0) if again else None if ended else next(waiting, None)
            if task is None:
                return True
            if free is None:
                free = self._started(make, asked)
                slots.append(free)
            try:
                free.pipe.send(task.payload)
            except OSError:
                if free.answered:  # died while it had nothing to do: no fault of the task's
                    log.warning("an idle worker process was lost")
                    slots.remove(free)
                    self._end(free)
                    again.insert(0, task)
                    continue
                # it could not even be started, which may be so again and again: counted when its pipe is read
            begun[task.key] = begun.get(task.key, 0) + 1
            free.task = task

    def _started(self, make: MakeWorker[Any, Any], asked: Any) -> _Slot:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(make, theirs, asked), daemon=True)
        process.start()
        theirs.close()
        return _Slot(process, ours)

    def _heard(
        self,
        slot: _Slot,
        slots: list[_Slot],
        again: list[Task[Any]],
        begun: dict[str, int],
        told: threading.Event,
        on_progress: Callable[[str, int, int], None] | None,
    ) -> Outcome[Any] | None:
        """What the next message of a process means; None for progress, and for a process that was lost."""
        task = slot.task
        assert task is not None
        try:
            kind, value = slot.pipe.recv()
        except (EOFError, OSError):
            slots.remove(slot)
            self._end(slot)
            log.warning("a worker process was lost with task %s", task.key)
            if begun[task.key] >= self._attempts:
                why = EngineUnavailable(
                    f"{task.key}: {begun[task.key]} processes were lost with it. Memory may be short: use fewer workers."
                )
                return Outcome(task.key, None, why)
            if not told.is_set():
                again.append(task)
            return None
        slot.answered = True
        if kind == "progress":
            if on_progress is not None:
                on_progress(task.key, *value)
            return None
        slot.task = None
        if kind == "fault":
            raise value
        return Outcome(task.key, None, value) if kind == "error" else Outcome(task.key, value)

    def _end(self, slot: _Slot) -> None:
        slot.pipe.close()  # the process ends when it waits for the next task
        slot.process.join(_END_S if slot.task is None else 0)
        if slot.process.is_alive():
            slot.process.terminate()
            slot.process.join(_END_S)


def _work(make: MakeWorker[Any, Any], pipe: Connection, asked: Any) -> None:
    """In the process. Faults of ours are sent as they are, where they can be, and end it."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the children too; the one who asked tells them to stop
    worker: Any = None
    stop = cast(threading.Event, asked)  # it is asked in the same way
    while True:
        try:
            payload = pipe.recv()
        except EOFError:
            return
        try:
            worker = make() if worker is None else worker
            pipe.send(("answer", worker(payload, stop, lambda done, whole: pipe.send(("progress", (done, whole))))))
        except UserError as error:
            pipe.send(("error", error))
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 - it is raised in the process that asked
            pipe.send(("fault", _portable(error)))
            return


def _portable(error: Exception) -> Exception:
    """The error with where it came from, as it can be sent."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - whatever its own methods raise
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        plain.__notes__ = error.__notes__
        return plain
    return error
