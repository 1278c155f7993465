"""A detector app as FastAPI sees it, and how one process of it is set up."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from common.detection.contract import Detector, DetectorSettings
from common.errors import UserError
from common.serving import detection_routes, replies, routes_health
from common.serving.detection_model import Setup
from common.serving.detection_remote import rules_from_env
from common.serving.detection_service import DetectionService
from common.serving.settings import ServingSettings
from common.weights.options import Device, EngineOptions, Precision

DEFAULT = "hog"
"""The detector when nobody names one: needs no weights and knows what it finds."""


def setup_from_env(env: Mapping[str, str] = os.environ, default: str = DEFAULT) -> Setup:
    """DETECTOR (or the launch dialog's modal.state.detector): a name, or several with + between them. DETECTOR_WEIGHTS: a
    file, or "seeded". DEVICE, PRECISION. DETECTOR_PROMPTS: what an open-vocabulary detector looks for, by commas.
    DETECTOR_SIDE: of its input. Raises `UserError` for what means nothing."""
    device, precision = env.get("DEVICE") or "auto", env.get("PRECISION") or "auto"
    if device not in ("auto", "cpu", "cuda") or precision not in ("auto", "float32", "float16"):
        raise UserError("DEVICE is auto, cpu or cuda, and PRECISION auto, float32 or float16.")
    side = env.get("DETECTOR_SIDE", "").strip()
    prompts = tuple(part.strip() for part in env.get("DETECTOR_PROMPTS", "").split(",") if part.strip())
    name = env.get("DETECTOR") or env.get("modal.state.detector") or env.get("modal.state.modelName") or default
    try:
        settings = DetectorSettings(side=int(side) if side else None, prompts=prompts)
    except ValueError as error:
        raise UserError(f"DETECTOR_SIDE must be a number of pixels of 32 or more, not {side!r}.") from error
    options = EngineOptions(env.get("DETECTOR_WEIGHTS") or None, cast(Device, device), cast(Precision, precision))
    return Setup(name, options, settings)


def create_detector_app(
    config: Path,
    setup: Setup | None = None,
    settings: ServingSettings | None = None,
    make: Callable[[Setup], Detector] | None = None,
) -> FastAPI:
    """The app, ready for uvicorn. `app.state.service` holds its parts.

    config: its config.json. setup, settings: from the environment when left out. make: other detectors, for tests.
    """
    try:
        told: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
        title, version = str(told["name"]), str(told["version"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{config.parent.name}/config.json cannot be read: {error!r}.") from error
    chosen, how = setup or setup_from_env(), settings or ServingSettings.from_env()
    service = DetectionService(title, version, chosen, how, make, rules_from_env(os.environ))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Weights may take minutes: the app says meanwhile that it lives but is not ready.
        loading = threading.Thread(target=service.model.load, name="load-detector", daemon=True)
        loading.start()
        await run_in_threadpool(loading.join, service.settings.head_start_s)
        yield
        await run_in_threadpool(service.close)

    # No generated documentation pages: they load scripts from the network, and this serves machines.
    api = FastAPI(title=title, version=version, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    api.state.service = service
    replies.install(api)
    api.include_router(routes_health.alive_router)
    api.include_router(detection_routes.router)
    return api
