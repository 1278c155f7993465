"""The endpoints of a detector app, under the names and with the replies that the SDK's clients know."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import psutil
from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from common.association import registry as associators
from common.detection import registry
from common.serving import detection_frames, detection_pictures, detection_tracking
from common.serving.access import same_secret
from common.serving.detection_model import Setup
from common.serving.detection_output import model_meta
from common.serving.detection_requests import DEFAULTS, TRACKING_DEFAULTS, Asked, SentImages, SentVideo
from common.serving.detection_service import DetectionService, InferenceJob
from common.serving.envelope import Envelope
from common.serving.intake import parse_json, read_envelope, read_parts
from common.serving.jobs import Job, Stage
from common.serving.replies import Rejected, failure, sentence
from common.serving.waiting import outcome
from common.weights.options import EngineOptions

router = APIRouter()

KEPT_AFTER_CLEAR_S = 60.0
_TASKS = {
    "box": "object detection",
    "mask": "instance segmentation",
    "oriented_box": "object detection",
    "keypoints": "pose estimation",
}
_DEVICES = ("auto", "cpu", "cuda")


def _service(request: Request) -> DetectionService:
    return cast(DetectionService, request.app.state.service)


Serving = Annotated[DetectionService, Depends(_service)]


async def _envelope(request: Request, service: Serving) -> Envelope:
    return await read_envelope(request, service.settings.max_body_bytes)


Call = Annotated[Envelope, Depends(_envelope)]


# --- how the app is --------------------------------------------------------------------------------------------------------


@router.get("/readyz")
@router.get("/is_ready")
@router.post("/is_ready")
async def ready(service: Serving) -> JSONResponse:
    if service.model.ready:
        return JSONResponse({"status": "ready"})
    return failure(503, service.model.trouble or "The model is being loaded.")


@router.post("/get_session_info")
async def session_info(service: Serving) -> dict[str, Any]:
    card = service.model.card
    return {
        "app_name": service.title,
        "session_id": service.settings.task_id,
        "model_name": card.name,
        "number_of_classes": len(card.classes),
        "sliding_window_support": None,
        "videos_support": True,
        "async_video_inference_support": True,
        "tracking_on_videos_support": True,
        "async_image_inference_support": not card.temporal,
        "tracking_algorithms": list(associators.names()),
        "batch_inference_support": not card.temporal,
        "max_batch_size": None,
        "task type": _TASKS[card.finds],
        "version": service.version,
        "licence": card.weights_licence or card.licence,
        "queue": _queue(service),
    }


@router.post("/get_output_classes_and_tags")
@router.post("/get_model_meta")
async def meta(service: Serving) -> dict[str, Any]:
    return model_meta(service.model.card)


@router.post("/get_custom_inference_settings")
async def inference_settings() -> dict[str, Any]:
    return {"settings": dict(DEFAULTS)}


@router.post("/get_tracking_settings")
async def tracking_settings() -> dict[str, Any]:
    return {name: dict(TRACKING_DEFAULTS) for name in associators.names()}


@router.post("/is_deployed")
async def is_deployed(service: Serving) -> dict[str, Any]:
    described = "Model is ready to receive requests"
    # the SDK's key ends in a colon; its clients may look for either
    return {"deployed": service.model.ready, "description:": described, "description": described}


@router.post("/get_deploy_info")
async def deploy_info(service: Serving) -> dict[str, Any]:
    """Exactly the SDK's fields: its client takes no others."""
    card, options = service.model.card, service.model.setup.options
    own = options.weights is not None and options.weights != "seeded"
    return {
        "checkpoint_name": Path(options.weights).name if own and options.weights else card.name,
        "model_name": card.name,
        "architecture": card.title,
        "checkpoint_url": None,
        "custom_checkpoint_path": None,
        "model_source": "Custom models" if own else "Pretrained models",
        "task_type": _TASKS[card.finds],
        "device": options.device,
        "runtime": "ONNXRuntime" if "onnx" in card.paper or card.name in ("onnx", "fastestdet") else "PyTorch",
        "model_precision": options.precision,
        "hardware": "GPU" if options.device == "cuda" else "CPU",
        "deploy_params": {"detector": service.model.setup.name},
    }


