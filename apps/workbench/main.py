"""Puts a workbench together and serves it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import cache
from types import FrameType

import uvicorn
from fastapi import APIRouter, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute

from apps.workbench import proxy
from apps.workbench.annotator import routes as annotator
from apps.workbench.api import (
    annotations,
    collections,
    faults,
    figures,
    files,
    images,
    instance,
    notify,
    objects,
    projects,
    tasks,
    videos,
)
from apps.workbench.bench import Workbench, build
from apps.workbench.faults import FaultMiddleware
from apps.workbench.processes import Nursery
from apps.workbench.security import write_env
from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec
from apps.workbench.web import Guard, install_error_replies
from common.errors import UserError

log = logging.getLogger(__name__)


Prepare = Callable[[Workbench, threading.Event], None]
"""Fills a workbench before it answers its first request, while its apps start; the event is set when it should end."""


def create_app(
    settings: Settings,
    apps: Sequence[AppSpec] = (),
    start: Sequence[str] = (),
    *,
    nursery: Nursery | None = None,
    prepare: Callable[[Workbench], None] | None = None,
) -> FastAPI:
    """The workbench as an ASGI app.

    apps: what can be started in it; start: the names of those that start with it; nursery: where they are forked from.
    prepare: called in a thread before the first request is answered.
    Opens the data folder at once; `UserError` says why when it cannot. `app.state.workbench` holds the parts.
    """
    bench = build(settings, nursery)
    for spec in apps:
        bench.supervisor.offer(spec)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await bench.supervisor.recover()
        for name in start:
            await bench.supervisor.start(name)
        try:
            if prepare is not None:
                await run_in_threadpool(prepare, bench)
            write_env(settings.data, settings.address, bench.token)  # whoever finds it is answered at once
            yield
        finally:
            await bench.close()

    # No generated documentation pages: they load scripts from the network, and this serves machines.
    app = FastAPI(title="Workbench", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.workbench = bench
    install_error_replies(app)
    app.router.routes.extend(_routes())
    if settings.faults:
        app.include_router(faults.page_router)
        app.add_middleware(FaultMiddleware, faults=bench.faults)

    @app.get("/livez")
    async def livez() -> dict[str, bool]:
        return {"running": True}

    annotator.mount(app)
    app.add_middleware(Guard, token=bench.token, settings=settings)  # the last added is the first asked
    return app


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """The addresses, which keep nothing of a workbench: described once, since that takes a third of a second and tests start
    hundreds of workbenches in one process."""
    all_routers = APIRouter()
    for group in (instance, projects, videos, images, annotations, collections, objects, figures, notify, tasks, files):
        all_routers.include_router(group.router)
    for router in (
        *objects.tag_routers,
        videos.page_router,
        images.page_router,
        notify.page_router,
        tasks.page_router,
        proxy.router,
        *annotator.routers,
    ):
        all_routers.include_router(router)
    return tuple(all_routers.routes)


def run(
    settings: Settings,
    apps: Sequence[AppSpec] = (),
    start: Sequence[str] = (),
    *,
    nursery: Nursery | None = None,
    prepare: Prepare = lambda bench, ending: None,
) -> None:
    """Serves until interrupted. Port 0 takes a free one. Raises `UserError` when the port is taken, and what `prepare`
    raises.
    """
    listener = _listen(settings)
    settings = replace(settings, port=listener.getsockname()[1])
    if settings.host not in {"127.0.0.1", "localhost", "::1"}:
        log.warning("the workbench can be reached from other machines at %s:%d", settings.host, settings.port)
    failures: list[UserError] = []

    def fill(bench: Workbench) -> None:
        try:
            prepare(bench, server.ending)
        except UserError as error:  # told below, once the apps that started meanwhile have ended
            failures.append(error)
            server.should_exit = True

    try:
        app = create_app(settings, apps, start, nursery=nursery, prepare=fill)
        config = uvicorn.Config(
            app,
            # An address in an access log may hold a session token; errors are logged without addresses.
            access_log=False,
            log_level="info",
            timeout_graceful_shutdown=10,
        )
        server = _Server(config, app.state.workbench)
        server.run(sockets=[listener])
    finally:
        listener.close()
        if nursery is not None:
            nursery.close()
    if failures:
        raise failures[0]


class _Server(uvicorn.Server):
    """Ends event streams and fetches by link when it is told to end, instead of waiting for those that never do."""

    def __init__(self, config: uvicorn.Config, bench: Workbench) -> None:
        super().__init__(config)
        self._hub = bench.hub
        self.ending = bench.ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.ending.set()
        self._hub.close()
        super().handle_exit(sig, frame)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"Port {settings.port} on {settings.host} cannot be used ({error.strerror}); choose another with --port."
        ) from error
    # From here on a client waits for the first reply instead of being refused. No app inherits the socket: if this process
    # is killed, its port must be free for the next one.
    listener.listen()
    return listener
