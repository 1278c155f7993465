"""Videos arrive once, whole and checked, whatever breaks; frames are there before; the folder stays within its bound."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from common.errors import FrameUnreadable, Interrupted
from common.supervisely_io.cache import VideoCache, key_of
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.remote import parts_of
from common.supervisely_io.server import Reply, Server
from common.supervisely_io.shelf import Shelf
from common.supervisely_io.videos import video, videos
from common.video.contract import Image
from common.video.video_file import VideoFile
from tests.apps.workbench.harness import Labelled, Served, write_video
from tests.common.supervisely_io.conftest import Arm, Whole, Wire

BIG = 1 << 30


@pytest.fixture
def truth(clip: Path) -> list[Image]:
    file = VideoFile(clip)
    return list(file.stream(0, file.info.frames))


@pytest.fixture
def cache(tmp_path: Path) -> VideoCache:
    return VideoCache(tmp_path / "cache", BIG)


def wait_for(condition: Callable[[], object], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def upload(served: Served, labelled: Labelled, path: Path) -> VideoRecord:
    info = served.api.video.upload_path(labelled.dataset_id, path.name, str(path))
    with Server(served.settings.address, served.bench.token) as server:
        return video(server, info.id)


class Gate:
    """Holds whole-file downloads back until it is opened."""

    def __init__(self, wire: Wire) -> None:
        self.open = threading.Event()
        wire.before = self._before

    def _before(self, method: str, request: httpx.Request) -> httpx.Request:
        if method == "videos.download":
            self.open.wait(30)
        return request


@pytest.fixture
def gate(wire: Wire) -> Gate:
    return Gate(wire)


def test_records(server: Server, record: VideoRecord, labelled: Labelled, clip: Path) -> None:
    assert (record.frames, record.width, record.height, record.fps) == (12, 64, 48, 25.0)
    assert record.size_bytes == clip.stat().st_size
    assert list(videos(server, labelled.dataset_id)) == [record]


def test_the_file_is_fetched_once(
    server: Server, record: VideoRecord, cache: VideoCache, wire: Wire, truth: list[Image], clip: Path
) -> None:
    for _ in range(3):
        with cache.open(server, record) as source:
            wait_for(lambda s=source: s.local)
            assert all(np.array_equal(a, b) for a, b in zip(source.stream(0, 12), truth, strict=True))
            assert all(np.array_equal(a, b) for a, b in zip(source.stream(11, -1), truth[::-1], strict=True))
            assert np.array_equal(source.read(5), truth[5])
    assert wire.calls["videos.download"] == 1
    assert cache.bytes() == clip.stat().st_size
    assert source.info.name == record.name == "clip.mp4"


def test_frames_come_before_the_file(
    server: Server, record: VideoRecord, cache: VideoCache, wire: Wire, gate: Gate, truth: list[Image]
) -> None:
    with cache.open(server, record) as source:
        assert (source.info.frames, source.info.width, source.info.height) == (12, 64, 48)
        assert np.array_equal(source.read(7), truth[7])
        frames = source.stream(0, 12)
        got = [next(frames) for _ in range(3)]
        assert not source.local
        gate.open.set()
        wait_for(lambda: source.local)
        got += list(frames)  # goes over to the file in the middle
        assert all(np.array_equal(a, b) for a, b in zip(got, truth, strict=True))
    assert wire.calls["videos.download-frame"] + wire.calls["videos.bulk.download-frame"] <= 3


def test_backward_from_the_server_alone(
    server: Server, record: VideoRecord, cache: VideoCache, gate: Gate, truth: list[Image]
) -> None:
    with cache.open(server, record) as source:
        got = list(source.stream(9, 2))
        assert not source.local
        assert all(np.array_equal(a, b) for a, b in zip(got, truth[9:2:-1], strict=True))
        assert list(source.stream(5, 5)) == []
        gate.open.set()


@pytest.mark.parametrize("index", [-1, 12, 10**6])
@pytest.mark.parametrize("local", [False, True])
def test_no_such_frame(
    server: Server, record: VideoRecord, cache: VideoCache, gate: Gate, index: int, local: bool
) -> None:
    if local:
        gate.open.set()
    else:
        threading.Timer(0.5, gate.open.set).start()
    with cache.open(server, record) as source:
        with pytest.raises(FrameUnreadable, match=r"clip\.mp4"):
            source.read(index)
        got = 0
        with pytest.raises(FrameUnreadable):
            for _ in source.stream(9, 14):
                got += 1
        assert got == 3


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": 429}, {"disconnect": True}, {"status": 404}, {"delay_s": 2.6}],
    ids=str,
)
def test_a_lost_frame_is_had_again(
    server: Server,
    record: VideoRecord,
    cache: VideoCache,
    arm: Arm,
    gate: Gate,
    truth: list[Image],
    fault: dict[str, object],
) -> None:
    """One failed frame must not poison the frame for those who come later, nor the whole."""
    for method in ("videos.download-frame", "videos.bulk.download-frame"):
        arm(method, **fault)
    threading.Timer(0.6, gate.open.set).start()
    with cache.open(server, record) as source:
        assert np.array_equal(source.read(2), truth[2])
        assert all(np.array_equal(a, b) for a, b in zip(source.stream(0, 12), truth, strict=True))


def test_a_damaged_picture_is_asked_for_again(
    server: Server, record: VideoRecord, cache: VideoCache, gate: Gate, truth: list[Image]
) -> None:
    source = cache.open(server, record)
    source._cache._encoded.put(key_of(server, record), 4, b"no picture")
    assert np.array_equal(source.read(4), truth[4])
    gate.open.set()
    source.close()


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "count": 2},
        {"status": 429},
        {"disconnect": True, "count": 2},
        {"disconnect": True, "when": "after"},
        {"delay_s": 2.6},
    ],
    ids=str,
)
def test_a_failing_download_arrives(
    server: Server, record: VideoRecord, cache: VideoCache, arm: Arm, truth: list[Image], fault: dict[str, object]
) -> None:
    arm("videos.download", **fault)
    with cache.open(server, record) as source:
        wait_for(lambda: source.local)
        assert np.array_equal(source.read(11), truth[11])


class Torn(httpx.SyncByteStream):
    """A reply that breaks after so many bytes."""

    def __init__(self, response: httpx.Response, length: int) -> None:
        self._response, self._length = response, length

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield self._response.read()[: self._length]
        raise httpx.ReadError("broken")


class Breaking(Wire):
    """Downloads break after `length` bytes, `times` times; the ranges asked for are kept."""

    def __init__(self, length: int, times: int) -> None:
        super().__init__()
        self.length, self.times = length, times
        self.ranges: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.url.path.endswith("videos.download"):
            self.ranges.append(request.headers.get("range"))
            if len(self.ranges) <= self.times:
                return httpx.Response(
                    response.status_code, headers=response.headers, stream=Torn(response, self.length)
                )
        return response


class Damaging(Wire):
    """The first download has one wrong byte."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if not request.url.path.endswith("videos.download") or self.calls["videos.download"] > 1:
            return response
        data = bytearray(response.read())
        data[100] ^= 1
        return Whole.reply(response, bytes(data))


