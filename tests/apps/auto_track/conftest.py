"""A workbench, Auto Track beside it as a server of its own, and a project to label."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import supervisely as sly
import uvicorn
from supervisely.geometry.graph import KeypointsTemplate

from apps.auto_track.discovery import Engines
from apps.auto_track.engines import InProcessEngine
from apps.auto_track.filled import FilledEngine
from apps.auto_track.main import create_app
from apps.auto_track.service import Service
from apps.workbench.settings import Settings
from common.geometry.supervisely import encode_bitmap
from common.serving.access import Access, normalised
from common.serving.settings import ServingSettings
from tests.apps.auto_track.toys import Rail, RailTracker, write_clip
from tests.apps.workbench.harness import Running, Served, free_port

FRAMES = 30


@pytest.fixture(scope="session", autouse=True)
def _sdk_speaks_plain_http() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUPERVISELY_SKIP_HTTPS_USER_HELPER_CHECK", "true")
        yield


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("workbench") / "data"
    with Running(Settings(data, port=free_port(), faults=True)) as it:
        yield it


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES)


class RailEngines(Engines):
    """The engines of a session, moved along rails."""

    rail = Rail()

    def _make(self, kind: str) -> Any:
        made = super()._make(kind)
        if not isinstance(made, InProcessEngine | FilledEngine) or self._settings.engine(kind).engine != "default":
            return made
        rail = InProcessEngine("rail", lambda name: RailTracker(self.rail))
        return FilledEngine(rail) if isinstance(made, FilledEngine) else rail


@dataclass
class Auto:
    """Auto Track, listening."""

    url: str
    service: Service
    served: Served
    rail: Rail = field(default_factory=Rail)

    def post(self, endpoint: str, context: dict[str, Any], **state: Any) -> requests.Response:
        body = {
            "state": state,
            "context": context,
            "server_address": self.served.settings.address,
            "api_token": self.served.bench.token,
        }
        reply = requests.post(f"{self.url}/{endpoint}", json=body, timeout=10)
        assert reply.status_code == 200, reply.text
        return reply


class AppServer:
    """Runs a FastAPI app on a thread."""

    def __init__(self, app: Any) -> None:
        self.port = free_port()
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        wait_until(lambda: self._server.started)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)


def make_service(served: Served, folder: Path, rail: Rail | None, linger_s: float = 1.0, **means: Any) -> Service:
    if rail is not None:
        kind = type("OwnRails", (RailEngines,), {"rail": rail})
        means["engines"] = kind
    access = Access(normalised(served.settings.address), served.bench.token)
    return Service(ServingSettings(folder, access), linger_s=linger_s, means=means)


@pytest.fixture
def auto(served: Served, tmp_path: Path) -> Iterator[Auto]:
    """Auto Track with toy trackers that do as `auto.rail` says."""
    rail = Rail()
    service = make_service(served, tmp_path / "auto", rail)
    with AppServer(create_app(service=service)) as url:
        try:
            yield Auto(url, service, served, rail)
        finally:
            rail.gate.set()


@pytest.fixture
def real(served: Served, tmp_path: Path) -> Iterator[Auto]:
    """Auto Track with its own trackers."""
    service = make_service(served, tmp_path / "auto", None)
    with AppServer(create_app(service=service)) as url:
        yield Auto(url, service, served)


def wait_until(true: Callable[[], Any], timeout_s: float = 20.0, every_s: float = 0.02) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(every_s)
    return found


@dataclass
class Lab:
    """A project with the clip in it, as a person works with it."""

    served: Served
    project_id: int
    dataset_id: int
    video_id: int
    classes: dict[str, int]
    tags: dict[str, int]

    def object(self, class_name: str = "any") -> int:
        body = {
            "datasetId": self.dataset_id,
            "annotationObjects": [{"classId": self.classes[class_name], "entityId": self.video_id}],
        }
        return int(self.served.call("annotation-objects.bulk.add", body).json()[0]["id"])

    def draw(self, object_id: int, frame: int, kind: str, geometry: dict[str, Any], **more: Any) -> int:
        meta = {"frame": frame, **more.pop("meta", {})}
        figure = {"objectId": object_id, "geometryType": kind, "geometry": geometry, "meta": meta, **more}
        reply = self.served.call("figures.bulk.add", {"entityId": self.video_id, "figures": [figure]})
        assert reply.status_code == 200, reply.text
        return int(reply.json()[0]["id"])

    def box(self, object_id: int, frame: int, left: int = 20, **more: Any) -> int:
        return self.draw(object_id, frame, "rectangle", box_json(left), **more)

    def remove(self, *figures: int) -> None:
        assert self.served.call("figures.bulk.remove", {"figureIds": list(figures)}).status_code == 200

    def no_objects(self, object_id: int, first: int, last: int) -> int:
        tag = {"tagId": self.tags["no-objects"], "objectId": object_id, "frameRange": [first, last]}
        reply = self.served.call("annotation-objects.tags.bulk.add", {"projectId": self.project_id, "tags": [tag]})
        assert reply.status_code == 200, reply.text
        return int(reply.json()[0]["id"])

    def figures(self, object_id: int | None = None) -> dict[int, list[dict[str, Any]]]:
        """By frame."""
        conditions = [{"field": "entityId", "operator": "in", "value": [self.video_id]}]
        if object_id is not None:
            conditions.append({"field": "objectId", "operator": "in", "value": [object_id]})
        body = {"datasetId": self.dataset_id, "filter": conditions, "per_page": 5000}
        found: dict[int, list[dict[str, Any]]] = {}
        for figure in self.served.call("figures.list", body).json()["entities"]:
            found.setdefault(figure["meta"]["frame"], []).append(figure)
        return dict(sorted(found.items()))

    def lefts(self, object_id: int) -> dict[int, float]:
        """Left edges of boxes by frame; fails when a frame has two."""
        found = {}
        for frame, figures in self.figures(object_id).items():
            assert len(figures) == 1, f"frame {frame} has {len(figures)} figures"
            found[frame] = figures[0]["geometry"]["points"]["exterior"][0][0]
        return found

    def messages(self, track_id: str, kind: str) -> list[dict[str, Any]]:
        found = self.served.own("GET", f"notifications?trackId={track_id}").json()
        return [e["body"]["data"] for e in found if e["kind"] == "notify" and e["body"]["type"] == f"videos:{kind}"]

    def finished(self, track_id: str, times: int = 1, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """Waits until the bar was full so many times; all progress messages."""

        def full() -> list[dict[str, Any]]:
            told = self.messages(track_id, "fetch-figures-in-range")
            ends = [m for m in told if m["progress"]["current"] == m["progress"]["total"]]
            return told if len(ends) >= times else []

        return wait_until(full, timeout_s)

    def warnings(self, track_id: str) -> str:
        return "\n".join(m["message"] for m in self.messages(track_id, "tracking-warning"))

    def errors(self, track_id: str) -> list[str]:
        return [m["error"]["message"] for m in self.messages(track_id, "tracking-error")]


def box_json(left: int, top: int = 40, width: int = 28, height: int = 24) -> dict[str, Any]:
    right, bottom = left + width - 1, top + height - 1
    return {"points": {"exterior": [[left, top], [right, bottom]], "interior": []}}


def bitmap_json(left: int, top: int = 40, width: int = 28, height: int = 24) -> dict[str, Any]:
    data = encode_bitmap(np.ones((height, width), bool))
    return {"bitmap": {"origin": [left, top], "data": data}}


def points_json(*vertices: tuple[int, int]) -> dict[str, Any]:
    return {"points": {"exterior": [list(v) for v in vertices], "interior": []}}


@pytest.fixture
def lab(served: Served, clip: Path, request: pytest.FixtureRequest) -> Lab:
    api = served.api
    project = api.project.create(1, request.node.name[:80], sly.ProjectType.VIDEOS, change_name_if_conflict=True)
    template = KeypointsTemplate()
    for number, name in enumerate("abc"):
        template.add_point(label=name, row=10 * number, col=10 * number)
    template.add_edge(src="a", dst="b")
    template.add_edge(src="b", dst="c")
    meta = sly.ProjectMeta(
        obj_classes=[
            sly.ObjClass("any", sly.AnyGeometry),
            sly.ObjClass("pose", sly.GraphNodes, geometry_config=template),
        ],
        tag_metas=[sly.TagMeta("no-objects", sly.TagValueType.NONE)],
        project_type=sly.ProjectType.VIDEOS.value,
    )
    stored = api.project.update_meta(project.id, meta)
    dataset = api.dataset.create(project.id, "ds")
    video = api.video.upload_path(dataset.id, "clip.mp4", str(clip))
    return Lab(
        served,
        project.id,
        dataset.id,
        video.id,
        {entry.name: entry.sly_id for entry in stored.obj_classes},
        {entry.name: entry.sly_id for entry in stored.tag_metas},
    )
