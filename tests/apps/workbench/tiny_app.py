"""A tiny app as a process of its own: it answers what it was asked, and can be told to misbehave."""

from __future__ import annotations

import os

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, StreamingResponse

app = FastAPI()
sick = False


@app.get("/livez")
def livez() -> JSONResponse:
    return JSONResponse({"running": True}, 503 if sick else 200)


@app.post("/echo")
async def echo(request: Request) -> dict[str, object]:
    return {"body": await request.json(), "key": request.headers.get("x-api-key")}


@app.post("/get_session_info")
def session_info() -> dict[str, object]:
    return {"app_name": "tiny", "session_id": int(os.environ["TASK_ID"])}


@app.post("/environment")
def environment() -> dict[str, str | None]:
    names = ("ENV", "SERVER_ADDRESS", "TASK_ID", "TEAM_ID", "WORKSPACE_ID", "SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK")
    return {name: os.environ.get(name) for name in names} | {"pid": str(os.getpid())}


@app.post("/track")
def track() -> dict[str, str]:
    return {"message": "Track task started."}


@app.post("/fails")
def fails() -> JSONResponse:
    return JSONResponse({"message": "no such thing"}, 422)


@app.api_route("/raw/{rest:path}", methods=["GET", "PUT", "DELETE"])
async def raw(request: Request, rest: str) -> StreamingResponse:
    body = await request.body()
    head = f"{request.method} {rest}?{request.url.query} ".encode()
    return StreamingResponse(iter([head, body]), 201, {"x-tiny": "yes", "content-type": "text/plain"})


@app.post("/say")
async def say(request: Request) -> None:
    text = (await request.json())["state"]["text"].replace("TOKEN", os.environ["API_TOKEN"])
    os.write(1, text.encode())


@app.post("/fall_sick")
def fall_sick() -> None:
    global sick
    sick = True


@app.post("/die")
def die() -> None:
    os._exit(3)
