"""Figures: written, read, changed and removed in bulk."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Request
from pydantic import ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from apps.workbench.api.bodies import SUCCESS, Body, ById, Ident, Idents, JsonObject, ListBody, methods
from apps.workbench.bench import Bench, Workbench
from apps.workbench.store import figures, labels, listing
from apps.workbench.store.errors import Refused
from apps.workbench.store.models import Figure, Image, Label, Video
from apps.workbench.store.projects import get_dataset, get_project
from apps.workbench.uploads import receive_form

router = methods()


class NewFigure(Body):
    """Of a video's object, or with a class and no object: a label of an image."""

    model_config = ConfigDict(extra="allow")

    object_id: Ident | None = None
    class_id: Ident | None = None
    geometry_type: str
    geometry: JsonObject | None = None
    meta: JsonObject | None = None
    entity_id: Ident | None = None
    track_id: str | int | None = None
    nn_created: bool = False
    nn_updated: bool = False
    key: Annotated[str | None, Field(max_length=200)] = None
    priority: int | None = None
    custom_data: JsonObject | None = None


class NewFigures(Body):
    entity_id: Ident | None = None
    dataset_id: Ident | None = None
    figures: list[NewFigure]
    skip_bounds_validation: bool = False


class FigureList(ListBody):
    dataset_id: Ident | None = None
    project_id: Ident | None = None


class Removal(Body):
    figure_ids: Idents


class Edit(Body):
    id: Ident
    geometry: JsonObject | None = None
    meta: JsonObject | None = None
    nn_created: bool | None = None
    nn_updated: bool | None = None
    track_id: str | None = None
    tags: list[JsonObject] | None = None


class Priority(Body):
    id: Ident
    priority: int | None


class CustomData(Body):
    id: Ident
    custom_data: JsonObject | None


class GeometryIds(Body):
    ids: Annotated[list[Ident], Field(max_length=10_000)]


@router.post("/figures.bulk.add")
def add(body: NewFigures, bench: Bench) -> list[dict[str, int]]:
    items = []
    for number, figure in enumerate(body.figures, 1):
        entity_id = figure.entity_id if figure.entity_id is not None else body.entity_id
        if entity_id is None:
            raise Refused(f"Figure {number} says in no way which video or image it is in (entityId).")
        items.append(figure.model_dump(by_alias=True) | {"entityId": entity_id})
    of_images = [item["objectId"] is None for item in items]
    if any(of_images) and not all(of_images):
        raise Refused("Figures of videos and of images cannot come together.")
    with bench.database.write() as session:
        if any(of_images):
            try:
                return [{"id": i} for i in labels.add_labels(session, items, not body.skip_bounds_validation)]
            except (AttributeError, TypeError) as error:
                raise Refused("A figure does not have the form of one.") from error
        for number, item in enumerate(items, 1):
            if item["geometry"] is None:
                raise Refused(f"Figure {number} has no geometry.")
        return [{"id": ident} for ident in figures.add_figures(session, items)]


@router.post("/figures.info")
def info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return _described(session, body.id)


def _described(session: Session, ident: int) -> dict[str, Any]:
    label = session.get(Label, ident)
    if label is not None:
        return labels.labels_json(session, [label])[0]
    return figures.figures_json(session, [figures.get_figure(session, ident)])[0]


@router.post("/figures.list")
def list_figures(body: FigureList, bench: Bench) -> dict[str, Any]:
    """Of a dataset or a project. `fields` only decides whether geometries are sent, which are nearly all of the bytes."""
    query = body.query()
    statement = select(Figure)
    if body.dataset_id is not None:
        statement = statement.join(Video).where(Video.dataset_id == body.dataset_id)
    elif body.project_id is not None:
        statement = statement.join(Video).where(Video.project_id == body.project_id)
    elif not query.filter:
        raise Refused("Figures are listed by datasetId, projectId or a filter.")
    skip = body.fields is not None and "geometry" not in body.fields
    with bench.database.read() as session:
        of = body.project_id if body.dataset_id is None else get_dataset(session, body.dataset_id).project_id
        if of is not None and get_project(session, of).type == "images":
            chosen = Image.project_id == of if body.dataset_id is None else Image.dataset_id == body.dataset_id
            return listing.page(
                session,
                select(Label).join(Image).where(chosen),
                labels.COLUMNS,
                query,
                lambda rows: labels.labels_json(session, rows, skip),
            )
        return listing.page(
            session,
            statement,
            figures.COLUMNS,
            query,
            lambda rows: figures.figures_json(session, rows, skip),
        )


@router.post("/figures.bulk.remove")
def remove(body: Removal, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        figures.remove_figures(session, body.figure_ids)
        labels.remove_labels(session, body.figure_ids)
    return SUCCESS


@router.post("/figures.editInfo")
def edit(body: Edit, bench: Bench) -> dict[str, Any]:
    changes = body.model_dump(by_alias=True, exclude={"id"}, exclude_unset=True, exclude_none=True)
    if "trackId" in body.model_fields_set or "track_id" in body.model_fields_set:
        changes["trackId"] = body.track_id  # null turns a prediction into a figure that a person drew
    return _edit(bench, body.id, changes)


@router.post("/figures.priority.update")
def set_priority(body: Priority, bench: Bench) -> dict[str, Any]:
    return _edit(bench, body.id, {"priority": body.priority})


@router.post("/figures.custom-data.update")
def set_custom_data(body: CustomData, bench: Bench) -> dict[str, Any]:
    return _edit(bench, body.id, {"customData": body.custom_data})


def _edit(bench: Workbench, ident: int, changes: dict[str, Any]) -> dict[str, Any]:
    with bench.database.write() as session:
        _change(session, ident, changes)
        return _described(session, ident)


def _change(session: Session, ident: int, changes: dict[str, Any]) -> None:
    if session.get(Label, ident) is not None:
        labels.edit_label(session, ident, changes)
    else:
        figures.edit_figure(session, ident, changes)


@router.post("/figures.bulk.download.geometry")
def download_geometries(body: GeometryIds, bench: Bench) -> StreamingResponse:
    with bench.database.read() as session:
        of_images = labels.geometries(session, body.ids)
        of_videos = dict(figures.geometries(session, [ident for ident in body.ids if ident not in of_images]))
        found = [(ident, of_images.get(ident) or of_videos[ident]) for ident in body.ids]
    boundary = secrets.token_hex(16)

    def parts() -> Iterator[bytes]:
        for ident, text in found:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{ident}"; filename="{ident}"\r\n'
            yield (head + "Content-Type: application/octet-stream\r\n\r\n" + text + "\r\n").encode()
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(parts(), headers={"content-type": f"multipart/form-data; boundary={boundary}"})


@router.post("/figures.bulk.upload.geometry")
async def upload_geometries(request: Request, bench: Bench) -> dict[str, bool]:
    """A form of pairs: a figureId, then its geometry as JSON."""
    with await receive_form(request, bench.blobs, files_to_disk=False) as form:
        pairs: list[tuple[int, Any]] = []
        try:
            for ident, geometry in zip(form.parts[::2], form.parts[1::2], strict=True):
                if (ident.name, geometry.name) != ("figureId", "geometry"):
                    raise Refused("The form must hold pairs of figureId and geometry.")
                pairs.append((int(ident.text), json.loads(geometry.value)))
        except (ValueError, UnicodeDecodeError) as error:
            raise Refused("The form must hold pairs of figureId and geometry.") from error

    def write() -> None:
        with bench.database.write() as session:
            for ident, geometry in pairs:
                _change(session, ident, {"geometry": geometry})

    await run_in_threadpool(write)
    return SUCCESS
