"""Starting the apps that track: which could be started, where, and whether one that was started is ready.

Only public methods of the platform (`ecosystem.list`, `agents.available`, `tasks.run.app`, `tasks.info`, `tasks.stop`); a
workbench answers them with the apps that it was given.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from apps.auto_track import messages
from apps.auto_track.discovery import App, app_of
from common.errors import EngineUnavailable, ServerRefused, ServerUnreachable, UserError
from common.supervisely_io.listing import entities
from common.supervisely_io.retry import ONCE
from common.supervisely_io.server import Server

log = logging.getLogger(__name__)

PATIENCE_S = 15 * 60.0
"""A computer may have to fetch an image of some gigabytes first."""
_ENDED = ("error", "stopped", "finished", "terminating")
_KEPT = 20


@dataclass(frozen=True)
class Offer:
    """An app that could be started. gpu: "required", "preferred" or "no". state: what its start dialog begins with."""

    module_id: int
    app: App
    gpu: str = "no"
    state: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"module_id": self.module_id, "title": self.app.title, "gpu": self.gpu}


@dataclass(frozen=True)
class Agent:
    """A computer of the team that is on."""

    id: int
    name: str
    gpu: bool


@dataclass(frozen=True)
class Home:
    """Where Auto Track itself runs: what it starts runs there too, unless somebody chooses."""

    team_id: int
    workspace_id: int
    agent_id: int | None


def home(server: Server, task_id: int | None, team_id: int, workspace_id: int) -> Home:
    """team_id, workspace_id: when nothing is known of Auto Track's own task."""
    try:
        task = server.call("tasks.info", {"id": task_id}) if task_id is not None else {}
    except ServerRefused:
        task = {}
    agent = task.get("agentId")
    return Home(
        int(task.get("teamId") or team_id), int(task.get("workspaceId") or workspace_id), int(agent) if agent else None
    )


def offers(server: Server) -> list[Offer]:
    """Apps of the ecosystem that track, detect or make masks, by title. Raises as `Server.call`."""
    found = []
    asked = {"categories": ["serve"], "categoriesOperation": "and"}
    for module in entities(server, "ecosystem.list", asked):
        config = module.get("config") or {}
        app = app_of(str(module.get("name") or config.get("name") or "app"), config)
        if app is None:
            continue
        gpu = str(config.get("gpu") or ("required" if config.get("need_gpu") else "no"))
        found.append(Offer(int(module["id"]), app, gpu, config.get("modal_template_state")))
    return sorted(found, key=lambda offer: offer.app.title)


def agents(server: Server, team_id: int) -> list[Agent]:
    """By name; none when the server does not say."""
    asked = {"teamId": team_id, "withoutPublic": False, "anyStatus": False, "needGPU": False, "type": "app"}
    try:
        found = server.call("agents.available", asked) or ()
    except ServerRefused as error:
        log.info("the list of agents cannot be had: %s", error)
        return []
    known = [Agent(int(a["id"]), str(a.get("name") or a["id"]), _has_gpu(a)) for a in found if not a.get("disabled")]
    return sorted(known, key=lambda agent: agent.name)


def _has_gpu(agent: Mapping[str, Any]) -> bool:
    info = agent.get("gpuInfo") or {}
    return bool(
        info.get("is_available") or (agent.get("capabilities") or {}).get("types", {}).get("app_gpu", {}).get("enabled")
    )


def place_for(offer: Offer, found: Sequence[Agent], here: Home, chosen: int | None) -> int:
    """The agent that an app is started on. Raises `EngineUnavailable` when none will do."""
    if chosen is not None:
        return chosen
    fit = [agent for agent in found if agent.gpu] if offer.gpu == "required" else list(found)
    if found and not fit:
        raise EngineUnavailable(messages.no_gpu(offer.app.title))
    if here.agent_id is not None and (not found or here.agent_id in {agent.id for agent in fit}):
        return here.agent_id
    if not fit:
        raise EngineUnavailable(messages.no_agent(offer.app.title))
    return next((agent for agent in fit if agent.gpu or offer.gpu == "no"), fit[0]).id


