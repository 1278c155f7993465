"""The labeling assistant as FastAPI sees it: `python -m uvicorn apps.labeling_assistant.main:app`. Configured by environment
variables. Selections and labelings are jobs; what takes a job's id is the same as in Predict."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from apps.labeling_assistant.service import Assistant
from apps.predict.main import Call, add_health, add_jobs
from common.serving import replies
from common.serving.settings import ServingSettings

log = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page.html")


def _service(request: Request) -> Assistant:
    return cast(Assistant, request.app.state.service)


Own = Annotated[Assistant, Depends(_service)]


def create_app(settings: ServingSettings | None = None, service: Assistant | None = None) -> FastAPI:
    """The app. settings: from the environment when left out."""
    parts = service or Assistant(settings or ServingSettings.from_env())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.info("%d jobs are taken up", await run_in_threadpool(parts.resume))
        yield
        await run_in_threadpool(parts.close)

    app = FastAPI(title=Assistant.title, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = parts
    replies.install(app)
    add_jobs(app)
    add_health(app)
    _add_own(app)
    return app


def _add_own(app: FastAPI) -> None:
    @app.post("/support")
    async def support(call: Call, service: Own) -> dict[str, Any]:
        return await run_in_threadpool(service.support, call)

    @app.post("/select")
    async def select(call: Call, service: Own) -> dict[str, Any]:
        ident = await run_in_threadpool(service.select, call)
        return {"job_id": ident, "status": (await run_in_threadpool(service.found, ident)).status}

    @app.post("/mend")
    async def mend(call: Call, service: Own) -> dict[str, Any]:
        ident = await run_in_threadpool(service.mend, call)
        return {"job_id": ident, "status": (await run_in_threadpool(service.found, ident)).status}

    @app.post("/choices")
    async def choices(call: Call, service: Own) -> list[dict[str, Any]]:
        """Projects of videos and of images; with `project_id` its videos, or its datasets of images."""
        return await run_in_threadpool(service.choices, call)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return _PAGE.read_text(encoding="utf-8")


def __getattr__(name: str) -> FastAPI:
    """`app`, made when it is first asked for: importing this module touches no folder."""
    if name != "app":
        raise AttributeError(name)
    made = create_app()
    globals()["app"] = made
    return made
