"""Interpolation, new objects, crashes, servers that fail, and requests as they may come."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from apps.auto_track.interpolate import way
from apps.auto_track.newcomers import Found, unmatched
from common.geometry.shapes import Polygon, Polyline
from common.geometry.types import Box
from common.serving.access import Access, Caller, normalised
from tests.apps.auto_track.conftest import Auto, Lab, bitmap_json, box_json, make_service, points_json, wait_until
from tests.apps.auto_track.test_track import GEOMETRIES, begin, left_of
from tests.apps.auto_track.toys import Rail, write_clip

# --- interpolation ---------------------------------------------------------------------------------------------------------


def interpolate(auto: Auto, lab: Lab, figures: list[int], **more: Any) -> str:
    track = str(uuid.uuid4())
    reply = auto.post("interpolate", {"trackId": track, "videoId": lab.video_id, "figureIds": figures, **more})
    assert reply.json() is None
    return track


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_is_interpolated(auto: Auto, lab: Lab, name: str) -> None:
    class_name, kind, geometry = GEOMETRIES[name]
    ident = lab.object(class_name)
    middle = lab.draw(ident, 4, kind, geometry)
    for frame in (0, 10):
        lab.draw(ident, frame, kind, shifted(geometry, 2 * (frame - 4)))
    track = interpolate(auto, lab, [middle])
    told = lab.finished(track)
    assert lab.errors(track) == []
    assert lab.warnings(track) == ""
    figures = lab.figures(ident)
    assert sorted(figures) == list(range(11))
    start = left_of(figures[4][0]["geometry"])
    for frame, (one,) in figures.items():
        assert left_of(one["geometry"]) == pytest.approx(start + 2 * (frame - 4), abs=1.01)
        if frame not in (0, 4, 10):
            assert one["trackId"] == track
    assert told[-1]["progress"] == {"current": 8, "total": 8}


def shifted(geometry: dict[str, Any], dx: int) -> dict[str, Any]:
    copy = json.loads(json.dumps(geometry))
    if "nodes" in copy:
        for node in copy["nodes"].values():
            node["loc"][0] += dx
    elif "bitmap" in copy:
        copy["bitmap"]["origin"][0] += dx
    else:
        points = copy["points"]
        for vertex in points if isinstance(points, list) else points["exterior"]:
            vertex[0] += dx
    return copy


def test_interpolation_reaches_any_distance(auto: Auto, lab: Lab, tmp_path: Path) -> None:
    video = lab.served.api.video.upload_path(
        lab.dataset_id, "long.mp4", str(write_clip(tmp_path / "l.mp4", 700, 64, 64))
    )
    lab.video_id = video.id
    ident = lab.object()
    first = lab.draw(ident, 0, "point", points_json((0, 10)))
    lab.draw(ident, 699, "point", points_json((60, 10)))
    track = interpolate(auto, lab, [first])
    lab.finished(track)
    assert len(lab.figures(ident)) == 700


def test_interpolation_says_what_it_cannot_do(auto: Auto, lab: Lab) -> None:
    ident, lone, mixed = lab.object(), lab.object(), lab.object()
    figures = [
        lab.draw(ident, 0, "line", points_json((0, 0), (9, 9))),
        lab.box(lone, 3),
        lab.box(mixed, 0),
    ]
    lab.draw(ident, 5, "line", points_json((0, 0), (9, 9), (9, 20)))
    lab.draw(mixed, 5, "bitmap", bitmap_json(20))
    track = interpolate(auto, lab, figures)
    lab.finished(track)
    said = lab.warnings(track)
    assert "Destination figures not found for 1 figures" in said
    assert "Cannot interpolate lines with different number of points" in said
    assert "Cannot interpolate between bounding boxes and masks" in said
    track = interpolate(auto, lab, [999_999])
    lab.finished(track)
    assert lab.errors(track)[0].startswith("No valid figures to interpolate")


def test_polygons_of_unlike_outlines_are_carried_by_their_area() -> None:
    square = Polygon(np.array([[10, 10], [40, 10], [40, 40], [10, 40]]))
    house = Polygon(np.array([[50, 10], [65, 2], [80, 10], [80, 40], [50, 40]]))
    (middle,) = way(square, house, (120, 60))(0.5)
    assert isinstance(middle, Polygon)
    assert middle.exterior[:, 0].mean() == pytest.approx(45, abs=3)
    with pytest.raises(ValueError, match="different"):
        way(Polyline(np.array([[0, 0], [1, 1]])), Polyline(np.eye(3)[:, :2]), (10, 10))


# --- new objects -------------------------------------------------------------------------------------------------------------


def test_new_objects_are_found_by_motion_and_tracked(real: Auto, lab: Lab) -> None:
    real.post("settings", {}, settings={"detector": {"engine": "motion", "extra_params": {"class_name": "any"}}})
    track = begin(real, lab, [], 0, 28)
    lab.finished(track)
    assert lab.errors(track) == []
    objects = lab.served.call("annotation-objects.list", {"datasetId": lab.dataset_id}).json()["entities"]
    assert 1 <= len(objects) <= 2
    (found, *_) = objects
    names = {tag["name"]: tag for tag in found["tags"]}
    assert set(names) == {"auto-detected-object", "confidence"}
    figures = lab.figures(found["id"])
    first = min(figures)
    assert names["confidence"]["frameRange"] == [first, first]
    assert 0 < names["confidence"]["value"] <= 1
    assert max(figures) == 28
    assert all(one["trackId"] == track for (one,) in figures.values())
    assert left_of(figures[28][0]["geometry"]) == pytest.approx(76, abs=5)


def test_a_known_object_is_not_found_again(real: Auto, lab: Lab) -> None:
    real.post("settings", {}, settings={"detector": {"engine": "motion", "extra_params": {"class_name": "any"}}})
    ident = lab.object()
    lab.box(ident, 0)
    track = begin(real, lab, [ident], 0, 28)
    lab.finished(track)
    objects = lab.served.call("annotation-objects.list", {"datasetId": lab.dataset_id}).json()["entities"]
    assert [o["id"] for o in objects] == [ident]
    assert sorted(lab.figures(ident)) == list(range(29))


def test_detection_can_be_switched_off_by_the_request(real: Auto, lab: Lab) -> None:
    real.post("settings", {}, settings={"detector": {"engine": "motion", "extra_params": {"class_name": "any"}}})
    track = begin(real, lab, [], 0, 28, trackByDetection=False)
    lab.finished(track)
    assert lab.errors(track)


BOXES = {"left": (0, 0, 10, 10), "near": (1, 0, 11, 10), "right": (50, 0, 60, 10)}


@pytest.mark.parametrize(
    ("found", "known", "expected"),
    [
        ([("car", "left", 0.9)], [], ["left"]),
        ([("car", "left", 0.9)], [("car", "near")], []),
        ([("car", "left", 0.9)], [("person", "near")], ["left"]),  # the class counts
        ([("", "left", 0.9)], [("person", "near")], []),  # unless it is not known
        ([("car", "left", 0.9), ("car", "near", 0.8)], [], ["left"]),  # near-duplicates: the surest
        ([("car", "left", 0.9), ("car", "right", 0.8)], [("car", "left")], ["right"]),
    ],
)
def test_matching(found, known, expected) -> None:
    def box(name: str) -> Box:
        return Box(np.array(BOXES[name]))

    detections = [Found(name, box(place), score) for name, place, score in found]
    new = unmatched(detections, [(name, box(place)) for name, place in known], 0.3)
    assert [one.box for one in new] == [box(name) for name in expected]


# --- crashes and servers that fail -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_crash_is_survived_without_loss_or_doubles(auto: Auto, lab: Lab, tmp_path: Path, direction: str) -> None:
    caller = Caller(normalised(lab.served.settings.address), lab.served.bench.token)
    rail = Rail()
    dying = make_service(lab.served, tmp_path / "dying", rail, save_every_s=0.05)
    ident = lab.object()
    lab.box(ident, 8, 36)
    lab.box(ident, 20, 60)
    rail.delay_s = 0.03
    track = str(uuid.uuid4())
    from apps.auto_track.updates import TrackContext

    context = {"trackId": track, "videoId": lab.video_id, "objectIds": [ident], "frameIndex": 8, "frames": 20}
    dying.tracks.track(
        TrackContext.model_validate({**context, "direction": direction, "detectOffScreen": False}), caller
    )
    wait_until(lambda: rail.pushes >= 16)
    rail.gate.clear()
    rail.entered.clear()
    wait_until(rail.entered.is_set)
    time.sleep(0.3)  # what was given to the writer arrives
    shutil.copytree(tmp_path / "dying", tmp_path / "next")  # as a killed process leaves it
    before = rail.pushes
    dying.tracks._sessions[track]._abandon.set()
    rail.fail_on = set(range(100))

    alive = Rail()
    service = make_service(lab.served, tmp_path / "next", alive)
    assert service.journal.unfinished() == [track]
    assert service.resume() == 1
    first = 0 if direction == "both" else 8
    wait_until(lambda: sorted(lab.figures(ident)) == list(range(first, 29)) and len(service.tracks) == 0)
    lab.lefts(ident)  # one figure per frame
    whole = 11 + 8 + 11 + (8 if direction == "both" else 0)
    assert alive.pushes < whole
    assert before + alive.pushes >= whole
    assert service.journal.unfinished() == []
    dying.tracks.stop(track)
    rail.gate.set()
    service.close()


def test_a_server_that_fails_for_a_while_loses_nothing(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    faults = [{"method": "figures.bulk.add", "status": 500, "count": 2}]
    reply = lab.served.own("POST", "faults", json=faults)
    assert reply.status_code == 200, reply.text
    track = begin(auto, lab, [ident], 0, 6)
    lab.finished(track)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(7)}  # once the server is well again, all are there


# --- requests ------------------------------------------------------------------------------------------------------------------


def test_other_spellings_are_understood(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    context = {
        "trackId": "t-" + str(ident),
        "videoId": str(lab.video_id),
        "objectIds": [ident],
        "frameIndex": 0,
        "frames": 3,
        "session_id": "tool",
        "trackingByDetection": None,
        "direction": "Forward",
    }
    auto.post("tracking_by_detection", context)
    lab.finished(context["trackId"])
    assert sorted(lab.figures(ident)) == [0, 1, 2, 3]


def test_direct_progress_goes_to_the_session(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    track = begin(auto, lab, [ident], 0, 3, sessionId="tool-7", useDirectProgressMessages=True)

    def final() -> bool:
        events = lab.served.own("GET", f"notifications?trackId={track}").json()
        bodies = [e["body"] for e in events if e["kind"] == "action"]
        told = [b for b in bodies if b["action"] == "figures/setDirectTrackingProgress"]
        assert all(str(b["sessionId"]) == "tool-7" for b in told)
        return any(b["payload"]["progress"] == {"current": 3, "total": 3} for b in told)

    wait_until(final)


@pytest.mark.parametrize(
    ("endpoint", "context"),
    [
        ("track", {}),
        ("track", {"trackId": "x", "videoId": 1, "objectIds": [1], "frameIndex": -1, "frames": 3}),
        ("continue_track", {"trackId": "never", "videoId": 1, "frameIndex": 0, "frames": 3}),
        ("objects_removed", {"figures": [{"objectId": 1}]}),
        ("stop_tracking", {}),
        ("interpolate", {"videoId": 1}),
    ],
)
def test_bad_requests_are_refused_in_words(auto: Auto, lab: Lab, endpoint: str, context: dict[str, Any]) -> None:
    body = {
        "context": context,
        "server_address": lab.served.settings.address,
        "api_token": lab.served.bench.token,
    }
    reply = requests.post(f"{auto.url}/{endpoint}", json=body, timeout=10)
    assert reply.status_code == 400
    assert reply.json()["message"]


def test_requests_for_other_servers_are_refused(auto: Auto) -> None:
    body = {"context": {}, "server_address": "http://elsewhere:1", "api_token": "t"}
    assert requests.post(f"{auto.url}/settings", json=body, timeout=10).status_code == 403


def test_a_video_that_is_gone_is_an_error_and_not_in_the_way(auto: Auto, lab: Lab) -> None:
    track = str(uuid.uuid4())
    context = {"trackId": track, "videoId": 987_654, "objectIds": [1], "frameIndex": 0, "frames": 3}
    auto.post("track", context)
    wait_until(lambda: lab.errors(track))
    wait_until(lambda: len(auto.service.tracks) == 0)


def test_health_is_answered_while_an_engine_is_busy(auto: Auto, lab: Lab) -> None:
    ident = lab.object()
    lab.box(ident, 0)
    auto.rail.gate.clear()
    begin(auto, lab, [ident], 0, 3)
    wait_until(auto.rail.entered.is_set)
    for path in ("livez", "readyz", "settings", "engines"):
        assert requests.get(f"{auto.url}/{path}", timeout=2).status_code == 200
    assert auto.post("get_session_info", {}).json()["running_tracks"] == 1
    auto.post("project_meta_changed", {"projectId": lab.project_id})


def test_the_config_is_what_the_platform_asks_for() -> None:
    config = json.loads((Path(__file__).parents[3] / "apps" / "auto_track" / "config.json").read_text())
    assert config["is_auto_track"] is True
    assert set(config["session_tags"]) == {"sly_video_tracking", "sly_smart_annotation"}
    assert {"polyline", "line", "graph", "oriented_bbox", "bitmap"} <= set(config["allowed_shapes"])
    assert Access.from_env({}).address == ""
    assert box_json(3)["points"]["exterior"][0] == [3, 40]
