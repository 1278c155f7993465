"""Networks with seeded weights behind the app: every geometry that they give arrives at the SDK's clients."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervisely as sly
from supervisely.nn.inference import Session
from supervisely.nn.model.model_api import ModelAPI

from apps.detector.main import CONFIG
from common.detection import registry
from common.detection.contract import DetectorSettings
from common.serving.detection_model import Setup
from common.weights.options import SEEDED, EngineOptions
from tests.apps.detector.harness import DetectorRunning, picture, png
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import FRAMES, Client, Stage, new_track

if importlib.util.find_spec("ultralytics") is None:  # found, not imported: that changes other packages
    pytest.skip("the package ultralytics is not here", allow_module_level=True)

SHAPES: dict[str, type[Any]] = {
    "yolo26n": sly.Rectangle,
    "yolov8n-seg": sly.Bitmap,
    "yolo11n-obb": sly.OrientedBBox,
    "yolo26n-pose": sly.GraphNodes,
}


@pytest.fixture(scope="module", params=SHAPES)
def network(
    request: pytest.FixtureRequest, served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Client]]:
    name: str = request.param

    def make(_: Setup) -> Any:
        return registry.make(name, EngineOptions(SEEDED, "cpu"), DetectorSettings(side=64))

    with DetectorRunning(served, tmp_path_factory.mktemp(name), CONFIG, make) as client:
        yield name, client


def test_its_geometry_arrives(network: tuple[str, Client], served: Served, stage: Stage, tmp_path: Path) -> None:
    name, client = network
    shape = SHAPES[name]
    session = Session(served.api, session_url=client.address)
    meta = session.get_model_meta()
    assert all(one.geometry_type is shape for one in meta.obj_classes)
    path = tmp_path / "picture.png"
    path.write_bytes(png(np.random.default_rng(1).integers(0, 255, picture().shape, dtype=np.uint8)))
    session.update_inference_settings(confidence_threshold=0.3, max_detections=4)
    annotation = session.inference_image_path(str(path))
    assert 0 < len(annotation.labels) <= 4
    assert all(isinstance(label.geometry, shape) for label in annotation.labels)
    assert all(0.3 <= label.tags.get("confidence").value <= 1 for label in annotation.labels)

    settings = {"confidence_threshold": 0.05, "max_detections": 5}
    tracking = {"track_high_thresh": 0.3, "new_track_thresh": 0.3}
    detached = ModelAPI(served.api, url=client.address).predict_detached(
        video_id=stage.video.id,
        tracking=True,
        tracking_config=tracking,
        start_frame=6,
        num_frames=4,
        inference_settings=settings,
    )
    predictions = list(detached)
    assert [p.frame_index for p in predictions] == [6, 7, 8, 9]
    assert all(isinstance(label.geometry, shape) for p in predictions for label in p.annotation.labels)
    video = sly.VideoAnnotation.from_json(detached.final_result["video_ann"], detached.model_meta)
    assert video.frames_count == FRAMES and {frame.index for frame in video.frames} <= {6, 7, 8, 9}


def test_its_figures_are_written(network: tuple[str, Client], stage: Stage) -> None:
    name, client = network
    track = new_track()
    state = {"settings": {"confidence_threshold": 0.05, "max_detections": 5}}
    state["tracker_settings"] = {"track_high_thresh": 0.3, "new_track_thresh": 0.3}
    context = {"videoId": stage.video.id, "trackId": track, "startFrameIndex": 3, "framesCount": 3}
    assert client.post("tracking_by_detection", context, state).status_code == 200
    stage.wait_final(track)
    assert [n["type"] for n in stage.notices(track)].count("videos:tracking-error") == 0
    figures = stage.figures(track_id=track)
    assert figures and {f["geometryType"] for f in figures} == {SHAPES[name].geometry_name()}
    assert {f["meta"]["frame"] for f in figures} <= {3, 4, 5}
