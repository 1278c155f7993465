"""Images: upload by content, info, lists, and download one by one or in bulk."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from sqlalchemy import select
from starlette.responses import Response, StreamingResponse

from apps.workbench import links
from apps.workbench.api.bodies import SUCCESS, Body, ById, Ident, Idents, JsonObject, ListBody, methods
from apps.workbench.api.media_upload import take_files
from apps.workbench.api.sending import send_blob
from apps.workbench.bench import Bench, Workbench
from apps.workbench.pictures import probe_picture
from apps.workbench.store import image_tags, images, listing, videos
from apps.workbench.store.errors import Refused
from apps.workbench.store.models import Blob, Image
from apps.workbench.store.projects import get_dataset, get_project

router = methods()
page_router = APIRouter(prefix="/workbench/images")

_PIECE = 1 << 20
_VIDEOS = 1_000_000
"""Ids of videos are below, those of images above: methods that take either tell them apart by this."""


class NewImage(Body):
    title: Annotated[str, Field(validation_alias=AliasChoices("title", "name"))]
    hash: str | None = None
    link: Annotated[str | None, Field(max_length=4000)] = None
    image_id: Annotated[Ident | None, Field(validation_alias=AliasChoices("imageId", "id"))] = None
    meta: JsonObject | None = None


class NewImages(Body):
    dataset_id: Ident
    images: Annotated[list[NewImage], Field(max_length=1000)]


class ImageList(ListBody):
    dataset_id: Ident | None = None
    project_id: Ident | None = None
    recursive: bool = False


class Download(Body):
    dataset_id: Ident | None = None
    image_ids: Annotated[list[Ident], Field(max_length=1000)]


class ByHash(Body):
    hashes: Annotated[list[str], Field(max_length=1000)]


class Edit(Body):
    id: Ident
    name: str | None = None
    description: str | None = None
    meta: JsonObject | None = None


class Removal(Body):
    image_ids: Idents


class TagImages(Body):
    tag_id: Ident
    ids: Idents
    value: Any = None


class NewTag(Body):
    tag_id: Ident
    entity_id: Ident
    value: Any = None


class TagEntities(Body):
    project_id: Ident | None = None
    tags: Annotated[list[NewTag], Field(max_length=10_000)]


class TagValue(Body):
    id: Ident
    value: Any


class Untag(Body):
    tag_id: Ident
    image_id: Ident
    id: Ident | None = None


class UntagMany(Body):
    tag_ids: Idents
    ids: Idents


@router.post("/images.bulk.upload")
async def upload(request: Request, bench: Bench) -> list[dict[str, Any]]:
    """Takes files; their hashes in order. A file that is no picture refuses the whole request and is not kept."""
    return await take_files(request, bench, probe_picture, _told)


def _told(blob: Blob) -> dict[str, Any]:
    picture = images.picture_of(blob)
    return {"mime": picture["mime"], "size": blob.size, "meta": picture}


@router.post("/images.bulk.add")
def add(body: NewImages, bench: Bench) -> list[dict[str, Any]]:
    """By hash, by id of an image to copy, or by link, which is fetched now."""
    items = [image.model_dump(by_alias=True) for image in body.images]
    linked = [item for item in items if item["link"] and not item["hash"] and item["imageId"] is None]
    if linked:
        with bench.database.read() as session:
            images.check_new(session, body.dataset_id, items)
        kept = links.keep_links(bench, [item["link"] for item in linked], links.picture())
        for item in linked:
            item["hash"] = kept[item["link"]]
    with bench.database.write() as session:
        return images.images_json(session, images.add_images(session, body.dataset_id, items))


@router.post("/images.list")
def list_images(body: ImageList, bench: Bench) -> dict[str, Any]:
    if body.dataset_id is None and body.project_id is None:
        raise Refused("Images are listed by datasetId or projectId.")
    rules = [entry for entry in body.filters or () if "field" not in entry]
    plain = body.model_copy(update={"filters": [entry for entry in body.filters or () if "field" in entry]})
    statement = select(Image)
    with bench.database.read() as session:
        if body.dataset_id is not None:
            get_dataset(session, body.dataset_id)
            chosen = images.within(session, body.dataset_id) if body.recursive else [body.dataset_id]
            statement = statement.where(Image.dataset_id.in_(chosen))
        else:
            assert body.project_id is not None
            get_project(session, body.project_id)
            statement = statement.where(Image.project_id == body.project_id)
        statement = statement.where(*images.conditions(session, rules))
        return listing.page(
            session, statement, images.COLUMNS, plain.query(), lambda rows: images.images_json(session, rows)
        )


@router.post("/images.info")
def info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return images.images_json(session, [images.get_image(session, body.id)])[0]


@router.post("/images.editInfo")
def edit(body: Edit, bench: Bench) -> dict[str, Any]:
    """The SDK changes videos by this method, too."""
    with bench.database.write() as session:
        if body.id < _VIDEOS:
            if body.name is None:
                raise Refused("Of a video only the name can be changed this way.")
            return videos.videos_json(session, [videos.rename_video(session, body.id, body.name)])[0]
        changed = images.edit_image(session, body.id, body.model_dump(exclude={"id"}))
        return images.images_json(session, [changed])[0]


@router.post("/images.bulk.remove")
def remove(body: Removal, bench: Bench) -> dict[str, bool]:
    """The SDK removes videos by this method, too."""
    with bench.database.write() as session:
        videos.remove_videos(session, [ident for ident in body.image_ids if ident < _VIDEOS])
        images.remove_images(session, [ident for ident in body.image_ids if ident >= _VIDEOS])
    return SUCCESS


# --- bytes ------------------------------------------------------------------------------------------------------------


def _file(bench: Workbench, ident: int) -> tuple[Path, str, str]:
    with bench.database.read() as session:
        image = images.get_image(session, ident)
        return bench.blobs.path(image.hash), image.mime, image.hash


@router.post("/images.download")
def download(body: ById, request: Request, bench: Bench) -> Response:
    return send_blob(*_file(bench, body.id), request)


@page_router.get("/{image_id}/file")
def file_for_page(image_id: Ident, request: Request, bench: Bench) -> Response:
    return send_blob(*_file(bench, image_id), request)


@router.post("/images.bulk.download")
def download_many(body: Download, bench: Bench) -> StreamingResponse:
    with bench.database.read() as session:
        found = [(str(i.id), i.hash, i.mime) for i in images.get_images(session, body.image_ids)]
    return _many(bench, found)


@router.post("/images.bulk.download-by-hash")
def download_by_hash(body: ByHash, bench: Bench) -> StreamingResponse:
    with bench.database.read() as session:
        found = [(hash, hash, images.picture_of(videos.get_blob(session, hash))["mime"]) for hash in body.hashes]
    return _many(bench, found)


def _many(bench: Workbench, files: list[tuple[str, str, str]]) -> StreamingResponse:
    """A multipart reply in pieces. files: part name, hash, mime."""
    boundary = secrets.token_hex(16)

    def parts() -> Iterator[bytes]:
        for name, hash, mime in files:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
            yield (head + f"Content-Type: {mime}\r\nx-content-checksum-sha256: {hash}\r\n\r\n").encode()
            with bench.blobs.path(hash).open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(parts(), headers={"content-type": f"multipart/form-data; boundary={boundary}"})


# --- tags -------------------------------------------------------------------------------------------------------------


@router.post("/image-tags.bulk.add-to-image")
def tag_images(body: TagImages, bench: Bench) -> list[dict[str, int]]:
    items = [{"tagId": body.tag_id, "entityId": ident, "value": body.value} for ident in body.ids]
    with bench.database.write() as session:
        return [{"id": ident} for ident in image_tags.tag_images(session, items)]


@router.post("/tags.entities.bulk.add")
def tag_entities(body: TagEntities, bench: Bench) -> list[dict[str, int]]:
    items = [tag.model_dump(by_alias=True) for tag in body.tags]
    with bench.database.write() as session:
        return [{"id": ident} for ident in image_tags.tag_images(session, items)]


@router.post("/image-tags.update-tag-value")
def set_tag_value(body: TagValue, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        return image_tags.set_value(session, body.id, body.value)


@router.post("/image-tags.remove-from-image")
def untag_image(body: Untag, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        image_tags.untag_images(session, [body.image_id], [body.tag_id], body.id)
    return SUCCESS


@router.post("/image-tags.bulk.remove-from-images")
def untag_images(body: UntagMany, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        image_tags.untag_images(session, body.ids, body.tag_ids)
    return SUCCESS
