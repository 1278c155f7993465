"""Auto Track as FastAPI sees it: `python -m uvicorn apps.auto_track.main:app`. Configured by environment variables.

Every endpoint that changes something checks the request, hands it on and answers at once; the work is done elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from apps.auto_track.billing import Account, account_of
from apps.auto_track.engines import TRACKABLE, trackers_for
from apps.auto_track.service import Service
from apps.auto_track.settings import KEYS
from apps.auto_track.updates import (
    Deploy,
    FiguresRemoved,
    Interpolate,
    KeyChanged,
    ManualObjectsRemoved,
    NoObjectsChanged,
    ObjectsRemoved,
    ProjectMetaChanged,
    Restart,
    StopTracking,
    TagRemoved,
    TagsChanged,
    TrackContext,
)
from common.detection import registry as detectors
from common.serving import replies
from common.serving.envelope import Envelope
from common.serving.intake import read_envelope
from common.serving.routes_health import alive_router
from common.serving.settings import ServingSettings

log = logging.getLogger(__name__)

STARTED = {"message": "Track task started."}
_PAGE = Path(__file__).with_name("page.html")


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Auto = Annotated[Service, Depends(_service)]


async def _envelope(request: Request, service: Auto) -> Envelope:
    return await read_envelope(request, service.settings.max_body_bytes)


Call = Annotated[Envelope, Depends(_envelope)]


def _account(request: Request) -> Account | None:
    return account_of(request.headers)


Payer = Annotated[Account | None, Depends(_account)]


def create_app(settings: ServingSettings | None = None, service: Service | None = None) -> FastAPI:
    """The app. settings: from the environment when left out."""
    parts = service or Service(settings or ServingSettings.from_env())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        parts.errands.submit(lambda: log.info("%d tracks are resumed", parts.resume()))
        yield
        await run_in_threadpool(parts.close)

    app = FastAPI(title="Auto Track", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = parts
    replies.install(app)
    _add_tracking(app)
    _add_services(app)
    _add_health(app)
    return app


def _add_tracking(app: FastAPI) -> None:
    @app.post("/track")
    async def track(call: Call, service: Auto, payer: Payer) -> dict[str, str]:
        context, caller = TrackContext.model_validate(call.context), service.caller(call)
        await run_in_threadpool(service.tracks.track, context, caller, payer)
        return STARTED

    @app.post("/tracking_by_detection")
    async def tracking_by_detection(call: Call, service: Auto, payer: Payer) -> dict[str, str]:
        context = TrackContext.model_validate({**call.context, "trackByDetection": True})
        await run_in_threadpool(service.tracks.track, context, service.caller(call), payer)
        return STARTED

    @app.post("/continue_track")
    async def continue_track(call: Call, service: Auto, payer: Payer) -> dict[str, str]:
        context, caller = TrackContext.model_validate(call.context), service.caller(call)
        await run_in_threadpool(service.tracks.go_on, context, caller, payer)
        return STARTED

    @app.post("/stop_tracking")
    async def stop_tracking(call: Call, service: Auto) -> None:
        asked = StopTracking.model_validate(call.context)
        service.caller(call)
        service.stop(asked.track_id)

    @app.post("/objects_removed")
    async def objects_removed(call: Call, service: Auto) -> dict[str, str]:
        asked = ObjectsRemoved.model_validate(call.context)
        service.caller(call)
        for figure in asked.figures:
            low, high = sorted(figure.frames)
            service.tracks.tell(FiguresRemoved(figure.object_id, (low, high)), object_id=figure.object_id)
        return {"message": "Objects removed."}

    @app.post("/manual_objects_removed")
    async def manual_objects_removed(call: Call, service: Auto) -> None:
        asked = ManualObjectsRemoved.model_validate(call.context)
        service.caller(call)
        for figure in asked.figures:
            service.tracks.tell(KeyChanged(figure.object_id, figure.frame), video_id=asked.video_id)

    @app.post("/tag_removed")
    async def tag_removed(call: Call, service: Auto) -> None:
        tag = TagRemoved.model_validate(call.context).tag
        service.caller(call)
        service.tracks.tell(TagsChanged(tag.object_id), video_id=tag.video_id)

    @app.post("/no_objects_tag_changed")
    async def no_objects_tag_changed(call: Call, service: Auto) -> None:
        asked = NoObjectsChanged.model_validate(call.context)
        service.caller(call)
        service.tracks.tell(TagsChanged(asked.object_id), video_id=asked.video_id)

    @app.post("/project_meta_changed")
    async def project_meta_changed(call: Call, service: Auto) -> None:
        asked = ProjectMetaChanged.model_validate(call.context)
        service.caller(call)
        service.tracks.meta_changed(asked.project_id)

    @app.post("/interpolate")
    async def interpolate(call: Call, service: Auto) -> None:
        asked, caller = Interpolate.model_validate(call.context), service.caller(call)
        await run_in_threadpool(service.interpolate, asked, caller)


def _add_services(app: FastAPI) -> None:
    @app.post("/cache_video")
    async def cache_video(call: Call, service: Auto) -> dict[str, str]:
        await run_in_threadpool(service.warm, call)
        return {"message": "Cache video task started."}

    @app.post("/smart_cache")
    async def smart_cache(call: Call, service: Auto) -> dict[str, str]:
        await run_in_threadpool(service.warm, call)
        return {"message": "Cache task started."}

    @app.post("/smart_segmentation")
    async def smart_segmentation(call: Call, service: Auto) -> dict[str, Any]:
        return await run_in_threadpool(service.segment, call)

    @app.post("/available_geometries")
    async def available_geometries(call: Call, service: Auto) -> list[str]:
        session = call.context.get("sessionId")
        return service.store.get(None if session is None else str(session)).available()

    @app.get("/settings")
    async def settings(service: Auto, session: str | None = None) -> dict[str, Any]:
        return service.store.get(session).model_dump()

    @app.post("/settings")
    @app.post("/set_settings")
    async def set_settings(call: Call, service: Auto) -> dict[str, Any]:
        changed = await run_in_threadpool(service.change_settings, call)
        return changed.model_dump()

    @app.get("/engines")
    async def engines() -> dict[str, list[dict[str, str]]]:
        """Trackers and detectors in this process, by geometry."""
        found = {kind: [{"name": name, "title": title} for name, title in trackers_for(kind)] for kind in TRACKABLE}
        found["smarttool"] = [
            {"name": "default", "title": "SAM 2.1 where its weights are here, else GrabCut"},
            {"name": "grabcut", "title": "GrabCut (no model)"},
        ]
        found["detector"] = [{"name": name, "title": detectors.make(name).card.title} for name in detectors.names()]
        return found

    @app.post("/engines")
    async def running_engines(call: Call, service: Auto) -> dict[str, list[dict[str, Any]]]:
        """Running apps by geometry."""
        running = await run_in_threadpool(service.engines, call)
        return {kind: [one.to_json() for one in running if one.serves(kind)] for kind in KEYS}

    @app.post("/startable_engines")
    async def startable(call: Call, service: Auto) -> dict[str, Any]:
        """Apps that could be started by geometry, and computers that they could be started on."""
        offered, computers = await run_in_threadpool(service.startable, call)
        return {
            "engines": {kind: [one.to_json() for one in offered if one.app.serves(kind)] for kind in KEYS},
            "agents": [asdict(agent) for agent in computers],
        }

    @app.post("/deploy_engine")
    async def deploy_engine(call: Call, service: Auto) -> dict[str, Any]:
        """Starts an app; `GET /deployments` tells how it goes."""
        asked = Deploy.model_validate({**call.context, **call.state})
        return (await run_in_threadpool(service.deploy, call, asked)).to_json()

    @app.post("/restart_engine")
    async def restart_engine(call: Call, service: Auto) -> dict[str, Any]:
        asked = Restart.model_validate({**call.context, **call.state})
        return (await run_in_threadpool(service.restart, call, asked.task_id)).to_json()

    @app.get("/deployments")
    async def deployments(service: Auto) -> list[dict[str, Any]]:
        return [one.to_json() for one in service.deployments.all()]

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return _PAGE.read_text(encoding="utf-8")


def _add_health(app: FastAPI) -> None:
    app.include_router(alive_router)

    @app.get("/readyz")
    @app.get("/is_ready")
    @app.post("/is_ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/get_session_info")
    async def session_info(service: Auto) -> dict[str, Any]:
        return {
            "app_name": "Auto Track",
            "session_id": service.settings.task_id,
            "task type": "tracking",
            "videos_support": True,
            "allowed_shapes": service.store.get().available(),
            "is_auto_track": True,
            "running_tracks": len(service.tracks),
        }

    @app.post("/is_deployed")
    async def is_deployed() -> dict[str, Any]:
        return {"deployed": True, "description": "Model is ready to receive requests"}

    @app.post("/get_custom_inference_settings")
    async def custom_settings() -> dict[str, Any]:
        return {"settings": {}}


def __getattr__(name: str) -> FastAPI:
    """`app`, made when it is first asked for: importing this module touches no folder."""
    if name != "app":
        raise AttributeError(name)
    made = create_app()
    globals()["app"] = made
    return made
