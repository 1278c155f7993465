"""App sessions: what the SDK asks about them, requests that go through to apps, and starting and stopping them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from apps.workbench.api.bodies import SUCCESS, Body, ById, Ident, JsonObject, ListBody, methods
from apps.workbench.bench import Bench, Workbench
from apps.workbench.proxy import check_app_url, post_to_app, url_of_task
from apps.workbench.specs import AppSpec
from apps.workbench.store import listing, tasks
from apps.workbench.store.database import now
from apps.workbench.store.errors import missing
from apps.workbench.store.listing import page_of
from apps.workbench.store.models import Task

router = methods()
page_router = APIRouter(prefix="/workbench")

STARTS_A_TRACK = {"track", "track_async", "continue_track", "track_stream", "interpolate"}


class GetFields(Body):
    task_id: Ident
    fields: list[str]


class SetFields(Body):
    task_id: Ident
    fields: list[JsonObject]


class AppContent(Body):
    task_id: Ident
    payload: JsonObject = Field(default_factory=dict)


class Output(Body):
    task_id: Ident
    output: JsonObject


class Status(Body):
    id: Ident
    status: str


class Meta(Body):
    model_config = ConfigDict(extra="allow")
    id: Ident


class Direct(Body):
    task_id: Ident
    command: Annotated[str, Field(pattern=r"^/?[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=200)]
    context: JsonObject | None = None
    state: JsonObject | None = None
    skip_response: bool = False
    timeout: Annotated[float | None, Field(gt=0, le=86_400)] = 60.0


class RunApp(Body):
    app_id: Ident | None = None
    module_id: Ident | None = None
    task_name: str | None = None


class OfApp(ListBody):
    app_id: Ident | None = None


class Search(ListBody):
    search: str | None = None


class Registration(Body):
    """An app that somebody else started."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    url: str
    config: JsonObject = Field(default_factory=dict)


class Start(Body):
    app: str


