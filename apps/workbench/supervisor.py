"""Starts apps as processes, watches them, starts them again when they die, and ends them with the workbench."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from apps.workbench.logs import RotatingLog
from apps.workbench.notify import Hub
from apps.workbench.processes import AppProcess, Nursery, start_program
from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec
from apps.workbench.store import tasks
from apps.workbench.store.database import Database
from apps.workbench.store.models import Task
from apps.workbench.store.projects import TEAM_ID, WORKSPACE_ID

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
WELL_AFTER_S = 60.0
"""An app that lived so long starts over with the first pause when it dies."""
MISSED_CHECKS = 3
STOP_GRACE_S = 10.0
CLOSING_GRACE_S = 3.0
"""When the workbench itself ends nobody is left to hear an app's last messages; what it finished is in its journal."""
CHECK_TIMEOUT_S = 5.0
NICER = 5
"""How far apps stand behind the workbench where cores are scarce: tracking may take all of them, the page must not stall."""


@dataclass
class _Running:
    """One supervised app. `healthy` is set while it answers; `ended` once nobody looks after it any more."""

    task_id: int
    spec: AppSpec
    healthy: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = -1
    process: AppProcess | None = None
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Owns the app processes of one workbench. All methods belong to the event loop's thread.

    nursery: where apps are forked from, if they are.
    """

    def __init__(
        self,
        settings: Settings,
        token: str,
        database: Database,
        hub: Hub,
        http: httpx.AsyncClient,
        nursery: Nursery | None = None,
    ) -> None:
        self._settings, self._token = settings, token
        self._database, self._hub, self._http = database, hub, http
        self._start_process = start_program if nursery is None else nursery.start
        self._specs: dict[str, AppSpec] = {}
        self._closing = False
        self._running: dict[int, _Running] = {}

    @property
    def specs(self) -> Mapping[str, AppSpec]:
        """Apps that can be started, by name."""
        return self._specs

    def offer(self, spec: AppSpec) -> None:
        self._specs[spec.name] = spec

    async def recover(self) -> None:
        """At start-up: ends processes that a crashed workbench left behind, and marks their tasks as stopped."""
        await run_in_threadpool(self._recover)

    def _recover(self) -> None:
        with self._database.write() as session:
            for task in session.scalars(select(Task).where(Task.status.in_(tasks.RUNNING), Task.pid.is_not(None))):
                if task.pid is not None and task.pid_started is not None:
                    _end_left_over(task.pid, task.pid_started)
                tasks.change_task(session, task.id, status="stopped", url=None, pid=None, pid_started=None)

    async def start(self, name: str, task_name: str = "") -> Task:
        """Starts an offered app; its task row, at once: that of an earlier life of the same name, so that rows do not pile
        up and ids stay good. Raises KeyError for a name that was not offered."""
        spec = self._specs[name]
        title, taken = task_name or name, frozenset(self._running)

        def enter() -> Task:
            with self._database.write() as session:
                task = tasks.idle_task(session, app=name, name=title, but=taken)
                if task is None:
                    task = tasks.add_task(session, app=name, name=title, config=spec.config)
                else:
                    tasks.change_task(session, task.id, status="queued", config=spec.config)
                session.flush()
                session.refresh(task)
                session.expunge(task)
                return task

        task = await run_in_threadpool(enter)
        running = _Running(task.id, spec)
        self._running[task.id] = running
        running.keeper = asyncio.create_task(self._keep(running), name=f"keeper of task {task.id}")
        return task

    async def stop(self, task_id: int) -> None:
        """Ends a supervised app: asked kindly, then killed. Nothing happens when it is not running."""
        running = self._running.pop(task_id, None)
        if running is None or running.keeper is None:
            return
        running.keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running.keeper
        await self._note(task_id, status="stopped", url=None, pid=None, pid_started=None)

    async def close(self) -> None:
        """Ends every app."""
        self._closing = True
        await asyncio.gather(*(self.stop(task_id) for task_id in list(self._running)))

    async def wait_healthy(self, task_id: int, timeout_s: float) -> bool:
        """Whether the app became healthy in time."""
        running = self._running.get(task_id)
        if running is None:
            return False
        try:
            await asyncio.wait_for(running.healthy.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def _keep(self, running: _Running) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_S
        while True:
            began = loop.time()
            running.restarts += 1
            try:
                why = await self._run_once(running)
            except OSError as error:
                why = f"it could not be started: {error}"
            running.healthy.clear()
            if loop.time() - began > WELL_AFTER_S:
                pause = FIRST_PAUSE_S
            log.warning(
                "app %s (task %d) ended: %s; next start in %.0f s", running.spec.name, running.task_id, why, pause
            )
            await self._note(running.task_id, status="error", url=None, pid=None, pid_started=None)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _run_once(self, running: _Running) -> str:
        """One life of the process, from its start to its end; why it ended. The process is gone on return."""
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        process = await self._start_process(running.spec.command(port), running.spec.cwd, self._environment(running))
        running.process = process
        _step_back(process.pid)
        logger = asyncio.create_task(self._write_log(running, process))
        try:
            started = await run_in_threadpool(_started_at, process.pid)
            await self._note(running.task_id, status="queued", url=url, pid=process.pid, pid_started=started)
            return await self._watch(running, process, url)
        finally:
            await _end(process, CLOSING_GRACE_S if self._closing else STOP_GRACE_S)
            await logger
            running.process = None

    async def _watch(self, running: _Running, process: AppProcess, url: str) -> str:
        loop = asyncio.get_running_loop()
        grace_over = loop.time() + self._settings.app_start_grace_s
        exited = asyncio.create_task(process.wait())
        missed = 0
        try:
            while True:
                if await self._is_well(url + running.spec.health):
                    missed = 0
                    if not running.healthy.is_set():
                        running.healthy.set()
                        await self._note(running.task_id, status="started")
                elif running.healthy.is_set():
                    missed += 1
                    if missed >= MISSED_CHECKS:
                        return f"it missed {missed} health checks"
                elif loop.time() > grace_over:
                    return f"it was not healthy after {self._settings.app_start_grace_s:.0f} s"
                # before it is up, look often: people wait for it
                pause = self._settings.app_check_every_s if running.healthy.is_set() else 0.2
                done, _ = await asyncio.wait({exited}, timeout=pause)
                if done:
                    return f"the process ended with code {exited.result()}"
        finally:
            exited.cancel()

    async def _is_well(self, url: str) -> bool:
        try:
            reply = await self._http.get(url, timeout=CHECK_TIMEOUT_S)
        except httpx.HTTPError:
            return False
        return reply.status_code == 200

    def _environment(self, running: _Running) -> dict[str, str]:
        data = self._settings.data / "apps" / str(running.task_id)
        data.mkdir(parents=True, exist_ok=True)
        return {
            **os.environ,
            "ENV": "production",
            "SERVER_ADDRESS": self._settings.address,
            "API_TOKEN": self._token,
            "TASK_ID": str(running.task_id),
            "TEAM_ID": str(TEAM_ID),
            "WORKSPACE_ID": str(WORKSPACE_ID),
            "SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK": "true",
            "SLY_APP_DATA_DIR": str(data),
            "PYTHONUNBUFFERED": "1",
            **running.spec.env,
        }

    async def _write_log(self, running: _Running, process: AppProcess) -> None:
        stream = process.stdout
        if stream is None:
            return
        secret = self._token.encode()
        file = RotatingLog(self._settings.data / "logs" / f"{running.spec.name}-{running.task_id}.log")
        try:
            # by pieces, not lines: a line of any length must not stop an app whose output nobody takes
            held = b""
            while piece := await stream.read(64 * 1024):
                text = (held + piece).replace(secret, b"***")
                # a secret may lie across two pieces; hold back as much as could be its beginning
                keep = next((n for n in range(min(len(secret), len(text)), 0, -1) if text.endswith(secret[:n])), 0)
                held = text[len(text) - keep :]
                file.write(text[: len(text) - keep])
            file.write(held)
        finally:
            file.close()

    async def _note(self, task_id: int, **changes: Any) -> None:
        def write() -> None:
            with self._database.write() as session:
                tasks.change_task(session, task_id, **changes)

        await run_in_threadpool(write)
        self._hub.publish("task", {"taskId": task_id, "status": changes["status"]})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _started_at(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def _end_left_over(pid: int, started: float) -> None:
    """Ends the process of that number if it is still the one we started, with its group."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started) > 0.01:
            return
        os.killpg(pid, signal.SIGTERM)
        try:
            process.wait(CLOSING_GRACE_S)  # whom it would tell is the workbench that died
        except psutil.TimeoutExpired:
            os.killpg(pid, signal.SIGKILL)
    except (psutil.Error, ProcessLookupError, PermissionError):
        return


def _step_back(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICER))


async def _end(process: AppProcess, patience_s: float) -> None:
    """Asks the process and its children to end, and kills what is left after `patience_s`."""
    for sign, grace in ((signal.SIGTERM, patience_s), (signal.SIGKILL, STOP_GRACE_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        if process.returncode is not None:
            continue
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace)
