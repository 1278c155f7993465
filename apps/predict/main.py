"""Predict as FastAPI sees it: `python -m uvicorn apps.predict.main:app`. Configured by environment variables.

A run is a job: `/run` answers at once with its id, `/status`, `/progress` (a stream of events), `/stop` and `/result` take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from apps.pages import add_style
from apps.predict.schema import RunParameters
from apps.predict.service import Service
from apps.predict.store import OVER
from common.association import registry as associators
from common.detection import registry as detectors
from common.serving import replies
from common.serving.envelope import Envelope
from common.serving.intake import read_envelope
from common.serving.routes_health import alive_router
from common.serving.settings import ServingSettings

log = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page.html")
_POLL_S = 0.25
_BEAT_S = 10.0


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Predict = Annotated[Service, Depends(_service)]


async def _envelope(request: Request, service: Predict) -> Envelope:
    return await read_envelope(request, service.settings.max_body_bytes)


Call = Annotated[Envelope, Depends(_envelope)]


def create_app(settings: ServingSettings | None = None, service: Service | None = None) -> FastAPI:
    """The app. settings: from the environment when left out."""
    parts = service or Service(settings or ServingSettings.from_env())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        resumed = await run_in_threadpool(parts.resume)
        log.info("%d jobs are taken up", resumed)
        await run_in_threadpool(_preset, parts)
        yield
        await run_in_threadpool(parts.close)

    app = FastAPI(title="Predict", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = parts
    replies.install(app)
    add_jobs(app)
    _add_parameters(app)
    _add_choices(app)
    add_health(app)
    return app


def _preset(service: Service) -> None:
    """What the launch dialog says: the project or dataset that the app was started from, and whether to run at once."""
    env = os.environ
    where = {key.lower(): int(env[key]) for key in ("PROJECT_ID", "DATASET_ID") if env.get(key, "").isdecimal()}
    if not where:
        return
    chosen = {"dataset_ids": [where["dataset_id"]]} if "dataset_id" in where else where
    service.load({"input": chosen})
    if env.get("modal.state.run", "").lower() == "true":
        stop_after = env.get("modal.state.stopAfterRun", "").lower() == "true"
        service.run(Envelope(state={"stop_after_run": stop_after}))


def add_jobs(app: FastAPI) -> None:
    add_style(app)

    @app.post("/run")
    async def run(call: Call, service: Predict) -> dict[str, Any]:
        ident = await run_in_threadpool(service.run, call)
        return {"job_id": ident, "status": (await run_in_threadpool(service.found, ident)).status}

    @app.post("/predict")
    async def predict(call: Call, service: Predict) -> dict[str, Any]:
        """`/run` that waits for the end. A client that goes away leaves the job running."""
        ident = await run_in_threadpool(service.run, call)
        while (await run_in_threadpool(service.found, ident)).status not in OVER:
            await asyncio.sleep(_POLL_S)
        return await run_in_threadpool(service.result, ident)

    @app.get("/status")
    async def status(service: Predict, job_id: str | None = None) -> dict[str, Any]:
        return await run_in_threadpool(lambda: service.status(job_id or service.latest()))

    @app.post("/status")
    async def status_by_call(call: Call, service: Predict) -> dict[str, Any]:
        service.caller(call)
        return await run_in_threadpool(lambda: service.status(_job(call, service)))

    @app.get("/progress")
    async def progress(request: Request, service: Predict, job_id: str | None = None) -> StreamingResponse:
        """Server-sent events: one for each change, the last one when the job is over."""
        ident = await run_in_threadpool(service.latest) if job_id is None else job_id
        await run_in_threadpool(service.found, ident)
        return StreamingResponse(_events(request, service, ident), media_type="text/event-stream")

    @app.post("/stop")
    async def stop(call: Call, service: Predict) -> dict[str, Any]:
        service.caller(call)
        job = await run_in_threadpool(lambda: service.stop(_job(call, service)))
        return {"job_id": job.id, "status": job.status}

    @app.get("/result")
    async def result(service: Predict, job_id: str | None = None) -> dict[str, Any]:
        return await run_in_threadpool(lambda: service.result(job_id or service.latest()))

    @app.post("/result")
    async def result_by_call(call: Call, service: Predict) -> dict[str, Any]:
        service.caller(call)
        return await run_in_threadpool(lambda: service.result(_job(call, service)))

    @app.get("/jobs")
    async def jobs(service: Predict) -> list[dict[str, Any]]:
        found = await run_in_threadpool(service.store.jobs)
        return [{"job_id": j.id, "created": j.created, "status": j.status, "message": j.message} for j in found]


async def _events(request: Request, service: Service, ident: str) -> AsyncIterator[str]:
    before, quiet = "", 0.0
    while True:
        now = await run_in_threadpool(service.status, ident)
        text = json.dumps(now, separators=(",", ":"))
        if text != before:
            before, quiet = text, 0.0
            yield f"event: progress\ndata: {text}\n\n"
        if now["status"] in OVER or await request.is_disconnected():
            return
        await asyncio.sleep(_POLL_S)
        quiet += _POLL_S
        if quiet >= _BEAT_S:  # so that nothing in between takes the connection for dead
            quiet = 0.0
            yield ": still there\n\n"


def _job(call: Envelope, service: Service) -> str:
    ident = call.state.get("job_id") or call.context.get("job_id")
    return str(ident) if ident else service.latest()


def _add_parameters(app: FastAPI) -> None:
    @app.post("/load")
    async def load(call: Call, service: Predict) -> dict[str, Any]:
        """All parts optional; with `run` it is run at once."""
        service.caller(call)
        changes = {key: value for key, value in call.state.items() if key not in ("run", "stop_after_run")}
        loaded = await run_in_threadpool(service.load, changes)
        answer: dict[str, Any] = loaded.model_dump(mode="json")
        if call.state.get("run"):
            asked = call.model_copy(update={"state": {"stop_after_run": call.state.get("stop_after_run")}})
            answer["job_id"] = await run_in_threadpool(service.run, asked)
        return answer

    @app.get("/run_parameters")
    async def run_parameters(service: Predict) -> dict[str, Any]:
        return service.parameters.model_dump(mode="json")

    @app.get("/inference_settings")
    async def inference_settings(service: Predict) -> dict[str, Any]:
        return service.parameters.settings.inference_settings.model_dump(mode="json")

    @app.get("/schema")
    async def schema() -> dict[str, Any]:
        """JSON schema of the run parameters, for what is read and for what is given back."""
        return RunParameters.model_json_schema()

    @app.post("/deploy")
    async def deploy(call: Call, service: Predict) -> dict[str, Any]:
        """What the chosen model finds; models in this process are made when a job begins."""
        caller = service.caller(call)
        model = call.state.get("model") or service.parameters.model.model_dump(mode="json")
        return await run_in_threadpool(service.card, model, caller)

    @app.post("/preview")
    async def preview(call: Call, service: Predict) -> Response:
        made = await run_in_threadpool(service.preview, call)
        told = {"x-objects": str(made.objects), "x-frames": str(made.frames)}
        return Response(made.clip, media_type=made.mime, headers=told)


def _add_choices(app: FastAPI) -> None:
    @app.get("/models")
    async def models() -> dict[str, Any]:
        """Detectors of this process, and what can give their findings identities."""

        def cards() -> list[dict[str, Any]]:
            return [
                {"name": name, "title": card.title, "licence": card.licence, "weights": card.weights}
                for name in detectors.names()
                for card in (detectors.make(name).card,)
            ]

        return {"detectors": await run_in_threadpool(cards), "trackers": associators.names()}

    @app.post("/sessions")
    async def sessions(call: Call, service: Predict) -> list[dict[str, Any]]:
        return [one.to_json() for one in await run_in_threadpool(service.sessions, call)]

    @app.post("/choices")
    async def choices(call: Call, service: Predict) -> list[dict[str, Any]]:
        return await run_in_threadpool(service.choices, call)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return _PAGE.read_text(encoding="utf-8")


def add_health(app: FastAPI) -> None:
    app.include_router(alive_router)

    @app.get("/readyz")
    @app.get("/is_ready")
    @app.post("/is_ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/get_session_info")
    async def session_info(service: Predict) -> dict[str, Any]:
        return {"app_name": service.title, "session_id": service.settings.task_id, "task type": service.place}

    @app.post("/shutdown")
    @app.post("/sly/shutdown")
    async def shutdown(call: Call, service: Predict) -> dict[str, bool]:
        """Ends the app; what runs is taken up at the next start. Whoever asks must be known to the server."""
        server = service.server(service.caller(call))
        await run_in_threadpool(server.call, "users.me")
        service.end()
        return {"success": True}


def __getattr__(name: str) -> FastAPI:
    """`app`, made when it is first asked for: importing this module touches no folder."""
    if name != "app":
        raise AttributeError(name)
    made = create_app()
    globals()["app"] = made
    return made
