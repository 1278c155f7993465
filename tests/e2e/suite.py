"""The suite as a person runs it: workbench and tracker apps, each app a process of its own, and an SDK client."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
import supervisely as sly
from supervisely.geometry.graph import KeypointsTemplate

from apps.workbench.settings import Settings
from apps.workbench.specs import read_spec
from apps.workbench.store.models import Task
from common.geometry.supervisely import geometry_type
from tests.apps.workbench.harness import Running, Served, free_port
from tests.e2e.scene import APP_OF, BONES, KINDS, data, value
from tests.e2e.wire import Log, Wiretap

ROOT = Path(__file__).resolve().parents[2]
APPS = ("box_tracker", "mask_tracker", "point_tracker")
FIGURES, MESSAGE, DIRECT = "figures.bulk.add", "videos.notify-annotation-tool", "annotation-tool.run-action"

_numbers = itertools.count(1)


def new_track() -> str:
    return f"e2e-{next(_numbers)}"


def project_meta() -> sly.ProjectMeta:
    template = KeypointsTemplate()
    for row, node in enumerate("abc"):
        template.add_point(node, row, row)
    for ends in BONES:
        template.add_edge(*ends)
    shapes: dict[str, Any] = {
        "rectangle": sly.Rectangle,
        "oriented_bbox": sly.OrientedBBox,
        "bitmap": sly.Bitmap,
        "polygon": sly.Polygon,
        "point": sly.Point,
        "line": sly.Polyline,
    }
    classes = [sly.ObjClass(kind, shape) for kind, shape in shapes.items()]
    return sly.ProjectMeta(
        [*classes, sly.ObjClass("graph", sly.GraphNodes, geometry_config=template)], project_type="videos"
    )


@dataclass(frozen=True)
class Drawn:
    """A figure that a person drew."""

    kind: str
    object_id: int
    figure_id: int


@dataclass
class App:
    """One supervised app. `ask` goes as the platform sends requests; `post` goes to the app itself."""

    task_id: int
    url: str
    pid: int
    served: Served = field(repr=False)

    def ask(self, command: str, context: dict[str, Any]) -> Any:
        return self.served.api.task.send_request(
            self.task_id, command, {}, context=dict(context), retries=1, raise_error=True
        )

    def post(self, command: str, context: Any = None, state: Any = None) -> requests.Response:
        body = {"context": context, "state": state or {}, "server_address": self.served.settings.address}
        return requests.post(f"{self.url}/{command}", json=body | {"api_token": self.served.bench.token}, timeout=60)

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}/{path}", timeout=30)


@dataclass
class Clip:
    """A video in the workbench, with what a person draws in it and what trackers write."""

    served: Served
    log: Log
    project_id: int
    dataset_id: int
    video_id: int
    frames: int

    def draw(self, kind: str, frame: int = 0, number: int = 0) -> Drawn:
        api = self.served.api
        meta = sly.ProjectMeta.from_json(api.project.get_meta(self.project_id))
        item = {"classId": meta.get_obj_class(kind).sly_id, "entityId": self.video_id}
        made = self.served.call(
            "annotation-objects.bulk.add", {"datasetId": self.dataset_id, "annotationObjects": [item]}
        )
        object_id = int(made.json()[0]["id"])
        shape = geometry_type(value(kind))
        return Drawn(
            kind, object_id, api.video.figure.create(self.video_id, object_id, frame, data(kind, frame, number), shape)
        )

    def context(self, drawn: Sequence[Drawn], track_id: str, **more: Any) -> dict[str, Any]:
        """What `/track` is given."""
        return {
            "videoId": self.video_id,
            "trackId": track_id,
            "objectIds": [d.object_id for d in drawn],
            "figureIds": [d.figure_id for d in drawn],
            "frameIndex": 0,
            "frames": 5,
            "direction": "forward",
        } | more

    def figures(self, track_id: str) -> list[dict[str, Any]]:
        """What a tracker wrote, whole."""
        body = {"datasetId": self.dataset_id, "per_page": 50_000}
        body["filter"] = [{"field": "entityId", "operator": "in", "value": [self.video_id]}]
        found = self.served.call("figures.list", body).json()["entities"]
        return [figure for figure in found if figure.get("trackId") == track_id]

    def written(self, track_id: str) -> dict[tuple[int, int], Any]:
        """Geometry by (object id, frame); fails on doubles."""
        figures = self.figures(track_id)
        found = {(figure["objectId"], figure["meta"]["frame"]): figure["geometry"] for figure in figures}
        assert len(found) == len(figures), "an object has two figures on one frame"
        return found

    def events(self, track_id: str) -> list[dict[str, Any]]:
        return list(self.served.own("GET", "notifications", params={"trackId": track_id}).json())

    def told(self, track_id: str) -> list[dict[str, Any]]:
        """Bodies of the messages about a track, in order."""
        return [event["body"] for event in self.events(track_id) if event["kind"] in ("notify", "action")]

    def progress(self, track_id: str) -> list[dict[str, Any]]:
        return [body["data"] for body in self.told(track_id) if body.get("type") == "videos:fetch-figures-in-range"]

    def errors(self, track_id: str) -> list[str]:
        return [b["data"]["error"]["message"] for b in self.told(track_id) if b.get("type") == "videos:tracking-error"]

    def wait_final(self, track_id: str, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """The progress messages, up to the final one."""
        wait_until(lambda: any(map(is_final, self.progress(track_id))), timeout_s, lambda: str(self.told(track_id)))
        return self.progress(track_id)


def is_final(progress: dict[str, Any]) -> bool:
    return bool(progress["progress"]["current"] == progress["progress"]["total"])


def wait_until(condition: Any, timeout_s: float = 30.0, say: Any = lambda: "") -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"it did not come about: {say()}"
        time.sleep(0.02)


def seconds_after(event: dict[str, Any], began: datetime) -> float:
    return (datetime.fromisoformat(event["time"].replace("Z", "+00:00")) - began).total_seconds()


class Suite:
    """Starts everything and ends it."""

    def __init__(self, data_folder: Path) -> None:
        specs = tuple(read_spec(ROOT / "apps" / name, ROOT) for name in APPS)
        self.log = Log()
        self._running = Running(Settings(data_folder, port=free_port(), faults=True), specs, APPS)
        self._running.app.add_middleware(Wiretap, log=self.log)

    def __enter__(self) -> Suite:
        self.served = self._running.__enter__()
        tasks: list[Task] = []

        def started() -> bool:
            with self.served.bench.database.read() as session:
                tasks[:] = list(session.query(Task))
                session.expunge_all()
            return [task.status for task in tasks] == ["started"] * len(APPS)

        wait_until(started, 150, self.logs)
        self.apps = {task.app: App(task.id, str(task.url), int(task.pid or 0), self.served) for task in tasks}
        for app in self.apps.values():
            wait_until(lambda app=app: app.get("is_ready").status_code == 200, 60, self.logs)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__()

    def logs(self) -> str:
        """The end of what each app has said, for a failure's report."""
        files = sorted((self.served.settings.data / "logs").glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text()[-1500:]}" for file in files)

    def app(self, kind: str) -> App:
        """The app that tracks a geometry."""
        return self.apps[APP_OF[kind]]

    def upload(self, path: Path, name: str, frames: int) -> Clip:
        api = self.served.api
        project = api.project.create(1, name, sly.ProjectType.VIDEOS, change_name_if_conflict=True)
        api.project.update_meta(project.id, project_meta())
        dataset = api.dataset.create(project.id, "ds")
        video = api.video.upload_path(dataset.id, path.name, str(path))
        assert video.frames_count == frames
        return Clip(self.served, self.log, project.id, dataset.id, video.id, frames)


__all__ = ["APPS", "KINDS", "App", "Clip", "Drawn", "Suite"]
