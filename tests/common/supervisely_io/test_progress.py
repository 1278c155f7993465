"""The annotation tool hears the truth: at once, never backwards, one end, and its wish to stop is heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.supervisely_io.progress import ProgressChannel, Span, joined
from common.supervisely_io.server import Server
from tests.apps.workbench.harness import Served
from tests.common.supervisely_io.conftest import Arm

VIDEO = 1012


@pytest.fixture
def track(request: pytest.FixtureRequest) -> str:
    return f"track-{request.node.name}"


@pytest.fixture
def heard(served: Served, track: str) -> Callable[[], list[dict[str, Any]]]:
    def _heard() -> list[dict[str, Any]]:
        found = served.own("GET", f"notifications?trackId={track}").json()
        return [event["body"] for event in found if event["kind"] != "stop"]

    return _heard


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


Heard = Callable[[], list[dict[str, Any]]]


def progress(messages: list[dict[str, Any]]) -> list[tuple[int, int, list[int]]]:
    data = [m["data"] for m in messages if m["type"] == "videos:fetch-figures-in-range"]
    return [(d["progress"]["current"], d["progress"]["total"], d["frameRange"]) for d in data]


def test_a_job_from_start_to_end(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 20, source_frame=10, every_s=0.05)
    wait_for(heard, 1.0)
    for frame in range(11, 31):
        channel.advance(frame, tracked=[77])
        time.sleep(0.01)
    wait_for(lambda: progress(heard())[-1][0] == 19)  # all is done, but the end is said by finish alone
    assert channel.finish()
    messages = progress(heard())
    assert messages[0] == (0, 20, [10, 10])
    assert messages[-1] == (20, 20, [11, 30])
    current = [m[0] for m in messages]
    assert current == sorted(current)
    assert current.count(20) == 1
    last = 10
    for _, _, (low, high) in messages[1:-2]:  # each tells what is new, and nothing is left out
        assert low <= last + 1
        assert low <= high <= 30
        last = high
    assert len(messages) < 20
    last_data = heard()[-1]["data"]
    assert (last_data["trackId"], last_data["videoId"], last_data["trackedFigures"]) == (track, VIDEO, {"77": 20})


def test_backward_ranges_ascend(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 5, source_frame=40, every_s=0.02)
    for frame in range(39, 34, -1):
        channel.advance(frame)
        time.sleep(0.04)
    channel.finish()
    ranges = [r for _, _, r in progress(heard())]
    assert all(low <= high for low, high in ranges)
    assert ranges[-1] == [35, 39]


def test_tracking_from_both_sides_tells_only_what_is_written(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 40, every_s=0.02)
    for step in range(1, 6):
        channel.advance(step)
        channel.advance(40 - step)
    wait_for(lambda: len(heard()) >= 2)
    for step in range(6, 9):
        channel.advance(step)
        channel.advance(40 - step)
    channel.finish("The engine went away.")
    told = {frame for _, _, (low, high) in progress(heard()) for frame in range(low, high + 1)}
    assert told - {0} == {*range(1, 9), *range(32, 40)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4))))
def test_spans_hold_what_was_put_in_and_stay_few(added: list[tuple[int, int]]) -> None:
    spans: list[Span] = []
    frames: set[int] = set()
    exact = True
    for first, length in added:
        frames.update(range(first, first + length + 1))
        spans = joined(spans, (first, first + length))
        exact = exact and len(spans) < 8
        assert len(spans) <= 8
        assert all(a[0] <= a[1] < b[0] - 1 for a, b in pairwise(spans))
    covered = {frame for first, last in spans for frame in range(first, last + 1)}
    assert covered == frames if exact else covered >= frames


def test_messages_are_few(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 10_000, every_s=0.3)
    start = time.monotonic()
    frame = 0
    while time.monotonic() - start < 1.0:
        frame += 1
        channel.advance(frame)
        time.sleep(0.001)
    assert len(heard()) <= 5
    channel.finish()


def test_the_first_message_tells_of_the_first_figure_if_that_is_soon(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 10, source_frame=4, first_s=10, every_s=0.02)
    channel.advance(5)
    wait_for(heard, 1.0)
    channel.finish()
    assert progress(heard())[0] == (1, 10, [5, 5])


def test_a_warning_does_not_wait(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 10, first_s=10, every_s=10)
    channel.warn("Careful.")
    wait_for(heard, 1.0)
    channel.finish()


def test_stop_is_heard_although_nothing_moves(served: Served, server: Server, track: str) -> None:
    stop = threading.Event()
    channel = ProgressChannel(server, track, VIDEO, 20, stop=stop, every_s=0.05, repeat_s=0.2)
    channel.advance(1)
    time.sleep(0.2)
    assert not stop.is_set()
    served.own("POST", "stop", json={"trackId": track})
    assert stop.wait(2.0)
    assert channel.stopped is stop
    assert channel.finish()


@pytest.mark.parametrize("done", [0, 3, 20])
def test_an_error_comes_before_the_only_end(server: Server, track: str, heard: Heard, done: int) -> None:
    channel = ProgressChannel(server, track, VIDEO, 20, source_frame=4, every_s=0.02)
    for frame in range(5, 5 + done):
        channel.advance(frame)
    channel.finish("The model ran out of memory.")
    channel.finish("again")
    messages = heard()
    assert [m["type"] for m in messages[-2:]] == ["videos:tracking-error", "videos:fetch-figures-in-range"]
    assert messages[-2]["data"]["error"] == {"message": "The model ran out of memory."}
    assert sum(m["type"] == "videos:tracking-error" for m in messages) == 1
    assert [p for p in progress(messages) if p[0] >= p[1]] == [(20, 20, [5, 4 + done] if done else [4, 4])]


def test_warnings_come_once(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 5, every_s=0.02)
    for _ in range(3):
        channel.warn("Lost on frame 3.")
    channel.finish()
    found = [m for m in heard() if m["type"] == "videos:tracking-warning"]
    assert [m["data"] for m in found] == [{"videoId": str(VIDEO), "trackId": track, "message": "Lost on frame 3."}]


def test_a_longer_job_does_not_go_back(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 3, every_s=0.02)
    for frame in range(3):
        channel.advance(frame)
    time.sleep(0.1)
    channel.extend(4)
    for frame in range(3, 7):
        channel.advance(frame)
    channel.finish()
    found = progress(heard())
    assert [m[0] for m in found] == sorted(m[0] for m in found)
    assert found[-1] == (7, 7, [0, 6])
    assert sum(current >= total for current, total, _ in found) == 1


def test_direct_messages(server: Server, track: str, heard: Heard) -> None:
    channel = ProgressChannel(server, track, VIDEO, 2, session_id="sess-1", direct=True, every_s=0.02)
    channel.advance(1)
    channel.warn("Careful.")
    channel.finish("It broke.")
    messages = heard()
    assert {(m["sessionId"], m["action"]) for m in messages} == {("sess-1", "figures/setDirectTrackingProgress")}
    payloads = [m["payload"] for m in messages]
    assert payloads[-1] == {
        "trackId": track,
        "videoId": VIDEO,
        "frameRange": [1, 1],
        "progress": {"current": 2, "total": 2},
    }
    assert payloads[-2] == {"trackId": track, "videoId": VIDEO, "type": "error", "error": {"message": "It broke."}}
    assert {"trackId": track, "videoId": VIDEO, "type": "warning", "message": "Careful."} in payloads


@pytest.mark.parametrize(
    "fault", [{"status": 400}, {"status": 500}, {"status": 429}, {"disconnect": True}, {"delay_s": 3}], ids=str
)
def test_failing_messages_end_nothing_and_are_made_up_for(
    server: Server, arm: Arm, track: str, heard: Heard, fault: dict[str, object]
) -> None:
    arm("videos.notify-annotation-tool", **fault, count=2)
    channel = ProgressChannel(server, track, VIDEO, 4, every_s=0.02)
    start = time.monotonic()
    for frame in range(1, 4):
        channel.advance(frame)
    assert time.monotonic() - start < 0.2, "the job never waits for messages"
    wait_for(lambda: progress(heard()) and progress(heard())[-1][0] == 3)
    assert channel.finish()
    assert progress(heard())[-1] == (4, 4, [1, 3])
    told = {f for _, _, (low, high) in progress(heard())[:-1] for f in range(low, high + 1)}
    assert {1, 2, 3} <= told


def test_a_dead_server_does_not_hold_the_end_up_for_ever(server: Server, arm: Arm, track: str) -> None:
    arm("videos.notify-annotation-tool", status=503, count=10_000)
    channel = ProgressChannel(server, track, VIDEO, 4, every_s=0.02)
    start = time.monotonic()
    assert not channel.finish(timeout_s=1.0)
    assert time.monotonic() - start < 5
    assert channel.lost > 0
