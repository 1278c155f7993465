"""What the SDK's tracker apps were recorded doing (../shared/spec/traffic), done by ours: the same forms of what is sent.

The calls of apps themselves (07) are made again in tests/apps/{box,mask,point}_tracker, on the apps' own addresses; here
they go through the platform to the running apps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.common.serving.recorded import TRAFFIC, recorded, same_form
from tests.e2e.conftest import SHORT
from tests.e2e.scene import data
from tests.e2e.suite import DIRECT, FIGURES, MESSAGE, Clip, Suite, is_final, new_track, wait_until

PROGRESS, ERROR = "videos:fetch-figures-in-range", "videos:tracking-error"


def calls_of(file: str, case: str) -> list[dict[str, Any]]:
    path: Path = TRAFFIC.parent / file
    if not path.is_file():
        pytest.skip(f"the recorded calls are not here ({file} in ../shared/spec/traffic)")
    calls: list[dict[str, Any]] = json.loads(path.read_text())[case]
    return [call | {"method": call["path"].rsplit("/", 1)[-1]} for call in calls]


def bodies(calls: list[dict[str, Any]], method: str, kind: str | None = None) -> list[dict[str, Any]]:
    found = [call["body"] for call in calls if call["method"] == method]
    return [body for body in found if kind is None or body.get("type") == kind]


def repaired(figure: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """A recorded figure without what the SDK writes against the protocol, or that its export adds: a source that is
    `true`, the shape inside of the geometry; and without coordinates, which the recording shortens."""
    meta = {key: 1 if value is True else value for key, value in figure["meta"].items()}
    geometry = {key: ours["geometry"][key] for key in figure["geometry"] if key not in ("shape", "geometryType")}
    return figure | {"meta": meta, "geometry": geometry}


WRITTEN = [
    ("02_bbox_track.json", "bbox /track 1 rectangle fwd 5", ["rectangle"], 0, 5, "forward"),
    ("02_bbox_track.json", "bbox /track backward from 40, 5", ["rectangle"], 20, 5, "backward"),
    ("02_bbox_track.json", "bbox /track OBB fwd 3", ["oriented_bbox"], 0, 3, "forward"),
    ("02_bbox_track.json", "bbox /track near end: frame 57 +10", ["rectangle"], SHORT - 3, 10, "forward"),
    ("03_mask_point_track.json", "mask /track 2 bitmaps fwd 4", ["bitmap", "bitmap"], 0, 4, "forward"),
    ("03_mask_point_track.json", "mask /track BACKWARD from 40, 4 frames", ["bitmap"], 20, 4, "backward"),
    ("03_mask_point_track.json", "mask /track polygon fwd 3", ["polygon"], 0, 3, "forward"),
    ("03_mask_point_track.json", "point /track point fwd 4", ["point"], 0, 4, "forward"),
    (
        "03_mask_point_track.json",
        "point /track polygon+polyline+graph fwd 3",
        ["polygon", "line", "graph"],
        0,
        3,
        "forward",
    ),
]


@pytest.mark.parametrize(
    ("file", "case", "kinds", "start", "frames", "direction"), WRITTEN, ids=[w[1] for w in WRITTEN]
)
def test_figures_and_messages_have_the_recorded_form(
    suite: Suite, clip: Clip, file: str, case: str, kinds: list[str], start: int, frames: int, direction: str
) -> None:
    theirs = calls_of(file, case)
    drawn, track = [clip.draw(kind, start, number) for number, kind in enumerate(kinds)], new_track()
    context = clip.context(drawn, track, frameIndex=start, frames=frames, direction=direction)
    suite.app(kinds[0]).ask("track", context)
    clip.wait_final(track)
    ours = clip.log.of_track(track)
    figures = {f["geometryType"]: f for call in ours if call.method == FIGURES for f in call.body["figures"]}
    for body in bodies(theirs, FIGURES):
        for figure in body["figures"]:
            if isinstance(figure, dict):  # not "…(4 items)"
                own = figures[figure["geometryType"]]
                same_form(own, repaired(figure, own), case)
                assert (own["nnCreated"], own["nnUpdated"]) == (figure["nnCreated"], figure["nnUpdated"])
    final = [call.body for call in ours if call.method == MESSAGE][-1]
    for body in bodies(theirs, MESSAGE, PROGRESS):
        same_form(final["data"]["progress"], body["data"]["progress"])
        assert set(final["data"]) == set(body["data"]) and set(final) == set(body)
        assert all(key.isdecimal() for key in final["data"]["trackedFigures"])
    if bodies(theirs, MESSAGE, PROGRESS) and kinds == ["rectangle"]:
        last = bodies(theirs, MESSAGE, PROGRESS)[-1]["data"]
        assert list(final["data"]["trackedFigures"].values()) == list(last["trackedFigures"].values())


@pytest.mark.parametrize(
    ("file", "case", "app", "kind"),
    [
        ("02_bbox_track.json", "bbox /track polygon (unsupported)", "box_tracker", "polygon"),
        ("03_mask_point_track.json", "mask /track rectangle (unsupported)", "mask_tracker", "rectangle"),
        ("03_mask_point_track.json", "point /track rectangle (unsupported)", "point_tracker", "rectangle"),
        ("05_errors_and_stop.json", "bbox /track deleted figure (404)", "box_tracker", "rectangle"),
    ],
)
def test_errors_have_the_recorded_form(suite: Suite, clip: Clip, file: str, case: str, app: str, kind: str) -> None:
    [theirs] = bodies(calls_of(file, case), MESSAGE, ERROR)
    drawn, track = clip.draw(kind), new_track()
    if "deleted" in case:
        suite.served.call("figures.bulk.remove", {"figureIds": [drawn.figure_id]})
    assert suite.apps[app].ask("track", clip.context([drawn], track)) == {"message": "Track task started."}
    clip.wait_final(track)
    [ours] = [body for body in clip.told(track) if body["type"] == ERROR]
    same_form(ours, theirs)
    assert is_final(clip.progress(track)[-1]) and clip.figures(track) == []


def test_a_refusal_and_a_lost_message_do_not_end_the_job_as_they_did(suite: Suite, clip: Clip) -> None:
    """05: one 400 lost all figures, and a message that met a 500 held everything up. A single figure that is refused is
    refused for good and told; of several each gets a call of its own."""
    for case, rule in (
        ("bbox /track figures.bulk.add fails 400 once", {"method": FIGURES, "status": 400}),
        ("bbox /track notify endpoint fails 500", {"method": MESSAGE, "status": 500, "count": 2}),
    ):
        calls_of("05_errors_and_stop.json", case)
        drawn, track = [clip.draw("rectangle", 0, number) for number in (0, 3)], new_track()
        suite.served.own("POST", "faults", json=[rule])
        suite.app("rectangle").ask("track", clip.context(drawn, track, frames=3))
        clip.wait_final(track)
        assert set(clip.written(track)) == {(d.object_id, frame) for d in drawn for frame in (1, 2, 3)}
        assert clip.errors(track) == []


@pytest.mark.parametrize("case", ["bbox track_async direct progress", "bbox track_async classic progress"])
def test_async_progress_has_the_recorded_form(suite: Suite, clip: Clip, case: str) -> None:
    theirs = calls_of("04_bbox_track_async.json", case)
    direct = "direct" in case
    method = DIRECT if direct else MESSAGE
    figure = {"id": 1025, "objectId": 1014, "geometryType": "rectangle", "geometry": data("rectangle")}
    context = {"videoId": clip.video_id, "trackId": new_track(), "frameIndex": 0, "frames": 4, "figures": [figure]}
    if direct:
        context |= {"sessionId": "sess-1", "useDirectProgressMessages": True}
    uuid = suite.app("rectangle").ask("track_async", context)["inference_request_uuid"]

    def sent() -> list[dict[str, Any]]:
        calls = clip.log.of_track(str(context["trackId"]))
        assert {call.method for call in calls} <= {method}
        return [call.body for call in calls]

    inside = "payload" if direct else "data"
    wait_until(lambda: any(is_final(body[inside]) for body in sent()))
    for body in bodies(theirs, method):
        assert set(sent()[-1]) == set(body) and set(sent()[-1][inside]) == set(body[inside])
        same_form(sent()[-1][inside]["progress"], body[inside]["progress"])
    state = suite.app("rectangle").ask("pop_tracking_results", {"inference_request_uuid": uuid, "frameRange": [0, 9]})
    assert [figure["meta"]["frame"] for figure in state["pending_results"]] == [1, 2, 3, 4]


def test_async_without_figures_is_told(suite: Suite, clip: Clip) -> None:
    [theirs] = bodies(calls_of("04_bbox_track_async.json", "bbox track_async no figures"), DIRECT)
    track = new_track()
    context = {"videoId": clip.video_id, "trackId": track, "frameIndex": 0, "frames": 4}
    context |= {"sessionId": "sess-1", "useDirectProgressMessages": True}
    assert suite.app("rectangle").post("track_async", context).status_code == 400
    wait_until(lambda: any("error" in body["payload"] for body in clip.told(track)))
    ours = next(body for body in clip.told(track) if "error" in body["payload"])
    same_form(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "case"), [("bitmap", "mask /track stop by user"), ("graph", "point /track stop by user")]
)
def test_a_stop_ends_what_the_recorded_apps_went_on_with(suite: Suite, long_clip: Clip, kind: str, case: str) -> None:
    """05: the apps sent progress of their own after the final message, and it fell."""
    calls_of("05_errors_and_stop.json", case)
    drawn, track = long_clip.draw(kind), new_track()
    suite.app(kind).ask("track", long_clip.context([drawn], track, frames=1000))
    wait_until(lambda: bool(long_clip.figures(track)))
    suite.served.own("POST", "stop", json={"trackId": track})
    told = long_clip.wait_final(track, 10)
    assert [is_final(p) for p in told].count(True) == 1 and is_final(told[-1])
    assert len(long_clip.figures(track)) < 1000


@pytest.mark.parametrize("app", ["box_tracker", "mask_tracker", "point_tracker"])
def test_recorded_questions_through_the_platform(suite: Suite, app: str) -> None:
    for path in ("/get_session_info", "/get_custom_inference_settings", "/is_running", "/is_ready"):
        [call] = recorded(path=path)
        same_form(suite.apps[app].ask(path.lstrip("/"), {}), call["response"]["json"])


def test_recorded_batches_through_the_platform(suite: Suite, clip: Clip) -> None:
    for call in recorded(path="/track-api"):
        asked = call["request"]["json"]["context"]
        kinds = [column["type"] for column in asked["input_geometries"] if isinstance(column, dict)]
        if call["response"]["json"] is None:
            continue  # what the SDK cannot track it answers with null; ours refuse: tests/apps/box_tracker
        columns = [{"type": kind, "data": data(kind)} for kind in kinds]
        context = asked | {"videoId": clip.video_id, "input_geometries": columns}
        rows = suite.app(kinds[0]).ask("track-api", context)
        assert len(rows) == asked["frames"]
        for row in rows:
            assert [cell["type"] for cell in row] == kinds
