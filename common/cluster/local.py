"""Tasks one after another in this process and thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from common.cluster.contract import Answer, MakeWorker, Outcome, Payload, Task
from common.errors import UserError


class LocalExecutor:
    """An `Executor` with one worker. A `UserError` is its task's outcome; faults of ours are raised at once."""

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
        worker = make()
        for task in tasks:
            if told.is_set():
                return

            def report(done: int, whole: int, key: str = task.key) -> None:
                if on_progress is not None:
                    on_progress(key, done, whole)

            try:
                yield Outcome(task.key, worker(task.payload, told, report))
            except UserError as error:
                yield Outcome(task.key, None, error)

    def close(self) -> None:
        """Nothing is kept."""
