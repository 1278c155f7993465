"""Waiting for a job on behalf of somebody who may hang up."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request

from common.serving.jobs import Job

_GONE_EVERY_S = 1.0


async def outcome(job: Job, request: Request) -> Any:
    """What the job returned, or raises what it raised. A job that nobody waits for any more is stopped."""
    ended = asyncio.wrap_future(job.ended)
    try:
        while not ended.done():
            await asyncio.wait({ended}, timeout=_GONE_EVERY_S)
            if not ended.done() and await request.is_disconnected():
                job.stop.set()
    finally:
        if not ended.done():
            job.stop.set()
    return ended.result()
