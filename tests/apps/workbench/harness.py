"""A real server on a free port and the unmodified SDK as its client."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import requests
import supervisely as sly
import uvicorn

from apps.workbench.bench import Workbench
from apps.workbench.main import create_app
from apps.workbench.processes import Nursery
from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec


@dataclass
class Served:
    """A workbench that is listening. `call` posts to a REST method as any client would, outside the SDK."""

    settings: Settings
    bench: Workbench
    api: sly.Api

    def call(self, method: str, body: object = None, **kwargs: object) -> requests.Response:
        return requests.post(
            f"{self.settings.address}/public/api/v3/{method}",
            json=body if body is not None else {},
            headers=self.headers,
            timeout=30,
            **kwargs,  # type: ignore[arg-type]
        )

    def own(self, verb: str, path: str, **kwargs: object) -> requests.Response:
        """A request to the workbench's own addresses."""
        return requests.request(
            verb,
            f"{self.settings.address}/workbench/{path}",
            headers=self.headers,
            timeout=30,
            **kwargs,  # type: ignore[arg-type]
        )

    @property
    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.bench.token}


class Running:
    """Starts and stops a workbench in a thread of its own, with its own event loop."""

    def __init__(
        self,
        settings: Settings,
        apps: tuple[AppSpec, ...] = (),
        start: tuple[str, ...] = (),
        nursery: Nursery | None = None,
    ) -> None:
        self.app = create_app(settings, apps, start, nursery=nursery)
        self.settings = settings
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, host=settings.host, port=settings.port, log_level="error", access_log=False)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Served:
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("the workbench did not start")
            time.sleep(0.01)
        bench: Workbench = self.app.state.workbench
        api = sly.Api(self.settings.address, bench.token, retry_count=3, ignore_task_id=True)
        api.retry_sleep_sec = 0.05
        return Served(self.settings, bench, api)

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the workbench did not shut down"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_video(path: Path, frames: int = 12, width: int = 64, height: int = 48, seed: int = 0, fps: int = 25) -> Path:
    """A small H.264 or MPEG-4 clip, different for every seed, with frames that can be told apart."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 200, (height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 2_000_000
        for index in range(frames):
            image = ground.copy()
            image[4:20, 2 + index * 2 : 14 + index * 2] = (250, 20, 20 * (index % 10))
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@dataclass
class Labelled:
    """A project with one video in it and the ids that tests need."""

    project_id: int
    dataset_id: int
    video: sly.api.video.video_api.VideoInfo
    classes: dict[str, int]
    tags: dict[str, int]

    def add_object(self, served: Served, class_name: str = "box") -> int:
        body = {
            "datasetId": self.dataset_id,
            "annotationObjects": [{"classId": self.classes[class_name], "entityId": self.video.id}],
        }
        return int(served.call("annotation-objects.bulk.add", body).json()[0]["id"])


def rectangle(left: float = 2, top: float = 3, right: float = 20, bottom: float = 25) -> dict[str, object]:
    return {"points": {"exterior": [[left, top], [right, bottom]], "interior": []}}
