"""Requests that go on to an app: by task number (`tasks.request.direct`) or by the secret in /net/{token}/."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from apps.workbench.bench import Bench, Workbench
from apps.workbench.store import tasks
from apps.workbench.store.errors import NotFound, Refused
from apps.workbench.web import error_reply

log = logging.getLogger(__name__)

router = APIRouter()

# These belong to one connection, or to the workbench itself, and must not go on (RFC 9110, 7.6.1).
_NOT_FORWARDED = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "x-api-key",
    "cookie",
    "set-cookie",
}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def check_app_url(url: str, allow_remote: bool) -> str:
    """An app's base URL, without a slash at its end. Raises `Refused` for other schemes and, unless allowed, machines."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Refused("An app's URL looks like http://127.0.0.1:8001.")
    if not allow_remote and parts.hostname not in _LOOPBACK:
        raise Refused("Only apps on this machine can be registered (http://127.0.0.1:PORT).")
    return url.rstrip("/")


async def url_of_task(bench: Workbench, task_id: int) -> str:
    """Where the app of a task listens. Raises `NotFound` when there is no such task or its app is not running."""

    def look_up() -> str | None:
        with bench.database.read() as session:
            return tasks.get_task(session, task_id).url

    url = await run_in_threadpool(look_up)
    if url is None:
        raise NotFound(f"The app of task {task_id} is not running.")
    return url


async def post_to_app(bench: Workbench, url: str, command: str, body: object, timeout_s: float) -> Response:
    """POSTs JSON to an app; its answer unchanged, or 502/504 when there is none."""
    try:
        reply = await bench.http.post(f"{url}/{command.lstrip('/')}", json=body, timeout=timeout_s)
    except httpx.TimeoutException:
        return error_reply(504, "App timeout", f"The app did not answer {command!r} within {timeout_s:g} s.")
    except httpx.HTTPError as error:
        return error_reply(502, "App not reachable", f"The app could not be asked {command!r}: {type(error).__name__}.")
    return Response(reply.content, reply.status_code, media_type=reply.headers.get("content-type", "application/json"))


@router.api_route("/net/{token}/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
@router.api_route("/net/{token}", methods=["GET", "POST"])
async def forward(request: Request, bench: Bench, token: str, path: str = "") -> Response:
    """Passes a request to the app whose session token is in the path, both bodies streamed."""

    def look_up() -> str | None:
        with bench.database.read() as session:
            task = tasks.task_of_session(session, token)
            return None if task is None else task.url

    url = await run_in_threadpool(look_up)
    if url is None:
        raise NotFound("There is no running app with that session token.")
    headers = [(key, value) for key, value in request.headers.items() if key.lower() not in _NOT_FORWARDED]
    if "content-length" in request.headers:
        headers.append(("content-length", request.headers["content-length"]))
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    outgoing = bench.http.build_request(
        request.method,
        httpx.URL(f"{url}/{path}", query=request.url.query.encode()),
        headers=headers,
        content=request.stream() if has_body else None,
        # an app may think for long, but it must be there
        timeout=httpx.Timeout(10.0, read=None),
    )
    try:
        reply = await bench.http.send(outgoing, stream=True)
    except httpx.HTTPError as error:
        return error_reply(502, "App not reachable", f"The app could not be asked: {type(error).__name__}.")
    passed = [(k, v) for k, v in reply.headers.multi_items() if k.lower() not in _NOT_FORWARDED - {"content-length"}]
    response = StreamingResponse(_raw(reply), reply.status_code, background=BackgroundTask(reply.aclose))
    response.raw_headers = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in passed]
    return response


async def _raw(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in reply.aiter_raw():
            yield chunk
    finally:
        await reply.aclose()
