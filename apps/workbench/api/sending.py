"""Stored files as replies: whole or one range, with the checksum that the SDK compares."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

_ONE_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)")


def send_blob(path: Path, mime: str, hash: str, request: Request) -> Response:
    """The file, or the part of it that a Range header asks for (206).

    A header that is no range is ignored, as RFC 9110 says: the SDK sends "bytes=-" when it wants everything from 0.
    """
    asked = request.headers.get("range")
    if asked is not None and not _ONE_RANGE.fullmatch(asked.strip()):
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
    headers = {
        "x-content-checksum-sha256": hash,
        "cache-control": "private, no-transform",
        "x-content-type-options": "nosniff",
        "content-disposition": "attachment",
    }
    return FileResponse(path, media_type=mime, headers=headers)
