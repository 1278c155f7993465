"""Annotation objects, and tags on objects and on videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from apps.workbench.store import listing
from apps.workbench.store.database import new_ids, now
from apps.workbench.store.errors import Refused, missing
from apps.workbench.store.models import AnnotationObject, ObjectClass, Tag, TagMeta, Video
from apps.workbench.store.projects import USER_ID, get_dataset, get_project
from apps.workbench.store.videos import frames_of, get_blob, get_video, tag_json

COLUMNS: listing.Columns = {
    "id": AnnotationObject.id,
    "datasetId": AnnotationObject.dataset_id,
    "classId": AnnotationObject.class_id,
    "entityId": AnnotationObject.video_id,
    "createdAt": AnnotationObject.created_at,
    "updatedAt": AnnotationObject.updated_at,
}

_TAG_PARTS = {
    "id",
    "tagId",
    "objectId",
    "entityId",
    "videoId",
    "name",
    "value",
    "frameRange",
    "key",
    "createdAt",
    "updatedAt",
}
_TAG_PARTS |= {"labelerLogin", "classId"}


def get_object(session: Session, ident: int) -> AnnotationObject:
    found = session.get(AnnotationObject, ident)
    if found is None:
        raise missing("annotation object", ident)
    return found


def add_objects(session: Session, dataset_id: int, items: Sequence[Mapping[str, Any]]) -> list[int]:
    """items: {"classId", "entityId"?, "description"?, "meta"?}; all or none. Ids in the order of items."""
    dataset = get_dataset(session, dataset_id)
    classes = set(session.scalars(select(ObjectClass.id).where(ObjectClass.project_id == dataset.project_id)))
    videos = set(session.scalars(select(Video.id).where(Video.dataset_id == dataset_id)))
    for number, item in enumerate(items, 1):
        if item["classId"] not in classes:
            raise Refused(f"Object {number}: class {item['classId']} is not one of this project's.")
        if item.get("entityId") is not None and item["entityId"] not in videos:
            raise Refused(f"Object {number}: video {item['entityId']} is not in dataset {dataset_id}.")
    moment = now()
    idents = new_ids(session, "objects", len(items))
    rows = [
        {
            "id": ident,
            "dataset_id": dataset_id,
            "video_id": item.get("entityId"),
            "class_id": item["classId"],
            "description": item.get("description") or "",
            "meta": item.get("meta") or {},
            "created_at": moment,
            "updated_at": moment,
        }
        for ident, item in zip(idents, items, strict=True)
    ]
    if rows:
        session.execute(insert(AnnotationObject), rows)
    return list(idents)


def remove_objects(session: Session, idents: Sequence[int]) -> None:
    """With their figures and tags."""
    session.execute(delete(AnnotationObject).where(AnnotationObject.id.in_(idents)))


def objects_json(session: Session, objects: Sequence[AnnotationObject]) -> list[dict[str, Any]]:
    tags = object_tags(session, [found.id for found in objects])
    return [
        {
            "id": found.id,
            "description": found.description,
            "createdAt": found.created_at,
            "updatedAt": found.updated_at,
            "datasetId": found.dataset_id,
            "classId": found.class_id,
            "entityId": found.video_id,
            "tags": tags.get(found.id, []),
            "meta": found.meta,
            "createdBy": USER_ID,
            "createdById": USER_ID,
        }
        for found in objects
    ]


def object_tags(session: Session, objects: Sequence[int]) -> dict[int | None, list[dict[str, Any]]]:
    """Tags by object id."""
    tags: dict[int | None, list[dict[str, Any]]] = {}
    for start in range(0, len(objects), 10_000):  # SQLite takes about 32 thousand values in one statement
        rows = session.execute(
            select(Tag, TagMeta.name)
            .join(TagMeta)
            .where(Tag.object_id.in_(objects[start : start + 10_000]))
            .order_by(Tag.id)
        )
        for tag, name in rows:
            tags.setdefault(tag.object_id, []).append(tag_json(tag, name))
    return tags


# --- tags -------------------------------------------------------------------------------------------------------------


def add_video_tags(session: Session, video_id: int, items: Sequence[Mapping[str, Any]]) -> list[int]:
    """items: {"tagId", "value"?, "frameRange"?}; all or none. Ids in the order of items."""
    video = get_video(session, video_id)
    metas = project_tags(session, video.project_id)
    frames = frames_of(get_blob(session, video.hash))
    return insert_tags(
        session, [_tag_row(metas, item, number, frames, video_id=video_id) for number, item in enumerate(items, 1)]
    )


def add_object_tags(
    session: Session, items: Sequence[Mapping[str, Any]], project_id: int | None = None, video_id: int | None = None
) -> list[int]:
    """items: {"tagId", "objectId", "value"?, "frameRange"?}.

    project_id: all objects must belong to it. video_id: in multi-view projects, the video on which the tag is.
    """
    if project_id is not None:
        get_project(session, project_id)
    owners = _owners(session, [item["objectId"] for item in items])
    metas = {project: project_tags(session, project) for project in {project for project, _ in owners.values()}}
    frames: dict[int, int] = {}
    rows = []
    for number, item in enumerate(items, 1):
        owner = owners.get(item["objectId"])
        if owner is None or project_id not in (None, owner[0]):
            raise Refused(f"Tag {number}: there is no object {item['objectId']} in this project.")
        on = video_id if video_id is not None else owner[1]
        if on is not None and on not in frames:
            frames[on] = frames_of(get_blob(session, get_video(session, on).hash))
        rows.append(
            _tag_row(
                metas[owner[0]],
                item,
                number,
                None if on is None else frames[on],
                object_id=item["objectId"],
                video_id=video_id,
            )
        )
    return insert_tags(session, rows)


def _owners(session: Session, objects: Sequence[int]) -> dict[int, tuple[int, int | None]]:
    """Project and video of each object."""
    rows = session.execute(
        select(AnnotationObject.id, ObjectClass.project_id, AnnotationObject.video_id)
        .join(ObjectClass)
        .where(AnnotationObject.id.in_(set(objects)))
    )
    return {ident: (project, video) for ident, project, video in rows}


def project_tags(session: Session, project_id: int) -> dict[int, TagMeta]:
    return {meta.id: meta for meta in session.scalars(select(TagMeta).where(TagMeta.project_id == project_id))}


def _tag_row(
    metas: Mapping[int, TagMeta],
    item: Mapping[str, Any],
    number: int,
    frames: int | None,
    video_id: int | None = None,
    object_id: int | None = None,
) -> dict[str, Any]:
    meta = metas.get(item["tagId"])
    if meta is None:
        raise Refused(f"Tag {number}: the project has no tag {item['tagId']}.")
    value = item.get("value")
    check_value(meta, value, number)
    first, last = _frame_range(item.get("frameRange"), frames, number)
    moment = now()
    return {
        "tag_meta_id": meta.id,
        "video_id": video_id,
        "object_id": object_id,
        "value": value,
        "first_frame": first,
        "last_frame": last,
        "extra": {key: part for key, part in item.items() if key not in _TAG_PARTS},
        "created_at": moment,
        "updated_at": moment,
    }


def check_value(meta: TagMeta, value: Any, number: int) -> None:
    match meta.value_type:
        case "none":
            good = value is None
        case "any_number":
            good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "any_string" | "date_time":
            good = isinstance(value, str)
        case "oneof_string":
            good = value in (meta.data.get("values") or [])
        case _:
            good = True
    if not good:
        raise Refused(f"Tag {number}: {str(value)[:80]!r} is not a value for {meta.name!r} ({meta.value_type}).")


def _frame_range(value: Any, frames: int | None, number: int) -> tuple[int | None, int | None]:
    if value is None:
        return None, None
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(type(v) is int for v in value):
        raise Refused(f"Tag {number}: a frame range is two whole numbers, first and last frame.")
    first, last = value
    if not 0 <= first <= last or (frames is not None and last >= frames):
        end = "" if frames is None else f" (the video has {frames} frames)"
        raise Refused(f"Tag {number}: frames {first} to {last} are not a range of this video{end}.")
    return first, last


def insert_tags(session: Session, rows: list[dict[str, Any]]) -> list[int]:
    idents = new_ids(session, "tags", len(rows))
    for ident, row in zip(idents, rows, strict=True):
        row["id"] = ident
    if rows:
        session.execute(insert(Tag), rows)
    return list(idents)


def one_tag_json(session: Session, ident: int) -> dict[str, Any]:
    tag = session.get_one(Tag, ident)
    return tag_json(tag, session.get_one(TagMeta, tag.tag_meta_id).name)


def edit_tag(session: Session, ident: int, *, on_object: bool, changes: Mapping[str, Any]) -> dict[str, Any]:
    """changes: "value" and/or "frameRange". on_object: whether the id must be of an object's tag or of a video's."""
    tag = _get_tag(session, ident, on_object)
    meta = session.get_one(TagMeta, tag.tag_meta_id)
    if "value" in changes:
        check_value(meta, changes["value"], 1)
        tag.value = changes["value"]
    if "frameRange" in changes:
        video_id = tag.video_id
        if video_id is None and tag.object_id is not None:
            video_id = get_object(session, tag.object_id).video_id
        frames = None if video_id is None else frames_of(get_blob(session, get_video(session, video_id).hash))
        tag.first_frame, tag.last_frame = _frame_range(changes["frameRange"], frames, 1)
    tag.updated_at = now()
    return tag_json(tag, meta.name)


def remove_tag(session: Session, ident: int, *, on_object: bool) -> None:
    session.delete(_get_tag(session, ident, on_object))


def _get_tag(session: Session, ident: int, on_object: bool) -> Tag:
    tag = session.get(Tag, ident)
    other = tag is not None and (tag.image_id is not None or tag.label_id is not None)
    if tag is None or other or (tag.object_id is not None) != on_object:
        raise missing("tag on an object" if on_object else "tag on a video", ident)
    return tag
