"""What every failed request looks like: a 4xx or 5xx status and {"message"}, never a 200 with nothing in it."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from common.errors import Interrupted, ServerRefused, ServerUnreachable, UserError

log = logging.getLogger(__name__)


class Rejected(UserError):
    """A request that is not carried out. status: HTTP status, 400 to 599."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def failure(status: int, message: str) -> JSONResponse:
    """`success` is what clients of the smart tool and of `track_async` look at."""
    return JSONResponse({"message": message, "success": False}, status)


def status_of(error: Exception) -> int:
    """The HTTP status of an error: the user's are 4xx, a server behind us 502, ours 500."""
    match error:
        case Rejected():
            return error.status
        case ServerRefused(status=401 | 403 | 404):
            return error.status
        case ServerUnreachable():
            return 502
        case Interrupted():
            return 409
        case UserError():
            return 400
    return 500


def sentence(error: BaseException) -> str:
    """What a labeler is told. Errors that are not the user's keep their type, for the report that follows."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def problem(error: ValidationError | RequestValidationError) -> str:
    """The first thing wrong, by its place. The value itself is not repeated: it may be a token."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return f"{place}: {first['msg']}." if place else f"{first['msg']}."


def install(app: FastAPI) -> None:
    """Every way a request can fail, as status and message."""

    @app.exception_handler(UserError)
    async def refused(_: Request, error: UserError) -> JSONResponse:
        return failure(status_of(error), str(error))

    @app.exception_handler(ValidationError)
    async def invalid(_: Request, error: ValidationError) -> JSONResponse:
        return failure(400, problem(error))

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return failure(400, problem(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return failure(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        log.error("%s failed", request.url.path, exc_info=error)
        return failure(500, sentence(error))
