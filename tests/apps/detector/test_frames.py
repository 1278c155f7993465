"""Frames of videos through the detector app, and requests under way, spoken to by the SDK's own clients."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import supervisely as sly
from supervisely.nn.inference import Session, SessionJSON
from supervisely.nn.model.model_api import ModelAPI

from apps.detector.main import CONFIG
from tests.apps.detector.harness import DetectorRunning, frame_of, lefts, near
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import FRAMES, Client, Stage, wait_until

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


def test_tracks_are_written_onto_the_video(app: Client, served: Served, clip: Path) -> None:
    stage = Stage(served, clip)
    state = {"videoId": stage.video.id, "startFrameIndex": 4, "framesCount": 6, "stride": 2, "tracker": "botsort"}
    reply = app.post("inference_video_id", {}, state | {"upload": True})
    assert reply.status_code == 200, reply.text
    assert [one["frame_index"] for one in reply.json()["ann"]] == [4, 6, 8]
    figures = stage.figures()
    assert len({f["objectId"] for f in figures}) == 3 and len(figures) == 9
    assert all(near(frame_of(f["geometry"]["points"]["exterior"][0][0]), f["meta"]["frame"], 2) for f in figures)
    for wrong in ({"tracker": None}, {"upload_mode": "replace"}, {"output_project_id": 3}):
        assert app.post("inference_video_id", {}, state | {"upload": True} | wrong).status_code == 400
    assert len(stage.figures()) == 9


def test_a_video_that_is_sent_can_be_stored(app: Client, served: Served, clip: Path) -> None:
    """Once, under its name, with what was found on it; never with a token that the sender did not bring."""
    api = served.api
    state: dict[str, Any] = {"upload_mode": "create", "workspace_id": 1, "tracker": "botsort", "num_frames": 5}
    mine = {"api_token": api.token, "server_address": api.server_address}

    def send(said: dict[str, Any], name: str = "walk.mp4") -> requests.Response:
        parts = {"files": (name, clip.read_bytes())}
        return requests.post(
            f"{app.address}/inference_video_async", files=parts, data={"settings": json.dumps(said)}, timeout=60
        )

    def ended(said: dict[str, Any], name: str) -> dict[str, Any]:
        uuid = {"inference_request_uuid": send(said, name).json()["inference_request_uuid"]}
        wait_until(lambda: app.post("get_inference_progress", {}, uuid).json()["finished"])
        return uuid

    def outcome(said: dict[str, Any], name: str = "walk.mp4") -> dict[str, Any]:
        uuid = ended(said, name)
        told: dict[str, Any] = app.post("get_inference_result", {}, uuid).json()
        assert told, app.post("get_inference_status", {}, uuid).json()
        return told

    for wrong, status in (
        (state, 401),
        (state | mine | {"tracker": None}, 400),
        (state | mine | {"upload_mode": "replace", "output_project_id": 3}, 400),
        (state | mine | {"workspace_id": None}, 400),
    ):
        assert send(wrong).status_code == status, wrong
    first = outcome(state | mine)
    video = api.video.get_info_by_id(first["video_id"])
    assert (video.name, video.project_id, video.frames_count) == ("walk.mp4", first["project_id"], FRAMES)
    figures = api.video.figure.get_by_ids(video.dataset_id, _figures(api, video))
    assert len({f.object_id for f in figures}) == 3 and {f.frame_index for f in figures} == set(range(5))
    again = ended({"output_project_id": first["project_id"], "tracker": "botsort", "num_frames": 1} | mine, "walk.mp4")
    told = app.post("get_inference_status", {}, again).json()
    assert f"it is video {video.id} and has labels" in told["exception"]["message"]
    assert len(_figures(api, video)) == len(figures)
    other = outcome({"output_project_id": first["project_id"], "tracker": "botsort", "num_frames": 1} | mine, "b.mp4")
    assert api.video.get_info_by_id(other["video_id"]).name == "b.mp4"


def _figures(api: sly.Api, video: Any) -> list[int]:
    annotation = api.video.annotation.download(video.id)
    return [figure["id"] for frame in annotation["frames"] for figure in frame["figures"]]


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
    looked = slow_app.service.model.detector.looked
    assert slow_app.post("stop_inference", {}, uuid).json() == {
        "message": "Inference will be stopped.",
        "success": True,
    }
    wait_until(lambda: slow_app.post("get_inference_progress", {}, uuid).json()["finished"])
    assert slow_app.service.model.detector.looked - looked <= 2
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
        assert slow_app.get("is_ready").status_code == 200
    told = slow_app.post("get_inference_progress", {}, uuid).json()
    assert told["is_inferring"] and told["progress"]["current"] < FRAMES, "no answer waited for the work"
    slow_app.post("stop_inference", {}, uuid)


def test_results_nobody_fetches_hold_it_back(
    served: Served, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.serving import detection_service

    monkeypatch.setattr(detection_service, "WAITING_BYTES", 20_000)
    with DetectorRunning(served, tmp_path, CONFIG) as client:
        uuid = start(client, stage)
        wait_until(lambda: client.post("get_inference_progress", {}, uuid).json()["paused"])
        looked = client.service.model.detector.looked
        assert looked < 12
        time.sleep(0.4)
        assert client.service.model.detector.looked <= looked + 1
        frames: list[int] = []

        def fetched() -> bool:
            told = client.post("pop_inference_results", {}, uuid).json()
            frames.extend(one["frame_index"] for one in told["pending_results"])
            return bool(told["finished"])

        wait_until(fetched)
        assert frames == list(range(FRAMES))
