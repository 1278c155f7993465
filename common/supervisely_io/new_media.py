"""Pictures that a server does not have yet, onto it: by content, so that none is sent or stored twice."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from common.errors import ServerUnreachable
from common.supervisely_io.images import ImageRecord, copied
from common.supervisely_io.server import Server

_BYTES_AT_ONCE = 32 << 20
"""In one request, but one picture always goes."""


@dataclass(frozen=True)
class NewPicture:
    """An encoded picture; width, height: upright pixels."""

    name: str
    data: bytes
    width: int
    height: int

    @property
    def hash(self) -> str:
        """Base64 of the SHA-256, as servers name files."""
        return base64.b64encode(hashlib.sha256(self.data).digest()).decode()


def stored(server: Server, project_id: int, dataset_id: int, pictures: Sequence[NewPicture]) -> list[ImageRecord]:
    """The pictures as images of a dataset, in that order. One that is there (same name and content) is that image; a name
    that something else has gets a number. Raises what the server answers."""
    wanted = [
        ImageRecord(0, _plain(picture.name), dataset_id, project_id, picture.width, picture.height, picture.hash)
        for picture in pictures
    ]
    by_hash = {record.hash: picture for record, picture in zip(wanted, pictures, strict=True)}
    known = set(server.call("images.internal.hashes.list", list(by_hash)))
    missing = [picture for hash, picture in by_hash.items() if hash not in known]
    while missing:
        part = [missing.pop()]
        while missing and sum(len(one.data) for one in part) + len(missing[-1].data) <= _BYTES_AT_ONCE:
            part.append(missing.pop())
        _send(server, part)
    return [
        replace(record, project_id=project_id, dataset_id=dataset_id) for record in copied(server, wanted, dataset_id)
    ]


def _send(server: Server, pictures: Sequence[NewPicture]) -> None:
    mark = uuid.uuid4().hex
    pieces = []
    for number, picture in enumerate(pictures):
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{number}-file"; filename="{number}"\r\n'
        pieces += [f"{head}Content-Type: image/*\r\n\r\n".encode(), picture.data, b"\r\n"]
    body = b"".join((*pieces, f"--{mark}--\r\n".encode()))
    reply = server.fetch("images.bulk.upload", body, headers={"content-type": f"multipart/form-data; boundary={mark}"})
    if any(picture.hash.encode() not in reply.content for picture in pictures):
        raise ServerUnreachable("The server did not keep all pictures that were sent.", True)


def _plain(name: str) -> str:
    """The last part of a path, whatever system wrote it."""
    return PurePosixPath(name.replace("\\", "/")).name[:200] or "image"
