"""Whatever breaks on the way: every confirmed figure is on the server once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import pytest

from common.errors import ServerRefused, ServerUnreachable
from common.supervisely_io.figures import figure, figures, figures_by_id
from common.supervisely_io.records import NewFigure, VideoRecord
from common.supervisely_io.retry import Retry
from common.supervisely_io.server import Server, Timeouts
from common.supervisely_io.writer import Confirmed, FigureWriter, WriteReport
from tests.apps.workbench.harness import Served, rectangle
from tests.common.supervisely_io.conftest import QUICK, Arm, Wire
from tests.common.supervisely_io.writing import FRAMES, TRACK, all_once, drawn, new, places, write


def without_keys(method: str, request: httpx.Request) -> httpx.Request:
    """As if the server knew nothing of keys: then nothing but looking keeps figures from being doubled."""
    if method != "figures.bulk.add":
        return request
    data = json.loads(request.content)
    for entry in data["figures"]:
        entry.pop("key")
    headers = {k: v for k, v in request.headers.items() if k.lower() != "content-length"}
    return httpx.Request(request.method, request.url, headers=headers, json=data, extensions=request.extensions)


def test_figures_carry_what_the_tool_needs(server: Server, record: VideoRecord, objects: list[int]) -> None:
    with FigureWriter(server, record) as writer:
        writer.put(3, [new(objects[0], 3, source_figure_id=77, score=0.876543, visible=True)])
        writer.put(4, [new(objects[0], 4, part=0), new(objects[0], 4, left=8, part=1)])
    found = list(figures(server, record))
    assert [(f.frame, f.part, f.track_id, f.nn_created, f.nn_updated) for f in found] == [
        (3, 0, TRACK, True, True),
        (4, 0, TRACK, True, True),
        (4, 1, TRACK, True, True),
    ]
    assert found[0].meta == {"frame": 3, "sourceFigureId": 77}
    assert found[0].custom_data == {"score": 0.8765, "visible": True}
    assert not found[0].by_person
    one = figure(server, found[0].id)
    assert one == found[0]
    assert figures_by_id(server, record.dataset_id, [f.id for f in found] + [10**9]) == {f.id: f for f in found}


def test_many_objects_go_in_few_calls(server: Server, record: VideoRecord, objects: list[int], wire: Wire) -> None:
    with FigureWriter(server, record, mode="append") as writer:
        for frame in range(1, FRAMES):
            writer.put(frame, [new(ident, frame, part=part) for ident in objects for part in range(20)])
    assert writer.report.written == 60 * (FRAMES - 1)
    # 660 figures at 100 a call, and frames are not torn apart: one frame of 60 in each
    assert wire.calls["figures.bulk.add"] <= FRAMES - 1
    assert wire.calls.get("figures.list", 0) == 0, "adding alone needs no look"


def test_a_slow_tracker_is_sent_together(server: Server, record: VideoRecord, objects: list[int], wire: Wire) -> None:
    first, later = threading.Event(), threading.Event()

    def confirmed(done: Confirmed) -> None:
        (first if done.frame == 1 else later).set()

    with FigureWriter(server, record, mode="append", on_confirmed=confirmed, pace_s=60) as writer:
        writer.put(1, [new(objects[0], 1)])
        assert first.wait(20), "the first figure is not held back"
        for frame in range(2, FRAMES):
            writer.put(frame, [new(ident, frame, part=part) for ident in objects for part in range(4)])
    # the first frame, the next hundred figures, the rest
    assert wire.calls["figures.bulk.add"] == 3
    assert writer.report.written == 1 + 12 * (FRAMES - 2)


def test_no_frame_waits_longer_than_the_pace(server: Server, record: VideoRecord, objects: list[int]) -> None:
    seen = threading.Semaphore(0)
    with FigureWriter(server, record, on_confirmed=lambda _: seen.release(), pace_s=0.3) as writer:
        for frame in range(1, 4):
            writer.put(frame, [new(objects[0], frame)])
        assert all(seen.acquire(timeout=20) for _ in range(3)), "sent without anyone asking"


def test_more_than_a_hundred_on_one_frame(server: Server, record: VideoRecord, objects: list[int], wire: Wire) -> None:
    with FigureWriter(server, record) as writer:
        writer.put(1, [new(objects[0], 1, part=part) for part in range(250)])
    assert writer.report.written == 250 == len(list(figures(server, record)))
    assert wire.calls["figures.bulk.add"] == 3


FAULTS = {
    "500": {"status": 500},
    "429": {"status": 429, "count": 2},
    "503 after the work": {"status": 503, "when": "after"},
    "disconnect": {"disconnect": True},
    "disconnect after the work": {"disconnect": True, "when": "after", "count": 2},
    "timeout": {"delay_s": 0.8},
    "400": {"status": 400},
    "400 after the work": {"status": 400, "when": "after"},
}


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_add_loses_and_doubles_nothing(
    served: Served, record: VideoRecord, objects: list[int], arm: Arm, fault: str, keys: bool
) -> None:
    wire = Wire()
    if not keys:
        wire.before = without_keys
    rule = {"skip": 1, **FAULTS[fault]}
    with Server(
        served.settings.address, served.bench.token, retry=QUICK, timeouts=Timeouts(read_s=0.5), transport=wire
    ) as server:
        arm("figures.bulk.add", **rule)
        confirmed: list[Confirmed] = []
        with FigureWriter(server, record, mode="append", on_confirmed=confirmed.append, retry=QUICK) as writer:
            for frame in range(1, FRAMES):
                writer.put(frame, [new(ident, frame) for ident in objects])
                if frame in (2, 5):
                    writer.flush(20)  # more than one request, so that the fault befalls one in the middle
            if fault == "timeout":
                assert writer.flush(20)
                time.sleep(0.8)  # the slow request arrives now
        assert places(list(figures(server, record))) == all_once(objects)
    assert [c.frame for c in confirmed] == list(range(1, FRAMES))
    assert all(c.written == dict.fromkeys(objects, 1) for c in confirmed)
    # looking before sending again is what keeps figures single; only a request that arrives late needs the sweep
    doubled = writer.report.doubled if fault == "timeout" else 0
    assert writer.report == WriteReport(written=3 * (FRAMES - 1), doubled=doubled)


@pytest.mark.parametrize("fault", ["500", "429", "503 after the work", "disconnect", "400"])
@pytest.mark.parametrize("method", ["figures.list", "figures.bulk.add", "figures.bulk.remove"])
def test_a_failing_replacement_loses_and_doubles_nothing(
    server: Server, record: VideoRecord, objects: list[int], arm: Arm, wire: Wire, method: str, fault: str
) -> None:
    wire.before = without_keys
    write(server, record, objects, left=5)
    first = {f.id for f in figures(server, record)}
    if (method, fault) == ("figures.list", "400"):
        arm(method, status=400)
        with pytest.raises(ServerRefused):  # it cannot know what to replace, so it does nothing, and says so
            write(server, record, objects, left=9)
        assert {f.id for f in figures(server, record)} == first
        return
    arm(method, **FAULTS[fault])
    report, confirmed = write(server, record, objects, left=9)
    found = list(figures(server, record))
    assert places(found) == all_once(objects)
    assert {f.geometry["points"]["exterior"][0][0] for f in found} == {9}
    assert first.isdisjoint(f.id for f in found)
    assert (report.written, report.replaced, report.refused, report.undeleted) == (33, 33, 0, 0)
    assert [c.frame for c in confirmed] == list(range(1, FRAMES))


def test_the_same_again_changes_nothing(server: Server, record: VideoRecord, objects: list[int]) -> None:
    """A server that knows keys answers with the old ids; removing those would lose everything."""
    write(server, record, objects)
    report, _ = write(server, record, objects)
    assert places(list(figures(server, record))) == all_once(objects)
    assert report.written == 33


def test_only_covered_places_are_replaced(
    server: Server, served: Served, record: VideoRecord, objects: list[int]
) -> None:
    a, b, _ = objects
    other = {"trackId": "other", "nnCreated": True, "nnUpdated": True}
    keep = [drawn(served, record, b, 2, **other), drawn(served, record, a, 9, **other)]
    human = [drawn(served, record, a, 3), drawn(served, record, a, 4, trackId="t", nnCreated=True, nnUpdated=False)]
    lost = drawn(served, record, a, 5, **other)
    with FigureWriter(server, record) as writer:
        for frame in (2, 3, 4):
            writer.put(frame, [new(a, frame)])
        writer.put(5, [], objects=[a])  # the object is lost there: nothing to write, and nothing may stay
    found = {f.id: f for f in figures(server, record)}
    assert set(keep + human) <= found.keys()
    assert lost not in found
    assert [(f.frame, f.track_id) for i, f in found.items() if i not in keep + human] == [(2, TRACK)]
    assert writer.report == WriteReport(written=1, kept=2, replaced=1)


def test_appending_leaves_everything(server: Server, served: Served, record: VideoRecord, objects: list[int]) -> None:
    old = [drawn(served, record, objects[0], 2), drawn(served, record, objects[0], 2, trackId="other")]
    with FigureWriter(server, record, mode="append") as writer:
        writer.put(2, [new(objects[0], 2)])
    assert len({f.id for f in figures(server, record)} - set(old)) == 1


def test_bad_figures_are_counted_and_the_others_stored(
    server: Server, record: VideoRecord, objects: list[int], wire: Wire
) -> None:
    bad = {3: rectangle(right=5000), 7: {"points": {"exterior": [[1.0, float("nan")], [5, 5]], "interior": []}}}
    confirmed: list[Confirmed] = []
    with FigureWriter(server, record, on_confirmed=confirmed.append) as writer:
        for frame in range(1, FRAMES):
            row = [new(ident, frame) for ident in objects[1:]]
            geometry = bad.get(frame, rectangle())
            writer.put(frame, [NewFigure(objects[0], frame, "rectangle", geometry, TRACK), *row])
    report = writer.report
    assert (report.written, report.refused) == (31, 2)
    assert any("frame 3" in text and "leaves the frame" in text for text in report.refusals)
    assert places(list(figures(server, record))) == all_once(objects) - Counter([(objects[0], 3), (objects[0], 7)])
    assert [c.written.get(objects[0], 0) for c in confirmed] == [0 if f in bad else 1 for f in range(1, FRAMES)]
    assert wire.calls["figures.bulk.add"] < 20, "the good ones must not go one by one"


def test_a_single_figure_is_tried_again_after_a_400(
    server: Server, record: VideoRecord, objects: list[int], arm: Arm
) -> None:
    arm("figures.bulk.add", status=400)
    with FigureWriter(server, record) as writer:
        writer.put(1, [new(objects[0], 1)])
    assert writer.report == WriteReport(written=1)


def test_where_the_new_is_refused_the_old_stays(
    server: Server, served: Served, record: VideoRecord, objects: list[int]
) -> None:
    old = drawn(served, record, objects[0], 2, trackId="other", nnCreated=True, nnUpdated=True)
    with FigureWriter(server, record) as writer:
        writer.put(2, [NewFigure(objects[0], 2, "rectangle", rectangle(right=5000), TRACK)])
    assert [f.id for f in figures(server, record)] == [old]


def test_a_request_that_arrives_late_is_swept_away(served: Served, record: VideoRecord, objects: list[int]) -> None:
    """The client gives up waiting, sends again - and then the first request arrives after all."""
    wire = Wire()
    late: list[httpx.Request] = []

    def delay(method: str, request: httpx.Request) -> httpx.Request:
        request = without_keys(method, request)
        if method == "figures.bulk.add" and not late:
            request.read()
            late.append(request)
            raise httpx.ReadTimeout("too slow")
        return request

    wire.before = delay
    with (
        Server(served.settings.address, served.bench.token, retry=QUICK, transport=wire) as server,
        FigureWriter(server, record, retry=QUICK) as writer,
    ):
        for frame in range(1, FRAMES):
            writer.put(frame, [new(ident, frame) for ident in objects])
        while writer.report.written < 33:
            time.sleep(0.01)
        wire.inner.handle_request(late[0]).read()
        assert len(list(figures(server, record))) > 33
        assert writer.flush(10)
        assert places(list(figures(server, record))) == all_once(objects)
    assert writer.report.doubled > 0


def test_an_outage_is_reported_and_what_was_confirmed_stays(
    server: Server, record: VideoRecord, objects: list[int], arm: Arm
) -> None:
    confirmed: list[Confirmed] = []
    arm("figures.bulk.add", status=503, skip=1, count=1000)
    writer = FigureWriter(server, record, on_confirmed=confirmed.append, retry=Retry(0.5, 0.05, 0.1), queue_frames=4)
    writer.put(1, [new(objects[0], 1)])
    writer.flush()
    with pytest.raises(ServerUnreachable):
        for frame in range(2, 100):
            writer.put(frame, [new(objects[0], frame % FRAMES)] if frame < FRAMES else [])
    with pytest.raises(ServerUnreachable):
        writer.close()
    assert [c.frame for c in confirmed] == [1]
    assert places(list(figures(server, record))) == Counter([(objects[0], 1)])
    assert writer.report.dropped > 0


def test_a_bad_token_ends_it_at_once(served: Served, record: VideoRecord, objects: list[int]) -> None:
    with Server(served.settings.address, "wrong") as server:
        writer = FigureWriter(server, record, mode="append")
        writer.put(1, [new(ident, 1) for ident in objects])
        with pytest.raises(ServerRefused, match="token"):
            writer.close()


def test_a_removed_video_ends_it_at_once(
    server: Server, served: Served, record: VideoRecord, objects: list[int], wire: Wire
) -> None:
    assert served.call("images.bulk.remove", {"imageIds": [record.id]}).ok
    writer = FigureWriter(server, record, mode="append")
    for frame in range(1, FRAMES):
        writer.put(frame, [new(ident, frame) for ident in objects])
    with pytest.raises(ServerRefused, match="removed"):
        writer.close()
    assert wire.calls["figures.bulk.add"] == 1


@pytest.mark.parametrize("how", ["close", "event"])
def test_stopping_drops_what_waits(server: Server, record: VideoRecord, objects: list[int], arm: Arm, how: str) -> None:
    stop = threading.Event()
    arm("figures.bulk.add", delay_s=0.3)
    writer = FigureWriter(server, record, mode="append", stop=stop)
    writer.put(1, [new(objects[0], 1)])
    time.sleep(0.15)  # on its way
    for frame in range(2, FRAMES):
        writer.put(frame, [new(objects[0], frame)])
    if how == "event":
        stop.set()
        time.sleep(0.5)
    report = writer.close(drop=how == "close")
    assert (report.written, report.dropped) == (1, FRAMES - 2)
    assert len(list(figures(server, record))) == 1


@pytest.mark.parametrize("away", [False, True])
def test_a_stop_sends_what_is_finished_while_the_server_answers(
    server: Server, record: VideoRecord, objects: list[int], arm: Arm, away: bool
) -> None:
    stop = threading.Event()
    with FigureWriter(server, record, stop=stop, grace_s=1.0, pace_s=60, retry=QUICK) as writer:
        writer.put(1, [new(objects[0], 1)])
        while not writer.report.written:
            time.sleep(0.005)
        writer.put(2, [new(objects[0], 2)])
        if away:
            arm("figures.bulk.add", status=503, count=1000)
        stop.set()
        writer.put(3, [new(objects[0], 3)])  # it was under way
        began = time.monotonic()
        report = writer.close(drop=True)
    assert time.monotonic() - began < 8
    assert (report.written, report.dropped) == ((1, 2) if away else (3, 0))
    assert len(list(figures(server, record))) == report.written


def test_a_stop_while_the_queue_is_full_drops_nothing(
    server: Server, record: VideoRecord, objects: list[int], arm: Arm, wire: Wire
) -> None:
    stop = threading.Event()
    arm("figures.bulk.add", delay_s=0.3)
    with FigureWriter(server, record, mode="append", stop=stop, grace_s=5.0, queue_frames=1) as writer:
        writer.put(1, [new(objects[0], 1)])
        while not wire.calls.get("figures.bulk.add"):
            time.sleep(0.005)
        writer.put(2, [new(objects[0], 2)])
        stop.set()
        writer.put(3, [new(objects[0], 3)])  # it was under way
        report = writer.close(drop=True)
    assert report == WriteReport(written=3)


def test_a_slow_server_holds_the_tracker_back(
    server: Server, record: VideoRecord, objects: list[int], arm: Arm
) -> None:
    arm("figures.bulk.add", delay_s=0.4)
    with FigureWriter(server, record, mode="append", queue_frames=2) as writer:
        writer.put(1, [new(objects[0], 1)])
        time.sleep(0.1)
        start = time.monotonic()
        for frame in (2, 3):
            writer.put(frame, [new(objects[0], frame)])
        at_once = time.monotonic() - start
        writer.put(4, [new(objects[0], 4)])
        held_back = time.monotonic() - start
    assert at_once < 0.1 < held_back
    assert writer.report.written == 4


_JOB = """
import sys
from common.supervisely_io.records import NewFigure
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.supervisely_io.writer import FigureWriter
address, token, ident, objects = sys.argv[1], sys.argv[2], int(sys.argv[3]), [int(x) for x in sys.argv[4].split(",")]
server = Server(address, token)
box = {"points": {"exterior": [[2, 3], [20, 25]], "interior": []}}
done = lambda c: print(c.frame, flush=True)
with FigureWriter(server, video(server, ident), on_confirmed=done, queue_frames=1) as writer:
    for frame in range(1, 12):
        writer.put(frame, [NewFigure(o, frame, "rectangle", box, "crash") for o in objects])
"""


def test_a_killed_job_kept_what_it_confirmed_and_the_next_ends_the_same(
    server: Server, served: Served, record: VideoRecord, objects: list[int], arm: Arm
) -> None:
    arm("figures.bulk.add", delay_s=0.1, count=1000)
    command = [sys.executable, "-c", _JOB, served.settings.address, served.bench.token, str(record.id)]
    command.append(",".join(map(str, objects)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        confirmed = [int(job.stdout.readline()) for _ in range(4)]
        job.kill()
        confirmed += [int(line) for line in job.stdout]
    found = places(list(figures(server, record)))
    assert all(found[ident, frame] == 1 for ident in objects for frame in confirmed)
    served.own("DELETE", "faults")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert places(list(figures(server, record))) == all_once(objects)


@pytest.mark.parametrize(
    ("frame", "rows"),
    [(2, [new(1, 3)]), (3, [new(1, 3), new(1, 3)])],
    ids=["another frame", "twice the same part"],
)
def test_misuse_is_refused(server: Server, record: VideoRecord, frame: int, rows: list[NewFigure]) -> None:
    with FigureWriter(server, record) as writer, pytest.raises(ValueError, match="figure"):
        writer.put(frame, rows)
