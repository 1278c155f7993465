"""Request bodies as they arrive: counted while they stream, so that none larger than allowed is ever held."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image as Pictures
from PIL import UnidentifiedImageError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from common.errors import FrameUnreadable
from common.serving.envelope import Envelope
from common.serving.replies import Rejected
from common.video.contract import Image, VideoInfo

MAX_FILES = 2000
MAX_SETTINGS_BYTES = 64 * 1024 * 1024
"""Of the text part beside the files; masks may be in it."""
MAX_PIXELS = 100_000_000
"""Of one picture; its header is read before anything is unpacked."""


async def read_envelope(request: Request, max_bytes: int) -> Envelope:
    """The body of a JSON call; an empty body is an empty envelope.

    Raises `Rejected` (413, 415, or 400 for what is no JSON object), pydantic's ValidationError. Only what is declared to be
    JSON is read: web pages of others cannot send that without asking first (CORS), so none can act through this app.
    """
    body = bytearray()
    _announced(request, max_bytes)
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    except ClientDisconnect as error:
        raise Rejected("The request broke off.") from error
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if body and kind != "application/json":
        raise Rejected("Send the request as application/json.", 415)
    # large bodies hold masks; parsing them here would hold up every other request
    return await run_in_threadpool(_parse, bytes(body))


def parse_json(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises `Rejected`."""
    try:
        data = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Rejected(f"{what} is not JSON.") from error
    if not isinstance(data, dict):
        raise Rejected(f"{what} must be a JSON object.")
    return data


@asynccontextmanager
async def read_form(request: Request, max_bytes: int) -> AsyncIterator[tuple[str, list[BinaryIO]]]:
    """`read_parts` without the files' names."""
    async with read_parts(request, max_bytes) as (settings, parts):
        yield settings, [part.file for part in parts]


@asynccontextmanager
async def read_parts(request: Request, max_bytes: int) -> AsyncIterator[tuple[str, list[UploadFile]]]:
    """The `settings` (or `state`) text and the files of a multipart request, in order; files beyond a megabyte wait on disk and are
    gone after the block. Raises `Rejected`."""
    _announced(request, max_bytes)
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    try:
        form = await Request(request.scope, counted).form(
            max_files=MAX_FILES, max_fields=20, max_part_size=MAX_SETTINGS_BYTES
        )
    except ClientDisconnect as error:
        raise Rejected("The request broke off.") from error
    async with _closing(form):
        files = [part for name in ("files", "files[]") for part in form.getlist(name) if isinstance(part, UploadFile)]
        settings = form.get("state", "{}")  # callers of detectors name it so
        if settings in ("", "{}"):
            settings = form.get("settings", "{}")
        if isinstance(settings, UploadFile):
            raise Rejected("The part `settings` must be text.")
        if not files:
            raise Rejected("The request has no files; send the pictures as parts named `files`.")
        yield settings, files


@asynccontextmanager
async def _closing(form: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await form.close()


class UploadedFrames:
    """Pictures that came with a request, as a `FrameSource`: the first is frame `first`, the rest follow in the direction
    of step. Used by one thread. Only one is unpacked at a time."""

    def __init__(self, files: list[BinaryIO], first: int, step: int) -> None:
        self._files, self._first, self._step = files, first, step
        picture = self._load(0)
        # Numbers of frames must not be negative, so the video "ends" where the pictures do.
        last = first + step * (len(files) - 1)
        if last < 0:
            raise Rejected(f"There are {len(files) - 1} pictures before frame {first}.")
        self.info = VideoInfo(max(first, last) + 1, picture.shape[1], picture.shape[0], 0.0, name="uploaded pictures")

    def read(self, index: int) -> Image:
        place = (index - self._first) * self._step
        if not 0 <= place < len(self._files):
            raise FrameUnreadable(f"There is no picture for frame {index}.", index)
        picture = self._load(place)
        if picture.shape[:2] != (self.info.height, self.info.width):
            raise Rejected(f"Picture {place} has another size than the first.")
        return picture

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        for index in range(start, stop, -1 if stop < start else 1):
            yield self.read(index)

    def close(self) -> None: ...

    def _load(self, place: int) -> Image:
        file = self._files[place]
        file.seek(0)
        return decode(file.read(), f"Picture {place}")


def decode(data: bytes, what: str) -> Image:
    """RGB uint8 (H, W, 3) of an encoded picture. Raises `Rejected` for what is none or is too large."""
    try:
        with Pictures.open(io.BytesIO(data)) as header:
            if header.width * header.height > MAX_PIXELS:
                raise Rejected(f"{what} has more than {MAX_PIXELS} pixels.", 413)
    except (UnidentifiedImageError, OSError, ValueError, Pictures.DecompressionBombError) as error:
        raise Rejected(f"{what} is no picture that can be read.") from error
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise Rejected(f"{what} is damaged.")
    return np.ascontiguousarray(np.asarray(decoded, np.uint8)[:, :, ::-1])


def _parse(body: bytes) -> Envelope:
    return Envelope.model_validate(parse_json(body, "The request"))


def _announced(request: Request, max_bytes: int) -> None:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> Rejected:
    return Rejected(f"The request is larger than {max_bytes} bytes, the most that is taken here.", 413)
