"""The app's page, and the endpoints behind it: which model tracks, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse

from common.serving.envelope import Envelope, Read
from common.serving.service import Service
from common.serving.wiring import Call, Serving
from common.weights.options import Device, EngineOptions, Precision

router = APIRouter()

_PAGE = Path(__file__).with_name("page.html")

ModelName = Annotated[str, Field(min_length=1, max_length=100)]


class ModelState(Read):
    """name: as `/models` lists it."""

    name: ModelName
    device: Device = "auto"
    precision: Precision = "auto"


@router.get("/", response_class=HTMLResponse)
async def page() -> str:
    return _PAGE.read_text(encoding="utf-8")


@router.get("/models")
@router.post("/models")
async def models(service: Serving) -> dict[str, Any]:
    """What can track here, what tracks now, what is being downloaded."""
    about = await run_in_threadpool(service.models.describe)
    return {**about, "title": service.app.title, "version": service.app.version, "trouble": service.trouble}


@router.post("/models/choose")
async def choose(call: Call, service: Serving) -> dict[str, Any]:
    """For tracking that starts from now on."""
    asked = ModelState.model_validate(call.state)
    options = EngineOptions(device=asked.device, precision=asked.precision)

    def work() -> None:
        _known(service, call)
        service.models.choose(asked.name, options)
        service.trouble = None

    await run_in_threadpool(work)
    return {"message": f"{asked.name} tracks from now on."}


@router.post("/models/download")
async def download(call: Call, service: Serving) -> dict[str, Any]:
    """Begins; `/models` tells how far it is."""
    asked = ModelState.model_validate(call.state)

    def work() -> None:
        _known(service, call)
        service.models.download(asked.name)

    await run_in_threadpool(work)
    return {"message": "The download has begun."}


@router.post("/models/download/stop")
async def stop_download(call: Call, service: Serving) -> dict[str, Any]:
    asked = ModelState.model_validate(call.state)

    def work() -> None:
        _known(service, call)
        service.models.stop_download(asked.name)

    await run_in_threadpool(work)
    return {"message": "The download stops; what came so far is kept."}


def _known(service: Service, call: Envelope) -> None:
    """Only for people whom the app's server knows. The app's own page sends no token, as pages of apps do; the platform
    guards who sees it. An app without a server is its owner's alone."""
    if service.settings.access.address:
        service.server(service.caller(call)).call("users.me")