def test_a_broken_download_goes_on_where_it_broke(
    served: Served, record: VideoRecord, cache: VideoCache, clip: Path
) -> None:
    wire = Breaking(1000, 3)
    with Server(served.settings.address, served.bench.token, transport=wire) as server:
        with cache.open(server, record) as source:
            wait_for(lambda: source.local)
        key = key_of(server, record)
    assert wire.ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]
    assert cache._shelf.file(key).read_bytes() == clip.read_bytes()


def test_the_next_process_goes_on_with_a_part(
    server: Server, record: VideoRecord, cache: VideoCache, wire: Wire, clip: Path
) -> None:
    ranges: list[str | None] = []
    wire.after = lambda method, request: (
        ranges.append(request.headers.get("range")) if method == "videos.download" else None
    )
    cache._shelf.part(key_of(server, record)).write_bytes(clip.read_bytes()[:1500])
    with cache.open(server, record) as source:
        wait_for(lambda: source.local)
    assert ranges == ["bytes=1500-"]


@pytest.mark.parametrize("length", [1500, 10**6], ids=["wrong bytes", "too long"])
def test_a_part_of_something_else_is_thrown_away(
    server: Server, record: VideoRecord, cache: VideoCache, clip: Path, length: int
) -> None:
    key = key_of(server, record)
    cache._shelf.part(key).write_bytes(b"x" * length)
    with cache.open(server, record) as source:
        wait_for(lambda: source.local)
    assert cache._shelf.file(key).read_bytes() == clip.read_bytes()