@router.post("/get_deploy_settings")
async def deploy_settings() -> list[dict[str, Any]]:
    return [
        {"name": "model_name", "type": "str", "default": None, "doc": "Name of a detector."},
        {"name": "device", "type": "str", "default": "auto", "doc": "auto, cpu or cuda."},
    ]


@router.post("/list_pretrained_models")
async def models() -> list[str]:
    return registry.names()


@router.post("/list_pretrained_model_infos")
async def model_infos() -> list[dict[str, Any]]:
    return await run_in_threadpool(_model_infos)


def _model_infos() -> list[dict[str, Any]]:
    infos = []
    for name in registry.names():
        card = registry.make(name).card
        about = {"model_name": name, "task_type": _TASKS[card.finds], "model_files": {}}
        infos.append({"Model": card.title, "licence": card.weights_licence or card.licence, "meta": about})
    return infos


@router.post("/deploy_from_api")
async def deploy(call: Call, service: Serving) -> dict[str, str]:
    """Another detector of ours; for whoever holds the token that the app was started with."""
    _owner_only(call, service, "deploy another model")
    params = call.state.get("deploy_params") or {}
    name = call.state.get("model_name") or params.get("model_name")
    if not isinstance(name, str) or name not in registry.names():
        raise Rejected(f"There is no model {name!r}; /list_pretrained_models names them.")
    device = str(params.get("device") or "auto").split(":")[0].lower()
    if device not in _DEVICES:
        raise Rejected(f"Device {device!r} is not known; choose auto, cpu or cuda.")
    options = EngineOptions(None, device, service.model.setup.options.precision)  # type: ignore[arg-type]
    await run_in_threadpool(service.model.deploy, Setup(name, options, service.model.setup.settings))
    return {"result": "model was successfully deployed"}


@router.post("/freeze_model")
async def freeze() -> dict[str, str]:
    return {"message": "This app keeps its model."}


@router.post("/run_speedtest")
async def speedtest() -> JSONResponse:
    return failure(501, "This app has no speed test; see docs/benchmarks.md.")


@router.post("/get_status")
async def status(service: Serving) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    running = [job for job, _ in service.jobs.jobs() if job.stage is Stage.RUNNING]
    done, total = sum(job.done for job in running), sum(job.total for job in running)
    return {
        "is_deployed": service.model.ready,
        "progress": {
            "message": "Running inference..." if running else "Ready",
            "status": "Running inference..." if running else "Ready",
            "current": done,
            "total": max(total, 1),
            "is_size": False,
        },
        "gpu_memory": {"allocated": None, "total": None},
        "ram_memory": {"allocated": psutil.Process().memory_info().rss, "total": memory.total},
        "queue": _queue(service),
    }


@router.get("/jobs")
async def count_jobs(service: Serving) -> dict[str, int]:
    return _queue(service)


@router.post("/sly/shutdown")
async def shutdown(call: Call, service: Serving) -> dict[str, bool]:
    """For whoever holds the token that the app was started with, and nobody else."""
    _owner_only(call, service, "end this app")
    os.kill(os.getpid(), signal.SIGINT)
    return {"success": True}


def _owner_only(call: Envelope, service: DetectionService, what: str) -> None:
    expected = service.settings.access.token
    if not expected or not same_secret(call.token or "", expected):
        raise Rejected(f"Only the owner of this app may {what}.", 403)


# --- pictures --------------------------------------------------------------------------------------------------------------


@router.post("/inference_image_id")
async def image_id(call: Call, service: Serving, request: Request) -> Response:
    return _json((await _outcome(await run_in_threadpool(detection_pictures.by_id, service, call, True), request))[0])


@router.post("/inference_batch_ids")
async def batch_ids(call: Call, service: Serving, request: Request) -> Response:
    return _json(await _outcome(await run_in_threadpool(detection_pictures.by_id, service, call, True), request))