@dataclass(frozen=True)
class Deployment:
    """One app on its way. message: for a labeler."""

    task_id: int
    title: str
    kinds: tuple[str, ...]
    state: Literal["starting", "ready", "failed"] = "starting"
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Deployments:
    """Apps that were started here, until they are ready. Thread-safe.

    on_ready: called, on a thread, with a deployment that became ready.
    """

    def __init__(
        self, on_ready: Callable[[Deployment], None], patience_s: float = PATIENCE_S, every_s: float = 1.0
    ) -> None:
        self._on_ready, self._patience_s, self._every_s = on_ready, patience_s, every_s
        self._found: dict[int, Deployment] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()

    def all(self) -> list[Deployment]:
        """The newest last."""
        with self._lock:
            return list(self._found.values())

    def start(
        self,
        server: Server,
        offer: Offer,
        agent_id: int,
        workspace_id: int,
        kinds: Sequence[str],
        task_name: str = "run-from-auto-track",
    ) -> Deployment:
        """Returns once the platform has taken it. Raises `EngineUnavailable` with the platform's reason."""
        asked = {
            "agentId": agent_id,
            "workspaceId": workspace_id,
            "moduleId": offer.module_id,
            "description": "",
            "params": {"state": dict(offer.state or {})},
            "logLevel": "info",
            "usersIds": [],
            "appVersion": "",
            "isBranch": False,
            "taskName": task_name,
            "restartPolicy": "on_error",
            "proxyKeepUrl": False,
            "advancedSettings": {"limitByWorkspace": False},
        }
        try:
            (task, *_) = server.call("tasks.run.app", asked, repeat=False, retry=ONCE)
            task_id = int(task.get("id") or task["taskId"])
        except (ServerRefused, ServerUnreachable) as error:
            raise EngineUnavailable(messages.not_started(offer.app.title, str(error))) from error
        except (ValueError, KeyError, TypeError) as error:
            raise EngineUnavailable(messages.not_started(offer.app.title, "the server named no task")) from error
        made = Deployment(task_id, offer.app.title, tuple(kinds), message=messages.starting(offer.app.title))
        self._put(made)
        threading.Thread(target=self._follow, args=(server, made), name=f"deploy-{task_id}", daemon=True).start()
        return made

    def close(self) -> None:
        """Nobody is waited for any more; what was started goes on."""
        self._ending.set()

    def _put(self, deployment: Deployment) -> None:
        with self._lock:
            self._found.pop(deployment.task_id, None)
            self._found[deployment.task_id] = deployment
            for old in list(self._found)[:-_KEPT]:
                del self._found[old]

    def _follow(self, server: Server, made: Deployment) -> None:
        state, message = "failed", messages.start_too_slow(made.title, made.task_id, self._patience_s)
        waited = 0.0
        while waited < self._patience_s:
            try:
                status = str(server.call("tasks.info", {"id": made.task_id}).get("status"))
                if status in _ENDED:
                    message = messages.start_failed(made.title, made.task_id)
                    break
                if _answers(server, made.task_id):
                    state, message = "ready", messages.start_done(made.title)
                    break
            except UserError as error:
                log.info("task %d cannot be looked at: %s", made.task_id, error)
            if self._ending.wait(self._every_s):
                return
            waited += self._every_s
        done = replace(made, state=state, message=message)  # type: ignore[arg-type]
        if state == "ready":
            try:
                self._on_ready(done)
            except UserError as error:
                done = replace(done, state="failed", message=str(error))
        self._put(done)


def _answers(server: Server, task_id: int) -> bool:
    """Whether the app takes requests: one that loads a network runs long before."""
    asked = {"taskId": task_id, "command": "is_ready", "context": {"outside_request": True}, "state": {}, "timeout": 5}
    for command in ("is_ready", "is_running"):  # older apps know only the second
        try:
            reply = server.call("tasks.request.direct", {**asked, "command": command}, retry=ONCE)
        except ServerRefused as error:
            if error.status == 404 and command == "is_ready":
                continue
            return False
        except ServerUnreachable:
            return False
        return isinstance(reply, dict) and (reply.get("status") == "ready" or reply.get("running") is True)
    return False


def restart(server: Server, task_id: int, offered: Sequence[Offer], deployments: Deployments) -> Deployment:
    """Ends a session and starts the same app again, on the same agent. Raises `EngineUnavailable`."""
    try:
        task = server.call("tasks.info", {"id": task_id})
        module = task.get("moduleId") or ((task.get("meta") or {}).get("app") or {}).get("moduleId")
        offer = next((offer for offer in offered if offer.module_id == module), None)
        if offer is None:
            raise EngineUnavailable(messages.cannot_restart(task_id))
        server.call("tasks.stop", {"id": task_id})
    except ServerRefused as error:
        raise EngineUnavailable(messages.not_started(f"The app of task {task_id}", str(error))) from error
    name = str((task.get("meta") or {}).get("name") or "run-from-auto-track")
    agent, workspace = int(task.get("agentId") or 1), int(task.get("workspaceId") or 1)
    return deployments.start(server, offer, agent, workspace, (), name)
