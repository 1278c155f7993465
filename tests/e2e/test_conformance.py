"""The conformance checklist of the protocol (section 13), item by item, on the apps as they really run.

Where a case needs a tracker whose every step is known, the suites of the parts have it too, and are named in the item.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import supervisely as sly
from PIL import Image as Pictures

from common.geometry.measures import iou
from common.geometry.shapes import to_geometry
from common.geometry.supervisely import from_json, to_json
from common.geometry.types import Points
from common.video.reader import open_source
from tests.e2e.conftest import LONG, SHORT
from tests.e2e.scene import BONES, HEIGHT, KINDS, PLACES, WIDTH, data, value, write_clip
from tests.e2e.suite import (
    DIRECT,
    FIGURES,
    MESSAGE,
    App,
    Clip,
    Drawn,
    Suite,
    is_final,
    new_track,
    seconds_after,
    wait_until,
)

OF_APP = {"box_tracker": "rectangle", "mask_tracker": "bitmap", "point_tracker": "point"}
"""A geometry of each app."""


def column(kind: str, frame: int = 0, number: int = 0) -> dict[str, Any]:
    return {"type": kind, "data": data(kind, frame, number)}


def batch(clip: Clip, columns: list[dict[str, Any]], start: int = 0, frames: int = 4, **more: Any) -> dict[str, Any]:
    return {"videoId": clip.video_id, "frameIndex": start, "frames": frames, "input_geometries": columns} | more


def check_messages(clip: Clip, track: str) -> None:
    """What holds for the messages about every track, however it ended (items 1 and 3)."""
    told = clip.told(track)
    progress = clip.progress(track)
    finals = [p for p in progress if is_final(p)]
    assert len(finals) == 1 and told[-1]["data"] == finals[0], "the final message is sent once, and nothing after it"
    currents = [p["progress"]["current"] for p in progress]
    assert currents == sorted(currents), "progress falls"
    start = progress[0]["frameRange"][0]
    stored: set[int] = set()
    for call in clip.log.of_track(track):
        if call.method == FIGURES:
            stored |= {figure["meta"]["frame"] for figure in call.body["figures"]}
        elif call.body["type"] == "videos:fetch-figures-in-range":
            first, last = call.body["data"]["frameRange"]
            assert first <= last
            assert set(range(first, last + 1)) - {start} <= stored, "it tells of frames that are not written"


@pytest.fixture(params=OF_APP)
def app(suite: Suite, request: pytest.FixtureRequest) -> tuple[App, str]:
    """Every app in turn, with a geometry it takes."""
    return suite.apps[request.param], OF_APP[request.param]


def test_item_1_track_answers_at_once_and_ends_with_one_final_message(app: tuple[App, str], clip: Clip) -> None:
    """With stops: item 2. Failures of the tracker itself: tests/common/serving/test_track.py."""
    tracker, kind = app
    track, drawn = new_track(), clip.draw(kind)
    began = datetime.now(UTC)
    assert tracker.post("track", clip.context([drawn], track, frames=4)).json() == {"message": "Track task started."}
    assert (datetime.now(UTC) - began).total_seconds() < 1
    clip.wait_final(track)
    assert seconds_after(clip.events(track)[0], began) < 1
    check_messages(clip, track)
    assert clip.progress(track)[-1]["progress"] == {"current": 4, "total": 4}
    # and when it fails: the error, then the end
    failed = new_track()
    tracker.post("track", clip.context([Drawn(kind, drawn.object_id, 10**9)], failed))
    clip.wait_final(failed)
    check_messages(clip, failed)
    assert [body["type"] for body in clip.told(failed)][-2] == "videos:tracking-error"
    assert str(10**9) in clip.errors(failed)[0]


@pytest.mark.parametrize(
    ("kind", "by"),
    [
        ("rectangle", "reply"),
        ("rectangle", "inference_request_uuid"),
        ("bitmap", "trackId"),
        ("point", "reply"),
    ],
)
def test_item_2_stop_ends_the_work_and_nothing_is_written_after(
    suite: Suite, long_clip: Clip, kind: str, by: str
) -> None:
    """That not one more frame goes through the tracker: tests/common/serving/test_track.py, with one that counts."""
    tracker = suite.app(kind)
    track, drawn = new_track(), [long_clip.draw(kind, 0, number) for number in range(2)]
    started = tracker.post("track", long_clip.context(drawn, track, frames=LONG - 1))
    wait_until(lambda: any(p["progress"]["current"] > 0 for p in long_clip.progress(track)))
    if by == "reply":
        suite.served.own("POST", "stop", json={"trackId": track})
    else:
        ident = {"trackId": track, "inference_request_uuid": started.headers["x-inference-request-uuid"]}[by]
        reply = tracker.post("stop_tracking", {by: ident})
        assert reply.json() == {"message": "Inference will be stopped.", "success": True}
    began = time.monotonic()
    long_clip.wait_final(track, 10)
    assert time.monotonic() - began < 3
    count, messages = len(long_clip.figures(track)), long_clip.told(track)
    assert 0 < count < 2 * (LONG - 1)
    time.sleep(0.4)
    assert (len(long_clip.figures(track)), long_clip.told(track)) == (count, messages)
    check_messages(long_clip, track)
    assert long_clip.errors(track) == []


@pytest.mark.parametrize(
    ("kind", "count", "direction"),
    [("rectangle", 16, "forward"), ("bitmap", 8, "backward"), ("point", 360, "forward"), ("graph", 40, "backward")],
)
def test_item_3_progress_never_falls_and_tells_only_of_written_frames(
    suite: Suite, long_clip: Clip, kind: str, count: int, direction: str
) -> None:
    """The messages of every other job of this file are checked the same way."""
    track, drawn = new_track(), [long_clip.draw(kind, 130, number) for number in range(2)]
    context = long_clip.context(drawn, track, frameIndex=130, frames=count, direction=direction)
    began = time.monotonic()
    suite.app(kind).post("track", context)
    long_clip.wait_final(track)
    lasted = time.monotonic() - began
    check_messages(long_clip, track)
    frames = range(131, 131 + count) if direction == "forward" else range(130 - count, 130)
    assert set(long_clip.written(track)) == {(d.object_id, frame) for d in drawn for frame in frames}
    assert long_clip.progress(track)[-1]["trackedFigures"] == {str(d.figure_id): count for d in drawn}
    # at once, every two seconds or so, and at the end
    assert len(long_clip.progress(track)) >= 2 + lasted // 3


def test_item_4_figures_say_where_they_come_from_and_travel_together(suite: Suite, long_clip: Clip) -> None:
    """More on batches, refusals and repeats: tests/common/supervisely_io/test_writer.py."""
    drawn = [long_clip.draw(kind, 0, number) for number in range(5) for kind in ("point", "line")]
    track = new_track()
    # the first answer is lost after the work was done, the second call is refused
    faults = [{"method": FIGURES, "status": 500, "when": "after"}, {"method": FIGURES, "status": 400}]
    suite.served.own("POST", "faults", json=faults)
    suite.app("point").post("track", long_clip.context(drawn, track, frames=25))
    long_clip.wait_final(track)
    assert set(long_clip.written(track)) == {(d.object_id, frame) for d in drawn for frame in range(1, 26)}
    source = {d.object_id: d.figure_id for d in drawn}
    for figure in long_clip.figures(track):
        assert figure["meta"]["sourceFigureId"] == source[figure["objectId"]]
        assert figure["nnCreated"] is True and figure["nnUpdated"] is True
        assert set(figure["customData"]) >= {"score", "visible"}
    calls = [call.body["figures"] for call in long_clip.log.of_track(track) if call.method == FIGURES]
    assert max(map(len, calls)) <= 100
    assert max(len({figure["objectId"] for figure in call}) for call in calls) == 10, "one call per object"
    assert long_clip.errors(track) == []


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("kind", KINDS)
def test_item_5_all_ways_to_ask_give_the_same_geometries(
    suite: Suite, clip: Clip, video: Path, kind: str, direction: str
) -> None:
    """One and five objects, asked beyond the end of the video: `/track`, `track_async`, `track-api`, `track-api-files`."""
    tracker = suite.app(kind)
    start, step = (SHORT - 3, 1) if direction == "forward" else (2, -1)
    frames = [start + step * n for n in (1, 2)]
    way = {"direction": direction}
    alone = tracker.ask("track-api", batch(clip, [column(kind, start)], start, 8, **way))
    assert [[cell["type"] for cell in row] for row in alone] == [[kind]] * 2
    numbers = range(len(PLACES))
    columns = [column(kind, start, number) for number in numbers]
    rows = tracker.ask("track-api", batch(clip, columns, start, 8, **way))
    assert [[cell["type"] for cell in row] for row in rows] == [[kind] * 5] * 2
    wanted = {
        (number, frame): row[number]["data"] for frame, row in zip(frames, rows, strict=True) for number in numbers
    }
    for (number, frame), geometry in wanted.items():
        assert_near_truth(kind, geometry, frame, number)

    drawn, track = [clip.draw(kind, start, number) for number in numbers], new_track()
    tracker.ask("track", clip.context(drawn, track, frameIndex=start, frames=8, **way))
    context: dict[str, Any] = {"videoId": clip.video_id, "frameIndex": start, "frames": 8, **way}
    context["figures"] = [
        {"objectId": number + 1, "geometryType": kind, "geometry": data(kind, start, number)} for number in numbers
    ]
    uuid = {"inference_request_uuid": tracker.ask("track_async", context)["inference_request_uuid"]}
    fetched: dict[tuple[int, int], Any] = {}

    def fetch() -> bool:
        state = tracker.ask("pop_tracking_results", uuid)
        fetched.update({(r["objectId"] - 1, r["meta"]["frame"]): r["geometry"] for r in state["pending_results"]})
        return bool(state["finished"])

    wait_until(fetch)
    settings = batch(clip, columns, start, 8, **way) | {"frame_index": start}
    parts = [("files", (f"{n}.png", picture, "image/png")) for n, picture in enumerate(pictures(video, start, step, 3))]
    by_files = requests.post(f"{tracker.url}/track-api-files", files=parts, data={"settings": json.dumps(settings)})
    clip.wait_final(track)
    number_of = {d.object_id: number for number, d in enumerate(drawn)}
    assert {(number_of[o], frame): g for (o, frame), g in clip.written(track).items()} == wanted
    assert fetched == wanted
    assert [[cell["data"] for cell in row] for row in by_files.json()] == [[c["data"] for c in row] for row in rows]
    assert clip.progress(track)[-1]["progress"] == {"current": 10, "total": 10}


def pictures(video: Path, start: int, step: int, count: int) -> list[bytes]:
    source = open_source(video)
    encoded = []
    for image in source.stream(start, start + step * count):
        file = io.BytesIO()
        Pictures.fromarray(image).save(file, "png")
        encoded.append(file.getvalue())
    source.close()
    return encoded


def assert_near_truth(kind: str, geometry: dict[str, Any], frame: int, number: int) -> None:
    found = to_geometry(from_json(kind, geometry, WIDTH, HEIGHT, BONES))
    truth = to_geometry(value(kind, frame, number))
    if isinstance(found, Points) and isinstance(truth, Points):
        assert np.abs(found.xy - truth.xy).max() < 3, (kind, frame, number)
    else:
        assert iou(found, truth) > 0.75, (kind, frame, number)


def test_item_6_jobs_at_once_do_not_touch_each_other(suite: Suite, app: tuple[App, str], clip: Clip) -> None:
    """That places in line move up and a waiting job can be stopped: tests/common/serving/test_parts.py, test_track.py."""
    tracker, kind = app
    results: list[list[Any]] = []
    for at_once in (False, True):
        jobs = [(clip.draw(kind, 0, number), new_track()) for number in (0, 1, 3)]
        for drawn, track in jobs:
            tracker.post("track", clip.context([drawn], track, frames=3))
            if not at_once:
                clip.wait_final(track)
        if at_once:
            listed = tracker.post("jobs").json()
            assert listed["running"] <= listed["workers"]
            assert all(isinstance(job["position"], int) for job in listed["jobs"])
        for _, track in jobs:
            clip.wait_final(track)
        results.append([[clip.written(t)[d.object_id, frame] for frame in range(1, 4)] for d, t in jobs])
    assert results[0] == results[1]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory of another process is read from /proc")
def test_item_7_memory_does_not_depend_on_the_length(suite: Suite, long_clip: Clip) -> None:
    """50 against 1000 frames in the very process, with the quickest tracker: what serves and what decodes is the same
    for all. Every tracker, either direction, 3000 frames: benchmarks/memory.py. Beside the SDK's app:
    benchmarks/platform_tracking.py."""
    kind = "point"
    tracker = suite.app(kind)

    def peak(frames: int) -> float:
        Path(f"/proc/{tracker.pid}/clear_refs").write_text("5")  # forget the peak so far
        track = new_track()
        tracker.post("track", long_clip.context([long_clip.draw(kind)], track, frames=frames))
        long_clip.wait_final(track, 120)
        assert len(long_clip.written(track)) == frames
        status = Path(f"/proc/{tracker.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    short, long = peak(50), peak(1000)
    assert long < short + 12, f"{short:.0f} MiB for 50 frames, {long:.0f} MiB for 1000"


@pytest.mark.parametrize("kind", ["rectangle", "bitmap"])
def test_item_8_health_is_answered_while_a_job_runs(suite: Suite, long_clip: Clip, kind: str) -> None:
    """With the two trackers that compute most."""
    tracker = suite.app(kind)
    track, drawn = new_track(), [long_clip.draw(kind, 0, number) for number in range(5)]
    tracker.post("track", long_clip.context(drawn, track, frames=LONG - 1))
    wait_until(lambda: bool(long_clip.figures(track)))
    rows = threading.Thread(
        target=tracker.post, args=("track-api", batch(long_clip, [column(kind)], frames=15)), daemon=True
    )
    rows.start()
    waits = []
    for path in itertools.islice(itertools.cycle(["livez", "is_alive", "is_ready"]), 15):
        began = time.monotonic()
        assert tracker.get(path).status_code == 200
        waits.append(time.monotonic() - began)
        time.sleep(0.02)
    assert not any(map(is_final, long_clip.progress(track))), "the job ended too soon to tell anything"
    tracker.post("stop_tracking", {"trackId": track})
    rows.join()
    long_clip.wait_final(track)
    assert float(np.median(waits)) < 0.1, waits


CALLED = ("videos.info", "videos.download", "figures.list", FIGURES, MESSAGE)
"""Methods that a tracking job calls."""


@pytest.mark.parametrize("method", CALLED)
def test_item_9_passing_failures_lose_nothing(suite: Suite, tmp_path: Path, method: str) -> None:
    """Overload, a fault, a lost answer, a cut line and a slow answer, one after another, of each method in turn."""
    # a video of its own: the app has none of it in its cache
    fresh = suite.upload(write_clip(tmp_path / "own.mp4", 8, seed=100 + CALLED.index(method)), "failures", 8)
    drawn, track = [fresh.draw("point", 0, number) for number in (0, 4)], new_track()
    rules = [
        {"status": 429},
        {"status": 500, "when": "after"},
        {"disconnect": True},
        {"delay_s": 0.4},
    ]
    suite.served.own("POST", "faults", json=[{"method": method} | rule for rule in rules])
    suite.app("point").post("track", fresh.context(drawn, track, frames=4))
    fresh.wait_final(track)
    suite.served.own("DELETE", "faults")
    assert set(fresh.written(track)) == {(d.object_id, frame) for d in drawn for frame in range(1, 5)}
    assert fresh.errors(track) == []
    assert [p for p in fresh.progress(track) if is_final(p)][-1]["progress"]["total"] == 8


@pytest.mark.parametrize("method", [m for m in CALLED if m != MESSAGE])
def test_item_9_lasting_failures_are_told(suite: Suite, tmp_path: Path, method: str) -> None:
    """A server that refuses every call of a method: said in words (or made up for, as frames one by one make up for the
    whole file), the end, and a usable app."""
    fresh = suite.upload(write_clip(tmp_path / "own.mp4", 8, seed=200 + CALLED.index(method)), "refusals", 8)
    drawn, track = fresh.draw("point"), new_track()
    suite.served.own("POST", "faults", json=[{"method": method, "status": 400, "count": 1000}])
    try:
        suite.app("point").post("track", fresh.context([drawn], track, frames=4))
        wait_until(lambda: any(map(is_final, fresh.progress(track))), 30, lambda: str(fresh.told(track)))
    finally:
        suite.served.own("DELETE", "faults")
    told = [body for body in fresh.told(track) if body["type"] != "videos:fetch-figures-in-range"]
    assert is_final(fresh.progress(track)[-1]) and fresh.told(track)[-1] not in told
    assert told or len(fresh.written(track)) == 4, "figures are missing and nothing was said"
    again = new_track()
    suite.app("point").post("track", fresh.context([drawn], again, frames=4))
    fresh.wait_final(again)
    assert len(fresh.written(again)) == 4


@pytest.mark.parametrize(
    ("context", "word"),
    [(None, "frameIndex"), ({}, "frameIndex"), ({"frames": "many"}, "frames"), ({"frameIndex": SHORT + 7}, str(SHORT))],
)
def test_item_9_bad_contexts_are_told(app: tuple[App, str], clip: Clip, context: Any, word: str) -> None:
    """More of them, and deleted figures: tests/common/serving/test_track.py, test_api.py, test_access.py."""
    tracker, kind = app
    track = new_track()
    whole = clip.context([clip.draw(kind)], track)
    reply = tracker.post("track", whole | context if context else context)
    if reply.status_code == 200:
        clip.wait_final(track)
        assert word in clip.errors(track)[0]
    else:
        assert reply.status_code == 400 and word in reply.json()["message"]
    assert tracker.get("is_alive").status_code == 200


def test_item_9_a_damaged_video_keeps_its_good_frames(suite: Suite, video: Path, tmp_path: Path) -> None:
    """More damage: tests/common/video."""
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content)
    info = open_source(broken)
    frames = info.info.frames
    info.close()
    clip = suite.upload(broken, "broken", frames)
    drawn, track = clip.draw("point"), new_track()
    suite.app("point").post("track", clip.context([drawn], track, frames=frames - 1))
    clip.wait_final(track)
    written = sorted(frame for _, frame in clip.written(track))
    assert written == list(range(1, len(written) + 1)) and len(written) >= 10
    assert len(written) == frames - 1 or len(clip.told(track)) > len(clip.progress(track)), "nothing was said"


def test_item_10_rows_and_columns(app: tuple[App, str], clip: Clip) -> None:
    """Objects that leave, and what else is refused: tests/common/serving/test_api.py."""
    tracker, kind = app
    outside = column(kind) | {"data": moved_out(kind)}
    rows = tracker.ask("track-api", batch(clip, [column(kind), outside, column(kind, 0, 3)]))
    assert [[cell is None for cell in row] for row in rows] == [[False, True, False]] * 4
    for bad in ({"frames": 0}, {"input_geometries": []}, {"frameIndex": SHORT}):
        reply = tracker.post("track-api", batch(clip, [column(kind)]) | bad)
        assert reply.status_code == 400 and reply.json()["message"]
    assert tracker.post("track-api", batch(clip, [column(kind)]) | {"videoId": 10**9}).status_code == 404


def moved_out(kind: str) -> dict[str, Any]:
    """The geometry far to the right of the picture."""
    geometry = json.loads(json.dumps(data(kind)))
    if kind == "bitmap":
        geometry["bitmap"]["origin"][0] += 2 * WIDTH
    else:
        geometry["points"]["exterior"] = [[x + 2 * WIDTH, y] for x, y in geometry["points"]["exterior"]]
    return dict(geometry)


def test_item_11_up_tracked_and_down_again(suite: Suite, video: Path, tmp_path: Path) -> None:
    """All geometries forward and backward from the middle; the plain SDK brings them down as they were written."""
    fresh = suite.upload(video, "journey", SHORT)
    drawn = {kind: fresh.draw(kind, 12, number % 5) for number, kind in enumerate(KINDS)}
    ways: dict[str, str] = {}
    for direction in ("forward", "backward"):
        for name in suite.apps:
            track = ways[f"{name} {direction}"] = new_track()
            own = [d for kind, d in drawn.items() if suite.app(kind) is suite.apps[name]]
            context = fresh.context(own, track, frameIndex=12, frames=5, direction=direction)
            assert suite.apps[name].ask("track", context) == {"message": "Track task started."}
    written: dict[tuple[int, int], Any] = {}
    for name, track in ways.items():
        fresh.wait_final(track)
        check_messages(fresh, track)
        step = 1 if name.endswith("forward") else -1
        found = fresh.written(track)
        assert {frame for _, frame in found} == {12 + step * n for n in range(1, 6)}, name
        written |= found
        for figure in fresh.figures(track):
            assert 0 < figure["customData"]["score"] <= 1 and figure["customData"]["visible"] is True
    assert set(written) == {(d.object_id, frame) for d in drawn.values() for frame in range(7, 18) if frame != 12}
    api = suite.served.api
    sly.download_video_project(api, fresh.project_id, str(tmp_path / "copy"), log_progress=False)
    copy = sly.VideoProject(str(tmp_path / "copy"), sly.OpenMode.READ)
    [dataset] = copy.datasets
    [name] = list(dataset)
    path, labels = dataset.get_item_paths(name)
    assert Path(path).read_bytes() == video.read_bytes()
    exported = json.loads(Path(labels).read_text())
    kind_of = {o["key"]: o["classTitle"] for o in exported["objects"]}
    came = {
        (kind_of[figure["objectKey"]], frame["index"]): (
            figure["geometryType"],
            figure["nnCreated"],
            figure["geometry"],
        )
        for frame in exported["frames"]
        for figure in frame["figures"]
    }
    assert set(came) == {(kind, frame) for kind in KINDS for frame in range(7, 18)}
    for kind, d in drawn.items():
        for frame in range(7, 18):
            shape, by_network, geometry = came[kind, frame]
            assert (shape, by_network) == (kind, frame != 12)
            told = written.get((d.object_id, frame), data(kind, frame, KINDS.index(kind) % 5))
            assert same(kind, geometry) == same(kind, told), (kind, frame)
            assert_near_truth(kind, geometry, frame, KINDS.index(kind) % 5)


def same(kind: str, geometry: dict[str, Any]) -> dict[str, Any]:
    """In our own writing: the SDK packs masks anew and adds keys of its own."""
    return to_json(from_json(kind, geometry, WIDTH, HEIGHT, BONES), WIDTH, HEIGHT)


def test_direct_messages_of_every_app(app: tuple[App, str], clip: Clip) -> None:
    """`useDirectProgressMessages`: everything goes to the one session and nothing the classic way."""
    tracker, kind = app
    track = new_track()
    tracker.post("track", clip.context([clip.draw(kind)], track, sessionId="sess-1", useDirectProgressMessages=True))
    wait_until(lambda: any(is_final(body["payload"]) for body in clip.told(track)))
    assert {call.method for call in clip.log.of_track(track)} == {FIGURES, DIRECT}
