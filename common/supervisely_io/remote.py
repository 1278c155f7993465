"""Single frames of a video straight from the server, for as long as its file is not here."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from common.errors import FrameUnreadable, ServerRefused, ServerUnreachable
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.retry import Retry
from common.supervisely_io.server import Reply, Server
from common.video.contract import Image

FRAMES_AT_ONCE = 4
_PATIENCE = Retry(total_s=20.0)
_NAME = re.compile(rb'name="(\d+)"')
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')


class Encoded:
    """Frames as they came, kept for the next reader; the least recently used go when max_bytes is reached. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, video: str, index: int) -> bytes | None:
        with self._lock:
            found = self._kept.get((video, index))
            if found is not None:
                self._kept.move_to_end((video, index))
            return found

    def put(self, video: str, index: int, data: bytes) -> None:
        if len(data) > self._max_bytes // 4:
            return
        with self._lock:
            self._bytes += len(data) - len(self._kept.pop((video, index), b""))
            self._kept[video, index] = data
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._kept.popitem(last=False)[1])

    def drop(self, video: str, index: int) -> None:
        with self._lock:
            self._bytes -= len(self._kept.pop((video, index), b""))


class RemoteFrames:
    """Frames of one video by `videos.download-frame` and `videos.bulk.download-frame`. Thread-safe.

    A frame that could not be had is asked for again the next time: only frames that were decoded are remembered.
    """

    def __init__(self, server: Server, record: VideoRecord, kept: Encoded, key: str) -> None:
        self._server = server.to(retry=_PATIENCE)
        self._record, self._kept, self._key = record, kept, key

    def read(self, index: int) -> Image:
        """Raises `FrameUnreadable` when the frame does not exist, is damaged, or the server does not give it."""
        self._check(index)
        image = self._known(index)
        if image is not None:
            return image
        for _ in range(2):  # a picture may also break on its way
            data = self._ask("videos.download-frame", {"videoId": self._record.id, "frame": index}, index).content
            image = _decode(data)
            if image is not None:
                self._kept.put(self._key, index, data)
                return image
        raise FrameUnreadable(f"The server's picture of frame {index} of {self._record.name} is damaged.", index)

    def batch(self, indices: Sequence[int]) -> Iterator[Image]:
        """The frames in that order, in one request (`FRAMES_AT_ONCE` at most). Raises `FrameUnreadable` at the first
        that cannot be had, after those before it."""
        for index in indices:
            self._check(index)
        if len(indices) == 1:
            yield self.read(indices[0])
            return
        missing = [index for index in indices if self._kept.get(self._key, index) is None]
        found: dict[int, bytes] = {}
        if missing:
            try:
                asked = {"videoId": self._record.id, "frames": missing}
                found = parts_of(self._ask("videos.bulk.download-frame", asked, missing[0]))
            except FrameUnreadable:
                found = {}  # one bad frame may spoil the whole reply; each is asked for alone below
        for index in indices:
            data = found.get(index)
            image = None if data is None else _decode(data)
            if image is None or data is None:
                yield self.read(index)
            else:
                self._kept.put(self._key, index, data)
                yield image

    def _known(self, index: int) -> Image | None:
        data = self._kept.get(self._key, index)
        image = None if data is None else _decode(data)
        if image is None:
            self._kept.drop(self._key, index)
        return image

    def _check(self, index: int) -> None:
        if not 0 <= index < self._record.frames:
            last = self._record.frames - 1
            raise FrameUnreadable(
                f"{self._record.name} has frames 0 to {last}; there is no frame {index}.", max(0, index)
            )

    def _ask(self, method: str, payload: dict[str, object], index: int) -> Reply:
        try:
            return self._server.fetch(method, payload)
        except (ServerRefused, ServerUnreachable) as error:
            raise FrameUnreadable(f"Frame {index} of {self._record.name} cannot be had: {error}", index) from error


def parts_of(reply: Reply) -> dict[int, bytes]:
    """Pictures by frame number out of a multipart reply; {} for a reply that is none."""
    match = _BOUNDARY.search(reply.headers.get("content-type", ""))
    if match is None:
        return {}
    boundary = b"--" + match.group(1).encode("latin-1")
    found: dict[int, bytes] = {}
    for part in (b"\r\n" + reply.content).split(b"\r\n" + boundary):
        head, gap, body = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if gap and name is not None:
            found[int(name.group(1))] = body
    return found


def _decode(data: bytes) -> Image | None:
    """RGB, None when the bytes are no picture. The server has turned it upright, so an EXIF turn would be one too many."""
    if not data:
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        return None
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
