"""Multipart uploads as they stream in: each file goes to disk piece by piece and is hashed on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from apps.workbench.store.blobs import BlobFolder, Incoming
from apps.workbench.store.errors import Refused

MAX_PARTS = 2000
MAX_FIELD_BYTES = 16 * 1024 * 1024
_PIECE = 1024 * 1024


@dataclass
class Part:
    """One part of a form, in the order of the form: a file on disk, or a small value."""

    name: str
    filename: str | None
    mime: str
    file: Incoming | None
    value: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        try:
            return self.value.decode()
        except UnicodeDecodeError as error:
            raise Refused(f"The field {self.name!r} is not UTF-8 text.") from error


class Form:
    """The parts of a form that was received. Leaving the block deletes the files that nobody kept."""

    def __init__(self, blobs: BlobFolder, files_to_disk: bool) -> None:
        self.parts: list[Part] = []
        self._blobs, self._to_disk = blobs, files_to_disk
        self._stack = ExitStack()
        self._header_name, self._header_value = b"", b""
        self._headers: dict[bytes, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_data,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
        }

    def _part_begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise Refused(f"The form has more than {MAX_PARTS} parts.")
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _headers_finished(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        # a name beyond ASCII may come in the extended form, which the parser leaves out; the names that count are fields
        filename = options.get(b"filename", b"" if b"filename*=" in disposition else None)
        file = self._stack.enter_context(self._blobs.incoming()) if filename is not None and self._to_disk else None
        self.parts.append(
            Part(
                name=options.get(b"name", b"").decode("utf-8", "replace"),
                filename=None if filename is None else filename.decode("utf-8", "replace"),
                mime=self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1"),
                file=file,
            )
        )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        if part.file is not None:
            part.file.write(data[start:end])
        elif len(part.value) + end - start > MAX_FIELD_BYTES:
            raise Refused(f"The field {part.name!r} is larger than {MAX_FIELD_BYTES} bytes.")
        else:
            part.value += data[start:end]

    def _part_end(self) -> None:
        file = self.parts[-1].file
        if file is not None:
            file.finish()  # a form of many files must not keep them all open


async def receive_form(request: Request, blobs: BlobFolder, files_to_disk: bool = True) -> Form:
    """Reads a multipart body. The caller must use the form as a context manager; it holds files on disk.

    files_to_disk: off, file parts stay in memory, at most `MAX_FIELD_BYTES` each. Raises `Refused` for a body that is
    no multipart form or ends too early; `TooLarge` comes from the guard in front.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind.lower() != b"multipart/form-data" or not boundary:
        raise Refused("Files must be sent as multipart/form-data.")
    form = Form(blobs, files_to_disk)
    finished = False

    def done() -> None:
        nonlocal finished
        finished = True

    parser = MultipartParser(boundary, {**form.callbacks(), "on_end": done})  # type: ignore[typeddict-item]
    try:
        await _feed(request, lambda piece: parser.write(piece))
        if not finished:
            raise Refused("The upload ended before the form did; send it again.")
    except (MultipartParseError, ClientDisconnect) as error:
        form.__exit__()
        raise Refused("The upload is not a complete multipart form; send it again.") from error
    except BaseException:
        form.__exit__()
        raise
    return form


async def receive_file(request: Request, blobs: BlobFolder) -> Incoming:
    """Reads a body that is one file. The caller must use the result as a context manager."""
    incoming = blobs.incoming()
    try:
        await _feed(request, incoming.write)
    except ClientDisconnect as error:
        incoming.discard()
        raise Refused("The upload was cut off; send it again.") from error
    except BaseException:
        incoming.discard()
        raise
    return incoming


async def _feed(request: Request, sink: Callable[[bytes], object]) -> None:
    """The body in pieces of about a megabyte, hashed and written in a worker thread."""
    piece = bytearray()
    async for chunk in request.stream():
        piece += chunk
        if len(piece) >= _PIECE:
            await run_in_threadpool(sink, bytes(piece))
            piece.clear()
    if piece:
        await run_in_threadpool(sink, bytes(piece))
