"""What every request passes first: the body limit and the token; and what every error looks like."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.workbench.annotator.access import from_page
from apps.workbench.security import same
from apps.workbench.settings import Settings
from apps.workbench.store.errors import NameTaken, NotFound, TooLarge
from common.errors import UserError

log = logging.getLogger(__name__)

API = "/public/api/v3/"
UPLOADS = {"videos.bulk.upload", "images.bulk.upload", "file-storage.bulk.upload", "file-storage.upload"}
OPEN = {"/livez", "/", "/login"}
"""Paths that anybody may ask; they tell nothing. `/` lets browsers of this machine in (`annotator/access.py`)."""
OPEN_FOLDERS = ("/net/", "/annotator/static/")


def method_of(scope: Scope) -> str | None:
    """The REST method that a request calls, None for anything else."""
    path: str = scope.get("path", "")
    return path.removeprefix(API) if scope["type"] == "http" and path.startswith(API) else None


def error_reply(status: int, error: str, message: str) -> JSONResponse:
    """The platform's form of an error, which the SDK unpacks for people."""
    return JSONResponse({"error": error, "details": {"message": message}, "message": message}, status)


class Guard:
    """Refuses requests without the token (401) and bodies above the limit (413) before anything reads them.

    `/net/{session token}/` passes: the secret is in the path, and `proxy.py` checks it.
    """

    def __init__(self, app: ASGIApp, token: str, settings: Settings) -> None:
        self._app, self._token, self._settings = app, token, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        path: str = scope["path"]
        if path not in OPEN and not path.startswith(OPEN_FOLDERS):
            given = headers.get(b"x-api-key", b"").decode("latin-1")
            if not same(given, self._token) and not from_page(scope, self._token, self._settings.port):
                message = "The x-api-key header holds no valid token. Use the one in the workbench's supervisely.env."
                await error_reply(401, "Unauthorized", message)(scope, receive, send)
                return
        limit = self._settings.max_upload_bytes if method_of(scope) in UPLOADS else self._settings.max_body_bytes
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise TooLarge(f"The request is larger than {limit} bytes.")
            return message

        await self._app(scope, counted, send)


def _too_large(limit: int) -> JSONResponse:
    return error_reply(413, "Request too large", f"The request is larger than {limit} bytes, the most taken here.")


def install_error_replies(app: FastAPI) -> None:
    """Every way a request can fail, as the status and form that the SDK understands."""

    @app.exception_handler(NotFound)
    def not_found(_: Request, error: NotFound) -> JSONResponse:
        return error_reply(404, "Not found", str(error))

    @app.exception_handler(TooLarge)
    def too_large(_: Request, error: TooLarge) -> JSONResponse:
        return error_reply(413, "Request too large", str(error))

    @app.exception_handler(NameTaken)
    def name_taken(_: Request, error: NameTaken) -> JSONResponse:
        """The SDK resolves conflicts of names by these details."""
        taken = [{"name": name, "id": ident, "message": str(error)} for name, ident in error.taken.items()]
        details = {"type": "NONUNIQUE", "message": str(error), "errors": taken}
        return JSONResponse({"error": "Bad request", "details": details, "message": str(error)}, 400)

    @app.exception_handler(UserError)
    def refused(_: Request, error: UserError) -> JSONResponse:
        return error_reply(400, "Bad request", str(error))

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_reply(400, "Bad request", _first_problem(error))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            method = method_of(request.scope)
            what = f"The method {method!r}" if method else "That address"
            return error_reply(404, "Not found", f"{what} is not part of the workbench.")
        return error_reply(error.status_code, "Error", str(error.detail))

    @app.exception_handler(IntegrityError)
    def gone(_: Request, error: IntegrityError) -> JSONResponse:
        log.info("refused by a constraint: %s", error.orig)
        return error_reply(400, "Bad request", "The request names something that is not there, or is there already.")

    @app.exception_handler(OperationalError)
    def busy(_: Request, error: OperationalError) -> JSONResponse:
        log.warning("database not available: %s", error.orig)
        return error_reply(503, "Busy", "The database did not answer in time; try again.")


def _first_problem(error: RequestValidationError) -> str:
    problem: dict[str, Any] = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"] if part != "body")
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
