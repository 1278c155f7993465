"""Tasks on a cluster of two machines, which are processes here: everything is done once, whatever is lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.cluster import on_ray
from common.cluster.contract import Task
from common.cluster.on_ray import RayExecutor, RayOptions
from common.errors import EngineUnavailable, UserError
from tests.common.cluster.workers import Squarer

STORE = 80 << 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="ray is not installed; see dev_requirements.txt")
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE, "include_dashboard": False},
    )
    made.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORE)
    try:
        yield made
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def executor(cluster: Any) -> Iterator[RayExecutor]:
    made = RayExecutor(RayOptions(address=cluster.address))
    yield made
    made.close()


def done(tmp_path: Path, number: int) -> list[str]:
    path = tmp_path / f"{number}.begun"
    return path.read_text().split() if path.exists() else []


@pytest.mark.slow
def test_both_machines_work_and_a_lost_worker_loses_nothing(executor: RayExecutor, tmp_path: Path) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[Task[tuple[int, str]]]:
        for number in range(8):
            taken.append(number)
            what = {1: "die once", 3: "refuse", 5: "die"}.get(number, "slow")
            yield Task(str(number), (number, what))

    found = {}
    most_ahead = 0
    for outcome in executor.run(partial(Squarer, str(tmp_path)), tasks()):
        assert outcome.key not in found, "a task has one outcome"
        found[outcome.key] = outcome
        most_ahead = max(most_ahead, len(taken) - len(found))
    assert sorted(found) == [str(n) for n in range(8)]
    squares = {int(key): o.answer[0] for key, o in found.items() if o.answer is not None}
    assert squares == {0: 0, 1: 1, 2: 4, 4: 16, 6: 36, 7: 49}
    assert len(done(tmp_path, 1)) == 2, "the lost one was done again"
    assert all(len(done(tmp_path, n)) == 1 for n in (0, 2, 4, 6, 7)), "and nothing else was"
    assert isinstance(found["3"].error, UserError)
    assert "3 cannot be squared" in str(found["3"].error)
    assert isinstance(found["5"].error, EngineUnavailable), "what kills every worker is given up"
    assert len(done(tmp_path, 5)) == 3
    assert most_ahead <= 4, "two workers: no more than two at work, and two given out"
    assert len({pid for n in (0, 2, 4, 6, 7) for pid in done(tmp_path, n)}) >= 2


@pytest.mark.slow
def test_a_stop_reaches_the_workers(executor: RayExecutor, tmp_path: Path) -> None:
    stop = threading.Event()
    tasks = (Task(str(n), (n, "until stopped")) for n in range(50))
    seen: list[tuple[str, int, int]] = []

    def on_progress(*what: Any) -> None:
        seen.append(what)
        stop.set()

    outcomes = list(executor.run(partial(Squarer, str(tmp_path)), tasks, stop=stop, on_progress=on_progress))
    assert seen[0][1:] == (1, 2)
    assert 1 <= len(outcomes) <= 2
    assert all(outcome.answer is not None for outcome in outcomes)


@pytest.mark.slow
def test_without_an_address_it_keeps_to_itself(cluster: Any) -> None:
    """And does not join a cluster of somebody else on this machine, to die with it."""
    code = "from common.cluster.on_ray import *; e = RayExecutor(); print(e._ray.get_runtime_context().gcs_address); e.close()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() and done.stdout.strip() != cluster.address


@pytest.mark.slow
def test_a_machine_that_goes_away_takes_nothing_with_it(cluster: Any, executor: RayExecutor, tmp_path: Path) -> None:
    """The second machine's daemon is killed, and all that it runs: what was finished is not done again, what was under way
    is done by the machine that is left."""
    away = next(node for node in cluster.worker_nodes)
    raylet = away.all_processes["raylet"][0].process.pid
    found: dict[str, int] = {}
    taken: list[int] = []
    lost: set[int] = set()
    on_time: set[str] = set()

    def there() -> set[int]:
        """Workers of that machine which have begun something."""
        begun = {int(pid) for number in taken for pid in done(tmp_path, number)}
        return {pid for pid in begun if psutil.pid_exists(pid) and psutil.Process(pid).ppid() == raylet}

    def tasks() -> Iterator[Task[tuple[int, str]]]:
        """Until the second machine, which may start late, has begun something and is gone; then four more."""
        end, more = time.monotonic() + 90, 4
        while more and time.monotonic() < end:
            more -= bool(lost)
            taken.append(len(taken))
            yield Task(str(taken[-1]), (taken[-1], "slow"))

    try:
        for outcome in executor.run(partial(Squarer, str(tmp_path)), tasks()):
            assert outcome.key not in found, "a task has one outcome"
            assert outcome.answer is not None
            found[outcome.key] = outcome.answer[0]
            # the answer is of a worker of the first machine: that of the second is in the middle of something
            if not lost and outcome.answer[1] not in there() and there():
                lost, on_time = there(), set(found)
                cluster.remove_node(away, allow_graceful=False)
    finally:
        if lost:
            cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=STORE)
    assert lost, "the second machine did some of the work"
    assert found == {str(n): n * n for n in taken}
    often = {number: len(done(tmp_path, number)) for number in taken}
    assert all(often[int(key)] == 1 for key in on_time), "what was finished was not done again"
    again = {number for number, times in often.items() if times > 1}
    assert len(again) <= 1 and all(often[number] == 2 for number in again)
    assert all(int(pid) not in lost for number in again for pid in done(tmp_path, number)[1:])


def test_a_machine_without_ray_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineUnavailable, match="pip install ray"):
        RayExecutor()
    assert "pip install ray" in on_ray.HOW_TO_INSTALL
