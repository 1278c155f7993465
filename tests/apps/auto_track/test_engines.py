"""Trackers of other apps, Smart Tool objects, engines by settings, and which sessions are found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from apps.auto_track.engines import extrapolate
from apps.auto_track.smart import Ask, moved
from common.geometry.types import Box, Mask, Points
from common.serving.app import create_app as tracker_app
from common.serving.settings import ServingSettings, TrackerApp
from tests.apps.auto_track.conftest import AppServer, Auto, Lab, bitmap_json, wait_until
from tests.apps.auto_track.test_track import begin, left_of
from tests.apps.workbench.harness import Served


class Old:
    """A tracker app of the old kind: boxes move by 2 pixels, nothing is remembered. `mood` makes it misbehave."""

    def __init__(self) -> None:
        self.mood = ""
        self.asked: list[dict[str, Any]] = []
        self.app = FastAPI()
        self.app.post("/track-api")(self.answer)
        self.app.post("/smart_cache")(self.cache)

    async def cache(self, request: Request) -> dict[str, str]:
        self.asked.append({"cache": (await request.json())["state"]})
        return {"message": "Cache task started."}

    async def answer(self, request: Request) -> JSONResponse:
        context = (await request.json())["context"]
        self.asked.append(context)
        if self.mood == "slow":
            await asyncio.sleep(5)
        if self.mood == "down":
            return JSONResponse({"message": "out of memory"}, 500)
        if self.mood == "null":
            return JSONResponse(None)
        sign = -2 if context.get("direction") == "backward" else 2
        rows = []
        for n in range(1, context["frames"] + 1):
            row: list[Any] = []
            for column in context["input_geometries"]:
                (x1, y1), (x2, y2) = column["data"]["points"]["exterior"]
                exterior = [[x1 + sign * n, y1], [x2 + sign * n, y2]]
                row.append({"type": column["type"], "data": {"points": {"exterior": exterior, "interior": []}}})
            if self.mood == "lost" and 3 <= context["frameIndex"] + n <= 5:
                row = [None for _ in row]
            if self.mood == "shifted":
                row = row[1:]
            rows.append(row)
        return JSONResponse(rows)


@pytest.fixture
def old() -> Iterator[Old]:
    engine = Old()
    with AppServer(engine.app) as url:
        engine.url = url  # type: ignore[attr-defined]
        yield engine


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.auto_track.remote._PAUSES_S", (0.01, 0.01))


def register(served: Served, url: str, config: dict[str, Any]) -> int:
    reply = served.own("POST", "apps/register", json={"name": "other", "url": url, "config": config})
    assert reply.status_code == 200, reply.text
    return int(reply.json()["id"])


@pytest.mark.parametrize("by", ["url", "task"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_any_tracker_app_can_be_used(auto: Auto, lab: Lab, old: Old, by: str, direction: str) -> None:
    url = old.url  # type: ignore[attr-defined]
    choice = {"url": url} if by == "url" else {"task_id": register(lab.served, url, {})}
    auto.post("settings", {}, settings={"rectangle": choice})
    ident = lab.object()
    lab.box(ident, 12, 44)
    track = begin(auto, lab, [ident], 12, 11, direction=direction)
    lab.finished(track)
    sign = 1 if direction == "forward" else -1
    assert lab.lefts(ident) == {12 + sign * n: 44 + sign * 2 * n for n in range(12)}
    assert [c["frames"] for c in old.asked] == [8, 3]  # it is asked for no more than is wanted
    assert auto.rail.pushes == 0


def test_a_lost_object_may_come_back_to_an_old_engine(auto: Auto, lab: Lab, old: Old) -> None:
    old.mood = "lost"
    auto.post("settings", {}, settings={"rectangle": {"url": old.url}})  # type: ignore[attr-defined]
    ident = lab.object()
    lab.box(ident, 0)
    track = begin(auto, lab, [ident], 0, 14)
    lab.finished(track)
    frames = set(lab.figures(ident))
    assert not frames & {3, 4, 5}
    assert {1, 2, 14} <= frames
    assert lab.errors(track) == []


@pytest.mark.parametrize(
    ("mood", "said"), [("down", "out of memory"), ("null", "nothing"), ("shifted", "0 predictions")]
)
def test_an_engine_that_is_broken_is_no_disappearance(
    auto: Auto, lab: Lab, old: Old, no_patience: None, mood: str, said: str
) -> None:
    auto.post("settings", {}, settings={"rectangle": {"url": old.url}})  # type: ignore[attr-defined]
    ident = lab.object()
    lab.box(ident, 0)
    lab.box(ident, 2, 99, trackId="before", nnCreated=True, nnUpdated=True)
    old.mood = mood
    track = begin(auto, lab, [ident], 0, 4)
    lab.finished(track)
    warning = lab.warnings(track)
    assert "Error during tracking" in warning
    assert said in warning
    assert lab.lefts(ident) == {0: 20, 2: 99}  # what was there stays
    old.mood = ""
    begin(auto, lab, [ident], 0, 4, trackId=track)
    lab.finished(track, 2)
    assert lab.lefts(ident) == {n: 20 + 2 * n for n in range(5)}


def test_a_stop_does_not_wait_for_a_slow_engine(auto: Auto, lab: Lab, old: Old) -> None:
    old.mood = "slow"
    auto.post("settings", {}, settings={"rectangle": {"url": old.url}})  # type: ignore[attr-defined]
    ident = lab.object()
    figure = lab.box(ident, 0)
    track = "slow-" + str(ident)
    context = {"trackId": track, "videoId": lab.video_id, "figureIds": [figure], "frameIndex": 0, "frames": 4}
    auto.post("track", context)
    wait_until(lambda: old.asked)
    began = time.monotonic()
    auto.post("stop_tracking", {"trackId": track})
    lab.finished(track)
    assert time.monotonic() - began < 3
    assert lab.errors(track) == []
    assert sorted(lab.figures(ident)) == [0]


def test_our_own_apps_keep_their_memory_between_batches(auto: Auto, lab: Lab, tmp_path: Path) -> None:
    app = TrackerApp("Box Tracker", "1", ("rectangle", "oriented_bbox"))
    served = ServingSettings(tmp_path / "boxes", auto.service.settings.access)
    made = tracker_app(app, served)
    with AppServer(made) as url:
        auto.post("settings", {}, settings={"rectangle": {"url": url}})
        ident = lab.object()
        lab.box(ident, 0)
        track = begin(auto, lab, [ident], 0, 20)
        lab.finished(track)
        assert len(made.state.service.memory) == 1
    assert lab.errors(track) == []
    assert lab.warnings(track) == ""
    for frame, left in lab.lefts(ident).items():
        assert left == pytest.approx(20 + 2 * frame, abs=2.5)
    assert sorted(lab.figures(ident)) == list(range(21))


def test_smart_tool_objects_are_segmented_anew_on_each_frame(real: Auto, lab: Lab) -> None:
    ident = lab.object()
    clicks = {"crop": [[16, 36], [51, 67]], "positive": [[34, 52]], "negative": [[18, 38]], "visible": True}
    lab.draw(ident, 0, "bitmap", bitmap_json(20), meta={"smartToolInput": clicks, "tool": "smart"})
    track = begin(real, lab, [ident], 0, 8)
    lab.finished(track)
    assert lab.errors(track) == []
    figures = lab.figures(ident)
    assert sorted(figures) == list(range(9))
    for frame, (one,) in figures.items():
        assert one["geometryType"] == "bitmap"
        given = one["meta"]["smartToolInput"]
        assert given["positive"][0][0] == pytest.approx(34 + 2 * frame, abs=4)
        assert given["negative"][0][0] == pytest.approx(18 + 2 * frame, abs=4)
        assert left_of(one["geometry"]) == pytest.approx(20 + 2 * frame, abs=5)


def test_smart_tool_needs_models_for_box_and_clicks(auto: Auto, lab: Lab) -> None:
    auto.post("settings", {}, settings={"point": {"interpolation": True}})
    shapes = auto.post("available_geometries", {}).json()
    assert "smarttool-track" not in shapes
    assert {"smarttool", "point", "rectangle"} <= set(shapes)
    ident = lab.object()
    meta = {"smartToolInput": {"crop": [[16, 36], [51, 67]], "positive": [[34, 52]], "negative": [], "visible": True}}
    lab.draw(ident, 0, "bitmap", bitmap_json(20), meta=meta)
    track = begin(auto, lab, [ident], 0, 3)  # then it is a mask like any other
    lab.finished(track)
    assert sorted(lab.figures(ident)) == [0, 1, 2, 3]


def test_smart_segmentation_answers_and_says_when_nothing_is_chosen(auto: Auto, lab: Lab) -> None:
    context = {
        "video": {"video_id": lab.video_id, "frame_index": 0},
        "crop": [{"x": 14, "y": 34}, {"x": 54, "y": 70}],
        "positive": [{"x": 34, "y": 52}],
        "negative": [],
    }
    reply = auto.post("smart_segmentation", context).json()
    assert reply["success"] is True
    assert reply["bitmap"]
    auto.post("settings", {}, settings={"smarttool": None})
    reply = auto.post("smart_segmentation", context).json()
    expected = {"origin": None, "bitmap": None, "success": False}
    assert reply == {**expected, "error": {"message": "Smart tool model is not selected"}}


def test_settings_are_checked_and_belong_to_sessions(auto: Auto, lab: Lab) -> None:
    import requests

    def change(token: str, settings: dict[str, Any], **context: Any) -> requests.Response:
        body = {"state": {"settings": settings}, "context": context, "api_token": token}
        body["server_address"] = lab.served.settings.address
        return requests.post(f"{auto.url}/settings", json=body, timeout=10)

    token = lab.served.bench.token
    assert change("wrong", {"rectangle": None}).status_code in (401, 403, 400)
    assert change(token, {"rectangle": {"engine": "no such"}}).status_code == 400
    assert change(token, {"rectangle": {"url": "file:///etc/passwd"}}).status_code == 400
    assert change(token, {"rectangle": {"task_id": 3, "interpolation": True}}).status_code == 400
    assert change(token, {"polygon": None}, sessionId="mine").status_code == 200
    assert "polygon" not in auto.post("available_geometries", {"sessionId": "mine"}).json()
    assert "polygon" in auto.post("available_geometries", {"sessionId": "another"}).json()
    assert change(token, {"disappear": {"enabled": False}}).json()["disappear"]["enabled"] is False
    again = type(auto.service.store)(auto.service.settings.data / "auto_track" / "settings.json")
    assert again.get().disappear.enabled is False


def test_running_apps_are_found_by_tag_and_shape(auto: Auto, lab: Lab, old: Old) -> None:
    url = old.url  # type: ignore[attr-defined]
    tracker = register(lab.served, url, {"session_tags": ["sly_video_tracking"]})
    smart = register(lab.served, url, {"session_tags": ["sly_smart_annotation"]})
    other = register(lab.served, url, {"session_tags": ["something else"]})
    found = auto.post("engines", {"teamId": 1}).json()
    by_kind = {kind: {entry["task_id"] for entry in entries} for kind, entries in found.items()}
    assert tracker in by_kind["rectangle"]
    assert smart in by_kind["smarttool"]
    assert smart not in by_kind["rectangle"]
    assert all(other not in entries for entries in by_kind.values())


def test_videos_are_cached_by_every_engine_once(auto: Auto, lab: Lab, old: Old) -> None:
    choice = {"url": old.url}  # type: ignore[attr-defined]
    auto.post("settings", {}, settings={"rectangle": choice, "oriented_bbox": choice})
    reply = auto.post("cache_video", {}, video_id=lab.video_id, geometries=["rectangle", "oriented_bbox", "point"])
    assert reply.json() == {"message": "Cache video task started."}
    wait_until(lambda: old.asked)
    assert old.asked == [{"cache": {"video_id": lab.video_id}}]


def test_clicks_move_with_the_crop() -> None:
    ask = Ask((0, 0, 10, 10), [(5, 5)], [(2, 8)])
    later = moved(ask, Box(np.array([100, 0, 120, 10])), [(130, 5)])
    assert later.positive == [(119, 5)]  # held inside
    assert later.negative == [(104, 8)]


def test_constant_velocity() -> None:
    box = extrapolate(Box(np.array([0, 0, 4, 4])), Box(np.array([1, 0, 5, 4])), 3)
    assert isinstance(box, Box)
    assert box.xyxy.tolist() == [4, 0, 8, 4]
    assert extrapolate(Box(np.array([0, 0, 8, 8])), Box(np.array([0, 0, 4, 8])), 2) is None
    points = extrapolate(Points(np.array([[0, 0]])), Points(np.array([[2, 1]])), 2)
    assert isinstance(points, Points)
    assert points.xy.tolist() == [[6, 3]]
    before, now = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    before[2:4, 2:4] = now[2:4, 5:7] = True
    mask = extrapolate(Mask.from_array(before), Mask.from_array(now), 1)
    assert isinstance(mask, Mask)
    assert (mask.x, mask.area) == (8, 4)
