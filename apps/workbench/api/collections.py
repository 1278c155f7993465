"""Collections of a project's images or videos."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select

from apps.workbench.api.bodies import SUCCESS, Body, ById, Ident, Idents, ListBody, methods
from apps.workbench.bench import Bench
from apps.workbench.store import collections, listing
from apps.workbench.store.models import Collection
from apps.workbench.store.projects import get_project

router = methods()


class NewCollection(Body):
    project_id: Ident
    name: str
    description: str | None = ""
    type: str = "default"


class CollectionList(ListBody):
    project_id: Ident
    type: str | None = None


class Edit(Body):
    id: Ident
    name: str | None = None
    description: str | None = None


class Item(Body):
    entity_id: Ident


class Items(Body):
    collection_id: Ident
    entity_ids: Idents | None = None
    entity_items: Annotated[list[Item], Field(max_length=50_000)] | None = None

    @property
    def idents(self) -> list[int]:
        return [*(self.entity_ids or ()), *(item.entity_id for item in self.entity_items or ())]


@router.post("/entities-collections.add")
def add(body: NewCollection, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        made = collections.add_collection(session, body.project_id, body.name, body.description or "", body.type)
        return collections.collections_json([made])[0]


@router.post("/entities-collections.list")
def list_collections(body: CollectionList, bench: Bench) -> dict[str, Any]:
    statement = select(Collection).where(Collection.project_id == body.project_id)
    if body.type is not None:
        statement = statement.where(Collection.type == body.type)
    with bench.database.read() as session:
        get_project(session, body.project_id)
        return listing.page(
            session, statement, collections.COLUMNS, body.query(), lambda rows: collections.collections_json(rows)
        )


@router.post("/entities-collections.info")
def info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return collections.collections_json([collections.get_collection(session, body.id)])[0]


@router.post("/entities-collections.editInfo")
def edit(body: Edit, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        changed = collections.edit_collection(session, body.id, body.model_dump(exclude={"id"}))
        return collections.collections_json([changed])[0]


@router.post("/entities-collections.remove")
def remove(body: ById, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        collections.remove_collection(session, body.id)
    return SUCCESS


@router.post("/entities-collections.items.bulk.add")
def add_items(body: Items, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        return collections.add_items(session, body.collection_id, body.idents)


@router.post("/entities-collections.items.bulk.remove")
def remove_items(body: Items, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        return collections.remove_items(session, body.collection_id, body.idents)
