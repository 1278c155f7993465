"""What a connected detector says of joints arrives as skeletons, on images and in videos, with the bones of its classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervisely as sly

from apps.predict.remote import read
from common.detection.contract import Detections
from common.serving.access import Access, normalised
from common.serving.detection_app import create_detector_app
from common.serving.detection_model import Setup
from common.serving.settings import ServingSettings
from common.video.contract import Image
from tests.apps.auto_track.conftest import AppServer
from tests.apps.predict.conftest import FRAMES, Predicting, Project
from tests.apps.predict.test_upload import PatchDetector
from tests.apps.workbench.harness import Served

CONFIG = Path(__file__).parents[3] / "apps/detector/config.json"
NODES = ("head", "hand", "foot")
CARD = replace(PatchDetector.card, finds="keypoints", keypoints=NODES, bones=((0, 1), (0, 2)))


class Posed:
    """Head in the upper left corner, foot in the lower right one; the hand is never seen."""

    card = CARD

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [
            replace(one, keypoints=np.stack([_joints(box) for box in one.xyxy]).astype(np.float32)) if len(one) else one
            for one in PatchDetector().detect(images)
        ]


def _joints(box: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = box
    return np.array([[x1, y1, 0.9], [(x1 + x2) / 2, (y1 + y2) / 2, 0.1], [x2 - 1, y2 - 1, 0.8]])


@pytest.fixture
def detector(served: Served, tmp_path: Path) -> Iterator[int]:
    """Task number of a detector app that listens."""
    access = Access(normalised(served.settings.address), served.bench.token)
    settings = ServingSettings(tmp_path / "detector", access)
    with AppServer(create_detector_app(CONFIG, Setup("posed"), settings, lambda _: Posed())) as url:
        about = {"session_tags": ["deployed_nn"]}
        reply = served.own("POST", "apps/register", json={"name": "Posed", "url": url, "config": about})
        yield int(reply.json()["id"])


def test_skeletons_arrive(predict: Predicting, project: Project, detector: int) -> None:
    api = predict.served.api
    model = {"mode": "connect", "session_id": detector}
    assert predict.post("deploy", model=model)["finds"] == "keypoints"
    output = {"upload_to_source_project": True}
    video = project.videos[0]
    predict.run(input={"video_id": video}, model=model, classes=["patch"], output=output)
    made = predict.annotation(video)
    assert {o.obj_class.geometry_type for o in made.objects} == {sly.GraphNodes}
    figures = [f.geometry for frame in made.frames for f in frame.figures]
    assert len(figures) == FRAMES
    template = made.objects.items()[0].obj_class.geometry_config
    assert set(template["nodes"]) == set(NODES) and len(template["edges"]) == 2
    for graph in figures:
        assert {name: node.disabled for name, node in graph.nodes.items()} == dict(
            zip(NODES, (False, True, False), strict=True)
        )

    pictures = api.project.create(1, "posed", change_name_if_conflict=True)
    dataset = api.dataset.create(pictures.id, "ds")
    frame = api.video.frame.download_np(video, 3)
    image = api.image.upload_np(dataset.id, "a.png", frame)
    predict.run(input={"image_ids": [image.id]}, model=model, classes=["patch"], output=output)
    [label] = api.annotation.download_json(image.id)["objects"]
    assert label["geometryType"] == "graph" and set(label["nodes"]) == set(NODES)
    found = PatchDetector().detect([frame])[0].xyxy[0]
    assert np.allclose(label["nodes"]["head"]["loc"], found[:2], atol=1.5)


@pytest.mark.parametrize(
    ("nodes", "seen", "box"),
    [
        ({"head": {"loc": [10, 20]}, "foot": {"loc": [30, 60]}}, [1, 0, 1], [10, 20, 31, 61]),
        ({"head": {"loc": [10, 20]}, "foot": {"loc": [300, 600], "disabled": True}}, [1, 0, 0], [10, 20, 11, 21]),
        ({"foot": {"loc": [5, 6], "disabled": True}}, [0, 0, 0], [5, 6, 6, 7]),
        ({"tail": {"loc": [5, 6]}}, [0, 0, 0], [5, 6, 6, 7]),
    ],
)
def test_hidden_and_missing_nodes(nodes: dict[str, Any], seen: list[int], box: list[int]) -> None:
    """Every node has a row; where a hidden one is said to be does not make the box larger."""
    label = {"classTitle": "patch", "geometryType": "graph", "nodes": nodes}
    found = read({"annotation": {"objects": [label, {"classTitle": "unknown"}]}}, CARD, (640, 480))
    assert found.keypoints is not None and found.keypoints[0, :, 2].tolist() == seen
    assert found.xyxy.tolist() == [box]
