"""Projects, their datasets and their meta (object classes and tags)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from apps.workbench.store import listing
from apps.workbench.store.database import now
from apps.workbench.store.errors import NotFound, Refused, missing
from apps.workbench.store.models import (
    AnnotationObject,
    Blob,
    Dataset,
    Image,
    Label,
    ObjectClass,
    Project,
    Tag,
    TagMeta,
    Video,
)
from apps.workbench.store.names import filename, label

TEAM_ID = 1
WORKSPACE_ID = 1
USER_ID = 1
KINDS = ("videos", "images")

PROJECT_COLUMNS: listing.Columns = {
    "id": Project.id,
    "name": Project.name,
    "title": Project.name,
    "type": Project.type,
    "workspaceId": Project.workspace_id,
    "createdAt": Project.created_at,
    "updatedAt": Project.updated_at,
}
DATASET_COLUMNS: listing.Columns = {
    "id": Dataset.id,
    "name": Dataset.name,
    "title": Dataset.name,
    "projectId": Dataset.project_id,
    "parentId": Dataset.parent_id,
    "createdAt": Dataset.created_at,
    "updatedAt": Dataset.updated_at,
}
CLASS_COLUMNS: listing.Columns = {
    "id": ObjectClass.id,
    "name": ObjectClass.name,
    "shape": ObjectClass.shape,
    "createdAt": ObjectClass.created_at,
}
TAG_COLUMNS: listing.Columns = {"id": TagMeta.id, "name": TagMeta.name, "createdAt": TagMeta.created_at}


def get_project(session: Session, ident: int) -> Project:
    project = session.get(Project, ident)
    if project is None:
        raise missing("project", ident)
    return project


def require_kind(session: Session, project_id: int, kind: str) -> None:
    """Raises `Refused` when the project holds something else."""
    project = get_project(session, project_id)
    if project.type != kind:
        raise Refused(f"The project {project.name!r} holds {project.type}, so it takes no {kind}.")


def get_dataset(session: Session, ident: int) -> Dataset:
    dataset = session.get(Dataset, ident)
    if dataset is None:
        raise missing("dataset", ident)
    return dataset


def add_project(session: Session, *, name: str, workspace_id: int, type: str, **rest: Any) -> Project:
    label(name, "project")
    if workspace_id != WORKSPACE_ID:
        raise missing("workspace", workspace_id)
    if type not in KINDS:
        raise Refused(f"The workbench holds projects of videos or images, not of {type!r}.")
    _require_free_project_name(session, workspace_id, name)
    moment = now()
    project = Project(
        workspace_id=workspace_id,
        name=name,
        type=type,
        description=rest.get("description") or "",
        readme=rest.get("readme") or "",
        settings=rest.get("settings") or {},
        custom_data=rest.get("custom_data") or {},
        created_at=moment,
        updated_at=moment,
    )
    session.add(project)
    session.flush()
    return project


def edit_project(session: Session, ident: int, changes: Mapping[str, Any]) -> Project:
    """changes: any of name, description, readme, custom_data."""
    project = get_project(session, ident)
    name = changes.get("name")
    if name is not None and name != project.name:
        _require_free_project_name(session, project.workspace_id, label(name, "project"))
    for field, value in changes.items():
        if value is not None:
            setattr(project, field, value)
    project.updated_at = now()
    return project


def _require_free_project_name(session: Session, workspace_id: int, name: str) -> None:
    taken = select(Project.id).where(Project.workspace_id == workspace_id, Project.name == name)
    if session.scalar(taken) is not None:
        raise Refused(f"There is a project named {name!r} already.")


def remove_projects(session: Session, idents: Sequence[int]) -> None:
    session.execute(delete(Project).where(Project.id.in_(idents)))


def add_dataset(
    session: Session,
    *,
    project_id: int,
    name: str,
    description: str = "",
    parent_id: int | None = None,
    custom_data: dict[str, Any] | None = None,
) -> Dataset:
    filename(name, "dataset")
    get_project(session, project_id)
    if parent_id is not None and get_dataset(session, parent_id).project_id != project_id:
        raise Refused(f"Dataset {parent_id} belongs to another project, so it cannot be the parent.")
    _require_free_dataset_name(session, project_id, parent_id, name)
    moment = now()
    dataset = Dataset(
        project_id=project_id,
        parent_id=parent_id,
        name=name,
        description=description,
        custom_data=custom_data or {},
        created_at=moment,
        updated_at=moment,
    )
    session.add(dataset)
    session.flush()
    return dataset


def edit_dataset(session: Session, ident: int, changes: Mapping[str, Any]) -> Dataset:
    """changes: any of name, description, custom_data."""
    dataset = get_dataset(session, ident)
    name = changes.get("name")
    if name is not None and name != dataset.name:
        _require_free_dataset_name(session, dataset.project_id, dataset.parent_id, filename(name, "dataset"))
    for field, value in changes.items():
        if value is not None:
            setattr(dataset, field, value)
    dataset.updated_at = now()
    return dataset


def _require_free_dataset_name(session: Session, project_id: int, parent_id: int | None, name: str) -> None:
    taken = select(Dataset.id).where(
        Dataset.project_id == project_id, Dataset.parent_id.is_not_distinct_from(parent_id), Dataset.name == name
    )
    if session.scalar(taken) is not None:
        raise Refused(f"There is a dataset named {name!r} here already.")


def remove_datasets(session: Session, idents: Sequence[int]) -> None:
    session.execute(delete(Dataset).where(Dataset.id.in_(idents)))


def projects_json(session: Session, projects: Sequence[Project]) -> list[dict[str, Any]]:
    idents = [project.id for project in projects]
    datasets = dict(
        session.execute(
            select(Dataset.project_id, func.count()).where(Dataset.project_id.in_(idents)).group_by(Dataset.project_id)
        ).all()
    )
    items = _item_counts(session, "project_id", idents)
    return [
        {
            "id": project.id,
            "name": project.name,
            "title": project.name,
            "description": project.description,
            "size": str(items.get(project.id, (0, 0))[1]),
            "readme": project.readme,
            "workspaceId": project.workspace_id,
            "imagesCount": items.get(project.id, (0, 0))[0],
            "itemsCount": items.get(project.id, (0, 0))[0],
            "datasetsCount": datasets.get(project.id, 0),
            "createdAt": project.created_at,
            "updatedAt": project.updated_at,
            "type": project.type,
            "referenceImageUrl": None,
            "customData": project.custom_data,
            "backupArchive": {},
            "teamId": TEAM_ID,
            "groupId": TEAM_ID,
            "settings": project.settings,
            "importSettings": {},
            "version": None,
            "createdBy": USER_ID,
            "createdById": USER_ID,
            "embeddingsEnabled": False,
            "embeddingsUpdatedAt": None,
            "embeddingsInProgress": False,
            "localEntitiesCount": items.get(project.id, (0, 0))[0],
            "remoteEntitiesCount": 0,
        }
        for project in projects
    ]


def datasets_json(session: Session, datasets: Sequence[Dataset], custom_data: bool = True) -> list[dict[str, Any]]:
    """custom_data: lists leave it out, because the SDK hashes what lists return and a dict has no hash."""
    items = _item_counts(session, "dataset_id", [dataset.id for dataset in datasets])
    return [
        {
            "id": dataset.id,
            "name": dataset.name,
            "title": dataset.name,
            "description": dataset.description,
            "size": str(items.get(dataset.id, (0, 0))[1]),
            "projectId": dataset.project_id,
            "imagesCount": items.get(dataset.id, (0, 0))[0],
            "itemsCount": items.get(dataset.id, (0, 0))[0],
            "createdAt": dataset.created_at,
            "updatedAt": dataset.updated_at,
            "referenceImageUrl": None,
            "teamId": TEAM_ID,
            "workspaceId": WORKSPACE_ID,
            "parentId": dataset.parent_id,
            "createdBy": USER_ID,
        }
        | ({"customData": dataset.custom_data} if custom_data else {})
        for dataset in datasets
    ]


def _item_counts(session: Session, by: str, idents: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Number of videos or images and of their bytes. by: "project_id" or "dataset_id"."""
    found: dict[int, tuple[int, int]] = {}
    kinds: tuple[type[Video] | type[Image], ...] = (Video, Image)
    for kind in kinds:
        column = getattr(kind, by)
        rows = session.execute(
            select(column, func.count(), func.sum(Blob.size))
            .join(Blob, Blob.hash == kind.hash)
            .where(column.in_(idents))
            .group_by(column)
        )
        found |= {ident: (count, size) for ident, count, size in rows}
    return found


