"""The annotator's addresses: the page and its files, letting a browser in, and what the page asks beyond the REST methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Form, Query, Request
from pydantic import Field
from sqlalchemy import select
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from apps.workbench import proxy
from apps.workbench.annotator import changes, exporting, history, importing, reading
from apps.workbench.annotator.access import SECURITY_HEADERS, cookie_name, cookie_value, is_local
from apps.workbench.annotator.trackers import tracker_cards
from apps.workbench.annotator.uploads import Uploads
from apps.workbench.api.bodies import Body, Ident, JsonObject
from apps.workbench.bench import Bench, Workbench
from apps.workbench.importing import add_upload
from apps.workbench.security import same
from apps.workbench.store import projects, tasks, videos
from apps.workbench.store.errors import Refused
from apps.workbench.store.models import Task
from apps.workbench.store.names import filename

STATIC = Path(__file__).with_name("static")
UPLOADS_PROJECT = "My videos"
PIECE_BYTES = 32 << 20
RUNNING = ("started", "deployed")

open_router = APIRouter()
router = APIRouter(prefix="/workbench/annotator")
app_router = APIRouter(prefix="/app")
routers = (open_router, router, app_router)

Ranged = Annotated[int, Query(ge=0)]


class _Static(StaticFiles):
    """Always asked for again (an unchanged file costs a 304): after an update no browser runs half of the old page."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        reply = super().file_response(*args, **kwargs)
        reply.headers.update({**SECURITY_HEADERS, "cache-control": "no-cache"})
        return reply


def mount(app: FastAPI) -> None:
    bench: Workbench = app.state.workbench
    app.state.uploads = Uploads(bench.settings.data / "uploads", bench.settings.max_upload_bytes)
    app.mount("/annotator/static", _Static(directory=STATIC), name="annotator")


# --- letting a browser in ---------------------------------------------------------------------------------------------


@open_router.get("/")
def page(request: Request, bench: Bench) -> Response:
    """The page, and with it the cookie for browsers of this machine; others must show the token first."""
    local = is_local(request.scope)
    known = request.cookies.get(cookie_name(bench.settings.port), "")
    if not local and not same(known, cookie_value(bench.token)):
        return HTMLResponse((STATIC / "login.html").read_text("utf-8"), 401, SECURITY_HEADERS)
    reply = HTMLResponse(
        (STATIC / "index.html").read_text("utf-8"), headers={**SECURITY_HEADERS, "cache-control": "no-store"}
    )
    _let_in(reply, bench)
    return reply


@open_router.post("/login")
def login(bench: Bench, token: Annotated[str, Form(max_length=1000)]) -> Response:
    if not same(token.strip(), bench.token):
        return HTMLResponse((STATIC / "login.html").read_text("utf-8"), 401, SECURITY_HEADERS)
    reply = RedirectResponse("/", 303, SECURITY_HEADERS)
    _let_in(reply, bench)
    return reply


def _let_in(reply: Response, bench: Workbench) -> None:
    reply.set_cookie(
        cookie_name(bench.settings.port), cookie_value(bench.token), httponly=True, samesite="strict", path="/"
    )


# --- reading ----------------------------------------------------------------------------------------------------------


@router.get("/videos")
def list_videos(bench: Bench) -> list[dict[str, Any]]:
    with bench.database.read() as session:
        return reading.list_videos(session)


@router.get("/videos/{video_id}")
async def open_video(video_id: Ident, bench: Bench) -> dict[str, Any]:
    """All the page needs to begin. event: number of the last event, after which it listens for more."""
    event = bench.hub.last

    def read() -> dict[str, Any]:
        with bench.database.read() as session:
            return {**reading.opened(session, video_id), "history": history.labels(session, video_id)}

    return {**await run_in_threadpool(read), "event": event, "tracks": bench.hub.running(video_id)}


@router.get("/videos/{video_id}/figures")
def list_figures(video_id: Ident, bench: Bench, first: Ranged = 0, last: Ranged = 0) -> dict[str, Any]:
    with bench.database.read() as session:
        return reading.figures(session, video_id, first, last)


