"""Who gets in, and what the workbench keeps to itself."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest
import requests
import supervisely as sly
from dotenv import dotenv_values

from apps.workbench.__main__ import main
from apps.workbench.settings import Settings
from common.errors import UserError
from tests.apps.workbench.harness import Running, Served, free_port

_ADDRESSES = [
    ("POST", "/public/api/v3/users.me"),
    ("POST", "/public/api/v3/projects.list"),
    ("POST", "/public/api/v3/videos.bulk.upload"),
    ("POST", "/public/api/v3/images.bulk.upload"),
    ("POST", "/public/api/v3/images.bulk.download"),
    ("POST", "/public/api/v3/annotations.bulk.add"),
    ("GET", "/workbench/images/1000001/file"),
    ("POST", "/public/api/v3/no.such.method"),
    ("GET", "/workbench/notifications"),
    ("GET", "/workbench/events"),
    ("GET", "/workbench/videos/1/file"),
    ("POST", "/workbench/faults"),
    ("POST", "/workbench/apps/register"),
    ("GET", "/workbench/annotator/videos"),
    ("GET", "/app/1/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
]


@pytest.mark.parametrize(("verb", "path"), _ADDRESSES)
def test_without_the_token_nothing_is_said(served: Served, verb: str, path: str) -> None:
    for headers in ({}, {"x-api-key": ""}, {"x-api-key": served.bench.token[:-1]}, {"x-api-key": "é"}):
        encoded = {key: value.encode("latin-1") for key, value in headers.items()}
        reply = requests.request(verb, served.settings.address + path, headers=encoded, json={}, timeout=10)
        assert reply.status_code == 401
        assert served.bench.token not in reply.text


def test_the_sdk_is_told_why(served: Served) -> None:
    stranger = sly.Api(served.settings.address, "0" * 128, retry_count=1, ignore_task_id=True)
    with pytest.raises(requests.HTTPError, match="x-api-key"):
        stranger.user.get_my_info()


def test_health_needs_no_token(served: Served) -> None:
    assert requests.get(served.settings.address + "/livez", timeout=10).json() == {"running": True}


def test_secrets_lie_in_files_of_their_owner(served: Served) -> None:
    for name in ("token", "supervisely.env"):
        assert stat.S_IMODE((served.settings.data / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(served.settings.data.stat().st_mode) == 0o700


def test_the_env_file_is_enough_for_the_sdk(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in dotenv_values(served.settings.data / "supervisely.env").items():
        monkeypatch.setenv(key, value or "")
    api = sly.Api.from_env(ignore_task_id=True)
    assert api.user.get_my_info().login == "admin"
    assert [team.id for team in api.team.get_list()] == [1]
    assert [workspace.id for workspace in api.workspace.get_list(1)] == [1]
    assert api.is_version_supported() is True


def test_unknown_methods_and_bodies_are_clear_errors(served: Served) -> None:
    unknown = served.call("pointclouds.list")
    assert unknown.status_code == 404 and "pointclouds.list" in unknown.json()["details"]["message"]
    wrong = served.call("projects.info", {"id": "seven"})
    assert wrong.status_code == 400 and wrong.json()["details"]["message"].startswith("id:")
    huge = served.call("projects.info", {"id": 2**70})
    assert huge.status_code == 400
    broken = requests.post(
        f"{served.settings.address}/public/api/v3/projects.info",
        data="{",
        headers={**served.headers, "content-type": "application/json"},
        timeout=10,
    )
    assert broken.status_code == 400


def test_a_body_above_the_limit_is_refused(served: Served) -> None:
    reply = served.call("projects.info", {"id": 1, "rest": "x" * served.settings.max_body_bytes})
    assert reply.status_code == 413


def test_a_restart_keeps_token_and_work(tmp_path: Path, clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = Settings(tmp_path / "data", port=free_port())
    with Running(settings) as first:
        token = first.bench.token
        project = first.api.project.create(1, "kept", sly.ProjectType.VIDEOS)
        dataset = first.api.dataset.create(project.id, "ds")
        video = first.api.video.upload_path(dataset.id, "clip.mp4", str(clip))
        assert first.own("POST", "faults", json=[]).status_code == 404, "faults are for tests only"
    with Running(settings) as second:
        assert second.bench.token == token
        assert second.api.video.get_info_by_id(video.id) == video
        second.api.video.download_path(video.id, str(tmp_path / "back.mp4"))
        assert second.api.project.create(1, "next", sly.ProjectType.VIDEOS).id > project.id
    assert (tmp_path / "back.mp4").read_bytes() == clip.read_bytes()
    assert token not in caplog.text


def test_the_command_line_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], served: Served
) -> None:
    assert main(["--data", str(tmp_path), "--port", "99999"]) == 2
    assert "99999" in capsys.readouterr().err
    assert main(["--data", str(tmp_path), "--port", str(served.settings.port)]) == 2
    assert "--port" in capsys.readouterr().err
    assert main(["--data", str(tmp_path), "--app", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


def test_settings_are_checked() -> None:
    with pytest.raises(UserError):
        Settings(Path("x"), max_body_bytes=0)