@pytest.mark.parametrize("odd", [{"hash": "", "size_bytes": 99_999}, {"hash": "A" * 43 + "="}], ids=["size", "hash"])
def test_a_server_that_is_wrong_about_its_file_does_not_lock_it_out(
    server: Server, record: VideoRecord, cache: VideoCache, truth: list[Image], odd: dict[str, Any]
) -> None:
    with cache.open(server, replace(record, **odd)) as source:
        wait_for(lambda: source.local)
        assert np.array_equal(source.read(3), truth[3])


def test_bytes_damaged_on_the_way_are_fetched_again(
    served: Served, record: VideoRecord, cache: VideoCache, clip: Path
) -> None:
    wire = Damaging()
    with Server(served.settings.address, served.bench.token, transport=wire) as server:
        with cache.open(server, record) as source:
            wait_for(lambda: source.local)
        assert cache._shelf.file(key_of(server, record)).read_bytes() == clip.read_bytes()
    assert wire.calls["videos.download"] == 2


def test_without_the_file_frames_still_come(
    server: Server, record: VideoRecord, cache: VideoCache, arm: Arm, truth: list[Image]
) -> None:
    arm("videos.download", status=403, count=100)
    with cache.open(server, record) as source:
        assert all(np.array_equal(a, b) for a, b in zip(source.stream(0, 12), truth, strict=True))
        assert not source.local
    with cache.open(server, record) as source:
        assert np.array_equal(source.read(1), truth[1])


def test_too_large_for_the_cache_is_served_frame_by_frame(
    server: Server, record: VideoRecord, tmp_path: Path, truth: list[Image]
) -> None:
    cache = VideoCache(tmp_path, record.size_bytes - 1)
    with cache.open(server, record) as source:
        assert all(np.array_equal(a, b) for a, b in zip(source.stream(0, 12), truth, strict=True))
        assert not source.fetch()
    assert cache.bytes() == 0


def test_the_least_recently_used_goes_and_none_in_use(
    served: Served, server: Server, labelled: Labelled, tmp_path: Path
) -> None:
    records = [upload(served, labelled, write_video(tmp_path / f"v{n}.mp4", seed=n + 1)) for n in range(4)]
    sizes = [record.size_bytes for record in records]
    cache = VideoCache(tmp_path / "cache", sum(sizes[:3]) + max(sizes) // 2)

    def here() -> set[int]:
        return {n for n, record in enumerate(records) if cache.ready(server, record)}

    held = cache.open(server, records[0])
    wait_for(lambda: held.local)
    for n in (1, 2):
        with cache.open(server, records[n]) as source:
            assert source.fetch()
    with cache.open(server, records[1]) as source:  # used again, so 2 is the oldest that nobody holds
        assert source.fetch()
    with cache.open(server, records[3]) as source:
        assert source.fetch()
        assert cache.bytes() <= sum(sizes[:3]) + max(sizes) // 2
    assert here() == {0, 1, 3}
    with cache.open(server, records[2]) as source:
        assert source.fetch()
    assert here() == {0, 2, 3}
    assert held.read(0).shape == (48, 64, 3)
    held.close()


def test_cancelled_downloads_keep_their_part(
    server: Server, record: VideoRecord, cache: VideoCache, gate: Gate
) -> None:
    stop = threading.Event()
    source = cache.open(server.to(stop=stop), record)
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Interrupted):
        source.fetch()
    source.close()
    gate.open.set()
    with cache.open(server, record) as again:
        assert again.fetch()


