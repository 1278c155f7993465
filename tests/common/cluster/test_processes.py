"""Tasks in processes: everything is done once, whatever is lost."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path

import pytest

from common.cluster import make_executor
from common.cluster.contract import Task
from common.cluster.processes import ProcessExecutor
from common.errors import EngineUnavailable, UserError
from tests.common.cluster.workers import Squarer, Stillborn


def tasks(**what: str) -> list[Task[tuple[int, str]]]:
    return [Task(str(number), (number, what.get(f"n{number}", ""))) for number in range(5)]


def test_several_work_and_a_lost_one_loses_nothing(tmp_path: Path) -> None:
    seen: list[str] = []
    run = make_executor("processes", 2).run(
        partial(Squarer, str(tmp_path)),
        tasks(n0="slow", n1="die once", n2="refuse", n3="die"),
        on_progress=lambda key, *_: seen.append(key),
    )
    outcomes = {outcome.key: outcome for outcome in run}
    assert {key: one.answer[0] for key, one in outcomes.items() if one.answer} == {"0": 0, "1": 1, "4": 16}
    assert isinstance(outcomes["2"].error, UserError) and "2 cannot" in str(outcomes["2"].error)
    assert isinstance(outcomes["3"].error, EngineUnavailable) and "fewer workers" in str(outcomes["3"].error)
    assert len((tmp_path / "1.begun").read_text().split()) == 2
    assert os.getpid() not in {one.answer[1] for one in outcomes.values() if one.answer}
    assert "0" in seen


def test_a_stop_ends_what_is_under_way(tmp_path: Path) -> None:
    stop = threading.Event()
    run = make_executor("processes", 1).run(
        partial(Squarer, str(tmp_path)),
        tasks(n0="until stopped"),
        stop=stop,
        on_progress=lambda *_: stop.set(),
    )
    assert [outcome.key for outcome in run] == ["0"]


@pytest.mark.parametrize(
    ("what", "kind", "told"), [("broken", ValueError, "a fault"), ("odd", RuntimeError, "Odd: 0 is odd, a fault")]
)
def test_faults_of_ours_are_raised(what: str, kind: type[Exception], told: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=told) as caught:
        list(make_executor("processes", 1).run(partial(Squarer, str(tmp_path)), tasks(n0=what)))
    assert "workers.py" in caught.value.__notes__[0], "where it came from"


def test_one_that_dies_while_idle_costs_nothing(tmp_path: Path) -> None:
    """Nor does a Ctrl-C in the terminal, which children get too."""
    run = ProcessExecutor(1, attempts=1).run(partial(Squarer, str(tmp_path)), tasks())
    _, first = next(run).answer or (0, 0)
    os.kill(first, signal.SIGINT)
    square, second = next(run).answer or (0, 0)
    assert (square, second) == (1, first)
    os.kill(second, signal.SIGKILL)
    os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)
    rest = [outcome.answer for outcome in run]
    assert [answer and answer[0] for answer in rest] == [4, 9, 16]
    assert second not in {answer and answer[1] for answer in rest}


@pytest.mark.parametrize("size", [1, 4_000_000])
def test_one_that_dies_at_its_start_is_not_tried_for_ever(size: int) -> None:
    """size: of what it is sent, more than fits into a pipe or not."""
    (outcome,) = ProcessExecutor(1, attempts=2).run(Stillborn(), [Task("0", (0, "x" * size))])
    assert isinstance(outcome.error, EngineUnavailable) and "2 processes" in str(outcome.error)