@router.post("/tasks.info")
def info(body: ById, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return tasks.task_json(tasks.get_task(session, body.id))


@router.post("/tasks.list")
def list_tasks(body: ListBody, bench: Bench) -> dict[str, Any]:
    filters = [entry for entry in body.filter or () if entry.get("field") != "type"]  # all of ours are app sessions
    query = body.model_copy(update={"filter": filters}).query()
    with bench.database.read() as session:
        return listing.page(
            session, select(Task), tasks.COLUMNS, query, lambda rows: [tasks.task_json(row) for row in rows]
        )


@router.post("/apps.tasks.list")
def list_tasks_of_app(body: OfApp, bench: Bench) -> dict[str, Any]:
    names = [spec.name for spec in bench.supervisor.specs.values() if tasks.app_ident(spec.name) == body.app_id]
    with bench.database.read() as session:
        if not names:  # a registered app has no spec, only sessions
            every = session.scalars(select(Task.app).distinct()).all()
            names = [name for name in every if tasks.app_ident(name) == body.app_id]
        return listing.page(
            session,
            select(Task).where(Task.app.in_(names)),
            tasks.COLUMNS,
            body.query(),
            lambda rows: [tasks.task_json(row) for row in rows],
        )


@router.post("/tasks.data.get")
def get_fields(body: GetFields, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        fields = tasks.get_task(session, body.task_id).fields
        return {"result": {name: fields.get(name) for name in body.fields}}


@router.post("/tasks.data.set")
def set_fields(body: SetFields, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        tasks.set_fields(session, body.task_id, body.fields)
    return {"taskId": body.task_id}


@router.post("/tasks.app-v2.data.set")
def set_app_content(body: AppContent, bench: Bench) -> dict[str, Any]:
    """GUI apps report every change of their page. Nobody reads it here: an app's page gets it from the app itself."""
    with bench.database.read() as session:
        tasks.get_task(session, body.task_id)
    return {"taskId": body.task_id, "success": True}


@router.post("/tasks.output.set")
def set_output(body: Output, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        task = tasks.get_task(session, body.task_id)
        tasks.change_task(session, body.task_id, output={**task.output, **body.output})
    return {"taskId": body.task_id}


@router.post("/tasks.status.update")
def set_status(body: Status, bench: Bench) -> dict[str, Any]:
    with bench.database.write() as session:
        tasks.change_task(session, body.id, status=body.status)
    return {"id": body.id, "status": body.status}


@router.post("/tasks.meta.update")
def set_meta(body: Meta, bench: Bench) -> dict[str, bool]:
    changes = {key: value for key, value in (body.model_extra or {}).items() if key not in {"app", "sessionToken"}}
    with bench.database.write() as session:
        task = tasks.get_task(session, body.id)
        tasks.change_task(session, body.id, meta={**task.meta, **changes})
    return SUCCESS


@router.post("/tasks.logs.add")
def add_logs() -> dict[str, bool]:
    """Apps write their logs to their own output, which the supervisor keeps."""
    return SUCCESS


@router.post("/tasks.request.direct")
async def request_direct(body: Direct, bench: Bench) -> Response:
    """Passes a command on to the app of a task; its answer and status unchanged."""
    url = await url_of_task(bench, body.task_id)
    context = body.context or {}
    if body.command.lstrip("/") in STARTS_A_TRACK and context.get("trackId") is not None:
        bench.hub.resume(str(context["trackId"]))
    envelope = {
        "state": body.state or {},
        "context": context,
        "server_address": bench.settings.address,
        "api_token": bench.token,
    }
    reply = await post_to_app(bench, url, body.command, envelope, body.timeout or 60.0)
    if body.skip_response and reply.status_code < 400:
        return JSONResponse(SUCCESS)
    return reply


# --- starting and stopping --------------------------------------------------------------------------------------------


def _spec_by_ident(bench: Workbench, ident: int | None) -> AppSpec:
    for spec in bench.supervisor.specs.values():
        if tasks.app_ident(spec.name) == ident:
            return spec
    raise missing("app", ident)


def _app_json(spec: AppSpec) -> dict[str, Any]:
    ident = tasks.app_ident(spec.name)
    return {
        "id": ident,
        "moduleId": ident,
        "name": spec.config.get("name", spec.name),
        "slug": f"workbench/{spec.name}",
        "type": "app",
        "config": dict(spec.config),
        "meta": {"releases": []},
        "repo": f"workbench/{spec.name}",
        "createdAt": now(),
        "updatedAt": now(),
        "createdBy": 1,
        "disabled": False,
        "userId": 1,
        "version": "",
        "isShared": False,
        "tasks": [],
    }


@router.post("/apps.list")
def list_apps(body: ListBody, bench: Bench) -> dict[str, Any]:
    found = [_app_json(spec) for spec in bench.supervisor.specs.values()]
    for entry in body.filter or ():
        found = [app for app in found if app.get(entry.get("field", "")) == entry.get("value")]
    return page_of(found)


@router.post("/ecosystem.list")
def list_ecosystem(body: Search, bench: Bench) -> dict[str, Any]:
    found = [_app_json(spec) for spec in bench.supervisor.specs.values()]
    for entry in body.filter or ():
        if entry.get("field") in {"slug", "id", "moduleId", "name"}:
            found = [app for app in found if app[entry["field"]] == entry.get("value")]
    if body.search:
        found = [app for app in found if body.search.lower() in f"{app['name']} {app['slug']}".lower()]
    return page_of(found)


@router.post("/ecosystem.info")
@router.post("/apps.info")
def app_info(body: ById, bench: Bench) -> dict[str, Any]:
    return _app_json(_spec_by_ident(bench, body.id))


@router.post("/tasks.run.app")
async def run_app(body: RunApp, bench: Bench) -> list[dict[str, Any]]:
    spec = _spec_by_ident(bench, body.module_id if body.module_id is not None else body.app_id)
    return [tasks.task_json(await bench.supervisor.start(spec.name, body.task_name or ""))]


@router.post("/tasks.stop")
async def stop_task(body: ById, bench: Bench) -> dict[str, Any]:
    await bench.supervisor.stop(body.id)

    def note() -> None:
        with bench.database.write() as session:
            tasks.change_task(session, body.id, status="stopped", url=None)

    await run_in_threadpool(note)
    return {"id": body.id, "status": "stopped"}


@page_router.post("/apps/start")
async def start_app(body: Start, bench: Bench) -> dict[str, Any]:
    if body.app not in bench.supervisor.specs:
        raise missing("app", body.app)
    return tasks.task_json(await bench.supervisor.start(body.app))


@page_router.post("/apps/register")
def register_app(body: Registration, bench: Bench) -> dict[str, Any]:
    """Makes an app that runs already known by a task number, so that requests can be passed on to it."""
    url = check_app_url(body.url, bench.settings.allow_remote_apps)
    with bench.database.write() as session:
        return tasks.task_json(
            tasks.add_task(session, app=body.name, name=body.name, config=body.config, url=url, status="started")
        )
