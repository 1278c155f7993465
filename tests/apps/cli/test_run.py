"""`run` starts everything, an unmodified SDK finds the demonstration project, Ctrl-C leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from apps.cli.run import APPS
from tests.apps.cli.conftest import ROOT, arguments

READY_WITHIN_S = 120
"""Patience on a busy test machine; benchmarks measure the real time."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory):
    data = tmp_path_factory.mktemp("suite") / "data"
    command = arguments(["run", "--port", "0", "--data", data, "--no-browser"])
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    env = data / "supervisely.env"
    _wait(lambda: env.exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]
    yield process, dict(line.replace('"', "").split("=", 1) for line in env.read_text().splitlines() if "=" in line)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


def _wait(done) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not done():
        assert time.monotonic() < deadline, "not ready in time"
        time.sleep(0.1)


def call(env: dict[str, str], method: str, **body: object):
    reply = httpx.post(
        f"{env['SERVER_ADDRESS']}/public/api/v3/{method}",
        json=body,
        headers={"x-api-key": env["API_TOKEN"]},
        timeout=60,
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_the_demonstration_project_has_its_labels(suite):
    _, env = suite
    (project,) = call(env, "projects.list", workspaceId=1)["entities"]
    assert project["name"] == "Demo"
    (dataset,) = call(env, "datasets.list", projectId=project["id"])["entities"]
    (video,) = call(env, "videos.list", datasetId=dataset["id"])["entities"]
    (annotation,) = call(env, "videos.annotations.bulk.info", datasetId=dataset["id"], videoIds=[video["id"]])
    assert len(annotation["objects"]) == 5
    assert [(frame["index"], len(frame["figures"])) for frame in annotation["frames"]] == [(0, 5)]


def test_every_app_comes_up_and_answers(suite):
    _, env = suite

    def all_started() -> bool:
        tasks = call(env, "tasks.list", filter=[])["entities"]
        return [task["status"] for task in tasks] == ["started"] * len(APPS)

    _wait(all_started)


def test_ctrl_c_ends_every_process(suite):
    process, _ = suite
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= len(APPS)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_ctrl_c_before_it_is_ready_leaves_nothing_behind(tmp_path: Path):
    command = arguments(["run", "--port", "0", "--data", tmp_path / "data", "--no-browser"])
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    seen: dict[int, psutil.Process] = {}

    def painting() -> bool:
        seen.update({child.pid: child for child in psutil.Process(process.pid).children(recursive=True)})
        # the log comes with the first app, while the clip is still being drawn
        return any((tmp_path / "data").glob("apps/*")) or process.poll() is not None

    _wait(painting)
    seen.update({child.pid: child for child in psutil.Process(process.pid).children(recursive=True)})
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    # it may have become ready between the look and the signal: then it was ended, not broken off
    assert process.returncode == (0 if "The suite runs at" in said else 130), said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(list(seen.values()), timeout=20)
    assert not alive


def test_a_file_that_is_no_video_is_told_before_anything_starts(tmp_path: Path):
    nothing = tmp_path / "text.mp4"
    nothing.write_text("no video")
    done = subprocess.run(
        arguments(["run", nothing, "--data", tmp_path / "data", "--no-browser"]),
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_the_start_loads_only_what_it_needs() -> None:
    """Libraries that one command needs, or a network that is chosen later, cost every start seconds."""
    code = (
        "import sys; heavy = ('torch', 'supervisely', 'ultralytics', 'matplotlib')\n"
        "from apps.cli.app import app_for; app_for(['run'])\n"
        "print([name for name in (*heavy, 'scipy', 'apps.cli.label') if name in sys.modules])\n"
        "import apps.cli.forked; print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
