"""The workbench of the platform benchmark: it counts what apps ask of it, and starts the two apps that are compared.

Run by platform_tracking.py: `python -m benchmarks.platform_server DATA PORT`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.workbench.bench import Workbench
from apps.workbench.main import create_app
from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec
from apps.workbench.store.tasks import get_task

ROOT = Path(__file__).resolve().parents[1]
API = "/public/api/v3/"
FIGURES, MESSAGE = "figures.bulk.add", "videos.notify-annotation-tool"
MODULES = {"ours": "benchmarks.platform_ours:app", "sdk": "benchmarks.platform_sdk:app"}


class Counting:
    """Counts calls that carry a track's work: calls by method, figures, the time of the first figure and of the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._calls: Counter[str] = Counter()
            self._figures = 0
            self._first = self._last = self._final = None

    def note(self, method: str, body: bytes) -> None:
        """A call was answered."""
        content: dict[str, Any] = json.loads(body) if method in (FIGURES, MESSAGE) else {}
        progress = content.get("data", {}).get("progress", {})
        now = time.time()
        with self._lock:
            self._calls[method] += 1
            if method == FIGURES:
                self._figures += len(content["figures"])
                self._first = self._first or now
                self._last = now
            if progress and progress["current"] == progress["total"]:
                self._final = now

    def state(self) -> dict[str, Any]:
        with self._lock:
            times = {"first": self._first, "last": self._last, "final": self._final}
            return {"calls": dict(self._calls), "figures": self._figures, **times}


class CountingMiddleware:
    def __init__(self, app: ASGIApp, counting: Counting) -> None:
        self._app, self._counting = app, counting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(API):
            await self._app(scope, receive, send)
            return
        body = bytearray()

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.request" and path.endswith((FIGURES, MESSAGE)):
                body.extend(message.get("body", b""))
            return message

        await self._app(scope, heard, send)
        self._counting.note(path.removeprefix(API), bytes(body))


def spec(kind: str, folder: Path, pace_ms: float) -> AppSpec:
    """The app with a cache of its own, so that no run finds a video that another fetched."""
    command = f"-m uvicorn {MODULES[kind]} --host 127.0.0.1 --port {{port}} --log-level warning"
    env = {
        "SMART_CACHE_CONTAINER_DIR": str(folder / "cache"),
        "BENCHMARK_STAMP": str(folder / "stamp"),
        "BENCHMARK_PACE_MS": str(pace_ms),
        "LOG_LEVEL": "WARNING",
    }
    return AppSpec(folder.name, (sys.executable, *command.split()), ROOT, env=env)


def make(data: Path, port: int) -> FastAPI:
    app = create_app(Settings(data, port=port))
    counting = Counting()
    app.add_middleware(CountingMiddleware, counting=counting)
    bench: Workbench = app.state.workbench

    @app.post("/benchmark/reset")
    async def reset() -> None:
        counting.reset()

    @app.get("/benchmark/state")
    async def state() -> dict[str, Any]:
        return counting.state()

    @app.post("/benchmark/start")
    async def start(body: dict[str, Any]) -> dict[str, Any]:
        chosen = spec(body["kind"], Path(body["folder"]), body["pace_ms"])
        bench.supervisor.offer(chosen)
        task = await bench.supervisor.start(chosen.name)
        if not await bench.supervisor.wait_healthy(task.id, 120):
            raise RuntimeError(f"the app {chosen.name} did not come up")
        with bench.database.read() as session:
            row = get_task(session, task.id)
            return {"id": row.id, "url": row.url, "pid": row.pid}

    @app.post("/benchmark/stop/{task_id}")
    async def stop(task_id: int) -> None:
        await bench.supervisor.stop(task_id)

    return app


if __name__ == "__main__":
    server = make(Path(sys.argv[1]), int(sys.argv[2]))
    uvicorn.run(server, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
