"""Sending a video: ended at once, and never half of one stored."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from common.errors import Interrupted
from common.supervisely_io.new_videos import stored_video
from common.supervisely_io.server import Server


class Stopping(httpx.BaseTransport):
    """A server that has no video yet; whoever sends one is told to stop when its first bytes come."""

    def __init__(self) -> None:
        self.stop, self.seen = threading.Event(), 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("videos.bulk.upload"):
            for piece in request.stream:
                self.seen += len(piece)
                self.stop.set()
        return httpx.Response(200, json=[])


def test_stop_ends_it_between_two_pieces(tmp_path: Path) -> None:
    path, there = tmp_path / "long.mp4", Stopping()
    path.write_bytes(bytes(8 << 20))
    with (
        Server("http://somewhere", "t" * 128, stop=there.stop, transport=there) as server,
        pytest.raises(Interrupted, match="while the video was sent"),
    ):
        stored_video(server, 1, path, "long.mp4")
    assert there.seen < 1 << 20
