"""App processes: started, reached, watched, started again, ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests
from supervisely.nn.inference import SessionJSON

from apps.workbench.logs import RotatingLog
from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec, read_spec
from apps.workbench.store import tasks
from apps.workbench.store.database import Database
from apps.workbench.supervisor import NICER
from common.errors import UserError
from tests.apps.workbench.harness import Running, Served, free_port

ROOT = Path(__file__).resolve().parents[3]
TINY = AppSpec(
    "tiny",
    (sys.executable, "-m", "uvicorn", "tests.apps.workbench.tiny_app:app", "--host", "127.0.0.1", "--port", "{port}"),
    ROOT,
    {"name": "Tiny app", "session_tags": ["sly_video_tracking"]},
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("workbench") / "data"
    settings = Settings(data, port=free_port(), app_check_every_s=0.1)
    with Running(settings, (TINY, AppSpec("broken", ("/no/such/program",), ROOT)), ("tiny",)) as it:
        yield it


@pytest.fixture(scope="module")
def task_id(served: Served) -> int:
    [task] = served.api.task.get_list(1)
    _until(lambda: served.api.task.get_info_by_id(task["id"])["status"] == "started")
    return int(task["id"])


def _until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _pid(served: Served, task_id: int) -> int:
    return int(served.api.task.send_request(task_id, "environment", {}, context={})["pid"])


def test_the_app_gets_what_it_needs(served: Served, task_id: int) -> None:
    env = served.api.task.send_request(task_id, "environment", {}, context={})
    assert env["SERVER_ADDRESS"] == served.settings.address
    assert (env["ENV"], env["TASK_ID"], env["TEAM_ID"], env["WORKSPACE_ID"]) == ("production", str(task_id), "1", "1")
    assert env["SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK"] == "true"


def test_the_app_stands_behind_the_workbench_for_cores(served: Served, task_id: int) -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, _pid(served, task_id)) == min(19, mine + NICER)


def test_direct_requests_carry_the_envelope(served: Served, task_id: int) -> None:
    reply = served.api.task.send_request(task_id, "echo", {"a": 1}, context={"videoId": 7})
    assert reply["body"] == {
        "state": {"a": 1},
        "context": {"videoId": 7, "outside_request": True},
        "server_address": served.settings.address,
        "api_token": served.bench.token,
    }
    assert served.api.task.is_running(task_id) is False, "a 404 of the app is the app's answer"


def test_the_answer_of_the_app_is_passed_on_unchanged(served: Served, task_id: int) -> None:
    reply = served.call("tasks.request.direct", {"taskId": task_id, "command": "fails"})
    assert (reply.status_code, reply.json()) == (422, {"message": "no such thing"})
    skipped = served.call("tasks.request.direct", {"taskId": task_id, "command": "echo", "skipResponse": True})
    assert skipped.json() == {"success": True}


@pytest.mark.parametrize("command", ["http://evil/x", "//evil/x", "a b", "x?y", "x#y", "", "../x"])
def test_commands_cannot_leave_the_app(served: Served, task_id: int, command: str) -> None:
    reply = served.call("tasks.request.direct", {"taskId": task_id, "command": command})
    assert reply.status_code == 400


def test_starting_a_track_forgets_that_it_was_stopped(served: Served, task_id: int) -> None:
    served.own("POST", "stop", json={"trackId": "again"})
    assert served.api.video.notify_progress("again", 1, 0, 1, 1, 2) is True
    served.api.task.send_request(task_id, "track", {}, context={"trackId": "again"})
    assert served.api.video.notify_progress("again", 1, 0, 1, 1, 2) is False


def test_the_sdks_session_works_through_net(served: Served, task_id: int) -> None:
    assert SessionJSON(served.api, task_id).get_session_info() == {"app_name": "tiny", "session_id": task_id}


def test_net_passes_verbs_queries_bodies_and_statuses(served: Served, task_id: int) -> None:
    token = served.api.task.get_info_by_id(task_id)["meta"]["sessionToken"]
    base = f"{served.settings.address}/net/{token}"
    reply = requests.put(f"{base}/raw/a/b%20c?x=1&y=%2F", data=b"\0\1\2" * 50_000, timeout=10)
    assert (reply.status_code, reply.headers["x-tiny"]) == (201, "yes")
    assert reply.content == b"PUT a/b c?x=1&y=%2F " + b"\0\1\2" * 50_000
    assert requests.get(f"{base}/raw/z", timeout=10).content == b"GET z? "
    echoed = requests.post(f"{base}/echo", json={}, headers={"x-api-key": "secret"}, timeout=10).json()
    assert echoed["key"] is None, "the caller's token is not the app's business"
    assert requests.get(f"{served.settings.address}/net/{token[:-1]}/raw/z", timeout=10).status_code == 404


def test_a_dead_app_is_started_again(served: Served, task_id: int) -> None:
    before = _pid(served, task_id)
    psutil.Process(before).kill()
    _until(lambda: served.api.task.get_info_by_id(task_id)["status"] != "started")
    _until(lambda: served.api.task.get_info_by_id(task_id)["status"] == "started")
    assert _pid(served, task_id) != before


def test_a_sick_app_is_started_again(served: Served, task_id: int) -> None:
    before = _pid(served, task_id)
    served.api.task.send_request(task_id, "fall_sick", {}, context={})
    _until(lambda: not psutil.pid_exists(before))
    _until(lambda: served.api.task.get_info_by_id(task_id)["status"] == "started")
    assert _pid(served, task_id) != before


def test_the_log_holds_what_the_app_says_but_no_token(served: Served, task_id: int) -> None:
    half = "x" * 70_000
    for text in ("hello ", "TOKEN", f" {half}TOKEN{half} ", "bye"):
        served.api.task.send_request(task_id, "say", {"text": text}, context={})
    log = served.settings.data / "logs" / f"tiny-{task_id}.log"
    _until(lambda: log.read_text().rstrip().count("bye") == 1)
    text = log.read_text()
    assert "hello" in text and "***" in text
    assert served.bench.token not in text


def test_a_program_that_is_not_there_is_an_error_and_no_crash(served: Served) -> None:
    task = served.own("POST", "apps/start", json={"app": "broken"}).json()
    _until(lambda: served.api.task.get_info_by_id(task["id"])["status"] == "error")
    reply = served.call("tasks.request.direct", {"taskId": task["id"], "command": "echo"})
    assert reply.status_code == 404
    served.api.task.stop(task["id"])
    assert served.own("POST", "apps/start", json={"app": "unheard of"}).status_code == 404


def test_apps_are_found_started_and_stopped_by_the_sdk(served: Served, task_id: int) -> None:
    [app] = [app for app in served.api.app.get_list(1) if app.name == "Tiny app"]
    assert task_id in [session.task_id for session in served.api.app.get_sessions(1, app.id)]
    task = served.api.task.start(1, module_id=app.id, workspace_id=1)
    _until(lambda: served.api.task.get_info_by_id(task["id"])["status"] == "started")
    pid = _pid(served, task["id"])
    assert str(served.api.task.stop(task["id"])) == "stopped"
    assert not psutil.pid_exists(pid)


def test_an_app_that_runs_already_can_be_registered(served: Served, task_id: int) -> None:
    with served.bench.database.read() as session:
        url = tasks.get_task(session, task_id).url
    known = served.own("POST", "apps/register", json={"name": "mine", "url": url}).json()
    assert served.api.task.send_request(known["id"], "track", {}, context={}) == {"message": "Track task started."}
    for url in ("http://example.com", "file:///etc/passwd", "http://10.0.0.1:1", "nonsense"):
        assert served.own("POST", "apps/register", json={"name": "bad", "url": url}).status_code == 400
    gone = served.own("POST", "apps/register", json={"name": "gone", "url": f"http://127.0.0.1:{free_port()}"}).json()
    assert served.call("tasks.request.direct", {"taskId": gone["id"], "command": "x"}).status_code == 502


def test_fields_meta_and_output(served: Served, task_id: int) -> None:
    api = served.api.task
    assert api.get_field(task_id, "autoRestartInfo") is None
    api.set_field(task_id, "data.list", [1])
    api.set_field(task_id, "data.list", [2], append=True)
    assert api.get_field(task_id, "data.list") == [1, 2]
    api.update_meta(task_id, {"templateRootDirectory": "/x", "sessionToken": "mine"})
    meta = api.get_info_by_id(task_id)["meta"]
    assert meta["templateRootDirectory"] == "/x" and meta["sessionToken"] != "mine"
    api.set_output_text(task_id, "done")
    assert served.call("tasks.info", {"id": task_id}).json()["output"]["general"]["title"] == "done"


def test_shutdown_ends_apps_and_a_crash_is_mended(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "data", port=free_port(), app_check_every_s=0.1)
    with Running(settings, (TINY,), ("tiny",)) as first:
        [task] = first.api.task.get_list(1)
        _until(lambda: first.api.task.get_info_by_id(task["id"])["status"] == "started")
        pid = _pid(first, task["id"])
    assert not psutil.pid_exists(pid)
    # as a crash leaves it: a row that says it runs, and a process that does
    left_over = psutil.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    database = Database(settings.data / "workbench.db")
    with database.write() as session:
        row = tasks.add_task(session, app="tiny", name="tiny", config={}, url="http://127.0.0.1:1", status="started")
        crashed = row.id
        row.pid, row.pid_started = left_over.pid, left_over.create_time()
        other = tasks.add_task(session, app="tiny", name="tiny", config={}, status="started")
        other.pid, other.pid_started = psutil.Process().pid, 1.0  # a number that another program has by now: us
    database.close()
    with Running(settings) as second:
        assert second.api.task.get_info_by_id(crashed)["status"] == "stopped"
    assert left_over.wait(5) != 0


def test_specs_are_read_from_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        '{"name": "X", "entrypoint": "python -m uvicorn main:model.app --host 0.0.0.0 --port 8000 --ws websockets"}'
    )
    spec = read_spec(tmp_path, ROOT)
    assert spec.command(1234) == [
        sys.executable,
        *["-m", "uvicorn", "main:model.app", "--host", "127.0.0.1", "--port", "1234", "--ws", "websockets"],
    ]
    for text in ("{}", "", '{"entrypoint": ""}', '{"entrypoint": 3}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"config\.json"):
            read_spec(tmp_path, ROOT)


def test_logs_do_not_grow_for_ever(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log", limit=100, keep=2)
    for number in range(50):
        log.write(f"{number:02d}".encode() * 20)
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["a.log", "a.log.1", "a.log.2"]
    assert all(file.stat().st_size <= 100 for file in files)
    assert files[0].read_text().endswith("49")
