"""The box tracker as the platform starts it, and the calls that were recorded from the SDK's box trackers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import supervisely as sly

from apps.box_tracker.main import CONFIG
from apps.workbench.settings import Settings
from apps.workbench.specs import read_spec
from common.serving.settings import TrackerApp
from tests.apps.workbench.harness import Running, Served, free_port
from tests.common.serving.recorded import recorded, same_form
from tests.common.serving.stage import AppRunning, Client, Stage, data, new_track, wait_until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def box_app(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with AppRunning(served, tmp_path_factory.mktemp("box"), TrackerApp.from_config(CONFIG)) as client:
        yield client


@pytest.mark.slow
def test_an_instance_starts_it_and_the_sdk_tracks_with_it(tmp_path: Path, clip: Path) -> None:
    """The whole way: config.json, entrypoint, supervisor, SDK client, figures, download."""
    spec = read_spec(CONFIG.parent, ROOT)
    assert spec.argv[0] == sys.executable
    with Running(Settings(tmp_path / "data", port=free_port()), (spec,), ("box_tracker",)) as served:
        stage, api = Stage(served, clip), served.api
        [task] = api.task.get_list(1)
        log = served.settings.data / "logs" / f"box_tracker-{task['id']}.log"
        wait_until(
            lambda: api.task.get_info_by_id(task["id"])["status"] == "started", 90, lambda: log.read_text()[-2000:]
        )
        assert api.task.is_ready(task["id"])
        info = sly.nn.inference.Session(api, task["id"]).get_session_info()
        assert info["task type"] == "tracking" and info["session_id"] == task["id"]
        drawn = [stage.draw("rectangle", 0, 0), stage.draw("oriented_bbox", 0, 1)]
        track = new_track()
        context: dict[str, Any] = {"videoId": stage.video.id, "trackId": track, "frameIndex": 0, "frames": 5}
        context |= {"direction": "forward", "objectIds": [o for o, _ in drawn], "figureIds": [f for _, f in drawn]}
        began = time.monotonic()
        assert api.task.send_request(task["id"], "track", {}, context=context) == {"message": "Track task started."}
        assert time.monotonic() - began < 2.0
        stage.wait_final(track)
        figures = api.video.figure.download(stage.dataset_id, [stage.video.id])[stage.video.id]
        assert sorted((f.object_id, f.frame_index) for f in figures) == sorted(
            (object_id, frame) for object_id, _ in drawn for frame in range(6)
        )
        batch = {"videoId": stage.video.id, "frameIndex": 0, "frames": 2}
        batch["input_geometries"] = [{"type": "rectangle", "data": data("rectangle")}]
        rows = api.task.send_request(task["id"], "track-api", {}, context=batch, retries=1)
        assert [[cell["type"] for cell in row] for row in rows] == [["rectangle"], ["rectangle"]]
        assert served.bench.token not in log.read_text()


def test_recorded_questions_get_answers_of_the_recorded_form(box_app: Client) -> None:
    paths = ["/get_session_info", "/get_custom_inference_settings", "/is_running", "/is_ready"]
    for path in paths:
        [call] = recorded(path=path)
        reply = box_app.post(path.lstrip("/"))
        assert reply.status_code == call["response"]["status"]
        same_form(reply.json(), call["response"]["json"])


def test_recorded_track_is_answered_as_recorded(box_app: Client, stage: Stage) -> None:
    [call] = recorded(path="/track")
    object_id, figure_id = stage.draw("rectangle")
    track = new_track()
    changed = {"trackId": track, "objectIds": [object_id], "figureIds": [figure_id], "videoId": stage.video.id}
    reply = box_app.post("track", call["request"]["json"]["context"] | changed)
    assert (reply.status_code, reply.json()) == (call["response"]["status"], call["response"]["json"])
    stage.wait_final(track)
    assert sorted(f["meta"]["frame"] for f in stage.figures([object_id], track)) == [1, 2, 3]


def test_recorded_async_calls_are_answered_in_the_recorded_form(box_app: Client, stage: Stage) -> None:
    [start] = recorded(path="/track_async")
    context = start["request"]["json"]["context"]
    figure = context["figures"][0] | {"geometry": data("rectangle")}
    reply = box_app.post(
        "track_async", context | {"videoId": stage.video.id, "figures": [figure], "resultFormat": "array"}
    )
    assert reply.status_code == 200
    same_form(reply.json(), start["response"]["json"])
    uuid = {"inference_request_uuid": reply.json()["inference_request_uuid"]}
    wait_until(lambda: box_app.post("pop_tracking_results", uuid | {"frameRange": [900, 901]}).json()["finished"])
    pop = next(c for c in recorded(path="/pop_tracking_results") if c["response"]["status"] == 200)
    answer = box_app.post("pop_tracking_results", uuid | {"frameRange": [0, 5]}).json()
    same_form(answer, pop["response"]["json"])
    assert answer["stage"] == pop["response"]["json"]["stage"]
    assert [len(row) for row in answer["pending_results"]] == [17, 17]
    for path in ("/stop_tracking", "/clear_tracking_results"):
        [call] = recorded(path=path)
        assert box_app.post(path.lstrip("/"), uuid).json() == call["response"]["json"]
    for call in recorded(path="/pop_tracking_results"):
        if call["response"]["status"] == 500:  # what the SDK answers to a caller's mistake
            reply = box_app.post("pop_tracking_results", call["request"]["json"]["context"])
            assert reply.status_code in (400, 404) and reply.json()["message"]


def test_recorded_batches_have_the_recorded_form(box_app: Client, stage: Stage) -> None:
    boxes = [{"type": kind, "data": data(kind)} for kind in ("rectangle", "oriented_bbox")]
    call = next(c for c in recorded(path="/track-api") if "oriented" in c["case"])
    context = call["request"]["json"]["context"] | {"videoId": stage.video.id, "input_geometries": boxes}
    reply = box_app.post("track-api", context)
    same_form(reply.json(), call["response"]["json"])
    assert [[cell["type"] for cell in row] for row in reply.json()] == [["rectangle", "oriented_bbox"]] * 2


def test_what_was_a_silent_null_is_said(box_app: Client, stage: Stage) -> None:
    call = next(c for c in recorded(path="/track-api") if "silent null" in c["case"])
    polygon = [{"type": "polygon", "data": data("polygon")}]
    context = call["request"]["json"]["context"] | {"videoId": stage.video.id, "input_geometries": polygon}
    reply = box_app.post("track-api", context)
    assert reply.status_code == 400 and "polygon" in reply.json()["message"]


def test_recorded_cache_call(box_app: Client, stage: Stage) -> None:
    [call] = recorded(path="/smart_cache")
    reply = box_app.post("smart_cache", {}, {"video_id": stage.video.id, "frame_ranges": [[0, 3]]})
    assert reply.json() == call["response"]["json"]


def test_there_is_no_smart_tool(box_app: Client) -> None:
    assert box_app.post("smart_segmentation").status_code == 404