# --- meta -------------------------------------------------------------------------------------------------------------


def meta_json(session: Session, project_id: int) -> dict[str, Any]:
    """The project's meta with ids. No "projectSettings": the SDK reads them from the project."""
    project = get_project(session, project_id)
    classes = session.scalars(select(ObjectClass).where(ObjectClass.project_id == project_id).order_by(ObjectClass.id))
    tags = session.scalars(select(TagMeta).where(TagMeta.project_id == project_id).order_by(TagMeta.id))
    return {
        "classes": [{**entry.data, "id": entry.id} for entry in classes],
        "tags": [{**entry.data, "id": entry.id} for entry in tags],
        "projectType": project.type,
    }


def update_meta(session: Session, project_id: int, meta: Mapping[str, Any]) -> None:
    """Merges: entries are known by name and keep their ids, new ones are added, absent ones stay.

    Staying is deliberate. Two apps that each add a class read the meta, change it and send it back; replacing would
    delete the other's class with every figure of it. `remove_class` and `remove_tag` delete on purpose.
    """
    project = get_project(session, project_id)
    for data in meta.get("classes") or ():
        _merge_class(session, project_id, data)
    for data in meta.get("tags") or ():
        _merge_tag(session, project_id, data)
    project.updated_at = now()


def _merge_class(session: Session, project_id: int, data: Mapping[str, Any]) -> None:
    name, shape = data.get("title"), data.get("shape")
    if not isinstance(name, str) or not isinstance(shape, str):
        raise Refused("Every class of a meta needs a title and a shape.")
    label(name, "class")
    data = {key: value for key, value in data.items() if key != "id"}
    found = session.scalar(select(ObjectClass).where(ObjectClass.project_id == project_id, ObjectClass.name == name))
    moment = now()
    if found is None:
        session.add(
            ObjectClass(project_id=project_id, name=name, shape=shape, data=data, created_at=moment, updated_at=moment)
        )
        session.flush()
        return
    used = (select(table.id).where(table.class_id == found.id).limit(1) for table in (AnnotationObject, Label))
    if shape not in (found.shape, "any") and any(session.scalar(one) for one in used):
        raise Refused(f"Class {name!r} has objects of shape {found.shape!r}, so its shape cannot become {shape!r}.")
    found.shape, found.data, found.updated_at = shape, data, moment


