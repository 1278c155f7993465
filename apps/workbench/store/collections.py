"""Collections: named selections of a project's images or videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from apps.workbench.store import listing
from apps.workbench.store.database import now
from apps.workbench.store.errors import Refused, missing
from apps.workbench.store.models import Collection, CollectionItem, Image, Video
from apps.workbench.store.names import label
from apps.workbench.store.projects import TEAM_ID, get_project

COLUMNS: listing.Columns = {
    "id": Collection.id,
    "name": Collection.name,
    "type": Collection.type,
    "projectId": Collection.project_id,
    "createdAt": Collection.created_at,
    "updatedAt": Collection.updated_at,
}


def get_collection(session: Session, ident: int) -> Collection:
    found = session.get(Collection, ident)
    if found is None:
        raise missing("collection", ident)
    return found


def add_collection(session: Session, project_id: int, name: str, description: str, type: str) -> Collection:
    get_project(session, project_id)
    if type != "default":
        raise Refused(f"Collections of type {type!r} are not part of the workbench.")
    _require_free(session, project_id, label(name, "collection"))
    moment = now()
    made = Collection(
        project_id=project_id,
        name=name,
        description=description,
        type=type,
        meta={},
        created_at=moment,
        updated_at=moment,
    )
    session.add(made)
    session.flush()
    return made


def edit_collection(session: Session, ident: int, changes: Mapping[str, Any]) -> Collection:
    """changes: any of name, description."""
    found = get_collection(session, ident)
    name = changes.get("name")
    if name is not None and name != found.name:
        _require_free(session, found.project_id, label(name, "collection"))
    for field, value in changes.items():
        if value is not None:
            setattr(found, field, value)
    found.updated_at = now()
    return found


def _require_free(session: Session, project_id: int, name: str) -> None:
    if session.scalar(select(Collection.id).where(Collection.project_id == project_id, Collection.name == name)):
        raise Refused(f"There is a collection named {name!r} already.")


def remove_collection(session: Session, ident: int) -> None:
    get_collection(session, ident)
    session.execute(delete(Collection).where(Collection.id == ident))


def add_items(session: Session, ident: int, entities: Sequence[int]) -> dict[str, Any]:
    """{"items", "missing"}: those that are in the collection now, and those that the project does not have."""
    collection = get_collection(session, ident)
    column, there = _kind(session, collection, entities)
    moment = now()
    known = _items(session, ident, column, entities)
    for entity in dict.fromkeys(entities):
        if entity in there and entity not in known:
            session.add(CollectionItem(collection_id=ident, created_at=moment, **{column: entity}))
    session.flush()
    known = _items(session, ident, column, entities)
    items = [{"id": known[e].id, "entityId": e, "createdAt": known[e].created_at} for e in entities if e in known]
    return {"items": items, "missing": [{"id": entity} for entity in entities if entity not in there]}


def remove_items(session: Session, ident: int, entities: Sequence[int]) -> dict[str, Any]:
    collection = get_collection(session, ident)
    column, _ = _kind(session, collection, entities)
    known = _items(session, ident, column, entities)
    session.execute(delete(CollectionItem).where(CollectionItem.id.in_([item.id for item in known.values()])))
    items = [{"id": item.id, "entityId": entity} for entity, item in known.items()]
    return {"items": items, "missing": [{"id": entity} for entity in entities if entity not in known]}


def _kind(session: Session, collection: Collection, entities: Sequence[int]) -> tuple[str, set[int]]:
    """The column that items of this project use, and which of the entities the project has."""
    if get_project(session, collection.project_id).type == "images":
        chosen = select(Image.id).where(Image.project_id == collection.project_id, Image.id.in_(entities))
        return "image_id", set(session.scalars(chosen))
    chosen = select(Video.id).where(Video.project_id == collection.project_id, Video.id.in_(entities))
    return "video_id", set(session.scalars(chosen))


def _items(session: Session, ident: int, column: str, entities: Sequence[int]) -> dict[int, CollectionItem]:
    owner = getattr(CollectionItem, column)
    rows = session.scalars(select(CollectionItem).where(CollectionItem.collection_id == ident, owner.in_(entities)))
    return {getattr(item, column): item for item in rows}


def collected_videos(session: Session, rules: Sequence[Mapping[str, Any]]) -> list[ColumnElement[bool]]:
    """Conditions of the platform's filters {"type": "entities_collection", "data": {"collectionId", "include"?}}."""
    found = []
    for rule in rules:
        data = rule.get("data") or {}
        ident = get_collection(session, int(data.get("collectionId") or 0)).id
        chosen = Video.id.in_(select(CollectionItem.video_id).where(CollectionItem.collection_id == ident))
        found.append(chosen if data.get("include", True) else ~chosen)
    return found


def collections_json(collections: Sequence[Collection]) -> list[dict[str, Any]]:
    return [
        {
            "id": one.id,
            "teamId": TEAM_ID,
            "projectId": one.project_id,
            "name": one.name,
            "description": one.description,
            "options": {},
            "type": one.type,
            "meta": one.meta,
            "createdAt": one.created_at,
            "updatedAt": one.updated_at,
        }
        for one in collections
    ]
