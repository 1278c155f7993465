"""A thread whose end, good or bad, reaches whoever waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future


class Background:
    """Runs `work` on a daemon thread, begun at once. What it raises is raised again by `check` and `join`."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._future: Future[None] = Future()
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits, whatever it is
            self._future.set_exception(error)
        else:
            self._future.set_result(None)

    @property
    def ended(self) -> bool:
        return self._future.done()

    def when_ended(self, then: Callable[[], None]) -> None:
        """Calls `then` once the work has ended, on its thread (or at once when it has)."""
        self._future.add_done_callback(lambda _: then())

    def check(self) -> None:
        """Raises what ended the work; nothing while it runs or after a good end."""
        if self._future.done():
            self._future.result()

    def failure(self) -> BaseException | None:
        return self._future.exception() if self._future.done() else None

    def join(self, timeout_s: float | None = None) -> bool:
        """Waits for the end; False when the time ran out. Never raises."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()