@router.post("/inference_image_id_async")
@router.post("/inference_batch_ids_async")
async def batch_ids_async(call: Call, service: Serving) -> dict[str, Any]:
    return _started(await run_in_threadpool(detection_pictures.by_id, service, call, False), service)


@router.post("/inference_project_id_async")
async def project_id_async(call: Call, service: Serving) -> dict[str, Any]:
    return _started(await run_in_threadpool(detection_pictures.of_project, service, call), service)


@router.post("/inference_image_url")
async def image_url(call: Call, service: Serving, request: Request) -> Response:
    job = await run_in_threadpool(detection_pictures.at_address, service, call)
    return _json((await _outcome(job, request))[0])


@router.post("/inference_image")
async def image_file(service: Serving, request: Request) -> Response:
    async with read_parts(request, service.settings.max_upload_bytes) as (settings, files):
        if len(files) != 1:
            raise Rejected(f"Send one picture; {len(files)} came.")
        return _json((await _files(service, settings, files, request))[0])


@router.post("/inference_batch")
async def batch_files(service: Serving, request: Request) -> Response:
    async with read_parts(request, service.settings.max_upload_bytes) as (settings, files):
        return _json(await _files(service, settings, files, request))


@router.post("/inference_batch_async")
async def batch_files_async(service: Serving, request: Request) -> dict[str, Any]:
    async with read_parts(request, service.settings.max_upload_bytes) as (settings, files):
        # the request's files are gone once it is answered; encoded pictures are small
        contents = await run_in_threadpool(lambda: list(_contents(files)))
        job = await run_in_threadpool(
            detection_pictures.sent, service, _about(settings), iter(contents), len(contents), False
        )
        return _started(job, service)


async def _files(service: DetectionService, settings: str, files: list[UploadFile], request: Request) -> list[Any]:
    job = await run_in_threadpool(
        detection_pictures.sent, service, _about(settings), _contents(files), len(files), True
    )
    return await _outcome(job, request)


def _about(settings: str) -> SentImages:
    return SentImages.model_validate(parse_json(settings, "The part `settings`"))


def _contents(files: list[UploadFile]) -> Iterator[tuple[str, bytes]]:
    for part in files:
        yield part.filename or "", part.file.read()


# --- videos ----------------------------------------------------------------------------------------------------------------


@router.post("/inference_video_id")
async def video_id(call: Call, service: Serving, request: Request) -> Response:
    job = await run_in_threadpool(detection_frames.of_server, service, call, True)
    given = await _outcome(job, request)
    return await run_in_threadpool(_json, {"ann": given, **(job.final or {})})


@router.post("/inference_video_id_async")
async def video_id_async(call: Call, service: Serving) -> dict[str, Any]:
    return _started(await run_in_threadpool(detection_frames.of_server, service, call, False), service)


@router.post("/inference_video_async")
async def video_file_async(service: Serving, request: Request) -> dict[str, Any]:
    async with read_parts(request, service.settings.max_upload_bytes) as (settings, files):
        asked = SentVideo.model_validate(parse_json(settings, "The part `settings`"))
        name = files[0].filename or "video.mp4"
        return _started(await run_in_threadpool(detection_frames.of_file, service, asked, files[0].file, name), service)


@router.post("/tracking_by_detection")
async def tracking_by_detection(call: Call, service: Serving) -> JSONResponse:
    """Answers at once; the rest is told by notifications. The reply's body is the SDK's, so the job's uuid is a header."""
    job = await run_in_threadpool(detection_tracking.start, service, call)
    return JSONResponse({"message": "Track task started."}, headers={"x-inference-request-uuid": job.uuid})


@router.post("/stop_tracking")
async def stop_tracking(call: Call, service: Serving) -> dict[str, Any]:
    """By `trackId` or by `inference_request_uuid`, in the context or in the state."""
    said = {**call.state, **call.context}
    track, ident = said.get("trackId", said.get("track_id")), said.get("inference_request_uuid")
    jobs: list[Job] = list(service.jobs.of_track(str(track))) if ident is None and track else [service.find(str(ident))]
    if not jobs:
        raise Rejected("There is no such job; it may have ended long ago.", 404)
    for job in jobs:
        job.stop.set()
    return {"message": "Inference will be stopped.", "success": True}


