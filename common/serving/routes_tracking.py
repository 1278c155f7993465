"""The tracking endpoints: `/track`, the `track_async` family, the `/track-api` family, and the cache."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from common.serving.batches import Batch
from common.serving.envelope import FilesSettings, JobContext, PopContext
from common.serving.intake import UploadedFrames, parse_json, read_form
from common.serving.jobs import Job, Stage
from common.serving.relay import Relay
from common.serving.replies import Rejected, sentence
from common.serving.results import as_array
from common.serving.service import Service
from common.serving.waiting import outcome
from common.serving.wiring import Call, Serving

router = APIRouter()

KEPT_AFTER_CLEAR_S = 60.0


@router.post("/track")
async def track(call: Call, service: Serving) -> JSONResponse:
    """Answers at once; the rest is told by notifications. The reply's body is the SDK's, so the job's uuid is a header."""
    job = await run_in_threadpool(service.track, call)
    return JSONResponse({"message": "Track task started."}, headers={"x-inference-request-uuid": job.uuid})


@router.post("/track_async")
async def track_async(call: Call, service: Serving) -> dict[str, Any]:
    job = await run_in_threadpool(service.track_async, call)
    return {
        "message": "Inference has started.",
        "inference_request_uuid": job.uuid,
        "queue_position": service.jobs.position(job),
    }


@router.post("/track_stream")
async def track_stream(call: Call, service: Serving) -> StreamingResponse:
    """`/track_async` whose progress comes as server-sent events; who hangs up stops the job."""
    context = call.context
    relay = Relay(context.get("trackId"), context.get("videoId", context.get("video_id")), context.get("sessionId"))
    job = await run_in_threadpool(service.track_async, call, relay)
    started = {
        "trackId": context.get("trackId"),
        "action": "inference-started",
        "payload": {"inference_request_uuid": job.uuid},
    }

    async def events() -> AsyncIterator[str]:
        try:
            yield _event(started)
            while True:
                ended = not job.active
                for message in relay.news(job.done, job.total, ended):
                    yield _event(message)
                if ended:
                    return
                await asyncio.sleep(0.2)
        finally:
            if job.active:
                job.stop.set()

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


@router.post("/pop_tracking_results")
async def pop_tracking_results(call: Call, service: Serving) -> Response:
    asked = PopContext.model_validate(call.context)
    if asked.uuid is None and asked.track_id is None:
        raise Rejected("The context has no inference_request_uuid.")
    fetched = [job for job in service.find(asked) if job.results is not None]
    if asked.uuid is None:  # nobody can guess a uuid; a track's name is known to more people than its results are for
        owner = service.caller(call).fingerprint
        fetched = [job for job in fetched if job.owner == owner]
    if not fetched:
        raise Rejected("That job writes its figures to the server; there is nothing to fetch.", 404)
    return await run_in_threadpool(lambda: _json(_popped(fetched[-1], asked, service)))


@router.post("/stop_tracking")
async def stop_tracking(call: Call, service: Serving) -> dict[str, Any]:
    for job in service.find(JobContext.model_validate(call.context)):
        job.stop.set()
    return {"message": "Inference will be stopped.", "success": True}


@router.post("/clear_tracking_results")
async def clear_tracking_results(call: Call, service: Serving) -> dict[str, Any]:
    """Results nobody can fetch any more are not made any further."""
    for job in service.find(JobContext.model_validate(call.context)):
        if job.results is not None:
            job.stop.set()
        service.jobs.forget(job, KEPT_AFTER_CLEAR_S)
    return {"message": "Inference results cleared.", "success": True}


@router.post("/track-api")
async def track_api(call: Call, service: Serving, request: Request) -> Response:
    job = await run_in_threadpool(service.batch, call)
    return await _rows(job, request)


@router.post("/track-api-files")
async def track_api_files(service: Serving, request: Request) -> Response:
    async with read_form(request, service.settings.max_upload_bytes) as (settings, files):
        asked = await run_in_threadpool(_files_settings, settings)
        asked = asked.model_copy(update={"frames": min(asked.frames, len(files) - 1)})
        if asked.frames < 1:
            return Response("[]", media_type="application/json")
        source = await run_in_threadpool(UploadedFrames, files, asked.frame_index, asked.step)
        return await _rows(service.files_batch(asked, source), request)


@router.post("/smart_cache")
async def smart_cache(call: Call, service: Serving) -> dict[str, str]:
    await run_in_threadpool(service.warm, call)
    return {"message": "Cache task started."}


@router.post("/smart_cache_files")
async def smart_cache_files(service: Serving, request: Request) -> dict[str, str]:
    """The files are taken and let go: frames that a caller claims to be of a video must not reach other callers' jobs,
    and the server's own are fetched where they are needed."""
    async with read_form(request, service.settings.max_upload_bytes) as (settings, _):
        parse_json(settings, "The part `settings`")
    return {"message": "Cache task started."}


def _files_settings(text: str) -> FilesSettings:
    return FilesSettings.model_validate(parse_json(text, "The part `settings`"))


async def _rows(job: Job, request: Request) -> Response:
    """Waits for a batch, unless the caller hangs up."""
    batch = await outcome(job, request)
    if not isinstance(batch, Batch):
        raise Rejected("The batch was stopped.", 409)
    return await run_in_threadpool(_json, batch.rows, {"x-continued-objects": str(batch.continued)})


def _json(content: Any, headers: dict[str, str] | None = None) -> Response:
    """Called in a thread: writing out many masks would hold up every other request."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Response(text, media_type="application/json", headers=headers)


def _popped(job: Job, asked: PopContext, service: Service) -> dict[str, Any]:
    # the stage is read first: what is put after it is fetched the next time, and the last time finds everything there
    stage, error = job.stage, job.error
    figures: list[Any] = [] if job.results is None else job.results.pop(asked.frame_range)
    arrays = job.arrays if asked.result_format is None else asked.result_format == "array"
    progress = {"status": str(stage), "current": job.done, "total": job.total, "is_size": False}
    exception = None
    if error is not None:
        exception = {"type": type(error).__name__, "message": sentence(error), "traceback": None}
    return {
        "uuid": job.uuid,
        "stage": str(stage),
        "progress": progress,
        "pending_results": [as_array(figure) for figure in figures] if arrays else figures,
        "final_result": False,
        "exception": exception,
        "is_inferring": stage in (Stage.WAITING, Stage.RUNNING),
        "stopped": stage is Stage.STOPPED,
        "paused": job.results is not None and job.results.paused,
        "finished": stage in (Stage.FINISHED, Stage.STOPPED, Stage.FAILED),
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "cancel_inference": job.stop.is_set(),
        "has_result": False,
        "preparing_progress": progress,
        "result": False,
        "queue_position": service.jobs.position(job),
        "server_time": time.time(),
    }


def _event(message: dict[str, Any]) -> str:
    return f"data: {json.dumps(message)}\n\n"
