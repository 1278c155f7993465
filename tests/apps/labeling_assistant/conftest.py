"""A workbench, the assistant beside it as a server of its own, and a clip with things to label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervisely as sly

from apps.labeling_assistant.main import create_app
from apps.labeling_assistant.service import Assistant
from common.serving.access import Access, normalised
from common.serving.settings import ServingSettings
from common.video.writer import VideoWriter
from tests.apps.auto_track.conftest import AppServer
from tests.apps.predict.conftest import Predicting, _sdk_speaks_plain_http, served
from tests.apps.workbench.harness import Served
from tests.common.labeling.toys import CLASSES, THINGS, Thing, ToyVideo

__all__ = ["_sdk_speaks_plain_http", "served"]

FRAMES = 28
LABELLED = (0, 4)
TOY = ToyVideo(FRAMES, seed=3, things=(*THINGS, Thing("c3", 1, (110, -24), (0.2, 2.0), 12)))
"""Two discs and two crates from the first frame on, a disc that enters at frame 8, and a crate that enters at 12."""


@dataclass
class Clip:
    """ids of the uploaded clip, and of the person's objects by the name of the thing."""

    dataset: int
    video: int
    objects: dict[str, int]


@dataclass
class Assisting(Predicting):
    """The assistant, listening."""

    def finished(self, endpoint: str, **state: Any) -> dict[str, Any]:
        """A job to its end, which must be a good one; its result."""
        job = self.post(endpoint, **state)["job_id"]
        last = self.events(job)[-1]
        assert last["status"] == "finished", last
        result: dict[str, Any] = self.get("result", job_id=job)
        return result

    def of_people(self, clip: Clip) -> list[dict[str, Any]]:
        """Every figure of a person, as the server keeps it."""
        return [one for one in self.figures(clip.video, clip.dataset) if not one.get("trackId")]


def make_service(served: Served, folder: Path) -> Assistant:
    access = Access(normalised(served.settings.address), served.bench.token)
    return Assistant(ServingSettings(folder, access))


@pytest.fixture
def assistant(served: Served, tmp_path: Path) -> Iterator[Assisting]:
    service = make_service(served, tmp_path / "assistant")
    with AppServer(create_app(service=service)) as url:
        yield Assisting(url, service, served)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toys") / "toys.mp4"
    with VideoWriter(path, TOY.info.width, TOY.info.height, 25.0) as writer:
        for image in TOY.stream(0, FRAMES):
            writer.write(image)
    return path


@pytest.fixture
def clip(served: Served, toys: Path, request: pytest.FixtureRequest) -> Clip:
    """Of which a person labelled the first frames fully."""
    api = served.api
    project = api.project.create(1, request.node.name[:60], sly.ProjectType.VIDEOS, change_name_if_conflict=True)
    dataset = api.dataset.create(project.id, "all")
    video = api.video.upload_path(dataset.id, toys.name, str(toys)).id
    return Clip(dataset.id, video, draw(served, project.id, video))


def draw(served: Served, project: int, video: int, frames: tuple[int, ...] = LABELLED) -> dict[str, int]:
    """A person's boxes on those frames; ids of the objects by name."""
    api = served.api
    classes = [sly.ObjClass(name, sly.Rectangle) for name in CLASSES]
    api.project.update_meta(project, sly.ProjectMeta(sly.ObjClassCollection(classes)))
    things = {thing.key: sly.VideoObject(classes[thing.kind]) for frame in frames for thing, _ in TOY.boxes(frame)}
    drawn = []
    for frame in frames:
        boxes = [(things[thing.key], np.round(box).astype(int).tolist()) for thing, box in TOY.boxes(frame)]
        made = [sly.VideoFigure(one, sly.Rectangle(y1, x1, y2 - 1, x2 - 1), frame) for one, (x1, y1, x2, y2) in boxes]
        drawn.append(sly.Frame(frame, made))
    objects = sly.VideoObjectCollection(list(things.values()))
    size = (TOY.info.height, TOY.info.width)
    keys = sly.KeyIdMap()
    annotation = sly.VideoAnnotation(size, FRAMES, objects, sly.FrameCollection(drawn))
    api.video.annotation.append(video, annotation, keys)
    return {name: int(keys.get_object_id(one.key())) for name, one in things.items()}


def truth(name: str) -> dict[int, np.ndarray]:
    """Boxes of a thing by frame, where at least half of it is in the picture."""
    found = {}
    for frame in range(FRAMES):
        for thing, box in TOY.boxes(frame):
            if thing.key == name:
                found[frame] = box
    return found