@router.get("/videos/{video_id}/timeline")
def show_timeline(video_id: Ident, bench: Bench, first: Ranged = 0, last: Ranged = 2**31) -> dict[str, Any]:
    """The objects, and one byte per frame of each on the frames first..last."""
    with bench.database.read() as session:
        video = videos.get_video(session, video_id)
        return {
            "first": first,
            "last": last,
            "objects": reading.objects(session, video_id, reading.describe(session, video)["frames"]),
            "timeline": reading.timeline(session, video_id, first, last),
            "history": history.labels(session, video_id),
        }


# --- changing ---------------------------------------------------------------------------------------------------------


class Changes(Body):
    label: Annotated[str, Field(min_length=1, max_length=200)]
    changes: Annotated[list[changes.Change], Field(min_length=1, max_length=1000)]
    page: Annotated[str, Field(max_length=40)] = ""
    request: Annotated[str, Field(max_length=40)] = ""


class Step(Body):
    redo: bool = False
    page: Annotated[str, Field(max_length=40)] = ""


@router.post("/videos/{video_id}/apply")
async def apply(video_id: Ident, body: Changes, bench: Bench) -> dict[str, Any]:
    """Applies all changes or none, as one step of undo. made: ids of what each of them made.

    request: a name that the page makes up; sent again, after a lost reply, it changes nothing more.
    """

    def write() -> tuple[list[list[int]], dict[str, Any]]:
        with bench.database.write() as session:
            made = history.answered(session, video_id, body.request)
            if made is None:
                made, touched = changes.apply(session, videos.get_video(session, video_id), body.changes)
                history.record(session, video_id, body.label, touched, body.request, made)
            return made, history.labels(session, video_id)

    made, labels = await run_in_threadpool(write)
    bench.hub.publish("change", {"videoId": video_id, "page": body.page})
    return {"made": made, "history": labels}


@router.post("/videos/{video_id}/undo")
async def undo(video_id: Ident, body: Step, bench: Bench) -> dict[str, Any]:
    """label: what was undone or redone, null when there was nothing. figures: [object id, frame] of what it touched."""

    def write() -> tuple[str | None, list[list[int]], dict[str, Any]]:
        with bench.database.write() as session:
            videos.get_video(session, video_id)
            done = history.step(session, video_id, body.redo)
            label, rows = (None, {}) if done is None else (done[0], done[1].rows["figures"])
            touched = [[row["object_id"], row["frame"]] for row in rows.values() if row is not None]
            return label, touched[:1000], history.labels(session, video_id)

    label, touched, labels = await run_in_threadpool(write)
    bench.hub.publish("change", {"videoId": video_id, "page": body.page})
    return {"label": label, "figures": touched, "history": labels}


class NewClass(Body):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    shape: str
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    template: JsonObject | None = None


@router.post("/projects/{project_id}/classes")
def add_class(project_id: Ident, body: NewClass, bench: Bench) -> list[dict[str, Any]]:
    """All classes of the project, with the new one."""
    data: dict[str, Any] = {
        "title": body.name.strip(), "shape": body.shape, "color": body.color, "description": "",
        "geometry_config": body.template or {}, "hotkey": "",
    }  # fmt: skip
    with bench.database.write() as session:
        if any(c["name"] == data["title"] for c in reading.classes(session, project_id)):
            raise Refused(f"There is a class {data['title']!r} already; choose it, or take another name.")
        projects.update_meta(session, project_id, {"classes": [data]})
        return reading.classes(session, project_id)


# --- files in and out -------------------------------------------------------------------------------------------------


class NewUpload(Body):
    size: Annotated[int, Field(ge=1)]


class Finished(Body):
    name: Annotated[str, Field(min_length=1, max_length=500)]


def _uploads(request: Request) -> Uploads:
    found: Uploads = request.app.state.uploads
    return found


@router.post("/uploads")
def begin_upload(body: NewUpload, request: Request) -> dict[str, Any]:
    return {"id": _uploads(request).begin(body.size), "offset": 0}


