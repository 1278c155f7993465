"""A workbench, Predict beside it as a server of its own, and projects of videos."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import supervisely as sly

from apps.predict.main import create_app
from apps.predict.service import Service
from apps.workbench.settings import Settings
from common.serving.access import Access, normalised
from common.serving.settings import ServingSettings
from common.video.writer import VideoWriter
from tests.apps.auto_track.conftest import AppServer
from tests.apps.workbench.harness import Running, Served, free_port

FRAMES = 24
SPEED = 4


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


def write_video(path: Path, seed: int, frames: int = FRAMES) -> Path:
    """A textured patch whose left edge is at 8 + SPEED n on frame n, over textured ground."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 120, (30, 40, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    patch = np.kron(rng.integers(120, 255, (7, 8, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    with VideoWriter(path, 160, 120, 25.0) as writer:
        for n in range(frames):
            image = ground.copy()
            left = 8 + SPEED * n
            image[40:68, left : left + 32] = patch[:, : max(0, 160 - left)]
            writer.write(image)
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [write_video(folder / f"clip{seed}.mp4", seed) for seed in range(3)]


@dataclass
class Project:
    """datasets, videos: ids. names: of the videos."""

    id: int
    datasets: list[int]
    videos: list[int]


@dataclass
class Predicting:
    """Predict, listening. ended: how often it was asked to end itself."""

    url: str
    service: Service
    served: Served
    ended: list[bool] = field(default_factory=list)

    def post(self, endpoint: str, status: int = 200, **state: Any) -> Any:
        settings = self.served.settings
        body = {"state": state, "server_address": settings.address, "api_token": self.served.bench.token}
        reply = requests.post(f"{self.url}/{endpoint}", json=body, timeout=60)
        assert reply.status_code == status, reply.text
        return reply.json() if "json" in reply.headers["content-type"] else reply

    def get(self, endpoint: str, status: int = 200, **query: Any) -> Any:
        reply = requests.get(f"{self.url}/{endpoint}", params=query, timeout=60)
        assert reply.status_code == status, reply.text
        return reply.json()

    def run(self, **state: Any) -> dict[str, Any]:
        """A job to its end, which must be a good one."""
        job = self.post("run", **state)["job_id"]
        events = self.events(job)
        assert events[-1]["status"] == "finished", events[-1]
        return events[-1]

    def events(self, job: str) -> list[dict[str, Any]]:
        """All of `/progress`, which ends with the job."""
        with requests.get(f"{self.url}/progress", params={"job_id": job}, stream=True, timeout=120) as reply:
            lines = [line for line in reply.iter_lines() if line.startswith(b"data: ")]
        return [json.loads(line[6:]) for line in lines]

    # -- what is on the server ---------------------------------------------------------------------------------------------

    def annotation(self, video: int) -> sly.VideoAnnotation:
        api = self.served.api
        info = api.video.get_info_by_id(video)
        meta = sly.ProjectMeta.from_json(api.project.get_meta(info.project_id))
        found = api.video.annotation.download(video)
        return sly.VideoAnnotation.from_json(found, meta, sly.KeyIdMap())

    def figures(self, video: int, dataset: int) -> list[dict[str, Any]]:
        conditions = [{"field": "entityId", "operator": "in", "value": [video]}]
        body = {"datasetId": dataset, "filter": conditions, "per_page": 5000}
        return self.served.call("figures.list", body).json()["entities"]

    def lefts(self, video: int, dataset: int) -> dict[int, dict[int, float]]:
        """Left edges by object and frame; fails when an object has two figures on a frame."""
        found: dict[int, dict[int, float]] = {}
        for figure in self.figures(video, dataset):
            frames = found.setdefault(figure["objectId"], {})
            assert figure["meta"]["frame"] not in frames, "a figure twice"
            frames[figure["meta"]["frame"]] = figure["geometry"]["points"]["exterior"][0][0]
        return found


def make_service(served: Served, folder: Path, **more: Any) -> Service:
    access = Access(normalised(served.settings.address), served.bench.token)
    return Service(ServingSettings(folder, access), **more)


@pytest.fixture
def predict(served: Served, tmp_path: Path) -> Iterator[Predicting]:
    ended: list[bool] = []
    service = make_service(served, tmp_path / "predict", end=lambda: ended.append(True))
    with AppServer(create_app(service=service)) as url:
        yield Predicting(url, service, served, ended)


@pytest.fixture
def project(served: Served, clips: list[Path], request: pytest.FixtureRequest) -> Project:
    api = served.api
    made = api.project.create(1, request.node.name[:80], sly.ProjectType.VIDEOS, change_name_if_conflict=True)
    top = api.dataset.create(made.id, "top")
    inner = api.dataset.create(made.id, "inner", parent_id=top.id)
    videos = [
        api.video.upload_path(dataset.id, clip.name, str(clip)).id
        for dataset, clip in zip((top, top, inner), clips, strict=True)
    ]
    return Project(made.id, [top.id, inner.id], videos)


def wait_until(true: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return found
