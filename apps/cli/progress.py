"""Progress of long work: a bar with frames/s and time left on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 5.0


class Reporter:
    """Shows one stage of work at a time. quiet: warnings and errors only. Use as a context manager."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._bar: Progress | None = None

    def __enter__(self) -> Reporter:
        if not self._quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:>6} {task.fields[unit]}/s"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=self._console,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, message: str) -> None:
        """A line for people, unless quiet."""
        if not self._quiet:
            self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """A line that is shown even when quiet."""
        self._console.print(f"Warning: {message}", highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0, unit: str = "frames") -> Iterator[Stage]:
        """Work of `total` frames, or of what `unit` says, `done` of which were finished earlier."""
        stage = Stage(self, name, total, done, unit)
        yield stage
        stage.show(final=True)


class Stage:
    """Call `advance` once per frame, or whatever the unit is."""

    def __init__(self, reporter: Reporter, name: str, total: int, done: int, unit: str) -> None:
        self._reporter = reporter
        self._name = name
        self._total, self._unit = total, unit
        self._done = self._first = done
        self._started = self._shown = time.monotonic()
        bar = reporter._bar
        self._task = bar.add_task(name, total=total, completed=done, rate="", unit=unit) if bar is not None else None

    @property
    def rate(self) -> float:
        """Frames, or what the unit is, per second so far; 0.0 before the first one."""
        return (self._done - self._first) / max(time.monotonic() - self._started, 1e-6)

    def advance(self) -> None:
        self._done += 1
        due = 0.1 if self._task is not None else LINE_EVERY_S
        if time.monotonic() - self._shown >= due:
            self.show()

    def show(self, final: bool = False) -> None:
        self._shown = time.monotonic()
        if self._reporter._bar is not None and self._task is not None:
            self._reporter._bar.update(self._task, completed=self._done, rate=f"{self.rate:.1f}")
        elif not self._reporter._quiet and (final or self._done < self._total):
            left = (self._total - self._done) / max(self.rate, 1e-6)
            tail = f"{self.rate:.1f} {self._unit}/s" + ("" if final else f", {left:.0f} s left")
            print(f"{self._name}: {self._done}/{self._total} {self._unit}, {tail}", file=sys.stderr)  # noqa: T201
