"""The executor port: many tasks, each done once by one of a few workers, results as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Payload = TypeVar("Payload")
Answer = TypeVar("Answer")
P = TypeVar("P", contravariant=True)
A = TypeVar("A", covariant=True)

Report = Callable[[int, int], None]
"""How much of a task is done, and how much it is."""


class TaskWorker(Protocol[P, A]):
    """Does one task after another and keeps what is dear between them (weights). stop: once set, it should return soon,
    with an answer that says so. What it raises is the task's failure, not the worker's."""

    def __call__(self, payload: P, stop: threading.Event, report: Report) -> A: ...


MakeWorker = Callable[[], TaskWorker[Payload, Answer]]
"""Must be picklable for executors that run elsewhere: a class, or `functools.partial` of one."""


@dataclass(frozen=True)
class Task(Generic[Payload]):
    """key: unique among the tasks of one run."""

    key: str
    payload: Payload


@dataclass(frozen=True)
class Outcome(Generic[Answer]):
    """answer: what the worker gave; None when it raised, or when workers were lost with it again and again. error: what
    was raised."""

    key: str
    answer: Answer | None
    error: Exception | None = None


class Executor(Protocol):
    """Runs tasks. Closed when no longer needed."""

    def run(
        self,
        make: MakeWorker[Payload, Answer],
        tasks: Iterable[Task[Payload]],
        *,
        stop: threading.Event | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> Iterator[Outcome[Answer]]:
        """Outcomes in the order in which tasks end; each task has exactly one.

        Tasks are taken from the iterable only when a worker is free (back-pressure). Once `stop` is set no new task is
        begun, those under way are told, and their outcomes still come. A worker that is lost costs nothing that was
        given out; its task is done again by another. on_progress: key, done, whole; now and then, on the caller's thread.
        """
        ...

    def close(self) -> None: ...
