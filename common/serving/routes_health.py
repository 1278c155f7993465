"""Endpoints that say how the app is and what it can do. None of them waits for anything."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
from fastapi import APIRouter
from starlette.responses import JSONResponse

from common.serving.access import same_secret
from common.serving.jobs import Stage
from common.serving.models import gpu_memory
from common.serving.replies import Rejected, failure
from common.serving.service import Service
from common.serving.wiring import Call, Serving

router = APIRouter()
alive_router = APIRouter()
"""The part that says that the process lives, for apps that say the rest in their own way."""


@alive_router.get("/livez")
@alive_router.get("/is_alive")
@alive_router.post("/is_alive")
@alive_router.post("/is_running")
async def alive() -> dict[str, Any]:
    return {"running": True, "mode": "production"}


@router.get("/readyz")
@router.get("/is_ready")
@router.post("/is_ready")
async def ready(service: Serving) -> JSONResponse:
    if service.engines.ready and service.trouble is None:
        return JSONResponse({"status": "ready"})
    return failure(503, service.trouble or "The trackers are being loaded.")


@router.post("/get_session_info")
async def session_info(service: Serving) -> dict[str, Any]:
    return {
        "app_name": service.app.title,
        "session_id": service.settings.task_id,
        "number_of_classes": None,
        "sliding_window_support": None,
        "videos_support": True,
        "async_video_inference_support": True,
        "tracking_on_videos_support": False,
        "async_image_inference_support": False,
        "tracking_algorithms": [],
        "batch_inference_support": False,
        "max_batch_size": None,
        "task type": "tracking",
        "version": service.app.version,
        "allowed_shapes": list(service.app.shapes),
        "trackers": dict(service.engines.names),
        "session_memory_support": True,
        "queue": _queue(service),
    }


@router.post("/get_tracking_settings")
async def tracking_settings() -> dict[str, Any]:
    return {}


@router.post("/get_custom_inference_settings")
async def custom_settings() -> dict[str, Any]:
    return {"settings": {}}


@router.post("/get_output_classes_and_tags")
@router.post("/get_model_meta")
async def model_meta() -> dict[str, Any]:
    """Trackers make no classes of their own."""
    return {"classes": [], "tags": [], "projectType": "videos"}


@router.post("/is_deployed")
async def is_deployed(service: Serving) -> dict[str, Any]:
    described = "Model is ready to receive requests"
    # the SDK's key ends in a colon; its clients may look for either
    return {"deployed": service.engines.ready, "description:": described, "description": described}


@router.post("/get_deploy_info")
async def deploy_info(service: Serving) -> dict[str, Any]:
    names = sorted(set(service.engines.names.values()))
    return {
        "checkpoint_name": ", ".join(names),
        "task_type": "tracking",
        "architecture": service.app.title,
        "checkpoint_url": None,
        "device": service.models.options.device,
        "runtime": "PyTorch" if service.models.learned else "Python",
        "hardware": "CPU",
        "model_source": "Pretrained" if service.models.learned else "Built-in",
        "model_precision": service.models.options.precision,
        "version": service.app.version,
    }


@router.post("/get_status")
async def status(service: Serving) -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "is_deployed": service.engines.ready,
        "progress": {"status": "Ready", "current": 0, "total": 1, "is_size": False},
        "gpu_memory": gpu_memory(),
        "ram_memory": {"allocated": psutil.Process().memory_info().rss, "total": memory.total},
        "queue": _queue(service),
        "tracker_memory": {"sessions": len(service.memory), "bytes": service.memory.bytes},
    }


@router.get("/jobs")
async def count_jobs(service: Serving) -> dict[str, int]:
    return _queue(service)


@router.post("/jobs")
async def list_jobs(call: Call, service: Serving) -> dict[str, Any]:
    """The caller's own jobs with their place in line; of other callers' only how many there are."""
    owner = service.caller(call).fingerprint
    own = [job.describe(place) for job, place in service.jobs.jobs() if job.owner == owner]
    return {**_queue(service), "jobs": own}


@router.post("/sly/shutdown")
async def shutdown(call: Call, service: Serving) -> dict[str, bool]:
    """For whoever holds the token that the app was started with, and nobody else."""
    expected = service.settings.access.token
    if not expected or not same_secret(call.token or "", expected):
        raise Rejected("Only the owner of this app may end it.", 403)
    os.kill(os.getpid(), signal.SIGINT)
    return {"success": True}


def _queue(service: Service) -> dict[str, int]:
    jobs = service.jobs.jobs()
    return {
        "running": sum(job.stage is Stage.RUNNING for job, _ in jobs),
        "waiting": sum(job.stage is Stage.WAITING for job, _ in jobs),
        "workers": service.settings.workers,
    }
