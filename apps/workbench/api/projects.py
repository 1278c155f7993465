"""Projects, datasets, and the classes and tags of a project's meta."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select

from apps.workbench.api.bodies import SUCCESS, Body, ById, Ident, JsonObject, ListBody, methods
from apps.workbench.bench import Bench
from apps.workbench.store import listing, projects
from apps.workbench.store.errors import Refused, missing
from apps.workbench.store.models import Dataset, ObjectClass, Project, TagMeta

router = methods()


class ProjectList(ListBody):
    workspace_id: Ident | None = None


class NewProject(Body):
    name: str
    workspace_id: Ident
    description: str | None = ""
    type: str = "images"
    readme: str | None = None
    settings: JsonObject | None = None
    custom_data: JsonObject | None = None


class Edit(Body):
    id: Ident
    name: str | None = None
    description: str | None = None
    readme: str | None = None
    custom_data: JsonObject | None = None


class Meta(Body):
    id: Ident
    meta: JsonObject


class NewSettings(Body):
    id: Ident
    settings: JsonObject


class InProject(Body):
    id: Ident
    project_id: Ident


class DatasetList(ListBody):
    project_id: Ident
    recursive: bool = False
    extra_fields: list[str] | None = None


class NewDataset(Body):
    project_id: Ident
    name: str
    description: str | None = ""
    parent_id: Ident | None = None
    custom_data: JsonObject | None = None


class OfProject(ListBody):
    project_id: Ident


class Removal(Body):
    projects: Annotated[list[ById], Field(default_factory=list, max_length=1000)]
    datasets: Annotated[list[ById], Field(default_factory=list, max_length=1000)]


@router.post("/projects.list")
def list_projects(body: ProjectList, bench: Bench) -> dict[str, Any]:
    statement = select(Project)
    if body.workspace_id is not None:
        statement = statement.where(Project.workspace_id == body.workspace_id)
    with bench.database.read() as session:
        return listing.page(
            session,
            statement,
            projects.PROJECT_COLUMNS,
            body.query(),
            lambda rows: projects.projects_json(session, rows),
        )


@router.post("/projects.info")
def project_info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return projects.projects_json(session, [projects.get_project(session, body.id)])[0]


@router.post("/projects.add")
def add_project(body: NewProject, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        return projects.projects_json(session, [projects.add_project(session, **body.model_dump())])[0]


@router.post("/projects.editInfo")
def edit_project(body: Edit, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        project = projects.edit_project(session, body.id, body.model_dump(exclude={"id"}))
        return projects.projects_json(session, [project])[0]


@router.post("/projects.archive")
def archive_project(body: ById, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        projects.get_project(session, body.id)
        projects.remove_projects(session, [body.id])
    return SUCCESS


@router.post("/projects.remove.permanently")
def remove_projects(body: Removal, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        projects.remove_projects(session, [entry.id for entry in body.projects])
    return SUCCESS


@router.post("/projects.meta")
def meta(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return projects.meta_json(session, body.id)


@router.post("/projects.meta.update")
def update_meta(body: Meta, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        projects.update_meta(session, body.id, body.meta)
        return projects.meta_json(session, body.id)


@router.post("/projects.settings")
def settings(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return projects.get_project(session, body.id).settings


@router.post("/projects.settings.update")
def update_settings(body: NewSettings, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        project = projects.get_project(session, body.id)
        project.settings = {**project.settings, **body.settings}
        return project.settings


@router.post("/projects.classes.remove")
def remove_class(body: InProject, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        projects.remove_class(session, body.project_id, body.id)
    return SUCCESS


@router.post("/projects.tags.remove")
def remove_tag(body: InProject, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        projects.remove_tag(session, body.project_id, body.id)
    return SUCCESS


@router.post("/advanced.object_classes.list")
def list_classes(body: OfProject, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        projects.get_project(session, body.project_id)
        return listing.page(
            session,
            select(ObjectClass).where(ObjectClass.project_id == body.project_id),
            projects.CLASS_COLUMNS,
            body.query(),
            projects.classes_json,
        )


@router.post("/advanced.object_classes.info")
def class_info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        found = session.get(ObjectClass, body.id)
        if found is None:
            raise missing("class", body.id)
        return projects.classes_json([found])[0]


@router.post("/tags.list")
def list_tags(body: OfProject, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        projects.get_project(session, body.project_id)
        return listing.page(
            session,
            select(TagMeta).where(TagMeta.project_id == body.project_id),
            projects.TAG_COLUMNS,
            body.query(),
            projects.tag_metas_json,
        )


@router.post("/datasets.list")
def list_datasets(body: DatasetList, bench: Bench) -> dict[str, Any]:
    """Without `recursive` only the datasets at the top, as the platform does."""
    statement = select(Dataset).where(Dataset.project_id == body.project_id)
    if not body.recursive and not any(entry.get("field") == "parentId" for entry in body.filter or ()):
        statement = statement.where(Dataset.parent_id.is_(None))
    with_custom_data = "customData" in (body.extra_fields or ())
    with bench.database.read() as session:
        projects.get_project(session, body.project_id)
        return listing.page(
            session,
            statement,
            projects.DATASET_COLUMNS,
            body.query(),
            lambda rows: projects.datasets_json(session, rows, with_custom_data),
        )


@router.post("/datasets.info")
def dataset_info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return projects.datasets_json(session, [projects.get_dataset(session, body.id)])[0]


@router.post("/datasets.add")
def add_dataset(body: NewDataset, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        dataset = projects.add_dataset(session, **body.model_dump() | {"description": body.description or ""})
        return projects.datasets_json(session, [dataset])[0]


@router.post("/datasets.editInfo")
def edit_dataset(body: Edit, bench: Bench) -> dict[str, Any]:
    if body.readme is not None:
        raise Refused("A dataset has no readme.")
    with bench.database.write() as session:
        dataset = projects.edit_dataset(session, body.id, body.model_dump(exclude={"id", "readme"}))
        return projects.datasets_json(session, [dataset])[0]


@router.post("/datasets.archive")
def archive_dataset(body: ById, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        projects.get_dataset(session, body.id)
        projects.remove_datasets(session, [body.id])
    return SUCCESS


@router.post("/datasets.remove.permanently")
def remove_datasets(body: Removal, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        projects.remove_datasets(session, [entry.id for entry in body.datasets])
    return SUCCESS
