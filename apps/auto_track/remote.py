"""Trackers of other apps: any app that answers `track-api`, by task id or URL.

Such an app is asked for a few frames at a time. Every request carries a session handle and a key for each figure: apps of
this suite keep their memory of the object under it, and show that they do by the score and visibility they answer. Others
ignore the handle and start anew from the last geometry, as they always did.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import httpx

from apps.auto_track.engines import EngineFailed, EngineRun, Row, Scene, Sighting, Start
from common.errors import Interrupted, PromptInvalid, UserError
from common.geometry.shapes import Skeleton, Value, to_geometry
from common.geometry.supervisely import from_json, geometry_type, to_json
from common.geometry.types import Mask
from common.serving.access import Caller
from common.supervisely_io.retry import ONCE
from common.supervisely_io.server import Server, Timeouts
from common.tls import trusted
from common.tracking.contract import Prediction
from common.tracking.presence import Presence, PresenceSettings
from common.tracking.snapshot import pack, unpack

TIMEOUT_S = 60.0
_FIRST_BATCH, _LONGEST_BATCH = 8, 32
_QUICK_S, _SLOW_S = 3.0, 15.0
_PAUSES_S = (0.5, 2.0)


@dataclass(frozen=True)
class Address:
    """Where another app is: exactly one of its task's number and its URL."""

    task_id: int | None = None
    url: str | None = None

    def ask(
        self,
        caller: Caller,
        command: str,
        context: Mapping[str, Any],
        state: Mapping[str, Any] | None = None,
        stop: threading.Event | None = None,
    ) -> Any:
        """The app's JSON reply. stop: once set, the answer is not waited for. Raises `EngineFailed`, `Interrupted`."""
        if stop is None:
            return self._ask(caller, command, context, state or {})
        found: Future[Any] = Future()

        def work() -> None:
            try:
                found.set_result(self._ask(caller, command, context, state or {}))
            except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
                found.set_exception(error)

        threading.Thread(target=work, daemon=True, name=command).start()
        while True:
            try:
                return found.result(timeout=0.05)
            except TimeoutError:
                if stop.is_set():
                    raise Interrupted("Stopped while an engine was at work.") from None

    def _ask(self, caller: Caller, command: str, context: Mapping[str, Any], state: Mapping[str, Any]) -> Any:
        if self.task_id is not None:
            payload = {
                "taskId": self.task_id,
                "command": command,
                "context": {**context, "outside_request": True},
                "state": dict(state),
                "skipResponse": False,
                "timeout": int(TIMEOUT_S),
            }
            patience = Timeouts(read_s=TIMEOUT_S + 5)  # the server waits for the app, we for the server
            try:
                with Server(caller.address, caller.token, retry=ONCE, timeouts=patience) as server:
                    return server.call("tasks.request.direct", payload, repeat=False)
            except UserError as error:
                raise EngineFailed(str(error)) from error
        body = {"context": context, "state": state, "server_address": caller.address, "api_token": caller.token}
        try:
            reply = httpx.post(
                f"{self.url}/{command}", json=body, timeout=TIMEOUT_S, follow_redirects=False, verify=trusted()
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineFailed(f"the app at {self.url} gave no answer ({type(error).__name__})") from error
        if reply.status_code != 200:
            raise EngineFailed(f"the app at {self.url} answered {reply.status_code}: {reply.text[:200]}")
        try:
            return reply.json()
        except ValueError as error:
            raise EngineFailed(f"the app at {self.url} answered something that is not JSON") from error


class RemoteEngine:
    """A tracker app."""

    def __init__(
        self, address: Address, presence: Callable[[float], PresenceSettings] = PresenceSettings.for_fps
    ) -> None:
        self._address, self._presence = address, presence

    def start(self, scene: Scene, start: Start) -> EngineRun:
        return _RemoteRun(self, scene, start)

    def load(self, scene: Scene, start: Start, snapshot: bytes) -> EngineRun:
        return _RemoteRun(self, scene, start, unpack(snapshot))

    def ask(self, scene: Scene, context: Mapping[str, Any]) -> Any:
        """`track-api`."""
        return self._address.ask(scene.caller, "track-api", context, stop=scene.stop)

    def presence(self, scene: Scene) -> Presence:
        return Presence(scene.video.width, scene.video.height, self._presence(scene.video.fps))


class _RemoteRun:
    def __init__(
        self, engine: RemoteEngine, scene: Scene, start: Start, saved: Mapping[str, Any] | None = None
    ) -> None:
        self._engine, self._scene, self._start = engine, scene, start
        self._session = uuid.uuid4().hex
        self._remembers = False
        self._last: dict[str, dict[str, Any]] = {key: _column(value) for key, value in start.values.items()}
        self._lost: set[str] = set()
        self._presence = {key: engine.presence(scene) for key in start.values}
        for key, value in start.values.items():
            self._presence[key].update(Prediction(key, to_geometry(value), 1.0, True))
        self._given = dict(self._last)
        self._rows: deque[tuple[Row, dict[str, dict[str, Any]]]] = deque()
        self._batch = _FIRST_BATCH
        if saved is not None:
            self._last, self._batch, self._session = saved["last"], saved["batch"], saved["session"]
            self._given = dict(self._last)
            self._presence = {key: Presence.load(tree) for key, tree in saved["presence"].items()}

    def advance(self, frame: int, until: int) -> list[Row]:
        if not self._rows:
            self._fetch(frame, until)
        row, self._given = self._rows.popleft()
        return [row]

    def flush(self) -> list[Row]:
        rows = [row for row, _ in self._rows]
        self._rows.clear()
        return rows

    def save(self) -> bytes:
        # What was fetched but not given out is fetched again.
        presence = {key: presence.save() for key, presence in self._presence.items()}
        return pack({"last": self._given, "batch": self._batch, "session": self._session, "presence": presence})

    def _fetch(self, frame: int, until: int) -> None:
        step = self._start.step
        wanted = min(self._batch, abs(until - frame) + 1)
        context: dict[str, Any] = {
            "videoId": self._scene.video.id,
            "frameIndex": frame - step,
            "frames": wanted,
            "direction": "forward" if step > 0 else "backward",
            "input_geometries": [self._input(key) for key in self._start.values],
            "session": self._session,
        }
        began = time.monotonic()
        rows = self._parse(self._patiently(context), wanted)
        took = time.monotonic() - began
        self._batch = min(self._batch * 2, _LONGEST_BATCH) if took < _QUICK_S else self._batch
        self._batch = max(self._batch // 2, 1) if took > _SLOW_S else self._batch
        for number, row in enumerate(rows):
            at = frame + number * step
            judged = {key: self._judge(key, sighting) for key, sighting in row.items()}
            self._rows.append(((at, judged), dict(self._last)))

    def _input(self, key: str) -> dict[str, Any]:
        # Only an engine with memory knows where to look for an object that it has lost.
        forget = {"data": None} if self._remembers and key in self._lost else {}
        return {**self._last[key], "key": key, **forget}

    def _patiently(self, context: Mapping[str, Any]) -> Any:
        for pause in (*_PAUSES_S, None):
            try:
                return self._engine.ask(self._scene, context)
            except EngineFailed:
                if pause is None:
                    raise
                if self._scene.stop.wait(pause):
                    raise Interrupted("Stopped while an engine was away.") from None
        raise AssertionError("unreachable")

    def _parse(self, reply: Any, wanted: int) -> list[dict[str, Sighting]]:
        keys = list(self._start.values)
        if not isinstance(reply, list) or not reply:
            raise EngineFailed(f"the engine answered {_short(reply)} instead of predictions")
        rows = []
        for columns in reply[:wanted]:
            # A row with too few columns cannot be told apart: attaching them by place would give one object's geometry
            # to another.
            if not isinstance(columns, list) or len(columns) != len(keys):
                count = len(columns) if isinstance(columns, list) else 0
                raise EngineFailed(f"the engine answered {count} predictions for {len(keys)} figures")
            self._remembers = self._remembers or any(isinstance(c, dict) and "visible" in c for c in columns)
            rows.append({key: self._sighting(key, column) for key, column in zip(keys, columns, strict=True)})
        return rows

    def _sighting(self, key: str, column: Any) -> Sighting:
        if not isinstance(column, dict) or column.get("data") is None:
            return Sighting(None, 0.0, False)
        drawn = self._start.values[key]
        kind = str(column.get("type") or geometry_type(drawn))
        video = self._scene.video
        try:
            value = from_json(kind, column["data"], video.width, video.height, _bones(drawn))
        except PromptInvalid as error:
            raise EngineFailed(str(error)) from error
        if geometry_type(value) != geometry_type(drawn):
            raise EngineFailed(f"the engine answered a {kind} for a {geometry_type(drawn)}")
        if isinstance(value, Mask) and value.area == 0:
            return Sighting(None, 0.0, False)
        score = column.get("score")
        usable = isinstance(score, int | float) and 0 <= score <= 1
        return Sighting(value, float(score) if usable else None, column.get("visible") is not False)  # type: ignore[arg-type]

    def _judge(self, key: str, sighting: Sighting) -> Sighting:
        """Remembers where the next batch starts, and whether the object is there."""
        if sighting.value is None:
            self._lost.add(key)
            self._presence[key].update(Prediction(key, None, 0.0, False))
            return sighting
        self._lost.discard(key)
        score = 1.0 if sighting.score is None else sighting.score
        geometry = to_geometry(sighting.value)
        decision = self._presence[key].update(Prediction(key, geometry, score, sighting.visible))
        if sighting.visible or self._remembers:
            self._last[key] = _column(sighting.value)
        return Sighting(sighting.value, sighting.score, sighting.visible and decision.draw)


def _column(value: Value) -> dict[str, Any]:
    bones = {"bones": [list(bone) for bone in _bones(value)]} if isinstance(value, Skeleton) else {}
    return {"type": geometry_type(value), "data": to_json(value), **bones}


def _bones(value: Value) -> Sequence[tuple[str, str]]:
    return [(value.ids[a], value.ids[b]) for a, b in value.edges] if isinstance(value, Skeleton) else ()


def _short(reply: Any) -> str:
    message = reply.get("message") if isinstance(reply, dict) else None
    return f"“{message}”" if message else "nothing" if not reply else "something"
