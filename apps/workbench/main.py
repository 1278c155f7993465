"""Puts a workbench together and serves it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from types import FrameType

import uvicorn
from fastapi import FastAPI

from apps.workbench import proxy
from apps.workbench.annotator import routes as annotator
from apps.workbench.api import faults, figures, files, instance, notify, objects, projects, tasks, videos
from apps.workbench.bench import Workbench, build
from apps.workbench.faults import FaultMiddleware
from apps.workbench.notify import Hub
from apps.workbench.security import write_env
from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec
from apps.workbench.web import Guard, install_error_replies
from common.errors import UserError

log = logging.getLogger(__name__)


def create_app(settings: Settings, apps: Sequence[AppSpec] = (), start: Sequence[str] = ()) -> FastAPI:
    """The workbench as an ASGI app.

    apps: what can be started in it; start: the names of those that start with it.
    Opens the data folder at once; `UserError` says why when it cannot. `app.state.workbench` holds the parts.
    """
    bench = build(settings)
    for spec in apps:
        bench.supervisor.offer(spec)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        write_env(settings.data, settings.address, bench.token)
        await bench.supervisor.recover()
        for name in start:
            await bench.supervisor.start(name)
        yield
        await bench.close()

    # No generated documentation pages: they load scripts from the network, and this serves machines.
    app = FastAPI(title="Workbench", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.workbench = bench
    install_error_replies(app)
    for group in (instance, projects, videos, objects, figures, notify, tasks, files):
        app.include_router(group.router)
    for router in (
        *objects.tag_routers,
        videos.page_router,
        notify.page_router,
        tasks.page_router,
        proxy.router,
        *annotator.routers,
    ):
        app.include_router(router)
    if settings.faults:
        app.include_router(faults.page_router)
        app.add_middleware(FaultMiddleware, faults=bench.faults)

    @app.get("/livez")
    async def livez() -> dict[str, bool]:
        return {"running": True}

    annotator.mount(app)
    app.add_middleware(Guard, token=bench.token, settings=settings)  # the last added is the first asked
    return app


def run(
    settings: Settings,
    apps: Sequence[AppSpec] = (),
    start: Sequence[str] = (),
    prepare: Callable[[Workbench], None] = lambda bench: None,
) -> None:
    """Serves until interrupted. Port 0 takes a free one. Raises `UserError` when the port is taken.

    prepare: called with the parts before the first request is answered.
    """
    listener = _listen(settings)
    settings = replace(settings, port=listener.getsockname()[1])
    if settings.host not in {"127.0.0.1", "localhost", "::1"}:
        log.warning("the workbench can be reached from other machines at %s:%d", settings.host, settings.port)
    app = create_app(settings, apps, start)
    prepare(app.state.workbench)
    config = uvicorn.Config(
        app,
        # An address in an access log may hold a session token; errors are logged without addresses.
        access_log=False,
        log_level="info",
        timeout_graceful_shutdown=10,
    )
    _Server(config, app.state.workbench.hub).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends the event streams at once when it is told to end, instead of waiting for watchers that never leave."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
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
