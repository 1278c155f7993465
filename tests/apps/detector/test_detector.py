"""The detector app against the workbench, spoken to by the SDK's own clients."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import supervisely as sly
from PIL import Image as Pictures
from supervisely.nn.inference import Session, SessionJSON
from supervisely.nn.model.model_api import ModelAPI

from tests.apps.detector.harness import frame_of, lefts
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import FRAMES, HEIGHT, ROWS, WIDTH, Client, Stage, new_track, wait_until


def near(a: float, b: float, within: float = 1.01) -> bool:
    return abs(a - b) <= within


def picture(x: int = 40) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    image[ROWS[0] : ROWS[0] + 28, x : x + 36] = 220
    return image


def png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Pictures.fromarray(image).save(out, "PNG")
    return out.getvalue()


# --- how it describes itself -------------------------------------------------------------------------------------------------


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


# --- pictures ----------------------------------------------------------------------------------------------------------------


def test_files_are_looked_at(app: Client, served: Served, tmp_path: Path) -> None:
    paths = []
    for x in (30, 60, 90):
        path = tmp_path / f"{x}.png"
        path.write_bytes(png(picture(x)))
        paths.append(str(path))
    session = Session(served.api, session_url=app.address)
    one = session.inference_image_path(paths[0])
    assert [label.obj_class.name for label in one.labels] == ["car"]
    assert near(one.labels[0].geometry.left, 30, 2) and one.labels[0].tags.get("confidence").value == 0.9
    several = session.inference_image_paths(paths)
    assert [round(a.labels[0].geometry.left / 30) for a in several] == [1, 2, 3]
    # (the SDK's client forgets its own iterator for arrays and lists of paths; folders and files work)
    predictions = list(ModelAPI(served.api, url=app.address).predict_detached(input=str(tmp_path)))
    assert sorted(round(p.boxes[0][1] / 30) for p in predictions) == [1, 2, 3]
    assert predictions[0].scores == [0.9]


def test_settings_choose_what_is_given(app: Client, served: Served, tmp_path: Path) -> None:
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    for row in ROWS:
        image[row : row + 28, 40:76] = 220
    model = ModelAPI(served.api, url=app.address)
    path = tmp_path / "picture.png"
    path.write_bytes(png(image))

    def classes(**more: Any) -> list[str]:
        (one,) = list(model.predict_detached(input=str(path), **more))
        return list(one.classes)

    assert sorted(classes()) == ["car", "car", "dog"]
    assert classes(conf=0.8) == ["car", "car"]
    assert classes(classes=["dog"]) == ["dog"]
    assert classes(inference_settings={"per_class_thresholds": {"car": 0.95}}) == ["dog"]
    assert classes(inference_settings={"max_detections": 1}) == ["car"]
    for settings in ({"classes": ["cat"]}, {"conf": "high"}, {"conf": 3}, {"classes": "dog"}, "nonsense"):
        state = json.dumps({"settings": settings})
        reply = app.files("inference_image", [png(image)], state)
        assert reply.status_code == 400 and reply.json()["message"], settings


class Pictured:
    """A server with three pictures, which the workbench has none of."""

    def __init__(self) -> None:
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
                method = self.path.rpartition("/")[2]
                ident = body.get("id")
                about = {"id": ident, "name": f"{ident}.png", "datasetId": 5, "projectId": 4}
                if method == "images.info" and ident in (1, 2, 3):
                    self.answer(json.dumps(about).encode())
                elif method == "images.download" and ident in (1, 2, 3):
                    self.answer(png(picture(30 * ident)))
                elif method == "datasets.list":
                    self.answer(json.dumps(self.page([{"id": 5, "name": "ds"}])).encode())
                elif method == "images.list":
                    self.answer(json.dumps(self.page([{"id": n} for n in (1, 2, 3)])).encode())
                else:
                    self.answer(b'{"error": "no such image"}', 404)

            @staticmethod
            def page(found: list[Any]) -> dict[str, Any]:
                return {"total": len(found), "perPage": 500, "pagesCount": 1, "entities": found}

            def answer(self, content: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_pictures_of_the_server_are_looked_at(served: Served, tmp_path: Path) -> None:
    from dataclasses import replace

    from apps.detector.main import CONFIG
    from common.serving.access import Access
    from tests.apps.detector.harness import DetectorRunning

    pictures = Pictured()
    access = Access(served.settings.address, served.bench.token, frozenset({pictures.address}))
    with DetectorRunning(served, tmp_path, CONFIG, access=access) as client:
        there = replace(client, server=pictures.address)
        reply = there.post("inference_image_id", {}, {"image_id": 2})
        assert reply.status_code == 200, reply.text
        assert near(lefts(reply.json()["annotation"])[0], 60, 2) and reply.json()["image_id"] == 2
        several = there.post("inference_batch_ids", {}, {"batch_ids": [3, 1, 2]}).json()
        assert [one["image_id"] for one in several] == [3, 1, 2]
        assert [round(lefts(one["annotation"])[0] / 30) for one in several] == [3, 1, 2]
        for command, state in (
            ("inference_batch_ids_async", {"images_ids": [1, 2, 3]}),
            ("inference_image_id_async", {"image_id": 1}),
            ("inference_project_id_async", {"projectId": 4}),
        ):
            started = there.post(command, {}, state)
            assert started.status_code == 200, started.text
            uuid = {"inference_request_uuid": started.json()["inference_request_uuid"]}
            wait_until(lambda uuid=uuid: there.post("get_inference_progress", {}, uuid).json()["finished"])
            popped = there.post("pop_inference_results", {}, uuid).json()
            ids = [one["image_id"] for one in popped["pending_results"]]
            assert ids == ([1] if "image_id" in state else [1, 2, 3])
            assert popped["progress"]["current"] == popped["progress"]["total"] == len(ids)
        assert there.post("inference_image_id", {}, {"image_id": 9}).status_code == 404
        assert there.post("inference_image_id", {}, {}).status_code == 400
    pictures.close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/a.png", "https://169.254.169.254/latest", "file:///etc/passwd", "ftp://a/b"]
)
def test_addresses_inside_the_network_are_refused(app: Client, url: str) -> None:
    reply = app.post("inference_image_url", {}, {"image_url": url})
    assert reply.status_code in (400, 502) and reply.json()["message"]


# --- frames of videos --------------------------------------------------------------------------------------------------------

RANGES = [
    ({}, list(range(FRAMES))),
    ({"startFrameIndex": 30}, list(range(30, FRAMES))),
    ({"start_frame": 10, "num_frames": 6}, [10, 11, 12, 13, 14, 15]),
    ({"start_frame_index": 10, "frames_count": 6, "stride": 2}, [10, 12, 14]),
    ({"startFrameIndex": 11, "endFrameIndex": 20, "step": 4}, [11, 15, 19]),
    ({"start_frame": 35, "framesCount": 100}, [35, 36, 37, 38, 39]),
    ({"start_frame": 12, "num_frames": 4, "direction": "backward"}, [12, 11, 10, 9]),
    ({"start_frame": 12, "num_frames": 7, "stride": 3, "direction": "backward"}, [12, 9, 6]),
    ({"startFrameIndex": 5, "framesCount": 4, "framesDirection": "backward"}, [5, 4, 3, 2]),
    ({"start_frame": 2, "num_frames": 9, "direction": "backward"}, [2, 1, 0]),
    ({"start_frame": 20, "end_frame": 16, "direction": "backward"}, [20, 19, 18, 17]),
    ({"num_frames": 3, "direction": "backward"}, [39, 38, 37]),
    ({"start_frame": 4, "duration": 0.2}, [4, 5, 6, 7, 8]),
    ({"start_frame": 39}, [39]),
]


@pytest.mark.parametrize(("asked", "frames"), RANGES, ids=lambda value: json.dumps(value)[:60])
def test_frames_are_those_asked_for(app: Client, stage: Stage, asked: dict[str, Any], frames: list[int]) -> None:
    """By number and by what is on them."""
    reply = app.post("inference_video_id", {}, {"videoId": stage.video.id, **asked})
    assert reply.status_code == 200, reply.text
    answers = reply.json()["ann"]
    assert [one["frame_index"] for one in answers] == frames
    for one in answers:
        assert one["video_id"] == stage.video.id
        assert all(near(frame_of(left), one["frame_index"], 2) for left in lefts(one["annotation"]))


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"startFrameIndex": FRAMES}, 400),
        ({"startFrameIndex": -1}, 400),
        ({"framesCount": 0}, 400),
        ({"stride": 0}, 400),
        ({"direction": "sideways"}, 400),
        ({"tracker": "magic"}, 400),
        ({"tracker": "botsort", "tracker_settings": {"match_thresh": "much"}}, 400),
        ({"batch_size": 0}, 400),
        ({"videoId": 999_999}, 404),
        ({"videoId": "x"}, 400),
    ],
)
def test_what_cannot_be_is_told(app: Client, stage: Stage, asked: dict[str, Any], status: int) -> None:
    reply = app.post("inference_video_id", {}, {"videoId": stage.video.id, **asked})
    assert reply.status_code == status and reply.json()["message"]


@pytest.mark.parametrize("batch", [1, 4])
def test_the_sdks_session_gets_every_frame(app: Client, stage: Stage, served: Served, batch: int) -> None:
    session = Session(served.api, session_url=app.address)
    found = session.inference_video_id(stage.video.id, 7, 5, batch_size=batch)
    assert [frame_of(a.labels[0].geometry.left) for a in found] == pytest.approx([7, 8, 9, 10, 11], abs=2)
    later = list(session.inference_video_id_async(stage.video.id, 7, 5, batch_size=batch))
    assert [len(a.labels) for a in later] == [3] * 5
    raw = list(
        SessionJSON(served.api, session_url=app.address).inference_video_id_async(stage.video.id, 3, 4, "backward")
    )
    assert [one["frame_index"] for one in raw] == [3, 2, 1, 0]


@pytest.mark.parametrize("tracker", ["botsort", "bytetrack", "deepsort"])
@pytest.mark.parametrize(
    ("asked", "frames"),
    [
        ({"start_frame": 10, "num_frames": 12}, list(range(10, 22))),
        ({"start_frame": 10, "num_frames": 12, "stride": 2}, list(range(10, 22, 2))),
        ({"start_frame": 25, "num_frames": 12, "direction": "backward"}, list(range(25, 13, -1))),
    ],
)
def test_the_sdk_tracks_with_it(
    app: Client, stage: Stage, served: Served, tracker: str, asked: dict[str, Any], frames: list[int]
) -> None:
    """Every object has one identity from its first frame on, and the video annotation has the right frame numbers."""
    model = ModelAPI(served.api, url=app.address)
    session = model.predict_detached(
        video_id=stage.video.id,
        tracking=True,
        tracking_config={"tracker": tracker, "with_reid": tracker == "botsort"},
        **asked,
    )
    predictions = list(session)
    assert [p.frame_index for p in predictions] == frames
    of_row: dict[int, set[int]] = {}
    for p in predictions:
        assert len(p.track_ids) == len(p.boxes) == 3
        for ident, (top, left, _, _) in zip(p.track_ids, p.boxes, strict=True):
            of_row.setdefault(round(float(top) / 44), set()).add(int(ident))
            assert near(frame_of(float(left)), p.frame_index, 2)
    assert sorted(len(ids) for ids in of_row.values()) == [1, 1, 1]
    video = session.final_result["video_ann"]
    made = sly.VideoAnnotation.from_json(video, session.model_meta)
    assert sorted(f.index for f in made.frames) == sorted(frames) and made.frames_count == FRAMES
    assert sorted(o.obj_class.name for o in made.objects) == ["car", "car", "dog"]
    assert all(len(f.figures) == 3 for f in made.frames)
    for frame in made.frames:
        assert all(near(frame_of(f.geometry.left), frame.index, 2) for f in frame.figures)


def test_a_video_file_is_looked_at_and_gone(app: Client, served: Served, clip: Path) -> None:
    model = ModelAPI(served.api, url=app.address)
    found = list(model.predict_detached(input=str(clip), start_frame=3, num_frames=4, tracking=True))
    assert [p.frame_index for p in found] == [3, 4, 5, 6] and len(found[0].track_ids) == 3
    folder = app.service.settings.data / "uploads"
    wait_until(lambda: not list(folder.iterdir()))
    reply = requests.post(f"{app.address}/inference_video_async", files={"files": ("a.mp4", b"no video")}, timeout=30)
    uuid = {"inference_request_uuid": reply.json()["inference_request_uuid"]}
    wait_until(lambda: app.post("get_inference_progress", {}, uuid).json()["finished"])
    told = app.post("get_inference_status", {}, uuid).json()
    assert told["stage"] == "Error" and told["exception"]["message"]
    assert not list(folder.iterdir())


# --- requests under way ------------------------------------------------------------------------------------------------------


def start(client: Client, stage: Stage, **state: Any) -> dict[str, Any]:
    reply = client.post("inference_video_id_async", {}, {"video_id": stage.video.id, **state})
    assert reply.status_code == 200, reply.text
    return {"inference_request_uuid": reply.json()["inference_request_uuid"]}


def test_it_stops_within_a_frame_and_tells_the_truth(slow_app: Client, stage: Stage) -> None:
    uuid = start(slow_app, stage)
    seen: list[int] = []
    wait_until(lambda: slow_app.post("get_inference_progress", {}, uuid).json()["progress"]["current"] >= 3)
    told = slow_app.post("get_inference_progress", {}, uuid).json()
    assert told["progress"]["total"] == FRAMES and told["is_inferring"] and not told["finished"]
    looked = slow_app.service.detector.looked
    assert slow_app.post("stop_inference", {}, uuid).json() == {
        "message": "Inference will be stopped.",
        "success": True,
    }
    wait_until(lambda: slow_app.post("get_inference_progress", {}, uuid).json()["finished"])
    assert slow_app.service.detector.looked - looked <= 2
    told = slow_app.post("pop_inference_results", {}, uuid).json()
    seen += [one["frame_index"] for one in told["pending_results"]]
    assert told["stage"] == "Cancelled" and told["stopped"] and told["exception"] is None
    assert seen == list(range(len(seen))) and told["progress"]["current"] == len(seen) < FRAMES
    assert slow_app.post("clear_inference_request", {}, uuid).json() == {"success": True}
    assert slow_app.post("pop_inference_results", {}, {"inference_request_uuid": "x"}).status_code == 404
    assert slow_app.post("pop_inference_results", {}, {}).status_code == 400


def test_it_answers_while_it_works(slow_app: Client, stage: Stage) -> None:
    uuid = start(slow_app, stage)
    for _ in range(5):
        began = time.monotonic()
        assert slow_app.get("is_ready").status_code == 200
        assert time.monotonic() - began < 0.5
    slow_app.post("stop_inference", {}, uuid)


def test_results_nobody_fetches_hold_it_back(
    served: Served, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.detector.main import CONFIG
    from common.serving import detection_service
    from tests.apps.detector.harness import DetectorRunning

    monkeypatch.setattr(detection_service, "_WAITING_BYTES", 20_000)
    with DetectorRunning(served, tmp_path, CONFIG) as client:
        uuid = start(client, stage)
        wait_until(lambda: client.post("get_inference_progress", {}, uuid).json()["paused"])
        looked = client.service.detector.looked
        assert looked < 12
        time.sleep(0.4)
        assert client.service.detector.looked <= looked + 1
        frames: list[int] = []

        def fetched() -> bool:
            told = client.post("pop_inference_results", {}, uuid).json()
            frames.extend(one["frame_index"] for one in told["pending_results"])
            return bool(told["finished"])

        wait_until(fetched)
        assert frames == list(range(FRAMES))


# --- figures of the annotation tool ------------------------------------------------------------------------------------------


def tracked(client: Client, stage: Stage, **more: Any) -> tuple[str, dict[str, Any]]:
    track = new_track()
    context = {"videoId": stage.video.id, "trackId": track, **more}
    reply = client.post("tracking_by_detection", context)
    assert (reply.status_code, reply.json()) == (200, {"message": "Track task started."})
    return track, context


@pytest.mark.parametrize(
    ("asked", "frames"),
    [
        ({"startFrameIndex": 5, "framesCount": 8}, list(range(5, 13))),
        ({"frameIndex": 20, "frames": 6, "direction": "backward"}, list(range(15, 21))),
        ({"start_frame": 4, "num_frames": 10, "stride": 3}, [4, 7, 10, 13]),
    ],
)
def test_the_annotation_tools_button(
    app: Client, served: Served, clip: Path, asked: dict[str, Any], frames: list[int]
) -> None:
    stage = Stage(served, clip)
    track, _ = tracked(app, stage, **asked)
    told = stage.wait_final(track)
    currents = [p["progress"]["current"] for p in told]
    assert currents == sorted(currents)
    assert [p["progress"]["current"] == p["progress"]["total"] for p in told].count(True) == 1
    assert told[-1]["progress"]["total"] == len(frames)
    figures = stage.figures(track_id=track)
    objects: dict[int, list[int]] = {}
    for figure in figures:
        objects.setdefault(figure["objectId"], []).append(figure["meta"]["frame"])
        left = figure["geometry"]["points"]["exterior"][0][0]
        assert near(frame_of(left), figure["meta"]["frame"], 2)
    assert [sorted(seen) for seen in objects.values()] == [frames] * 3
    meta = sly.ProjectMeta.from_json(served.api.project.get_meta(stage.video.project_id))
    assert meta.get_obj_class("car").geometry_type is sly.Rectangle and meta.get_obj_class("dog") is not None


def test_a_class_of_another_shape_is_left_alone(app: Client, served: Served, clip: Path) -> None:
    stage = Stage(served, clip)
    project = stage.video.project_id
    meta = sly.ProjectMeta.from_json(served.api.project.get_meta(project))
    served.api.project.update_meta(project, meta.add_obj_class(sly.ObjClass("car", sly.Polygon)))
    track, _ = tracked(app, stage, startFrameIndex=0, framesCount=3)
    stage.wait_final(track)
    meta = sly.ProjectMeta.from_json(served.api.project.get_meta(project))
    assert meta.get_obj_class("car").geometry_type is sly.Polygon
    assert meta.get_obj_class("car_nn").geometry_type is sly.Rectangle


def test_the_tool_can_stop_it(slow_app: Client, stage: Stage) -> None:
    track, context = tracked(slow_app, stage)
    again = slow_app.post("tracking_by_detection", context)
    assert len(slow_app.service.jobs.of_track(track)) == 1 and again.status_code == 200
    wait_until(lambda: len(stage.figures(track_id=track)) > 0)
    assert slow_app.post("stop_tracking", {"trackId": track}).json()["success"]
    (job,) = slow_app.service.jobs.of_track(track)
    wait_until(lambda: not job.active)
    stage.wait_final(track)
    written = len(stage.figures(track_id=track))
    time.sleep(0.5)
    assert len(stage.figures(track_id=track)) == written < 3 * FRAMES


def test_a_failure_is_told_before_the_end(app: Client, stage: Stage) -> None:
    track = new_track()
    reply = app.post("tracking_by_detection", {"videoId": stage.video.id, "trackId": track, "startFrameIndex": 400})
    assert reply.status_code == 200
    stage.wait_final(track)
    kinds = [notice["type"] for notice in stage.notices(track)]
    assert kinds[-2:] == ["videos:tracking-error", "videos:fetch-figures-in-range"]
    assert app.post("tracking_by_detection", {"videoId": stage.video.id}).status_code == 400


# --- who may do what ---------------------------------------------------------------------------------------------------------


def test_only_the_owner_changes_the_model(app: Client) -> None:
    state = {"deploy_params": {"device": "cpu"}, "model_name": "hog"}
    assert app.post("deploy_from_api", {}, state, api_token="other").status_code == 403
    assert app.post("deploy_from_api", {}, state | {"model_name": "nothing"}).status_code == 400
    assert app.post("sly/shutdown", {}, {}, api_token="other").status_code == 403
    assert app.post("freeze_model").status_code == 200
    assert app.post("run_speedtest").status_code == 501


def test_missing_weights_are_said_and_it_lives(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.detector.main import CONFIG
    from common.detection import registry
    from common.serving.access import Access
    from common.serving.detection_app import create_detector_app
    from common.serving.detection_service import Setup
    from common.serving.settings import ServingSettings

    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    settings = ServingSettings(tmp_path, Access(served.settings.address, served.bench.token))
    api = create_detector_app(CONFIG, Setup("fastestdet"), settings)
    api.state.service.load()
    from fastapi.testclient import TestClient

    client = TestClient(api)
    reply = client.get("/is_ready")
    assert reply.status_code == 503 and "models download fastestdet" in reply.json()["message"]
    assert client.get("/livez").status_code == 200
    assert client.post("/get_model_meta", json={}).status_code == 503
    assert "fastestdet" in registry.names()


def test_a_detector_that_compares_frames(served: Served, stage: Stage, tmp_path: Path) -> None:
    """Every request has one of its own; single pictures mean nothing to it."""
    from apps.detector.main import CONFIG
    from common.detection.motion import MotionDetector
    from tests.apps.detector.harness import DetectorRunning

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
    from apps.detector.main import CONFIG
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