# --- requests under way ----------------------------------------------------------------------------------------------------


@router.post("/get_inference_progress")
@router.post("/get_inference_status")
async def progress(call: Call, service: Serving) -> dict[str, Any]:
    job = _asked(call, service)
    return _described(job, service, 0 if job.results is None else len(job.results))


@router.post("/get_preparing_progress")
async def preparing(call: Call, service: Serving) -> dict[str, Any]:
    job = _asked(call, service)
    return {
        "message": str(job.stage),
        "status": str(job.stage),
        "current": job.done,
        "total": job.total,
        "is_size": False,
    }


@router.post("/pop_inference_results")
async def pop(call: Call, service: Serving) -> Response:
    job = _asked(call, service)

    def popped() -> Response:
        # how the job stands is read first: what is put after it is fetched the next time
        told = _described(job, service, 0)
        told["pending_results"] = [] if job.results is None else job.results.pop()
        return _json(told)

    return await run_in_threadpool(popped)


@router.post("/get_inference_result")
async def result(call: Call, service: Serving) -> Response:
    job = _asked(call, service)
    return await run_in_threadpool(lambda: _json(job.final))


@router.post("/stop_inference")
async def stop(call: Call, service: Serving) -> dict[str, Any]:
    _asked(call, service).stop.set()
    return {"message": "Inference will be stopped.", "success": True}


@router.post("/clear_inference_request")
async def clear(call: Call, service: Serving) -> dict[str, bool]:
    """Results nobody can fetch any more are not made any further."""
    job = _asked(call, service)
    job.stop.set()
    service.jobs.forget(job, KEPT_AFTER_CLEAR_S)
    return {"success": True}


def _asked(call: Envelope, service: DetectionService) -> InferenceJob:
    return service.find(Asked.model_validate({**call.context, **call.state}).uuid)


def _started(job: InferenceJob, service: DetectionService) -> dict[str, Any]:
    return {
        "message": "Inference has started.",
        "inference_request_uuid": job.uuid,
        "queue_position": service.jobs.position(job),
    }


def _described(job: InferenceJob, service: DetectionService, pending: int) -> dict[str, Any]:
    stage, error = job.stage, job.error
    told = {"message": str(stage), "status": str(stage), "current": job.done, "total": job.total, "is_size": False}
    exception = None
    if error is not None:
        exception = {"type": type(error).__name__, "message": sentence(error), "traceback": None}
    return {
        "uuid": job.uuid,
        "inference_request_uuid": job.uuid,
        "stage": str(stage),
        "progress": told,
        "pending_results": pending,
        "final_result": job.final is not None,
        "has_result": job.final is not None,
        "exception": exception,
        "is_inferring": stage in (Stage.WAITING, Stage.RUNNING),
        "stopped": job.stop.is_set(),
        "paused": job.results is not None and job.results.paused,
        "finished": stage in (Stage.FINISHED, Stage.STOPPED, Stage.FAILED),
        "cancel_inference": job.stop.is_set(),
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "preparing_progress": told,
        "queue_position": service.jobs.position(job),
    }


async def _outcome(job: InferenceJob, request: Request) -> list[Any]:
    """Waits for a job that somebody waits for, unless they hang up."""
    found = await outcome(job, request)
    if not isinstance(found, list) or (not found and job.total > 0 and job.stop.is_set()):
        raise Rejected("The inference was stopped.", 409)
    return found


def _json(content: Any) -> Response:
    return Response(json.dumps(content, separators=(",", ":"), allow_nan=False), media_type="application/json")


def _queue(service: DetectionService) -> dict[str, int]:
    jobs = service.jobs.jobs()
    return {
        "running": sum(job.stage is Stage.RUNNING for job, _ in jobs),
        "waiting": sum(job.stage is Stage.WAITING for job, _ in jobs),
        "workers": service.settings.workers,
    }
