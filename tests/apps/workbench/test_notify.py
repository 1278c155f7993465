"""Progress, stop, and who hears of it."""

from __future__ import annotations

import asyncio
import json

import pytest
import requests

from apps.workbench.notify import KEPT, QUEUE, REMEMBERED_STOPS, Hub
from tests.apps.workbench.harness import Served


def test_stop_is_said_in_the_reply_to_progress(served: Served) -> None:
    video = served.api.video
    assert video.notify_progress("track-1", 7, 0, 5, 1, 5) is False
    served.own("POST", "stop", json={"trackId": "track-1"})
    assert video.notify_progress("track-2", 7, 0, 5, 1, 5) is False, "another track goes on"
    assert video.notify_progress("track-1", 7, 0, 5, 2, 5) is True
    assert video.notify_progress("track-1", 7, 0, 5, 2, 5) is True, "until it is started again"
    served.own("POST", "resume", json={"trackId": "track-1"})
    assert video.notify_progress("track-1", 7, 0, 5, 3, 5) is False


def test_messages_are_kept_by_track(served: Served) -> None:
    served.api.video.notify_progress("kept", 7, 3, 9, 2, 6)
    served.api.video.notify_tracking_error("kept", "TypeError", "too bad")
    served.api.video.notify_tracking_warning("kept", 7, "nearly")
    served.api.vid_ann_tool.set_direct_tracking_progress("session", 7, "kept", (3, 3), 1, 12)
    events = served.own("GET", "notifications", params={"trackId": "kept"}).json()
    assert [event["kind"] for event in events] == ["notify", "notify", "notify", "action"]
    assert events[0]["body"]["data"]["frameRange"] == [3, 9]
    assert events[1]["body"]["data"]["error"]["message"] == "TypeError: too bad"
    assert events[3]["body"]["payload"]["progress"] == {"current": 1, "total": 12}
    assert (
        served.own("GET", "notifications", params={"trackId": "kept", "after": events[2]["number"]}).json()
        == events[3:]
    )


def test_a_watcher_is_told_at_once_and_can_catch_up(served: Served) -> None:
    served.api.video.notify_progress("before", 7, 0, 1, 1, 2)
    [first] = served.own("GET", "notifications", params={"trackId": "before"}).json()
    with requests.get(
        f"{served.settings.address}/workbench/events",
        params={"after": first["number"] - 1},
        headers=served.headers,
        stream=True,
        timeout=10,
    ) as stream:
        lines = stream.iter_lines(decode_unicode=True)
        assert next(lines) == ": connected"
        served.api.video.notify_progress("after", 7, 0, 1, 2, 2)
        seen = []
        for line in lines:
            if line.startswith("data: "):
                seen.append(json.loads(line[6:])["body"]["data"]["trackId"])
                if seen[-1] == "after":
                    break
    assert seen == ["before", "after"]


def test_nothing_grows_for_ever() -> None:
    async def run() -> None:
        hub = Hub()
        with hub.subscribe() as slow:
            for number in range(REMEMBERED_STOPS + 5):
                hub.stop(str(number))
            assert slow.queue.qsize() == QUEUE
            assert slow.dropped == REMEMBERED_STOPS + 5 - QUEUE
            assert slow.queue.get_nowait().number == REMEMBERED_STOPS + 5 - QUEUE + 1, "the newest are kept"
        assert len(hub.recent()) == KEPT
        assert not hub.stopped("0") and hub.stopped(str(REMEMBERED_STOPS + 4))
        hub.publish("task", {})
        assert slow.queue.qsize() == QUEUE - 1, "who left hears nothing more"

    asyncio.run(run())


@pytest.mark.parametrize("body", [{}, {"type": 3, "data": {}}, {"type": "x", "data": []}, [1]])
def test_malformed_messages_are_refused(served: Served, body: object) -> None:
    assert served.call("videos.notify-annotation-tool", body).status_code == 400
