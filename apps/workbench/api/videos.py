"""Videos: upload by content, info, download whole or in parts, and their frames."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import Field
from sqlalchemy import or_, select, update
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from apps.workbench import frames, links
from apps.workbench.api.bodies import SUCCESS, Body, ById, Ident, JsonObject, ListBody, methods
from apps.workbench.api.media_upload import take_files
from apps.workbench.api.sending import send_blob
from apps.workbench.bench import Bench, Workbench
from apps.workbench.media import probe
from apps.workbench.store import figures, listing, videos
from apps.workbench.store.collections import collected_videos
from apps.workbench.store.database import now
from apps.workbench.store.errors import NotFound, Refused
from apps.workbench.store.models import Video

router = methods()
page_router = APIRouter(prefix="/workbench/videos")

MAX_FRAMES_AT_ONCE = 1000
GIVEN_UP = 499
"""Said to nobody: the one who asked has gone."""


class Hashes(Body):
    hashes: Annotated[list[str], Field(max_length=10_000)]


class NewVideo(Body):
    title: str
    hash: str | None = None
    link: Annotated[str | None, Field(max_length=4000)] = None
    id: Ident | None = None
    meta: JsonObject | None = None


class NewVideos(Body):
    dataset_id: Ident
    videos: Annotated[list[NewVideo], Field(max_length=1000)]


class VideoList(ListBody):
    dataset_id: Ident | None = None
    project_id: Ident | None = None


class CustomData(Body):
    id: Ident
    custom_data: JsonObject


class OneFrame(Body):
    video_id: Ident
    frame: int


class ManyFrames(Body):
    video_id: Ident
    frames: Annotated[list[int], Field(max_length=MAX_FRAMES_AT_ONCE)]


class Annotations(Body):
    dataset_id: Ident | None = None
    video_ids: Annotated[list[Ident], Field(max_length=1000)]


@router.post("/images.internal.hashes.list")
def known_hashes(hashes: Annotated[list[str], Field(max_length=10_000)], bench: Bench) -> list[str]:
    with bench.database.read() as session:
        return videos.known_videos(session, hashes)


@router.post("/videos.bulk.upload")
async def upload(request: Request, bench: Bench) -> list[dict[str, Any]]:
    """Takes files; their hashes in order. A file that is no video refuses the whole request and is not kept."""
    return await take_files(request, bench, probe, lambda blob: {"meta": blob.meta})


@router.post("/import-storage.internal.meta.list")
def file_metas(body: Hashes, bench: Bench) -> list[dict[str, Any]]:
    with bench.database.read() as session:
        return [{"hash": hash, "meta": videos.get_blob(session, hash).meta or {}} for hash in body.hashes]


@router.post("/videos.bulk.upsert_file_meta")
def keep_own_meta(bench: Bench) -> dict[str, bool]:
    """The SDK may send metadata that it worked out itself; what the decoder says counts here, so it is not taken."""
    return SUCCESS


@router.post("/videos.bulk.add")
def add(body: NewVideos, bench: Bench) -> list[dict[str, Any]]:
    """By hash, by id of a video to copy, or by link, which is fetched now unless a video has come from there before. A link
    beside a hash is not taken over: nobody has looked whether it leads to that file."""
    items = [video.model_dump() | ({"link": None} if video.hash else {}) for video in body.videos]
    linked = [item for item in items if item["link"] and not item["hash"] and item["id"] is None]
    if linked:
        with bench.database.read() as session:
            videos.check_new(session, body.dataset_id, items)
            # the SDK copies a video that has a link by that link
            kept = videos.known_links(session, [item["link"] for item in linked])
        missing = [item["link"] for item in linked if item["link"] not in kept]
        kept |= links.keep_links(bench, missing, links.video(bench))
        for item in linked:
            item["hash"] = kept[item["link"]]
    with bench.database.write() as session:
        added = videos.add_videos(session, body.dataset_id, items)
        return videos.videos_json(session, added)


@router.post("/videos.list")
def list_videos(body: VideoList, bench: Bench) -> dict[str, Any]:
    if body.dataset_id is None and body.project_id is None:
        raise Refused("Videos are listed by datasetId or projectId.")
    here = [Video.dataset_id == body.dataset_id, Video.project_id == body.project_id]
    rules = [entry for entry in body.filters or () if entry.get("type") == "entities_collection"]
    plain = body.model_copy(update={"filters": [entry for entry in body.filters or () if entry not in rules]})
    with bench.database.read() as session:
        return listing.page(
            session,
            select(Video).where(or_(*here), *collected_videos(session, rules)),
            videos.COLUMNS,
            plain.query(),
            lambda rows: videos.videos_json(session, rows),
        )


@router.post("/videos.info")
def info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return videos.videos_json(session, [videos.get_video(session, body.id)])[0]


@router.post("/videos.custom-data.set")
def set_custom_data(body: CustomData, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        videos.get_video(session, body.id)
        session.execute(update(Video).where(Video.id == body.id).values(custom_data=body.custom_data, updated_at=now()))
        return videos.videos_json(session, [videos.get_video(session, body.id)])[0]


@router.post("/videos.annotations.bulk.info")
def annotations_of_videos(body: Annotations, bench: Bench) -> StreamingResponse:
    def text() -> Iterator[str]:
        with bench.database.read() as session:
            yield from figures.annotation_text(session, body.video_ids)

    pieces = text()
    first = next(pieces)  # errors come before the first piece, while the reply can still say so

    def whole() -> Iterator[str]:
        yield first
        yield from pieces

    return StreamingResponse(whole(), media_type="application/json")


# --- bytes and frames -------------------------------------------------------------------------------------------------


def _file(bench: Workbench, video_id: int) -> tuple[Path, str, str, int]:
    """Where a video's file lies, its MIME type and hash, and how many frames it has."""
    with bench.database.read() as session:
        hash = session.scalar(select(Video.hash).where(Video.id == video_id))
        known = bench.facts.get(hash or "")
        if hash is None or known is None:
            video, blob = videos.video_blob(session, video_id)
            hash = video.hash
            known = ((blob.meta or {}).get("mime", "application/octet-stream"), videos.frames_of(blob))
            bench.facts[hash] = known
    return bench.blobs.path(hash), known[0], hash, known[1]


