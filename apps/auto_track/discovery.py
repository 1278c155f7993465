"""Which engines there are: trackers in this process, and running apps found by their session tag and shapes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from apps.auto_track.engines import TRACKABLE, Engine, InProcessEngine, VelocityEngine, trackers_for
from apps.auto_track.filled import FilledEngine
from apps.auto_track.newcomers import FrameDetector, InProcessDetector, RemoteDetector
from apps.auto_track.remote import Address, RemoteEngine
from apps.auto_track.settings import EngineChoice, Settings
from apps.auto_track.smart import LocalSegmenter, RemoteSegmenter, Segmenter, SmartEngine
from common.detection import registry as detectors
from common.errors import EngineUnavailable, ServerRefused
from common.geometry.supervisely import known_type
from common.serving.smart_sam2 import smart_tool
from common.supervisely_io.listing import entities
from common.supervisely_io.server import Server

log = logging.getLogger(__name__)

TRACKER_TAG, SMART_TAG = "sly_video_tracking", "sly_smart_annotation"
DETECTOR_TAGS = ("sly_video_tracking_by_detection", "deployed_nn")
_RUNNING = ("started", "deployed", "consumed", "queued")


class Engines:
    """The engines of one session, by kind of figure, as its settings choose them. Made once each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[str, Engine | None] = {}

    def of(self, kind: str) -> Engine | None:
        """None when nothing is chosen, or nothing that can track such figures."""
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def detector(self) -> FrameDetector | None:
        """Only when looking for new objects is switched on."""
        choice = self.detector_choice
        if not choice.extra_params.get("enabled", True) or not choice.model_backed:
            return None
        if choice.engine:
            return InProcessDetector("motion" if choice.engine == "default" else choice.engine, choice)
        return RemoteDetector(_address(choice), choice)

    @property
    def detector_choice(self) -> EngineChoice:
        return self._settings.engine("detector")

    def _make(self, kind: str) -> Engine | None:
        if not self._settings.usable(kind):
            return None
        choice = self._settings.engine(kind)
        if kind == "smarttool":
            boxes, points = self.of("rectangle"), self.of("point")
            if boxes is None or points is None:
                return None
            here = LocalSegmenter(smart_tool(choice.engine)) if choice.engine else None
            segmenter: Segmenter = here or RemoteSegmenter(_address(choice))
            return SmartEngine(boxes, points, segmenter)
        if kind not in TRACKABLE:
            return None
        if choice.interpolation:
            return VelocityEngine()
        tracked_as = "bitmap" if choice.as_masks else kind
        engine: Engine
        if choice.engine == "default":
            engine = InProcessEngine.default(tracked_as)
        elif choice.engine:
            engine = InProcessEngine(choice.engine)
        else:
            engine = RemoteEngine(_address(choice), self._settings.disappear.presence)
        return FilledEngine(engine) if choice.as_masks else engine


def _address(choice: EngineChoice) -> Address:
    return Address(choice.task_id, None if choice.url is None else choice.url.rstrip("/"))


def check(settings: Settings) -> None:
    """Raises `EngineUnavailable` for the name of an engine that is not there."""
    for kind, choice in settings.engines.items():
        if not choice.engine or choice.engine == "default":
            continue
        if kind == "detector":
            names = detectors.names()
        elif kind == "smarttool":
            names = ["grabcut"]
        else:
            names = [name for name, _ in trackers_for("bitmap" if choice.as_masks else kind)]
        if choice.engine not in names:
            raise EngineUnavailable(
                f"There is no engine {choice.engine!r} for {kind} here. Known: {', '.join(names) or 'none'}."
            )


@dataclass(frozen=True)
class App:
    """An app that may be an engine. shapes: geometry types that it takes, None when it does not say."""

    title: str
    tags: tuple[str, ...]
    shapes: tuple[str, ...] | None

    def serves(self, kind: str) -> bool:
        if kind == "detector":
            return any(tag in self.tags for tag in DETECTOR_TAGS)
        if kind == "smarttool":
            return SMART_TAG in self.tags
        return TRACKER_TAG in self.tags and (self.shapes is None or kind in self.shapes)


def app_of(title: str, config: Mapping[str, Any]) -> App | None:
    """What an app's config.json says of it; None when it is no engine. Auto Track is none."""
    wanted = {TRACKER_TAG, SMART_TAG, *DETECTOR_TAGS}
    tags = tuple(tag for tag in config.get("session_tags") or () if tag in wanted)
    if not tags or config.get("is_auto_track"):
        return None
    shapes = config.get("allowed_shapes")
    known = None if shapes is None else tuple(dict.fromkeys(k for s in shapes if (k := known_type(str(s)))))
    return App(title, tags, known)


@dataclass(frozen=True)
class Running(App):
    """An app session that may be chosen."""

    task_id: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def running(server: Server, team_id: int, own_task: int | None = None) -> list[Running]:
    """Running app sessions with a tag of ours, by number. Auto Track itself is left out, however many of it run.

    Raises `ServerUnreachable`. A server that refuses one of the lists is asked for the others.
    """
    found: dict[int, Running] = {}
    for task_id, title, config, status in _sessions(server, team_id):
        app = app_of(title, config)
        if app is None or task_id == own_task or (status and status not in _RUNNING):
            continue
        if task_id not in found or found[task_id].shapes is None:
            found[task_id] = Running(app.title, app.tags, app.shapes, task_id)
    return [found[ident] for ident in sorted(found)]


def _sessions(server: Server, team_id: int) -> Iterator[tuple[int, str, Mapping[str, Any], str]]:
    apps: list[dict[str, Any]] = []
    try:
        asked = {"groupId": team_id, "teamId": team_id, "onlyRunning": True, "withShared": True, "showDisabled": False}
        apps = list(entities(server, "apps.list", asked))
    except ServerRefused as error:
        log.warning("the list of apps cannot be had: %s", error)
    for app in apps:
        config = app.get("config") or {}
        if not config.get("session_tags"):
            continue
        tasks = app.get("tasks") or ()
        if not tasks:
            try:
                tasks = list(entities(server, "apps.tasks.list", {"appId": app["id"], "teamId": team_id}))
            except ServerRefused as error:
                log.warning("the sessions of app %s cannot be had: %s", app.get("id"), error)
        for task in tasks:
            name = str(app.get("name") or config.get("name") or "app")
            yield int(task["id"]), f"{name}: {task['id']}", config, str(task.get("status") or "")
    try:
        tasks = list(entities(server, "tasks.list", {"teamId": team_id, "workspaceId": None}))
    except ServerRefused as error:
        log.info("the list of tasks cannot be had: %s", error)
        return
    for task in tasks:  # sessions that no app of the list owns: registered by hand, or shared
        settings = task.get("settings") or {}
        name = str((task.get("meta") or {}).get("name") or "app")
        yield int(task["id"]), f"{name}: {task['id']}", settings, str(task.get("status") or "")
