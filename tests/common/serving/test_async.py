"""`/track_async` and its relatives: results that the caller fetches."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from common.geometry.shapes import Value
from common.geometry.supervisely import geometry_type
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import (
    ALL_SHAPES,
    FRAMES,
    AppRunning,
    Client,
    Stage,
    data,
    new_track,
    value,
    wait_until,
)
from tests.common.serving.toys import Drift


def given(kind: str, number: int, frame: int = 0, row: int = 0) -> dict[str, Any]:
    shape: Value = value(kind)
    return {
        "id": 1000 + number,
        "objectId": 2000 + number,
        "geometryType": geometry_type(shape),
        "geometry": data(kind, frame, row),
        "meta": {"frame": frame},
    }


def start(client: Client, stage: Stage, figures: list[dict[str, Any]], track: str | None = None, **more: Any) -> str:
    context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 4, "figures": figures}
    context |= {} if track is None else {"trackId": track}
    reply = client.post("track_async", context | more)
    assert reply.status_code == 200, reply.text
    assert reply.json()["message"] == "Inference has started."
    uuid = reply.json()["inference_request_uuid"]
    assert len(uuid) == 32 and int(uuid, 16) >= 0
    return str(uuid)


def pop(client: Client, uuid: str, **more: Any) -> dict[str, Any]:
    reply = client.post("pop_tracking_results", {"inference_request_uuid": uuid} | more)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def finish(client: Client, uuid: str) -> dict[str, Any]:
    """The state at the end; results stay where they are."""
    last: dict[str, Any] = {}

    def ended() -> bool:
        last.update(pop(client, uuid, frameRange=[10**6, 10**6]))
        return bool(last["finished"])

    wait_until(ended, 30, lambda: str(last))
    return last


def test_results_of_all_geometries_are_fetched_and_none_is_written(client: Client, stage: Stage) -> None:
    before = len(stage.figures())
    track = new_track()
    uuid = start(client, stage, [given(kind, n, 0, n % 3) for n, kind in enumerate(ALL_SHAPES)], track)
    state = finish(client, uuid)
    assert (state["stage"], state["exception"], state["is_inferring"]) == ("Finished", None, False)
    assert state["progress"] == {"status": "Finished", "current": 28, "total": 28, "is_size": False}
    part = pop(client, uuid, frameRange=[1, 2])["pending_results"]
    assert {item["meta"]["frame"] for item in part} == {1, 2} and len(part) == 14
    rest = pop(client, uuid)["pending_results"]
    assert {item["meta"]["frame"] for item in rest} == {3, 4} and len(rest) == 14
    assert pop(client, uuid)["pending_results"] == []
    for item in part + rest:
        number = item["objectId"] - 2000
        assert item["meta"]["sourceFigureId"] == 1000 + number and item["trackId"] == track
        assert item["geometryType"] == ALL_SHAPES[number]
        assert 0 <= item["score"] <= 1 and item["visible"] is True
    assert len({item["id"] for item in part + rest}) == 28
    assert len(stage.figures()) == before
    told = stage.wait_final(track)
    assert told[-1]["progress"] == {"current": 28, "total": 28}
    assert told[-1]["trackedFigures"] == {str(1000 + n): 4 for n in range(7)}


def test_results_equal_what_track_api_gives(client: Client, stage: Stage) -> None:
    uuid = start(client, stage, [given("rectangle", 0, 20)], frameIndex=20, direction="backward")
    finish(client, uuid)
    found = {item["meta"]["frame"]: item["geometry"] for item in pop(client, uuid)["pending_results"]}
    context = {"videoId": stage.video.id, "frameIndex": 20, "frames": 4, "direction": "backward"}
    context["input_geometries"] = [{"type": "rectangle", "data": data("rectangle", 20)}]
    rows = client.post("track-api", context).json()
    assert found == {20 - n: row[0]["data"] for n, row in enumerate(rows, 1)}


def test_arrays_on_request(client: Client, stage: Stage) -> None:
    uuid = start(client, stage, [given("rectangle", 5)], resultFormat="array")
    finish(client, uuid)
    [row] = pop(client, uuid, frame_range=[2, 2])["pending_results"]
    assert len(row) == 17
    assert (row[5], row[8], row[9], row[13]) == (2005, 2, "rectangle", {"frame": 2, "sourceFigureId": 1005})
    assert row[10]["points"]["exterior"][0][0] > 20
    [item] = pop(client, uuid, frameRange=[3, 3], resultFormat="object")["pending_results"]
    assert item["objectId"] == 2005


def test_results_of_a_track_are_for_who_started_it(client: Client, stage: Stage) -> None:
    track = new_track()
    finish(client, start(client, stage, [given("point", 0)], track))
    other = client.post("pop_tracking_results", {"trackId": track}, api_token="somebody-else")
    assert other.status_code == 404
    own = client.post("pop_tracking_results", {"trackId": track}).json()
    assert len(own["pending_results"]) == 4


def test_it_ends_with_the_video(client: Client, stage: Stage) -> None:
    uuid = start(client, stage, [given("point", 0, FRAMES - 3)], frameIndex=FRAMES - 3, frames=30)
    state = finish(client, uuid)
    assert state["exception"] is None and state["progress"]["total"] == 2
    assert len(pop(client, uuid)["pending_results"]) == 2


@pytest.mark.parametrize("by", ["inference_request_uuid", "trackId"])
def test_stop_and_clear(served: Served, stage: Stage, tmp_path: Path, by: str) -> None:
    drift = Drift(delay_s=0.1)
    with AppRunning(served, tmp_path, tracker=drift) as client:
        track = new_track()
        uuid = start(client, stage, [given("rectangle", 0)], track, frames=39)
        name = {by: {"inference_request_uuid": uuid, "trackId": track}[by]}
        wait_until(lambda: drift.pushed > 2)
        assert client.post("stop_tracking", name).json()["success"] is True
        pushed = drift.pushed
        state = finish(client, uuid)
        assert drift.pushed <= pushed + 1
        assert (state["stage"], state["stopped"], state["cancel_inference"]) == ("Cancelled", True, True)
        reply = client.post("clear_tracking_results", name)
        assert reply.json() == {"message": "Inference results cleared.", "success": True}
        assert pop(client, uuid)["pending_results"] == []


def test_a_failure_is_told_once_and_kept_for_the_caller(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift(fail_at=3)) as client:
        track = new_track()
        uuid = start(client, stage, [given("rectangle", 0)], track)
        state = finish(client, uuid)
        assert state["stage"] == "Error"
        assert state["exception"]["type"] == "RuntimeError"
        assert state["exception"]["message"] == "RuntimeError: the tracker exploded"
        assert [item["meta"]["frame"] for item in pop(client, uuid)["pending_results"]] == [1, 2]
        stage.wait_final(track)
        assert [n["type"] for n in stage.notices(track)].count("videos:tracking-error") == 1


@pytest.mark.parametrize(
    ("command", "context", "status"),
    [
        ("pop_tracking_results", {}, 400),
        ("pop_tracking_results", {"inference_request_uuid": "nope"}, 404),
        ("pop_tracking_results", {"inference_request_uuid": "nope", "frameRange": [1]}, 400),
        ("stop_tracking", {}, 400),
        ("stop_tracking", {"trackId": "nobody"}, 404),
        ("clear_tracking_results", {"inference_request_uuid": "nope"}, 404),
        ("track_async", {"videoId": 1, "frameIndex": 0, "frames": 1}, 400),
        ("track_async", {"videoId": 1, "frameIndex": 0, "frames": 1, "figures": []}, 400),
        ("track_async", {"videoId": 1, "frameIndex": 0, "frames": 1, "figures": [{"objectId": 1}]}, 400),
    ],
)
def test_bad_requests(client: Client, command: str, context: dict[str, Any], status: int) -> None:
    reply = client.post(command, context)
    assert reply.status_code == status and reply.json()["message"]


def test_slow_callers_slow_the_tracker(served: Served, stage: Stage, tmp_path: Path) -> None:
    drift = Drift()
    with AppRunning(served, tmp_path, tracker=drift) as client:
        service = client.service
        uuid = start(client, stage, [given("rectangle", 0)], frames=30)
        job = service.jobs.get(uuid)
        job.results._max_bytes = 5000  # about four figures
        wait_until(lambda: job.results.paused)
        assert pop(client, uuid, frameRange=[10**6, 10**6])["paused"] is True
        time.sleep(0.3)
        assert drift.pushed < 30
        found = []
        while len(found) < 30:
            found += [item["meta"]["frame"] for item in pop(client, uuid)["pending_results"]]
        assert found == list(range(1, 31))


def events(client: Client, context: dict[str, Any]) -> list[dict[str, Any]]:
    body = {"context": context, "state": {}, "server_address": client.server, "api_token": client.token}
    with requests.post(f"{client.address}/track_stream", json=body, stream=True, timeout=30) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith(b"data: ")]


def test_a_stream_tells_its_start_its_progress_and_its_end(client: Client, stage: Stage) -> None:
    context = {"videoId": stage.video.id, "trackId": "t", "frameIndex": 0, "frames": 6, "sessionId": "s"}
    told = events(client, context | {"figures": [given("rectangle", 0)]})
    assert told[0]["action"] == "inference-started"
    uuid = told[0]["payload"]["inference_request_uuid"]
    currents = [event["payload"]["progress"]["current"] for event in told[1:]]
    assert currents == sorted(currents) and currents[-1] == 6 and currents.count(6) == 1
    assert len(pop(client, uuid)["pending_results"]) == 6


def test_who_hangs_up_on_a_stream_stops_the_job(served: Served, stage: Stage, tmp_path: Path) -> None:
    drift = Drift(delay_s=0.1)
    with AppRunning(served, tmp_path, tracker=drift) as client:
        context = {"videoId": stage.video.id, "trackId": "t", "frameIndex": 0, "frames": 39}
        body = {"context": context | {"figures": [given("rectangle", 0)]}, "server_address": client.server}
        with requests.post(f"{client.address}/track_stream", json=body, stream=True, timeout=30) as reply:
            next(reply.iter_lines())
        wait_until(lambda: client.get("jobs").json()["running"] == 0, 5)
        assert drift.pushed < 30
