"""What trackers tell the annotation tool, and how whoever plays the annotation tool hears it and says stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import StreamingResponse

from apps.workbench.api.bodies import SUCCESS, Body, JsonObject, methods
from apps.workbench.bench import Bench
from apps.workbench.notify import Event

router = methods()
page_router = APIRouter(prefix="/workbench")

KEEP_ALIVE_S = 15.0


class Notification(Body):
    type: str
    data: JsonObject = Field(default_factory=dict)


class Action(Body):
    session_id: str | int | None = None
    action: str
    payload: JsonObject = Field(default_factory=dict)


class Stop(Body):
    track_id: Annotated[str, Field(min_length=1, max_length=200)]


@router.post("/videos.notify-annotation-tool")
async def notify(body: Notification, bench: Bench) -> dict[str, bool]:
    """Only progress is answered with "stopped": the platform says stop in the reply to the next progress message."""
    event = bench.hub.publish("notify", body.model_dump(by_alias=True))
    if body.type != "videos:fetch-figures-in-range":
        return SUCCESS
    return {"stopped": event.track_id is not None and bench.hub.stopped(event.track_id)}


@router.post("/annotation-tool.run-action")
async def run_action(body: Action, bench: Bench) -> dict[str, bool]:
    bench.hub.publish("action", body.model_dump(by_alias=True))
    return SUCCESS


@page_router.post("/stop")
async def stop(body: Stop, bench: Bench) -> dict[str, bool]:
    """The person pressed stop: the track's next progress message is answered with it."""
    bench.hub.stop(body.track_id)
    return SUCCESS


@page_router.post("/resume")
async def resume(body: Stop, bench: Bench) -> dict[str, bool]:
    bench.hub.resume(body.track_id)
    return SUCCESS


@page_router.get("/notifications")
async def notifications(
    bench: Bench, after: int = 0, track_id: Annotated[str | None, Query(alias="trackId")] = None
) -> list[dict[str, Any]]:
    return [event.to_json() for event in bench.hub.recent(after, track_id)]


@page_router.get("/events")
async def events(bench: Bench, after: int | None = None) -> StreamingResponse:
    """Server-sent events. after: first repeats what was kept since that number, so that a reconnect misses nothing."""

    async def stream() -> AsyncIterator[str]:
        with bench.hub.subscribe() as subscription:
            yield ": connected\n\n"
            last = 0
            if after is not None:
                for event in bench.hub.recent(after):
                    last = event.number
                    yield _sse(event)
            while True:
                try:
                    event = await asyncio.wait_for(subscription.queue.get(), KEEP_ALIVE_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event is None:
                    return
                if event.number > last:
                    yield _sse(event)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def _sse(event: Event) -> str:
    return f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(event.to_json())}\n\n"
