"""Team files: where apps keep settings and results."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from apps.workbench.api.bodies import SUCCESS, Body, ById, Ident, methods
from apps.workbench.api.sending import send_blob
from apps.workbench.bench import Bench, Workbench
from apps.workbench.store import files
from apps.workbench.store.blobs import Incoming
from apps.workbench.store.errors import Refused
from apps.workbench.store.names import team_path
from apps.workbench.store.videos import remember_blob
from apps.workbench.uploads import receive_file, receive_form

router = methods()

PATH_BYTES = 4096


class InFolder(Body):
    team_id: Ident | None = None
    path: Annotated[str, Field(max_length=PATH_BYTES)] = "/"
    recursive: bool = True


class OneFile(Body):
    team_id: Ident | None = None
    path: Annotated[str, Field(max_length=PATH_BYTES)]


class ManyFiles(Body):
    team_id: Ident | None = None
    paths: Annotated[list[Annotated[str, Field(max_length=PATH_BYTES)]], Field(max_length=10_000)]


@router.post("/file-storage.list")
def list_files(body: InFolder, bench: Bench) -> list[dict[str, Any]]:
    with bench.database.read() as session:
        return files.list_files(session, body.path, body.recursive)


@router.post("/file-storage.info")
def info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return files.files_json(session, [files.file_by_id(session, body.id)])[0]


@router.post("/file-storage.bulk.upload")
async def upload(request: Request, bench: Bench) -> list[dict[str, Any]]:
    """A form of triples in a row: name, path (the folder), file. The files' infos in order."""
    with await receive_form(request, bench.blobs) as form:
        received: list[tuple[str, str, Incoming]] = []
        name, folder = "", ""
        for part in form.parts:
            if part.file is not None:
                received.append((team_path(f"{folder.rstrip('/')}/{name}"), part.mime, part.file))
            elif part.name == "name":
                name = part.text
            elif part.name == "path":
                folder = part.text
        if not received:
            raise Refused("The form holds no file.")
        return await run_in_threadpool(_keep, bench, received)


@router.post("/file-storage.upload")
async def upload_one(
    request: Request, bench: Bench, path: Annotated[str, Query(max_length=PATH_BYTES)]
) -> dict[str, Any]:
    """The body is the file; where it goes is in the query."""
    path = team_path(path)
    with await receive_file(request, bench.blobs) as incoming:
        mime = request.headers.get("content-type", "application/octet-stream")
        return (await run_in_threadpool(_keep, bench, [(path, mime, incoming)]))[0]


def _keep(bench: Workbench, received: list[tuple[str, str, Incoming]]) -> list[dict[str, Any]]:
    with bench.database.write() as session:
        kept = []
        for path, mime, incoming in received:
            hash = bench.blobs.keep(incoming)
            remember_blob(session, hash, incoming.size, None)
            kept.append(files.put_file(session, path, hash, mime))
        return files.files_json(session, kept)


@router.post("/file-storage.download")
def download(body: OneFile, request: Request, bench: Bench) -> Response:
    with bench.database.read() as session:
        file = files.get_file(session, body.path)
        return send_blob(bench.blobs.path(file.hash), "application/octet-stream", file.hash, request)


@router.post("/file-storage.remove")
def remove(body: OneFile, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        files.remove_files(session, [body.path])
    return SUCCESS


@router.post("/file-storage.bulk.remove")
def remove_many(body: ManyFiles, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        files.remove_files(session, body.paths)
    return SUCCESS
