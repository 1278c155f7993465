"""What handlers ask FastAPI for."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from common.serving.envelope import Envelope
from common.serving.intake import read_envelope
from common.serving.service import Service


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Serving = Annotated[Service, Depends(_service)]


async def _envelope(request: Request, service: Serving) -> Envelope:
    return await read_envelope(request, service.settings.max_body_bytes)


Call = Annotated[Envelope, Depends(_envelope)]