def test_warming_up(
    server: Server, record: VideoRecord, cache: VideoCache, wire: Wire, gate: Gate, truth: list[Image]
) -> None:
    assert cache.warm(server, record, [(3, 6)])
    wait_for(lambda: wire.calls.get("videos.bulk.download-frame"))
    wait_for(lambda: cache._encoded.get(key_of(server, record), 6))
    with cache.open(server, record) as source:
        assert np.array_equal(source.read(5), truth[5])
    assert wire.calls.get("videos.download-frame", 0) == 0, "the frame was here already"
    gate.open.set()
    wait_for(lambda: cache.ready(server, record))
    cache.close()
    assert not cache.warm(server, record)


_READER = """
import sys, hashlib
from pathlib import Path
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
address, token, ident, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
server = Server(address, token)
with VideoCache(folder, 1 << 30).open(server, video(server, ident)) as source:
    assert source.fetch()
    print(hashlib.sha256(b"".join(image.tobytes() for image in source.stream(0, 12))).hexdigest())
"""


def test_processes_share_one_download(
    served: Served, record: VideoRecord, server: Server, tmp_path: Path, arm: Arm, truth: list[Image], clip: Path
) -> None:
    arm("videos.download", delay_s=0.5, count=1)
    arm("videos.download", status=403, count=100)  # any second download is refused
    command = [
        sys.executable,
        "-c",
        _READER,
        served.settings.address,
        served.bench.token,
        str(record.id),
        str(tmp_path),
    ]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    wanted = hashlib.sha256(b"".join(image.tobytes() for image in truth)).hexdigest()
    assert [job.communicate(timeout=60)[0].strip() for job in jobs] == [wanted, wanted]
    assert [path.stat().st_size for path in tmp_path.glob("*.video")] == [clip.stat().st_size]
    assert not list(tmp_path.glob("*.part"))


_HOLDER = """
import sys
from pathlib import Path
from common.supervisely_io.shelf import Shelf
held = Shelf(Path(sys.argv[1]), 100).use("a")
print("held", flush=True)
sys.stdin.read()
"""


def test_what_another_process_has_open_is_not_removed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 100)
    shelf.use("a").release()
    shelf.file("a").write_bytes(b"x" * 60)
    loading = shelf.load("b")
    assert loading is not None
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert not shelf.admit("b", 60, loading)
        assert shelf.file("a").exists()
        other.kill()  # a process that dies lets go
    assert shelf.admit("b", 60, loading)
    assert not shelf.file("a").exists()
    loading.release()


def test_room_promised_to_one_is_not_given_to_another(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 100)
    uses = [shelf.use(key) for key in "ab"]
    a, b = shelf.load("a"), shelf.load("b")
    assert a is not None
    assert b is not None
    assert shelf.admit("a", 70, a)
    shelf.part("a").write_bytes(b"12")  # the rest is on its way
    assert not shelf.admit("b", 60, b)
    assert shelf.bytes() == 70
    assert shelf.load("a") is None, "only one fetches it"
    for held in (*uses, a, b):
        held.release()


@pytest.mark.parametrize(
    ("content", "kind", "found"),
    [
        (b'--B\r\nContent-Disposition: form-data; name="3"\r\n\r\n\x00\r\n--\r\n--B\r\nX: 1; name="12"\r\n\r\n\r\n--B--\r\n', "multipart/form-data; boundary=B", {3: b"\x00\r\n--", 12: b""}),
        (b'--B\r\nX: name="3"\r\n\r\nz\r\n--B--', 'multipart/mixed; boundary="B"', {3: b"z"}),
        (b"--B--\r\n", "multipart/form-data; boundary=B", {}),
        (b"", "multipart/form-data; boundary=B", {}),
        (b"{}", "application/json", {}),
    ],
)  # fmt: skip
def test_multipart(content: bytes, kind: str, found: dict[int, bytes]) -> None:
    assert parts_of(Reply(content, {"content-type": kind})) == found
