"""Tasks in processes: everything is done once, whatever is lost."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

import pytest

from common.cluster import make_executor
from common.cluster.contract import Task
from common.errors import EngineUnavailable, UserError
from tests.common.cluster.workers import Squarer


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


def test_faults_of_ours_are_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a fault"):
        list(make_executor("processes", 1).run(partial(Squarer, str(tmp_path)), tasks(n0="broken")))