@router.post("/videos.download")
def download(body: ById, request: Request, bench: Bench) -> Response:
    path, mime, hash, _ = _file(bench, body.id)
    return send_blob(path, mime, hash, request)


def _checked(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise NotFound(f"There is no frame {index}: the video has frames 0 to {count - 1}.")
    return index


@router.post("/videos.download-frame")
def download_frame(body: OneFrame, bench: Bench) -> Response:
    path, _, _, count = _file(bench, body.video_id)
    return Response(bench.frames.get(path, _checked(body.frame, count)), media_type=frames.MIME["png"])


@router.post("/videos.bulk.download-frame")
def download_frames(body: ManyFrames, bench: Bench) -> StreamingResponse:
    return _many_frames(bench, body)


@router.get("/videos.bulk.download-frame")
async def download_frames_by_form(request: Request, bench: Bench) -> StreamingResponse:
    """One helper of the SDK asks by GET, with a form in the body."""
    async with request.form() as form:
        try:
            body = ManyFrames(video_id=int(str(form["videoId"])), frames=[int(str(f)) for f in form.getlist("frames")])
        except (KeyError, ValueError) as error:
            raise Refused("Frames are asked for by videoId and frames.") from error
    return await run_in_threadpool(_many_frames, bench, body)


def _many_frames(bench: Workbench, body: ManyFrames) -> StreamingResponse:
    """A multipart reply, one frame at a time in memory. A frame that turns out to be damaged is left out."""
    path, _, _, count = _file(bench, body.video_id)
    for index in body.frames:
        _checked(index, count)
    boundary = secrets.token_hex(16)

    def parts() -> Iterator[bytes]:
        for index in body.frames:
            try:
                data = bench.frames.get(path, index)
            except NotFound:
                continue
            head = (
                f'--{boundary}\r\nContent-Disposition: form-data; name="{index}"; filename="{index}.png"\r\n'
                "Content-Type: image/png\r\n\r\n"
            )
            yield head.encode() + data + b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(parts(), headers={"content-type": f"multipart/form-data; boundary={boundary}"})


@page_router.get("/{video_id}/frames/{index}")
async def frame_for_page(
    video_id: Ident,
    index: int,
    request: Request,
    bench: Bench,
    format: Literal["png", "jpeg", "webp"] = "jpeg",
    width: Annotated[int, Query(ge=0, le=16384)] = 0,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A frame for showing. A video's content never changes, so a browser may keep what it got for good.

    Few are made at a time, and one that nobody waits for any more is not made: whoever scrubs gives up most of them.
    """
    path, _, hash, count = await run_in_threadpool(_file, bench, video_id)
    _checked(index, count)
    tag = f'"{hash}-{index}-{format}-{width}"'
    headers = {"etag": tag, "cache-control": "private, max-age=31536000, immutable"}
    if if_none_match is not None and tag in if_none_match:
        return Response(status_code=304, headers=headers)
    data = bench.frames.known(path, index, format, width)
    if data is None:
        async with bench.showing:
            if await request.is_disconnected():
                return Response(status_code=GIVEN_UP)
            data = await run_in_threadpool(bench.frames.get, path, index, format, width)
    return Response(data, media_type=frames.MIME[format], headers=headers)


@page_router.get("/{video_id}/file")
def file_for_page(video_id: Ident, request: Request, bench: Bench) -> Response:
    path, mime, hash, _ = _file(bench, video_id)
    return send_blob(path, mime, hash, request)
