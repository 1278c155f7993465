"""A tracker app as FastAPI sees it: every endpoint that the Video Annotation Tool and Auto Track call.

Handlers that wait for anything do so in threads, so that health, stop and progress are answered while jobs run.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from common.errors import UserError
from common.serving import replies, routes_health, routes_models, routes_smart, routes_tracking
from common.serving.engines import Engines
from common.serving.service import Service
from common.serving.settings import ServingSettings, TrackerApp

log = logging.getLogger(__name__)


def create_app(app: TrackerApp, settings: ServingSettings | None = None, engines: Engines | None = None) -> FastAPI:
    """The app, ready for uvicorn. `app.state.service` holds its parts.

    settings: from the environment when left out. engines: other trackers than the app's own, for tests.
    """
    service = Service(app, settings or ServingSettings.from_env(), engines)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Weights may take minutes: the app says meanwhile that it lives but is not ready. Most trackers take a moment.
        loading = threading.Thread(target=_load, args=(service,), name="load-trackers", daemon=True)
        loading.start()
        await run_in_threadpool(loading.join, service.settings.head_start_s)
        await run_in_threadpool(service.resume)
        yield
        await run_in_threadpool(service.close)

    # No generated documentation pages: they load scripts from the network, and this serves machines.
    api = FastAPI(
        title=app.title, version=app.version, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    api.state.service = service
    replies.install(api)
    api.include_router(routes_health.alive_router)
    api.include_router(routes_health.router)
    api.include_router(routes_models.router)
    api.include_router(routes_tracking.router)
    if app.segmenter is not None:
        api.include_router(routes_smart.router)
    return api


def _load(service: Service) -> None:
    try:
        service.models.restore()
        service.engines.load()
    except UserError as error:
        service.trouble = str(error)
        log.error("the trackers could not be made ready: %s", error)
