"""Every config.json in the repository is one that the platform takes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.rules import LOCAL_ONLY, ROOT, ROOT_APP, SHAPES_OF_ENGINE, fits_sdk, pinned, problems
from tests.packaging.test_workflows import released_apps

PLANNED = {ROOT_APP, "apps/auto_track", *SHAPES_OF_ENGINE}
FOUND = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("apps/*/config.json")} | {ROOT_APP}
APPS = sorted(PLANNED | FOUND)


def _config(app: str) -> dict[str, Any]:
    """The config of an app; skips the test while the app, or the one that the all-in-one app starts, is not there."""
    needed = "apps/auto_track" if app == ROOT_APP else app
    if not (ROOT / needed / "config.json").is_file():
        pytest.skip(f"{needed} is not there yet")
    config: dict[str, Any] = json.loads((ROOT if app == ROOT_APP else ROOT / app).joinpath("config.json").read_text())
    return config


@pytest.mark.parametrize("app", APPS)
def test_config_is_one_that_the_platform_takes(app: str) -> None:
    _config(app)
    assert problems(app) == []


@pytest.mark.parametrize("app", sorted(FOUND - {ROOT_APP}))
def test_every_app_is_either_released_or_known_to_be_local(app: str) -> None:
    assert (app in released_apps()) != (app in LOCAL_ONLY)


@pytest.mark.parametrize("app", sorted(PLANNED))
def test_sdk_of_the_image_fits_the_instance_version(app: str) -> None:
    config = _config(app)
    spec = importlib.util.find_spec("supervisely")  # found, not imported: that takes seconds
    assert spec is not None and spec.origin is not None
    versions = json.loads(Path(spec.origin).with_name("versions.json").read_text())
    instance = config.get("instance_version", config.get("min_instance_version"))
    assert fits_sdk(instance, pinned("supervisely"), versions)


def test_the_pinned_sdk_is_the_one_the_tests_run_with() -> None:
    assert importlib.metadata.version("supervisely") == pinned("supervisely")


@pytest.mark.parametrize(
    ("instance", "sdk", "fits"),
    [
        ("6.9.0", "6.73.9", True),  # older than the table: anything below its first row
        ("6.9.0", "6.73.10", False),
        ("6.10.0", "6.73.10", True),  # a row's own SDK
        ("6.10.0", "6.73.9", False),
        ("6.10.5", "6.73.99", True),  # between rows: from this row up to the next
        ("6.10.5", "6.73.100", False),  # as numbers, not as text
        ("6.11.0", "6.99.0", True),  # after the last row
    ],
)
def test_fits_sdk(instance: str, sdk: str, fits: bool) -> None:
    assert fits_sdk(instance, sdk, {"6.11.0": "6.73.100", "6.10.0": "6.73.10"}) is fits


ENGINE = {
    "name": "Engine",
    "type": "app",
    "version": "2.0.0",
    "description": "Tracks.",
    "categories": ["videos"],
    "docker_image": "supervisely/video-labeling-by-tracking-cpu:0.1.0",
    "instance_version": "6.18.3",
    "entrypoint": "python -m uvicorn apps.box_tracker.main:model.app --host 0.0.0.0 --port 8000 --ws websockets",
    "port": 8000,
    "task_location": "application_sessions",
    "headless": True,
    "gpu": "no",
    "session_tags": ["sly_video_tracking"],
    "allowed_shapes": ["rectangle", "oriented_bbox"],
}
BARE = "python -m uvicorn {} --host 0.0.0.0 --port 8000"


def _repository(folder: Path, config: dict[str, Any]) -> Path:
    app = folder / "apps/box_tracker"
    app.mkdir(parents=True)
    (app / "config.json").write_text(json.dumps(config))
    (app / "README.md").write_text("# Engine\n")
    (app / "main.py").write_text("model = object()\n")
    return folder


def test_a_good_config_has_no_problems(tmp_path: Path) -> None:
    assert problems("apps/box_tracker", _repository(tmp_path, ENGINE)) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        *(({field: None}, field) for field in ENGINE if field not in {"session_tags", "allowed_shapes"}),
        ({"session_tags": None}, "allowed_shapes"),
        ({"allowed_shapes": None}, "go together"),
        ({"version": "2.0"}, "version"),
        ({"is_autotrack": True}, "is_autotrack"),
        ({"is_auto_track": True}, "takes every shape"),
        ({"allowed_shapes": ["box"]}, "box"),
        ({"allowed_shapes": ["oriented_bbox"]}, "also takes ['rectangle']"),
        ({"session_tags": ["sly_video_trackin"]}, "sly_video_trackin"),
        ({"session_tags": ["deployed_nn"]}, "go together"),
        ({"task_location": "workspace_tasks"}, "is a session"),
        ({"docker_image": "supervisely/engine:latest"}, "docker_image"),
        ({"docker_image": "engine:1.0.0"}, "docker_image"),
        ({"gpu": "required"}, "GPU image"),
        ({"instance_version": "6.18"}, "instance_version"),
        ({"port": 8001}, "port"),
        ({"entrypoint": BARE.format("apps.box_tracker.server:model")}, "no module apps.box_tracker.server"),
        ({"entrypoint": BARE.format("apps.box_tracker.main:app")}, "has no app"),
        ({"entrypoint": BARE.format("apps.box_tracker.main")}, "has no (no name)"),
        ({"entrypoint": BARE.format("main:model") + " --app-dir apps/mask_tracker"}, "no module main"),
        ({"entrypoint": "python -m apps.nothing"}, "no module apps.nothing"),
        ({"entrypoint": "python -m uvicorn apps.box_tracker.main:model --port 8000"}, "0.0.0.0"),
        ({"entrypoint": "python apps/box_tracker/main.py"}, "entrypoint"),
        ({"modal_template": "apps/box_tracker/modal.html"}, "no file apps/box_tracker/modal.html"),
        ({"modal_template": "/modal.html"}, "modal_template"),
        ({"files": {"models": "../models.json"}}, "files.models"),
        ({"files": {"models": "apps/box_tracker/models.json"}}, "no file apps/box_tracker/models.json"),
        ({"files": {"weights": "apps/box_tracker/main.py"}}, "weights"),
    ],
)
def test_a_malformed_config_is_told(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    config = {field: value for field, value in (ENGINE | change).items() if value is not None}
    found = problems("apps/box_tracker", _repository(tmp_path, config))
    assert any(says in problem for problem in found), found


def test_an_app_dir_is_where_the_module_is_looked_for(tmp_path: Path) -> None:
    config = ENGINE | {"entrypoint": BARE.format("main:model") + " --app-dir ./apps/box_tracker"}
    assert problems("apps/box_tracker", _repository(tmp_path, config)) == []


@pytest.mark.parametrize(("name", "says"), [("README.md", "README"), ("config.json", "not readable")])
def test_a_missing_file_is_told(tmp_path: Path, name: str, says: str) -> None:
    root = _repository(tmp_path, ENGINE)
    (root / "apps/box_tracker" / name).unlink()
    assert any(says in problem for problem in problems("apps/box_tracker", root))


def test_requirements_beside_a_sub_app_are_told_and_beside_the_root_are_not(tmp_path: Path) -> None:
    """The root's go with the release of the root in a job of its own: test_workflows.py."""
    root = _repository(tmp_path, ENGINE)
    (root / "apps/box_tracker/requirements.txt").touch()
    assert problems("apps/box_tracker", root) == ["requirements.txt beside a config blocks the release"]
    shapes = [*ENGINE["allowed_shapes"], "bitmap", "polygon", "point", "line", "polyline", "graph"]
    (root / "config.json").write_text(json.dumps(ENGINE | {"is_auto_track": True, "allowed_shapes": shapes}))
    shutil.copy(root / "apps/box_tracker/README.md", root)
    (root / "requirements.txt").touch()
    assert problems(ROOT_APP, root) == []
