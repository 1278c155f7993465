"""A video that a server does not have yet, onto it: by content, streamed from disk, sent and stored once."""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath

from common.errors import Interrupted, ServerRefused, ServerUnreachable
from common.supervisely_io.listing import entities
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.retry import Retry
from common.supervisely_io.server import Server, Streamed
from common.supervisely_io.videos import video

UPLOAD = Retry(total_s=1800.0, longest_s=15.0)
"""A file takes minutes to send, and may break off at any of them."""
_PIECE = 1 << 20


def stored_video(server: Server, dataset_id: int, path: Path, name: str) -> VideoRecord:
    """The file as a video of a dataset. One that is there (same name and content) is that video; a name that something else
    has gets a number. Memory: a megabyte. Raises what the server answers, and `Interrupted` as soon as its stop is set."""
    hash = _hash(path)
    if hash not in server.call("images.internal.hashes.list", [hash]):
        form = _Form(path, server.stop)
        headers = {"content-type": f"multipart/form-data; boundary={form.mark}", "content-length": str(len(form))}
        if hash.encode() not in server.fetch("videos.bulk.upload", form, headers=headers, retry=UPLOAD).content:
            raise ServerUnreachable("The server did not keep the video that was sent.", True)
    plain = PurePosixPath(PurePosixPath(name.replace("\\", "/")).name[-200:] or "video.mp4")
    try:
        return _added(server, dataset_id, hash, plain)
    except ServerRefused:
        return _added(server, dataset_id, hash, plain)  # somebody took the name meanwhile, or an answer was lost


def _added(server: Server, dataset_id: int, hash: str, name: PurePosixPath) -> VideoRecord:
    there = {str(e["name"]): e for e in entities(server, "videos.list", {"datasetId": dataset_id})}
    for number in count():
        free = name.name if not number else f"{name.stem} ({number}){name.suffix}"
        if free not in there:
            item = {"title": free, "hash": hash, "meta": {}}
            (made,) = server.call("videos.bulk.add", {"datasetId": dataset_id, "videos": [item]})
            return video(server, int(made["id"]))
        if there[free].get("hash") == hash:
            return video(server, int(there[free]["id"]))
    raise AssertionError("numbers do not end")


def _hash(path: Path) -> str:
    """Base64 of the SHA-256, as servers name files."""
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()


class _Form(Streamed):
    """A multipart form of one file, read anew for each attempt."""

    def __init__(self, path: Path, stop: threading.Event) -> None:
        self.mark, self._path, self._stop = uuid.uuid4().hex, path, stop
        head = f'--{self.mark}\r\nContent-Disposition: form-data; name="0-file"; filename="0"\r\nContent-Type: video/*\r\n\r\n'
        self._head, self._tail = head.encode(), f"\r\n--{self.mark}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + self._path.stat().st_size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as file:
            while piece := file.read(_PIECE):
                if self._stop.is_set():
                    raise Interrupted("Stopped while the video was sent.")
                yield piece
        yield self._tail
