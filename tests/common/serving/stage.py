"""A workbench with a labelled video, and tracker apps that listen: what a labeler's click meets."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import requests
import supervisely as sly
import uvicorn
from supervisely.geometry.graph import KeypointsTemplate

from common.geometry.shapes import Polygon, Polyline, SinglePoint, Value, skeleton
from common.geometry.supervisely import geometry_type, to_json
from common.geometry.types import Box, Mask, OrientedBox
from common.serving.access import Access
from common.serving.app import create_app
from common.serving.engines import Engines
from common.serving.settings import ServingSettings, TrackerApp
from common.serving.smart_tool import GrabCut
from common.tracking.contract import Tracker
from tests.apps.workbench.harness import Served, free_port

WIDTH, HEIGHT, FRAMES = 192, 144, 40
START = (20, 16)
SIZE = (36, 28)
ROWS = (16, 60, 104)
"""Three objects, each moving two pixels to the right per frame."""

ALL_SHAPES = ("rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "graph")
EVERYTHING = TrackerApp("Everything", "1.0.0", ALL_SHAPES, segmenter=GrabCut())


def write_clip(path: Path, frames: int = FRAMES, seed: int = 3) -> Path:
    random = np.random.default_rng(seed)

    def texture(height: int, width: int, low: int, high: int) -> np.ndarray:
        coarse = random.integers(low, high, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    ground = texture(HEIGHT, WIDTH, 10, 110)
    looks = [texture(SIZE[1], SIZE[0], 120, 255) for _ in ROWS]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 8_000_000
        for index in range(frames):
            image = ground.copy()
            for y, look in zip(ROWS, looks, strict=True):
                x = START[0] + 2 * index
                image[y : y + SIZE[1], x : x + SIZE[0]] = look[:, : max(0, WIDTH - x)]
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def value(kind: str, frame: int = 0, row: int = 0) -> Value:
    """The object of a row as it is on a frame."""
    x, y = START[0] + 2 * frame, ROWS[row]
    w, h = SIZE
    match kind:
        case "rectangle":
            return Box(np.array([x, y, x + w, y + h]))
        case "oriented_bbox":
            return OrientedBox(np.array([x + w / 2, y + h / 2, w - 8, h - 8]), 0.3)
        case "bitmap":
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[y : y + h, x : x + w] = True
            return Mask.from_array(mask)
        case "polygon":
            return Polygon(np.array([[x, y], [x + w - 1, y], [x + w - 1, y + h - 1], [x, y + h - 1]]))
        case "point":
            return SinglePoint(np.array([x + w / 2, y + h / 2]))
        case "line":
            return Polyline(np.array([[x + 4, y + 4], [x + w / 2, y + h / 2], [x + w - 5, y + 8]]))
        case "graph":
            nodes = {"a": (x + 6.0, y + 6.0), "b": (x + 20.0, y + 14.0), "c": (x + 30.0, y + 20.0)}
            return skeleton(nodes, (("a", "b"), ("b", "c")))
    raise ValueError(kind)


def data(kind: str, frame: int = 0, row: int = 0) -> dict[str, Any]:
    return to_json(value(kind, frame, row), WIDTH, HEIGHT)


class Stage:
    """One project with classes of every shape. Objects and figures are made as tests need them."""

    def __init__(self, served: Served, clip: Path, name: str = "stage") -> None:
        self.served, api = served, served.api
        project = api.project.create(1, name, sly.ProjectType.VIDEOS, change_name_if_conflict=True)
        template = KeypointsTemplate()
        for number, node in enumerate("abc"):
            template.add_point(node, number, number)
        template.add_edge("a", "b")
        template.add_edge("b", "c")
        classes = [
            sly.ObjClass("rectangle", sly.Rectangle),
            sly.ObjClass("oriented_bbox", sly.OrientedBBox),
            sly.ObjClass("bitmap", sly.Bitmap),
            sly.ObjClass("polygon", sly.Polygon),
            sly.ObjClass("point", sly.Point),
            sly.ObjClass("line", sly.Polyline),
            sly.ObjClass("graph", sly.GraphNodes, geometry_config=template),
        ]
        meta = api.project.update_meta(project.id, sly.ProjectMeta(classes, project_type="videos"))
        self.classes = {c.name: c.sly_id for c in meta.obj_classes}
        self.dataset_id = api.dataset.create(project.id, "ds").id
        self.video = api.video.upload_path(self.dataset_id, "clip.mp4", str(clip))

    def draw(self, kind: str, frame: int = 0, row: int = 0) -> tuple[int, int]:
        """A new object with one figure: (object id, figure id)."""
        item = {"classId": self.classes[kind], "entityId": self.video.id}
        made = self.served.call(
            "annotation-objects.bulk.add", {"datasetId": self.dataset_id, "annotationObjects": [item]}
        )
        object_id = int(made.json()[0]["id"])
        figure = {
            "objectId": object_id,
            "geometryType": geometry_type(value(kind)),
            "geometry": data(kind, frame, row),
            "meta": {"frame": frame},
        }
        added = self.served.call("figures.bulk.add", {"entityId": self.video.id, "figures": [figure]})
        assert added.status_code == 200, added.text
        return object_id, int(added.json()[0]["id"])

    def figures(self, object_ids: Sequence[int] | None = None, track_id: str | None = None) -> list[dict[str, Any]]:
        conditions = [{"field": "entityId", "operator": "in", "value": [self.video.id]}]
        if object_ids is not None:
            conditions.append({"field": "objectId", "operator": "in", "value": list(object_ids)})
        body = {"datasetId": self.dataset_id, "filter": conditions, "per_page": 10_000}
        found: list[dict[str, Any]] = self.served.call("figures.list", body).json()["entities"]
        return [f for f in found if track_id is None or f.get("trackId") == track_id]

    def notices(self, track_id: str) -> list[dict[str, Any]]:
        """Bodies of what the annotation tool was told about a track, in order."""
        events = self.served.own("GET", "notifications", params={"trackId": track_id}).json()
        return [event["body"] for event in events]

    def progress(self, track_id: str) -> list[dict[str, Any]]:
        return [n["data"] for n in self.notices(track_id) if n.get("type") == "videos:fetch-figures-in-range"]

    def wait_final(self, track_id: str, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """Progress messages up to the final one; waits a little longer to see whether more come."""

        def final() -> bool:
            return any(p["progress"]["current"] == p["progress"]["total"] for p in self.progress(track_id))

        wait_until(final, timeout_s, lambda: f"{self.notices(track_id)}")
        return self.progress(track_id)


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0, say: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"it did not come about: {say()}"
        time.sleep(0.03)


@dataclass
class Client:
    """Calls an app as the annotation tool does."""

    address: str
    server: str
    token: str
    service: Any

    def post(self, command: str, context: Any = None, state: Any = None, **more: Any) -> requests.Response:
        body = {"context": context or {}, "state": state or {}, "server_address": self.server, "api_token": self.token}
        body.update(more)
        return requests.post(f"{self.address}/{command}", json=body, timeout=60)

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.address}/{path}", timeout=30)

    def files(self, command: str, files: Sequence[bytes], settings: str) -> requests.Response:
        parts = [("files", (f"{n}.png", content, "image/png")) for n, content in enumerate(files)]
        return requests.post(f"{self.address}/{command}", files=parts, data={"settings": settings}, timeout=60)

    def track(self, stage: Stage, drawn: Sequence[tuple[int, int]], track_id: str, **more: Any) -> requests.Response:
        context = {
            "videoId": stage.video.id,
            "trackId": track_id,
            "objectIds": [o for o, _ in drawn],
            "figureIds": [f for _, f in drawn],
            "frameIndex": 0,
            "frames": 5,
            "direction": "forward",
        }
        return self.post("track", context | more)


class AppRunning:
    """A tracker app on a port of its own. tracker: takes every geometry, instead of the real ones."""

    def __init__(
        self,
        served: Served,
        folder: Path,
        app: TrackerApp = EVERYTHING,
        tracker: Tracker | Mapping[str, Tracker] | None = None,
        **settings: Any,
    ) -> None:
        self._access = Access(served.settings.address, served.bench.token)
        chosen = replace(ServingSettings(folder, self._access, task_id=7), **settings)
        engines = None
        if tracker is not None:
            one: Any = tracker
            engines = Engines(dict.fromkeys(("box", "oriented_box", "mask", "points"), "toy"), lambda _: one)
        self.api = create_app(app, chosen, engines)
        self.port = free_port()
        self._server = uvicorn.Server(
            uvicorn.Config(self.api, host="127.0.0.1", port=self.port, log_level="error", access_log=False)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Client:
        self._thread.start()
        client = Client(
            f"http://127.0.0.1:{self.port}", self._access.address, self._access.token, self.api.state.service
        )
        wait_until(lambda: self._server.started or not self._thread.is_alive(), 20)
        wait_until(lambda: client.get("is_ready").status_code == 200, 20)
        return client

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the app did not shut down"


_numbers = itertools.count()


def new_track() -> str:
    return f"track-{next(_numbers)}"
