"""Apps that are forked behave like apps that are programs: watched, started again, heard, ended."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from apps.workbench.processes import Nursery, start_program
from apps.workbench.settings import Settings
from tests.apps.workbench.harness import Running, Served, free_port
from tests.apps.workbench.test_tasks import ROOT, TINY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="apps are forked on Linux only")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    it = Nursery("tests.apps.workbench.tiny_app")
    yield it
    it.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> Iterator[Served]:
    settings = Settings(tmp_path_factory.mktemp("forked") / "data", port=free_port(), app_check_every_s=0.1)
    with Running(settings, (TINY,), ("tiny",), nursery) as it:
        yield it


def _pid(served: Served) -> int:
    [task] = served.api.task.get_list(1)
    _until(lambda: served.api.task.get_info_by_id(task["id"])["status"] == "started")
    env = served.api.task.send_request(task["id"], "environment", {}, context={})
    assert (env["SERVER_ADDRESS"], env["TASK_ID"]) == (served.settings.address, str(task["id"]))
    return int(env["pid"])


def _until(true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_a_fork_has_its_own_session_environment_and_log(served: Served) -> None:
    pid = _pid(served)
    parent = psutil.Process(pid).ppid()
    assert parent != psutil.Process().pid and psutil.Process(parent).ppid() == psutil.Process().pid
    [task] = served.api.task.get_list(1)
    served.api.task.send_request(task["id"], "say", {"text": "hello TOKEN bye\n"}, context={})
    log = served.settings.data / "logs" / f"tiny-{task['id']}.log"
    _until(lambda: "hello *** bye" in log.read_text())
    assert "Uvicorn running" in log.read_text(), "what it says about itself comes at once"


@pytest.mark.parametrize("victim", ["app", "the process that it was forked from"])
def test_whichever_dies_the_app_is_started_again(served: Served, victim: str) -> None:
    before = _pid(served)
    process = psutil.Process(before)
    (process if victim == "app" else process.parent() or process).kill()
    _until(lambda: _gone(before))
    [task] = served.api.task.get_list(1)
    _until(lambda: served.api.task.get_info_by_id(task["id"])["status"] != "started")
    assert _pid(served) != before


def test_it_ends_with_the_workbench(tmp_path: Path, nursery: Nursery) -> None:
    with Running(Settings(tmp_path / "data", port=free_port()), (TINY,), ("tiny",), nursery) as it:
        pid = _pid(it)
    assert _gone(pid)


def _sleeper(seconds: int = 60) -> list[str]:
    return [sys.executable, "-m", "timeit", "-n1", "-r1", f"import time; time.sleep({seconds})"]


def test_the_code_of_an_end_is_told_and_output_is_not_lost() -> None:
    async def work(nursery: Nursery) -> None:
        process = await nursery.start([sys.executable, "-m", "timeit", "--help"], ROOT, {})
        assert process.stdout is not None
        assert b"Tool for measuring" in await process.stdout.read()
        assert (await process.wait(), process.returncode) == (0, 0)
        killed = await nursery.start(_sleeper(), ROOT, {})
        assert killed.returncode is None
        psutil.Process(killed.pid).kill()
        assert await killed.wait() == -9
        other = await nursery.start(["sh", "-c", "exit 3"], ROOT, {})
        assert await other.wait() == 3, "what cannot be forked is a program"
        with pytest.raises(FileNotFoundError):
            await start_program(["/no/such/program"], ROOT, {})

    nursery = Nursery("tests.apps.workbench.tiny_app")
    asyncio.run(work(nursery))
    nursery.close()


def test_nobody_is_left_when_a_start_is_called_off_or_a_workbench_ends_in_a_hurry() -> None:
    begun: list[int] = []

    async def work(nursery: Nursery) -> None:
        begun.append((await nursery.start(_sleeper(), ROOT, {})).pid)
        mother = psutil.Process(psutil.Process(begun[0]).ppid())
        before = {child.pid for child in mother.children()}
        starting = asyncio.create_task(nursery.start(_sleeper(), ROOT, {}))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        begun.append(
            (await nursery.start(_sleeper(), ROOT, {})).pid
        )  # one at a time: the other has been started by now
        await asyncio.sleep(0)
        assert {child.pid for child in mother.children() if not _gone(child.pid)} == {*before, begun[1]}

    nursery = Nursery("tests.apps.workbench.tiny_app")
    asyncio.run(work(nursery))
    assert not any(_gone(pid) for pid in begun)
    nursery.close()
    _until(lambda: all(_gone(pid) for pid in begun), 10)
