"""Endpoints that say how the app is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import supervisely as sly
from starlette.testclient import TestClient

from common.errors import EngineUnavailable
from common.serving.app import create_app
from common.serving.engines import Engines
from common.serving.settings import ServingSettings
from common.tracking.contract import Tracker
from tests.common.serving.stage import ALL_SHAPES, EVERYTHING, Client, Stage, wait_until
from tests.common.serving.toys import Drift


@pytest.mark.parametrize(
    ("verb", "path", "part"),
    [
        ("get", "livez", {"running": True, "mode": "production"}),
        ("get", "is_alive", {"running": True, "mode": "production"}),
        ("post", "is_running", {"running": True, "mode": "production"}),
        ("get", "readyz", {"status": "ready"}),
        ("get", "is_ready", {"status": "ready"}),
        ("post", "is_ready", {"status": "ready"}),
        ("post", "get_custom_inference_settings", {"settings": {}}),
        ("post", "get_tracking_settings", {}),
        ("post", "get_output_classes_and_tags", {"classes": [], "tags": []}),
        ("post", "get_model_meta", {"classes": [], "tags": []}),
        ("post", "is_deployed", {"deployed": True}),
        ("post", "get_deploy_info", {"task_type": "tracking"}),
        ("post", "get_status", {"is_deployed": True}),
        ("post", "get_session_info", {"task type": "tracking", "session_id": 7, "videos_support": True}),
        ("post", "get_session_info", {"version": "1.0.0", "allowed_shapes": list(ALL_SHAPES)}),
    ],
)
def test_answers(client: Client, verb: str, path: str, part: dict[str, Any]) -> None:
    reply = client.get(path) if verb == "get" else client.post(path)
    assert reply.status_code == 200
    assert part.items() <= reply.json().items()


def test_the_model_meta_is_the_sdks(client: Client) -> None:
    assert len(sly.ProjectMeta.from_json(client.post("get_output_classes_and_tags").json()).obj_classes) == 0


def test_an_app_is_alive_before_it_is_ready(tmp_path: Path) -> None:
    go = threading.Event()

    def make(_: str) -> Tracker:
        go.wait(10)
        return Drift()

    app = create_app(EVERYTHING, ServingSettings(tmp_path, head_start_s=0.05), Engines({"box": "toy"}, make))
    with TestClient(app) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        go.set()
        wait_until(lambda: client.get("/readyz").status_code == 200)


def test_an_app_whose_tracker_cannot_be_made_says_why(tmp_path: Path) -> None:
    def make(_: str) -> Tracker:
        raise EngineUnavailable("There are no weights for it.")

    with TestClient(create_app(EVERYTHING, ServingSettings(tmp_path), Engines({"box": "toy"}, make))) as client:
        wait_until(
            lambda: client.get("/readyz").json() == {"message": "There are no weights for it.", "success": False}
        )
        assert client.get("/livez").status_code == 200


def test_smart_cache_brings_the_video(client: Client, stage: Stage) -> None:
    assert client.post("smart_cache", {}, {"video_id": stage.video.id, "frame_ranges": [[0, 3]]}).json() == {
        "message": "Cache task started."
    }
    folder = client.service.settings.data / "videos"
    wait_until(
        lambda: any(
            path.stat().st_size == int(stage.video.file_meta["size"]) for path in folder.rglob("*") if path.is_file()
        )
    )


@pytest.mark.parametrize("state", [{}, {"video_id": "../x"}, {"video_id": 1, "frame_ranges": [[1]]}, {"video_id": -1}])
def test_smart_cache_refuses_what_it_cannot_read(client: Client, state: dict[str, Any]) -> None:
    reply = client.post("smart_cache", {}, state)
    assert reply.status_code == 400 and reply.json()["message"]
