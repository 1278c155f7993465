"""What the SDK's detector was recorded doing (06 in ../shared/spec/traffic): the same calls, the same forms of what is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.common.serving.recorded import TRAFFIC, same_form
from tests.common.serving.stage import Client, Stage, new_track, wait_until

FILE = TRAFFIC.parent / "06_detector_botsort.json"


def recorded(case: str) -> list[dict[str, Any]]:
    if not FILE.is_file():
        pytest.skip(f"the recorded calls are not here ({FILE.name} in ../shared/spec/traffic)")
    calls: list[dict[str, Any]] = json.loads(FILE.read_text())[case]
    return [call | {"method": call["path"].rsplit("/", 1)[-1]} for call in calls]


def test_tracking_by_detection_writes_in_the_recorded_form(app: Client, stage: Stage) -> None:
    """Frames 5 to 12. Ours says besides that a network made the figures: without that they look drawn by hand."""
    theirs = {call["method"]: call["body"] for call in recorded("det /tracking_by_detection from frame 5, 8 frames")}
    track = new_track()
    context = {"videoId": stage.video.id, "trackId": track, "startFrameIndex": 5, "framesCount": 8}
    assert app.post("tracking_by_detection", context).json() == {"message": "Track task started."}
    stage.wait_final(track)
    [figure, *_] = theirs["figures.bulk.add"]["figures"]
    ours = stage.figures(track_id=track)
    assert {one["meta"]["frame"] for one in ours} <= set(range(5, 13)) and len(ours) > 8
    for one in ours:
        same_form(one, {key: value for key, value in figure.items() if key != "geometry"})
        assert one["geometryType"] == "rectangle" and set(one["geometry"]["points"]) == {"exterior", "interior"}
    final = [notice for notice in stage.notices(track) if notice["type"] == "videos:fetch-figures-in-range"][-1]
    message = theirs["videos.notify-annotation-tool"]
    assert set(message) <= set(final) and set(message["data"]) <= set(final["data"])
    same_form(final["data"]["progress"], message["data"]["progress"])
    assert final["data"]["progress"]["current"] == final["data"]["progress"]["total"]


def test_a_video_inference_writes_nothing_to_the_server(app: Client, stage: Stage) -> None:
    """The recorded one asked for the video and no more: results are the caller's."""
    assert {call["method"] for call in recorded("det /inference_video_id_async start 10 count 6 botsort")} == {
        "videos.info"
    }
    before = len(stage.figures())
    state = {"videoId": stage.video.id, "startFrameIndex": 10, "framesCount": 6, "tracker": "botsort"}
    uuid = app.post("inference_video_id_async", state=state).json()["inference_request_uuid"]

    def progress() -> dict[str, Any]:
        found: dict[str, Any] = app.post("get_inference_progress", state={"inference_request_uuid": uuid}).json()
        return found

    wait_until(lambda: not progress()["is_inferring"])
    items = app.post("pop_inference_results", state={"inference_request_uuid": uuid}).json()["pending_results"]
    assert len(items) == 6 and len(stage.figures()) == before
