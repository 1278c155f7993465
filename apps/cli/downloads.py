"""Progress of a download: a bar with bytes, speed and time left on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from common.weights.entries import Weights

LINE_EVERY_S = 5.0


@contextmanager
def show_download(weights: Weights, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """Gives what `Store.download` tells its progress to."""
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(compact=True), TextColumn("left"), console=console) as bar:
            task = bar.add_task(weights.title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _Lines(weights.title)


class _Lines:
    def __init__(self, title: str) -> None:
        self._title, self._shown = title, time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        if done == total or time.monotonic() - self._shown >= LINE_EVERY_S:
            self._shown = time.monotonic()
            of = f"/{total / 1e6:.1f}" if total else ""
            sys.stderr.write(f"{self._title}: {done / 1e6:.1f}{of} MB\n")
