"""The detector app: how it describes itself, who may do what, and how an instance starts it."""

from __future__ import annotations

from pathlib import Path

import pytest
import supervisely as sly
from supervisely.nn.inference import Session
from supervisely.nn.model.model_api import ModelAPI

from apps.detector.main import CONFIG
from common.serving.access import Access
from tests.apps.detector.harness import DetectorRunning, picture, png
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import FRAMES, Client, Stage, new_track, wait_until


def test_it_describes_itself_to_the_sdk(app: Client, served: Served) -> None:
    model = ModelAPI(served.api, url=app.address)
    assert model.is_deployed() and model.get_classes() == ["car", "dog"]
    assert model.get_settings()["confidence_threshold"] == 0.4
    assert model.get_tracking_settings()["track_buffer"] == 30
    assert "hog" in model.list_pretrained_models()
    assert {"Model", "meta"} <= set(model.list_pretrained_model_infos()[0])
    assert model.status()["is_deployed"]
    session = Session(served.api, session_url=app.address)
    info = session.get_session_info()
    assert info["task type"] == "object detection" and info["tracking_on_videos_support"] is True
    assert info["tracking_algorithms"][0] == "botsort" and info["number_of_classes"] == 2
    assert session.get_deploy_info().model_name == "bright"
    meta = session.get_model_meta()
    assert meta.get_obj_class("car").geometry_type is sly.Rectangle
    assert meta.get_tag_meta("confidence").value_type == sly.TagValueType.ANY_NUMBER
    for path in ("livez", "is_alive", "is_ready", "readyz", "jobs"):
        assert app.get(path).status_code == 200
    assert app.post("is_running").json() == {"running": True, "mode": "production"}
    assert app.post("is_deployed").json()["deployed"] is True
    assert isinstance(app.post("get_deploy_settings").json(), list)


def test_only_the_owner_changes_the_model(app: Client) -> None:
    state = {"deploy_params": {"device": "cpu"}, "model_name": "hog"}
    assert app.post("deploy_from_api", {}, state, api_token="other").status_code == 403
    assert app.post("deploy_from_api", {}, state | {"model_name": "nothing"}).status_code == 400
    assert app.post("sly/shutdown", {}, {}, api_token="other").status_code == 403
    assert app.post("freeze_model").status_code == 200
    assert app.post("run_speedtest").status_code == 501


def test_missing_weights_are_said_and_it_lives(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.detection import registry
    from common.serving.detection_app import create_detector_app
    from common.serving.detection_model import Setup
    from common.serving.settings import ServingSettings

    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    settings = ServingSettings(tmp_path, Access(served.settings.address, served.bench.token))
    api = create_detector_app(CONFIG, Setup("fastestdet"), settings)
    api.state.service.model.load()
    from fastapi.testclient import TestClient

    client = TestClient(api)
    reply = client.get("/is_ready")
    assert reply.status_code == 503 and "models download fastestdet" in reply.json()["message"]
    assert client.get("/livez").status_code == 200
    assert client.post("/get_model_meta", json={}).status_code == 503
    assert "fastestdet" in registry.names()


def test_a_detector_that_compares_frames(served: Served, stage: Stage, tmp_path: Path) -> None:
    """Every request has one of its own; single pictures mean nothing to it."""
    from common.detection.motion import MotionDetector

    with DetectorRunning(served, tmp_path, CONFIG, lambda _: MotionDetector()) as client:
        state = {"videoId": stage.video.id, "framesCount": 12, "settings": {"conf": 0.1}, "tracker": "bytetrack"}
        first, again = (client.post("inference_video_id", {}, state).json()["ann"] for _ in range(2))
        assert [one["annotation"]["objects"] for one in first] == [one["annotation"]["objects"] for one in again]
        assert {label["classTitle"] for one in first for label in one["annotation"]["objects"]} <= {"object"}
        reply = client.files("inference_image", [png(picture())], "{}")
        assert reply.status_code == 400 and "frames of a video" in reply.json()["message"]


@pytest.mark.slow
def test_an_instance_starts_it_and_the_sdk_finds_it(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: config.json, entrypoint, supervisor, session token, the SDK's clients - with the detector it comes
    with, which finds nobody in this clip."""
    from apps.workbench.settings import Settings
    from apps.workbench.specs import read_spec
    from tests.apps.workbench.harness import Running, free_port

    root = CONFIG.parents[2]
    with Running(
        Settings(tmp_path / "data", port=free_port()), (read_spec(CONFIG.parent, root),), ("detector",)
    ) as served:
        stage, api = Stage(served, clip), served.api
        [task] = api.task.get_list(1)
        wait_until(lambda: api.task.get_info_by_id(task["id"])["status"] == "started", 90)
        assert api.task.is_ready(task["id"])
        assert Session(api, task["id"]).get_session_info()["tracking_on_videos_support"]
        model = ModelAPI(api, task["id"])
        assert model.get_classes() == ["person"] and model.get_tracking_settings()
        session = model.predict_detached(video_id=stage.video.id, tracking=True, start_frame=2, num_frames=3)
        assert [p.frame_index for p in session] == [2, 3, 4]
        assert (
            sly.VideoAnnotation.from_json(session.final_result["video_ann"], session.model_meta).frames_count == FRAMES
        )
        track = new_track()
        context = {"videoId": stage.video.id, "trackId": track, "startFrameIndex": 0, "framesCount": 2}
        assert api.task.send_request(task["id"], "tracking_by_detection", {}, context=context)["message"]
        stage.wait_final(track)
