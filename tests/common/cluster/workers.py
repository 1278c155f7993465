"""Workers for the executors' tests: what they have done is in a folder, so that it outlives their process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError


class Odd(Exception):
    """Cannot be made from what it holds."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"{number} is odd, {why}")


class Stillborn:
    """A worker whose process dies while it starts."""

    def __setstate__(self, _: object) -> None:
        os._exit(9)

    def __getstate__(self) -> bool:
        return True

    def __call__(self) -> Squarer:
        raise AssertionError("never begun")


class Squarer:
    """Squares numbers. Payload: (number, what else happens)."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def __call__(
        self, payload: tuple[int, str], stop: threading.Event, report: Callable[[int, int], None]
    ) -> tuple[int, int]:
        number, what = payload
        begun = self._folder / f"{number}.begun"
        first = not begun.exists()
        with begun.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if what == "die once" and first:
            os._exit(9)  # as a process that is killed, or a machine that goes away
        if what == "die":
            os._exit(9)
        if what == "refuse":
            raise UserError(f"{number} cannot be squared.")
        if what == "odd":
            raise Odd(number, "a fault")
        if what == "broken":
            raise ValueError("a fault")
        for done in range(4):
            report(done, 4)
            if what == "slow":
                time.sleep(0.1)
        while what == "until stopped" and not stop.is_set():
            report(1, 2)
            time.sleep(0.02)
        return number * number, os.getpid()
