"""`/track` against a workbench: the figures it writes and the messages it sends (protocol section 13)."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from apps.box_tracker.main import CONFIG
from common.geometry.measures import iou
from common.geometry.shapes import to_geometry
from common.geometry.supervisely import from_json, geometry_type
from common.geometry.types import Points
from common.serving.jobs import Job
from common.serving.outputs import FigureOutput
from common.serving.settings import TrackerApp
from common.serving.targets import Target
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.tracking.contract import Prediction
from tests.apps.workbench.harness import Served
from tests.common.serving.recorded import TRAFFIC, same_form
from tests.common.serving.stage import (
    ALL_SHAPES,
    FRAMES,
    HEIGHT,
    WIDTH,
    AppRunning,
    Client,
    Stage,
    data,
    new_track,
    value,
    wait_until,
)
from tests.common.serving.toys import Drift


def close_to_truth(figure: dict, kind: str, row: int) -> bool:
    bones = (("a", "b"), ("b", "c"))
    found = from_json(figure["geometryType"], figure["geometry"], WIDTH, HEIGHT, bones)
    truth = value(kind, figure["meta"]["frame"], row)
    a, b = to_geometry(found), to_geometry(truth)
    if isinstance(a, Points) and isinstance(b, Points):
        return bool(np.abs(a.xy - b.xy).max() < 4)
    return iou(a, b) > 0.6


@pytest.mark.parametrize(("direction", "start", "frames"), [("forward", 0, 6), ("backward", 20, 6)])
def test_all_seven_geometries_in_one_request(
    client: Client, stage: Stage, direction: str, start: int, frames: int
) -> None:
    drawn = {kind: (stage.draw(kind, start, n % 3), n % 3) for n, kind in enumerate(ALL_SHAPES)}
    track = new_track()
    began = time.monotonic()
    reply = client.track(
        stage, [ids for ids, _ in drawn.values()], track, frameIndex=start, frames=frames, direction=direction
    )
    assert time.monotonic() - began < 1.0
    assert (reply.status_code, reply.json()) == (200, {"message": "Track task started."})
    told = stage.wait_final(track)
    step = 1 if direction == "forward" else -1
    wanted = {start + step * n for n in range(1, frames + 1)}
    for kind, ((object_id, figure_id), row) in drawn.items():
        made = stage.figures([object_id], track)
        assert {f["meta"]["frame"] for f in made} == wanted, kind
        for figure in made:
            assert figure["geometryType"] == geometry_type(value(kind))
            assert figure["meta"]["sourceFigureId"] == figure_id
            assert figure["nnCreated"] is True and figure["nnUpdated"] is True
            assert 0 <= figure["customData"]["score"] <= 1 and figure["customData"]["visible"] is True
            assert close_to_truth(figure, kind, row), (kind, figure)
    currents = [p["progress"]["current"] for p in told]
    assert currents == sorted(currents)
    assert [p["progress"] for p in told].count({"current": 7 * frames, "total": 7 * frames}) == 1
    assert all(p["frameRange"][0] <= p["frameRange"][1] for p in told)
    assert {f for p in told for f in p["frameRange"]} <= wanted | {start}
    assert told[-1]["trackedFigures"] == {str(ids[1]): frames for ids, _ in drawn.values()}
    assert not [n for n in stage.notices(track) if n["type"] != "videos:fetch-figures-in-range"]


def test_the_video_ends_before_the_request(client: Client, stage: Stage) -> None:
    drawn, track = stage.draw("rectangle", FRAMES - 3), new_track()
    client.track(stage, [drawn], track, frameIndex=FRAMES - 3, frames=10)
    told = stage.wait_final(track)
    assert told[-1]["progress"] == {"current": 2, "total": 2}
    assert sorted(f["meta"]["frame"] for f in stage.figures([drawn[0]], track)) == [FRAMES - 2, FRAMES - 1]


def test_nothing_is_left_to_track_on_the_last_frame(client: Client, stage: Stage) -> None:
    drawn, track = stage.draw("rectangle", FRAMES - 1), new_track()
    client.track(stage, [drawn], track, frameIndex=FRAMES - 1, frames=10)
    told = stage.wait_final(track)
    assert told[-1]["frameRange"] == [FRAMES - 1, FRAMES - 1]
    assert stage.figures([drawn[0]], track) == []


def test_tracking_again_replaces_what_trackers_wrote_and_spares_people(client: Client, stage: Stage) -> None:
    drawn = stage.draw("rectangle")
    first, second = new_track(), new_track()
    client.track(stage, [drawn], first, frames=4)
    stage.wait_final(first)
    human = {
        "objectId": drawn[0],
        "geometryType": "rectangle",
        "geometry": {"points": {"exterior": [[1, 1], [9, 9]], "interior": []}},
        "meta": {"frame": 5},
    }
    stage.served.call("figures.bulk.add", {"entityId": stage.video.id, "figures": [human]})
    client.track(stage, [drawn], second, frames=6)
    stage.wait_final(second)
    frames = sorted((f["meta"]["frame"], f["trackId"]) for f in stage.figures([drawn[0]]) if f["trackId"])
    assert frames == [(n, second) for n in (1, 2, 3, 4, 6)]


def test_stop_in_the_reply_ends_the_job_and_nothing_is_written_after(
    served: Served, stage: Stage, tmp_path: Path
) -> None:
    drift = Drift(delay_s=0.1)
    with AppRunning(served, tmp_path, tracker=drift) as client:
        drawn, track = stage.draw("rectangle"), new_track()
        client.track(stage, [drawn], track, frames=35)
        wait_until(lambda: bool(stage.figures([drawn[0]], track)))
        served.own("POST", "stop", json={"trackId": track})
        told = stage.wait_final(track, 5)
        written, pushed = len(stage.figures([drawn[0]], track)), drift.pushed
        assert pushed < 30
        assert written == pushed, "a frame that was finished is lost"
        time.sleep(0.5)
        assert (len(stage.figures([drawn[0]], track)), drift.pushed) == (written, pushed)
        assert stage.progress(track) == told
        assert told[-1]["progress"]["current"] == told[-1]["progress"]["total"] == 35


@pytest.mark.parametrize("by", ["trackId", "inference_request_uuid"])
def test_stop_tracking_ends_the_job_within_a_frame(served: Served, stage: Stage, tmp_path: Path, by: str) -> None:
    drift = Drift(delay_s=0.1)
    with AppRunning(served, tmp_path, tracker=drift) as client:
        drawn, track = stage.draw("rectangle"), new_track()
        reply = client.track(stage, [drawn], track, frames=35)
        wait_until(lambda: drift.pushed >= 3)
        ident = {"trackId": track, "inference_request_uuid": reply.headers["x-inference-request-uuid"]}[by]
        stopped = client.post("stop_tracking", {by: ident})
        pushed = drift.pushed
        assert stopped.json() == {"message": "Inference will be stopped.", "success": True}
        stage.wait_final(track, 5)
        assert drift.pushed <= pushed + 1


def test_a_job_in_line_can_be_seen_and_stopped(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift(delay_s=0.1), workers=1) as client:
        first, second = new_track(), new_track()
        client.track(stage, [stage.draw("rectangle")], first, frames=30)
        client.track(stage, [stage.draw("rectangle")], second, frames=30)
        wait_until(lambda: client.get("jobs").json() == {"running": 1, "waiting": 1, "workers": 1})
        listed = {job["trackId"]: job["position"] for job in client.post("jobs").json()["jobs"]}
        assert listed == {first: 0, second: 1}
        wait_until(lambda: bool(stage.progress(second)), 2)  # told within a moment, though it waits
        served.own("POST", "stop", json={"trackId": second})
        stage.wait_final(second, 5)
        assert client.get("jobs").json()["waiting"] == 0
        client.post("stop_tracking", {"trackId": first})
        stage.wait_final(first, 5)


def test_the_same_request_sent_again_is_the_same_job(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift(delay_s=0.05)) as client:
        drawn, track = stage.draw("rectangle"), new_track()
        replies = [client.track(stage, [drawn], track, frames=10) for _ in range(3)]
        assert len({reply.headers["x-inference-request-uuid"] for reply in replies}) == 1
        other = client.track(stage, [stage.draw("point", 0, 1)], track, frames=2)
        assert other.headers["x-inference-request-uuid"] != replies[0].headers["x-inference-request-uuid"]
        wait_until(lambda: client.get("jobs").json()["running"] == 0)
        assert sorted(f["meta"]["frame"] for f in stage.figures([drawn[0]], track)) == list(range(1, 11))
        again = client.track(stage, [drawn], track, frames=10)
        assert again.headers["x-inference-request-uuid"] != replies[0].headers["x-inference-request-uuid"]
        wait_until(lambda: client.get("jobs").json()["running"] == 0)
        assert sorted(f["meta"]["frame"] for f in stage.figures([drawn[0]], track)) == list(range(1, 11))


def test_jobs_at_once_give_what_they_give_alone(client: Client, stage: Stage) -> None:
    def geometries(object_id: int, track: str) -> dict[int, object]:
        return {f["meta"]["frame"]: f["geometry"] for f in stage.figures([object_id], track)}

    alone = []
    for row in (0, 1):
        drawn, track = stage.draw("rectangle", 0, row), new_track()
        client.track(stage, [drawn], track, frames=8)
        stage.wait_final(track)
        alone.append(geometries(drawn[0], track))
    pair = [(stage.draw("rectangle", 0, row), new_track()) for row in (0, 1)]
    threads = [
        threading.Thread(target=client.track, args=(stage, [drawn], track), kwargs={"frames": 8})
        for drawn, track in pair
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, track in pair:
        stage.wait_final(track)
    assert [geometries(drawn[0], track) for drawn, track in pair] == alone
    assert len(alone[0]) == len(alone[1]) == 8


def test_a_job_that_died_with_the_app_is_done_by_the_next(served: Served, stage: Stage, tmp_path: Path) -> None:
    drawn, track = stage.draw("rectangle"), new_track()
    with AppRunning(served, tmp_path / "dying", tracker=Drift(delay_s=0.1)) as client:
        client.track(stage, [drawn], track, frames=20)
        wait_until(lambda: bool(stage.figures([drawn[0]], track)))
        shutil.copytree(
            tmp_path / "dying" / "unfinished", tmp_path / "next" / "unfinished"
        )  # as a killed process leaves it
        client.post("stop_tracking", {"trackId": track})
        wait_until(lambda: client.get("jobs").json()["running"] == 0)
    assert not list((tmp_path / "dying" / "unfinished").iterdir()), "a job that was stopped is not taken up again"
    assert len(stage.figures([drawn[0]], track)) < 20
    with AppRunning(served, tmp_path / "next", tracker=Drift()) as client:
        wait_until(lambda: len(stage.figures([drawn[0]], track)) == 20)
        wait_until(lambda: client.get("jobs").json()["running"] == 0)
    assert sorted(f["meta"]["frame"] for f in stage.figures([drawn[0]], track)) == list(range(1, 21))
    assert any("restarted" in str(notice) for notice in stage.notices(track))


def test_an_app_that_ends_says_so_to_the_tool(served: Served, stage: Stage, tmp_path: Path) -> None:
    running, waiting = new_track(), new_track()
    with AppRunning(served, tmp_path, tracker=Drift(delay_s=0.1), workers=1) as client:
        client.track(stage, [stage.draw("rectangle")], running, frames=35)
        client.track(stage, [stage.draw("rectangle")], waiting, frames=35)
        wait_until(lambda: len(stage.progress(running)) > 1)
    for track in (running, waiting):
        assert len(stage.wait_final(track, 5)) >= 1


def test_health_is_answered_while_a_job_runs(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift(delay_s=0.02)) as client:
        track = new_track()
        client.track(stage, [stage.draw("rectangle"), stage.draw("bitmap", 0, 1)], track, frames=39)
        context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 30}
        context["input_geometries"] = [{"type": "rectangle", "data": data("rectangle")}]
        batch = threading.Thread(target=client.post, args=("track-api", context))
        batch.start()
        waits = []
        for _ in range(15):
            began = time.monotonic()
            assert client.get("is_alive").json() == {"running": True, "mode": "production"}
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
        batch.join()
        stage.wait_final(track)
        assert float(np.median(waits)) < 0.1, waits


def test_an_error_comes_before_the_final_message_and_keeps_what_was_finished(
    served: Served, stage: Stage, tmp_path: Path
) -> None:
    drift = Drift(fail_at=4)
    with AppRunning(served, tmp_path, tracker=drift) as client:
        drawn, track = stage.draw("rectangle"), new_track()
        client.track(stage, [drawn], track, frames=9)
        stage.wait_final(track)
        kinds = [n["type"].split(":")[1] for n in stage.notices(track)]
        assert kinds[-2:] == ["tracking-error", "fetch-figures-in-range"]
        [error] = [n["data"]["error"] for n in stage.notices(track) if n["type"] == "videos:tracking-error"]
        assert error == {"message": "RuntimeError: the tracker exploded"}
        assert sorted(f["meta"]["frame"] for f in stage.figures([drawn[0]], track)) == [1, 2, 3]
        drift.fail_at = None
        again = new_track()
        client.track(stage, [drawn], again, frames=3)
        stage.wait_final(again)
        assert len(stage.figures([drawn[0]], again)) == 3


@pytest.mark.parametrize(("kind", "case"), [("rectangle", "bbox"), ("bitmap", "mask")])
def test_a_tracker_that_raises_is_told_in_the_recorded_form(
    served: Served, stage: Stage, tmp_path: Path, kind: str, case: str
) -> None:
    """But not, as it was recorded, after a message that all is done."""
    file = TRAFFIC.parent / "05_errors_and_stop.json"
    if not file.is_file():
        pytest.skip(f"the recorded calls are not here ({file.name} in ../shared/spec/traffic)")
    calls = json.loads(file.read_text())[f"{case} /track model raises"]
    [theirs] = [call["body"] for call in calls if call["body"].get("type") == "videos:tracking-error"]
    with AppRunning(served, tmp_path, tracker=Drift(fail_at=1)) as client:
        drawn, track = stage.draw(kind), new_track()
        client.track(stage, [drawn], track)
        stage.wait_final(track)
        [ours] = [notice for notice in stage.notices(track) if notice["type"] == "videos:tracking-error"]
        same_form(ours, theirs)
        assert ours["data"]["error"]["message"].split(":")[0] == theirs["data"]["error"]["message"].split(":")[0]
        assert stage.figures([drawn[0]], track) == []


def errors_of(stage: Stage, track: str) -> list[str]:
    stage.wait_final(track)
    return [n["data"]["error"]["message"] for n in stage.notices(track) if n["type"] == "videos:tracking-error"]


def test_a_deleted_figure_is_told_in_words(client: Client, stage: Stage) -> None:
    drawn, track = stage.draw("rectangle"), new_track()
    stage.served.call("figures.bulk.remove", {"figureIds": [drawn[1]]})
    assert client.track(stage, [drawn], track).status_code == 200
    [message] = errors_of(stage, track)
    assert str(drawn[1]) in message and "does not exist" in message


def test_a_shape_the_app_does_not_serve_is_told_in_words(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, TrackerApp.from_config(CONFIG)) as client:
        track = new_track()
        client.track(stage, [stage.draw("bitmap")], track)
        [message] = errors_of(stage, track)
        assert "bitmap" in message and "rectangle" in message


def test_what_cannot_be_tracked_does_not_keep_the_rest_from_it(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, TrackerApp.from_config(CONFIG)) as client:
        track, good = new_track(), stage.draw("rectangle")
        gone, mask = stage.draw("rectangle"), stage.draw("bitmap")
        stage.served.call("figures.bulk.remove", {"figureIds": [gone[1]]})
        client.track(stage, [gone, good, mask], track, frames=4)
        told = stage.wait_final(track)
        assert told[-1]["progress"] == {"current": 4, "total": 4}
        assert len(stage.figures([good[0]], track)) == 4
        warnings = [n["data"]["message"] for n in stage.notices(track) if n["type"] == "videos:tracking-warning"]
        assert len(warnings) == 2 and str(gone[1]) in warnings[0] and "bitmap" in warnings[1]


def test_a_frame_beyond_the_end_is_told_in_words(client: Client, stage: Stage) -> None:
    track = new_track()
    client.track(stage, [stage.draw("rectangle")], track, frameIndex=FRAMES + 5)
    [message] = errors_of(stage, track)
    assert str(FRAMES) in message


def test_a_context_that_lacks_something_is_refused_and_told(client: Client, stage: Stage) -> None:
    track = new_track()
    reply = client.post("track", {"videoId": stage.video.id, "trackId": track, "frameIndex": 0, "frames": 3})
    assert reply.status_code == 400 and "figureIds" in reply.json()["message"]
    assert "figureIds" in errors_of(stage, track)[0]


def test_direct_messages_go_to_the_session(client: Client, stage: Stage) -> None:
    drawn, track = stage.draw("rectangle"), new_track()
    client.track(stage, [drawn], track, frames=3, sessionId="sess-1", useDirectProgressMessages=True)
    wait_until(lambda: any(n["payload"]["progress"] == {"current": 3, "total": 3} for n in stage.notices(track)))
    for notice in stage.notices(track):
        assert notice["action"] == "figures/setDirectTrackingProgress" and notice["sessionId"] == "sess-1"


@pytest.mark.parametrize(
    "rule",
    [
        {"method": "figures.bulk.add", "status": 500, "when": "after"},
        {"method": "videos.info", "status": 503},
        {"method": "videos.download", "disconnect": True},
        {"method": "videos.notify-annotation-tool", "status": 500, "count": 2},
        {"method": "figures.list", "status": 429},
    ],
    ids=lambda rule: f"{rule['method']}-{rule.get('status', 'cut')}",
)
def test_passing_failures_of_the_server_lose_and_double_nothing(client: Client, stage: Stage, rule: dict) -> None:
    drawn, track = stage.draw("point"), new_track()
    stage.served.own("POST", "faults", json=[rule])
    client.track(stage, [drawn], track, frames=4)
    told = stage.wait_final(track)
    assert sorted(f["meta"]["frame"] for f in stage.figures([drawn[0]], track)) == [1, 2, 3, 4]
    assert told[-1]["progress"] == {"current": 4, "total": 4}


def test_refused_figures_are_told_and_the_others_are_written(client: Client, stage: Stage) -> None:
    drawn, track = [stage.draw("point", 0, row) for row in (0, 1)], new_track()
    stage.served.own("POST", "faults", json=[{"method": "figures.bulk.add", "status": 400, "count": 2}])
    client.track(stage, drawn, track, frames=4)
    told = stage.wait_final(track)
    frames = [f["meta"]["frame"] for f in stage.figures([o for o, _ in drawn], track)]
    assert len(frames) >= 6 and set(frames) == {1, 2, 3, 4}
    warnings = [n["data"]["message"] for n in stage.notices(track) if n["type"] == "videos:tracking-warning"]
    assert len(frames) == 8 or any("refused" in message for message in warnings)
    assert told[-1]["progress"] == {"current": 8, "total": 8}


def test_an_object_that_leaves_has_no_figures_outside(served: Served, stage: Stage, tmp_path: Path) -> None:
    with AppRunning(served, tmp_path, tracker=Drift(step=-1)) as client:
        drawn, track = stage.draw("rectangle"), new_track()
        client.track(stage, [drawn], track, frames=39)
        told = stage.wait_final(track)
        assert told[-1]["progress"] == {"current": 39, "total": 39}
        for figure in stage.figures([drawn[0]], track):
            (left, top), (right, bottom) = figure["geometry"]["points"]["exterior"]
            assert 0 <= left <= right < WIDTH and 0 <= top <= bottom < HEIGHT


def test_a_figure_taken_back_for_a_persons_is_told(served: Served, clip: Path) -> None:
    stage = Stage(served, clip)
    told: list[tuple[int, int, list[int]]] = []
    object_id, _ = stage.draw("rectangle", 0)
    server = Server(served.settings.address, served.bench.token)
    target = Target("a", value("rectangle", 0), "rectangle", object_id)
    found = [(target, Prediction("a", to_geometry(value("rectangle", 1)), 0.9, True))]
    job = Job("track", lambda _: None)
    output = FigureOutput(
        server, video(server, stage.video.id), (WIDTH, HEIGHT), new_track(), job, lambda f, s, t: told.append((f, s, t))
    )
    output.put(1, found)
    wait_until(lambda: len(told) == 1)
    body = {"objectId": object_id, "geometryType": "rectangle", "geometry": data("rectangle", 2), "meta": {"frame": 2}}
    assert served.call("figures.bulk.add", {"entityId": stage.video.id, "figures": [body]}).status_code == 200
    output.put(2, found)
    assert output.close(drop=False) is None
    assert told == [(1, 1, []), (2, 1, []), (2, 0, [])]