@router.get("/uploads/{ident}")
def upload_offset(ident: str, request: Request) -> dict[str, Any]:
    return {"id": ident, "offset": _uploads(request).offset(ident)}


@router.put("/uploads/{ident}")
async def append_upload(ident: str, request: Request, offset: Annotated[int, Query(ge=0)]) -> dict[str, Any]:
    piece = bytearray()
    async for chunk in request.stream():
        piece += chunk
        if len(piece) > PIECE_BYTES:
            raise Refused(f"Send at most {PIECE_BYTES} bytes at once.")
    return {"id": ident, "offset": await run_in_threadpool(_uploads(request).append, ident, offset, bytes(piece))}


@router.post("/uploads/{ident}/video")
def finish_video(ident: str, body: Finished, request: Request, bench: Bench) -> dict[str, int]:
    """The file is whole: it becomes a video."""
    uploads = _uploads(request)
    try:
        return {"id": add_upload(bench, uploads.path(ident), filename(_plain(body.name), "video"), UPLOADS_PROJECT)}
    finally:
        uploads.remove(ident)


@router.post("/uploads/{ident}/labels/{video_id}")
async def finish_labels(ident: str, video_id: Ident, body: Finished, request: Request, bench: Bench) -> dict[str, Any]:
    """The file is whole: it holds labels for that video, in any of the forms that are known."""
    uploads = _uploads(request)

    def read() -> dict[str, Any]:
        try:
            path = uploads.path(ident)
            with bench.database.write() as session:
                report, touched = importing.import_labels(session, videos.get_video(session, video_id), path, body.name)
                history.record(session, video_id, f"Import of {_plain(body.name)[:100]}", touched)
                return {**report, "history": history.labels(session, video_id)}
        finally:
            uploads.remove(ident)

    report = await run_in_threadpool(read)
    bench.hub.publish("change", {"videoId": video_id, "page": ""})
    return report


def _plain(name: str) -> str:
    """Some browsers send a path; only the last part is the name."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


@router.get("/videos/{video_id}/export")
def export(
    video_id: Ident, bench: Bench, format: Literal["supervisely", "mot", "coco", "yolo"], video: bool = True
) -> FileResponse:
    """video: put the video's file into a Supervisely project, which is not whole without it."""
    with bench.database.read() as session:
        path, name, mime = exporting.export(session, bench, video_id, format, video)
    return FileResponse(
        path,
        media_type=mime,
        filename=name,
        headers={"x-content-type-options": "nosniff"},
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


# --- apps -------------------------------------------------------------------------------------------------------------


@router.get("/apps")
def list_apps(bench: Bench) -> list[dict[str, Any]]:
    """App sessions, the newest first; ready: it can be asked something now. page: it has one of its own."""
    with bench.database.read() as session:
        rows = session.scalars(select(Task).order_by(Task.id.desc()).limit(100)).all()
        return [
            {
                "id": task.id,
                "app": task.app,
                "name": str(task.config.get("name") or task.name),
                "about": str(task.config.get("description") or ""),
                "status": task.status,
                "ready": task.url is not None and task.status in RUNNING,
                "tags": task.config.get("session_tags") or [],
                "shapes": task.config.get("allowed_shapes") or [],
                "autoTrack": bool(task.config.get("is_auto_track")),
                "page": bool(task.config.get("is_auto_track")) or not task.config.get("headless", False),
            }
            for task in rows
        ]


@router.get("/trackers")
def list_trackers() -> list[dict[str, Any]]:
    """The cards of the trackers that Auto Track has within itself."""
    return tracker_cards()


@app_router.api_route("/{task_id}/{path:path}", methods=["GET", "POST"])
async def app_page(task_id: Ident, path: str, request: Request, bench: Bench) -> Response:
    """An app's own page and what it asks, for a browser that was let in."""

    def look_up() -> str:
        with bench.database.read() as session:
            return tasks.get_task(session, task_id).session_token

    return await proxy.forward(request, bench, await run_in_threadpool(look_up), path)