def _merge_tag(session: Session, project_id: int, data: Mapping[str, Any]) -> None:
    name, value_type = data.get("name"), data.get("value_type")
    if not isinstance(name, str) or not isinstance(value_type, str):
        raise Refused("Every tag of a meta needs a name and a value_type.")
    label(name, "tag")
    data = {key: value for key, value in data.items() if key != "id"}
    found = session.scalar(select(TagMeta).where(TagMeta.project_id == project_id, TagMeta.name == name))
    moment = now()
    if found is None:
        session.add(
            TagMeta(
                project_id=project_id, name=name, value_type=value_type, data=data, created_at=moment, updated_at=moment
            )
        )
        session.flush()
        return
    if value_type != found.value_type and session.scalar(select(Tag.id).where(Tag.tag_meta_id == found.id).limit(1)):
        raise Refused(
            f"Tag {name!r} is in use with values of type {found.value_type!r}; it cannot become {value_type!r}."
        )
    found.value_type, found.data, found.updated_at = value_type, data, moment


def remove_class(session: Session, project_id: int, ident: int) -> None:
    """Deletes a class with its objects and their figures."""
    if session.get(ObjectClass, ident) is None:
        raise NotFound(f"There is no class with id {ident}.")
    session.execute(delete(ObjectClass).where(ObjectClass.id == ident, ObjectClass.project_id == project_id))


def remove_tag(session: Session, project_id: int, ident: int) -> None:
    """Deletes a tag from the meta and from everything that carries it."""
    if session.get(TagMeta, ident) is None:
        raise NotFound(f"There is no tag with id {ident}.")
    session.execute(delete(TagMeta).where(TagMeta.id == ident, TagMeta.project_id == project_id))


def classes_json(classes: Sequence[ObjectClass]) -> list[dict[str, Any]]:
    return [
        {
            "id": entry.id,
            "name": entry.name,
            "description": entry.data.get("description") or "",
            "shape": entry.shape,
            "color": entry.data.get("color", "#FF0000"),
            "createdAt": entry.created_at,
            "updatedAt": entry.updated_at,
            "settings": entry.data.get("geometry_config") or {},
            "hotkey": entry.data.get("hotkey") or "",
            "projectId": entry.project_id,
        }
        for entry in classes
    ]


def tag_metas_json(tags: Sequence[TagMeta]) -> list[dict[str, Any]]:
    return [
        {
            "id": entry.id,
            "projectId": entry.project_id,
            "name": entry.name,
            "settings": {"type": entry.value_type}
            | ({"values": entry.data["values"]} if "values" in entry.data else {}),
            "color": entry.data.get("color", "#FF0000"),
            "hotkey": entry.data.get("hotkey") or "",
            "createdAt": entry.created_at,
            "updatedAt": entry.updated_at,
        }
        for entry in tags
    ]
