"""Videos and images as they arrive: looked into, kept under their hash, remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from apps.workbench.bench import Workbench
from apps.workbench.store import videos
from apps.workbench.store.blobs import Incoming
from apps.workbench.store.errors import Refused
from apps.workbench.store.models import Blob
from apps.workbench.uploads import receive_form

Probe = Callable[[Path, str], dict[str, Any]]
"""Metadata of a file; the text is what errors call it. Raises `Refused` for what is of another kind."""

Told = Callable[[Blob], dict[str, Any]]
"""What the answer says of a kept file, beside its hash."""


async def take_files(request: Request, bench: Workbench, probe: Probe, told: Told) -> list[dict[str, Any]]:
    """The files of a form, told in order. One that `probe` refuses refuses the whole request and is not kept."""
    with await receive_form(request, bench.blobs) as form:
        files = [part.file for part in form.parts if part.file is not None]
        if not files:
            raise Refused("The form holds no file.")
        return [await run_in_threadpool(_keep, bench, file, n, probe, told) for n, file in enumerate(files, 1)]


def _keep(bench: Workbench, incoming: Incoming, number: int, probe: Probe, told: Told) -> dict[str, Any]:
    hash = incoming.finish()
    with bench.database.read() as session:
        known = videos.known_videos(session, [hash])
    meta = None if known else probe(incoming.path, f"File {number} of this upload")
    with bench.database.write() as session:
        # in the write's turn, so that a clean-up cannot delete between the file and its row
        bench.blobs.keep(incoming)
        videos.remember_blob(session, hash, incoming.size, meta)
        return {"hash": hash, **told(videos.get_blob(session, hash))}
