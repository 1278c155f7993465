"""Annotation objects, and the tags of objects and videos."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from sqlalchemy import select

from apps.workbench.api.bodies import SUCCESS, Body, ById, Ident, Idents, JsonObject, ListBody, methods
from apps.workbench.bench import Bench
from apps.workbench.store import listing, objects
from apps.workbench.store.models import AnnotationObject
from apps.workbench.store.projects import get_dataset

router = methods()


class NewObject(Body):
    class_id: Ident
    entity_id: Ident | None = None
    description: str | None = None
    meta: JsonObject | None = None


class NewObjects(Body):
    dataset_id: Ident
    annotation_objects: Annotated[list[NewObject], Field(max_length=10_000)]


class ObjectList(ListBody):
    dataset_id: Ident


class NewTag(Body):
    model_config = ConfigDict(extra="allow")  # flags such as isFinished come back as they were sent

    tag_id: Ident
    object_id: Ident | None = None
    value: Any = None
    frame_range: list[int] | None = None


class ObjectTag(NewTag):
    object_id: Ident


class VideoTags(Body):
    video_id: Ident
    tags: Annotated[list[NewTag], Field(max_length=10_000)]


class ObjectTags(Body):
    project_id: Ident | None = None
    entity_id: Ident | None = None
    tags: Annotated[list[ObjectTag], Field(max_length=10_000)]


class OneVideoTag(NewTag):
    video_id: Ident


class NewValue(Body):
    id: Ident
    value: Any


class NewRange(Body):
    id: Ident
    frame_range: list[int] | None


@router.post("/annotation-objects.bulk.add")
def add(body: NewObjects, bench: Bench) -> list[dict[str, int]]:
    with bench.database.write() as session:
        items = [item.model_dump(by_alias=True) for item in body.annotation_objects]
        return [{"id": ident} for ident in objects.add_objects(session, body.dataset_id, items)]


@router.post("/annotation-objects.list")
def list_objects(body: ObjectList, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        get_dataset(session, body.dataset_id)
        return listing.page(
            session,
            select(AnnotationObject).where(AnnotationObject.dataset_id == body.dataset_id),
            objects.COLUMNS,
            body.query(),
            lambda rows: objects.objects_json(session, rows),
        )


@router.post("/annotation-objects.info")
def info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return objects.objects_json(session, [objects.get_object(session, body.id)])[0]


@router.post("/annotation-objects.bulk.remove")
def remove(body: Idents, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        objects.remove_objects(session, body)
    return SUCCESS


@router.post("/videos.tags.bulk.add")
def add_video_tags(body: VideoTags, bench: Bench) -> list[dict[str, int]]:
    with bench.database.write() as session:
        items = [item.model_dump(by_alias=True) for item in body.tags]
        return [{"id": ident} for ident in objects.add_video_tags(session, body.video_id, items)]


@router.post("/videos.tags.add")
def add_video_tag(body: OneVideoTag, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        [ident] = objects.add_video_tags(session, body.video_id, [body.model_dump(by_alias=True)])
        return objects.one_tag_json(session, ident)


@router.post("/annotation-objects.tags.bulk.add")
def add_object_tags(body: ObjectTags, bench: Bench) -> list[dict[str, int]]:
    with bench.database.write() as session:
        items = [item.model_dump(by_alias=True) for item in body.tags]
        return [{"id": ident} for ident in objects.add_object_tags(session, items, body.project_id, body.entity_id)]


@router.post("/annotation-objects.tags.add")
def add_object_tag(body: ObjectTag, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        [ident] = objects.add_object_tags(session, [body.model_dump(by_alias=True)])
        return objects.one_tag_json(session, ident)


def _tag_methods(prefix: str, on_object: bool) -> APIRouter:
    """Changing and removing tags is the same for tags on objects and on videos."""
    group = methods()

    @group.post(f"/{prefix}.tags.update-value")
    def update_value(body: NewValue, bench: Bench) -> dict[str, Any]:
        with bench.database.write() as session:
            return objects.edit_tag(session, body.id, on_object=on_object, changes={"value": body.value})

    @group.post(f"/{prefix}.tags.update")
    def update_range(body: NewRange, bench: Bench) -> dict[str, Any]:
        with bench.database.write() as session:
            return objects.edit_tag(session, body.id, on_object=on_object, changes={"frameRange": body.frame_range})

    @group.post(f"/{prefix}.tags.remove")
    def remove_tag(body: ById, bench: Bench) -> dict[str, bool]:
        with bench.database.write() as session:
            objects.remove_tag(session, body.id, on_object=on_object)
        return SUCCESS

    return group


tag_routers = (_tag_methods("videos", on_object=False), _tag_methods("annotation-objects", on_object=True))
