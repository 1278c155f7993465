"""The parts of one running workbench, and how a request gets at them."""

from __future__ import annotations

import asyncio
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Depends, Request

from apps.workbench.faults import Faults
from apps.workbench.frames import Frames
from apps.workbench.notify import Hub
from apps.workbench.processes import Nursery
from apps.workbench.security import load_token
from apps.workbench.settings import Settings
from apps.workbench.store.blobs import BlobFolder
from apps.workbench.store.database import Database
from apps.workbench.supervisor import Supervisor
from common.tls import trusted


@dataclass
class Workbench:
    """Everything that lives as long as the server does; no module keeps state of its own."""

    settings: Settings
    token: str = field(repr=False)
    database: Database
    blobs: BlobFolder
    frames: Frames
    hub: Hub
    faults: Faults
    supervisor: Supervisor
    http: httpx.AsyncClient
    facts: dict[str, tuple[str, int]] = field(default_factory=dict)
    """MIME type and frames of videos by hash: asked for with every frame, and long to read out of a long video's row."""

    showing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(3))
    """Pictures for the page that are made at a time: one is decoded while another is written, and one is ready to go."""

    ending: threading.Event = field(default_factory=threading.Event)
    """Set once the server is told to end: what a request waits for longer than a moment is given up."""

    @property
    def link_folder(self) -> Path:
        """Where pictures are kept that are on their way; what is found there at the start is of a run that was killed."""
        return self.settings.data / "links"

    async def close(self) -> None:
        self.ending.set()
        await self.supervisor.close()
        await self.http.aclose()
        self.frames.close()
        self.database.close()


def build(settings: Settings, nursery: Nursery | None = None) -> Workbench:
    """Opens (or makes) the data folder. Raises `UserError` when a newer workbench wrote it.

    nursery: where apps are forked from; without one each is a program of its own.
    """
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.data.chmod(0o700)
    token = load_token(settings.data)
    database = Database(settings.data / "workbench.db")
    hub = Hub()
    # Apps answer on this machine: a proxy of the environment must not get their traffic and tokens.
    http = httpx.AsyncClient(trust_env=False, verify=trusted(), limits=httpx.Limits(max_connections=None))
    bench = Workbench(
        settings=settings,
        token=token,
        database=database,
        blobs=BlobFolder(settings.data / "files"),
        frames=Frames(settings.max_open_videos, settings.frame_cache_bytes),
        hub=hub,
        faults=Faults(),
        supervisor=Supervisor(settings, token, database, hub, http, nursery),
        http=http,
    )
    shutil.rmtree(bench.link_folder, ignore_errors=True)
    return bench


def get_bench(request: Request) -> Workbench:
    bench: Workbench = request.app.state.workbench
    return bench


Bench = Annotated[Workbench, Depends(get_bench)]
