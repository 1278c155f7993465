"""Tasks in this process."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

import pytest

from common.cluster import make_executor
from common.cluster.contract import Task
from common.cluster.local import LocalExecutor
from common.errors import UserError
from tests.common.cluster.workers import Squarer


def test_tasks_are_taken_one_by_one(tmp_path: Path) -> None:
    taken: list[int] = []

    def tasks():  # type: ignore[no-untyped-def]
        for number in range(4):
            taken.append(number)
            yield Task(str(number), (number, "refuse" if number == 1 else ""))

    seen: list[tuple[str, int, int]] = []
    run = LocalExecutor().run(partial(Squarer, str(tmp_path)), tasks(), on_progress=lambda *what: seen.append(what))
    first = next(run)
    assert taken == [0]
    assert (first.key, first.answer) == ("0", (0, os.getpid()))
    second, *rest = run
    assert isinstance(second.error, UserError)
    assert second.answer is None
    assert [outcome.answer[0] for outcome in rest if outcome.answer] == [4, 9]
    assert seen[:4] == [("0", 0, 4), ("0", 1, 4), ("0", 2, 4), ("0", 3, 4)]


def test_a_stop_begins_no_more(tmp_path: Path) -> None:
    stop = threading.Event()
    run = LocalExecutor().run(partial(Squarer, str(tmp_path)), (Task(str(n), (n, "")) for n in range(9)), stop=stop)
    next(run)
    stop.set()
    assert list(run) == []


def test_faults_of_ours_are_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a fault"):
        list(LocalExecutor().run(partial(Squarer, str(tmp_path)), [Task("1", (1, "broken"))]))


def test_unknown_executors_are_told() -> None:
    with pytest.raises(UserError, match="choose local or ray or processes"):
        make_executor("slurm")
