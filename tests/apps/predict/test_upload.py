"""One video, cut off wherever it hurts, and detectors of other apps."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.predict import upload
from apps.predict.ledger import Ledger
from apps.predict.merging import Continued, Existing, Predicted, covered
from apps.predict.schema import RunParameters
from apps.predict.worker import VideoTask, VideoWorker
from common.detection.contract import Detections, DetectorCard
from common.serving.access import Access, normalised
from common.serving.detection_app import create_detector_app
from common.serving.detection_model import Setup
from common.serving.settings import ServingSettings
from common.supervisely_io.writer import FigureWriter
from common.video.contract import Image
from tests.apps.auto_track.conftest import AppServer
from tests.apps.predict.conftest import FRAMES, SPEED, Predicting, Project
from tests.apps.workbench.harness import Served

ROOT = Path(__file__).parents[3]


class Killed(BaseException):
    """Stands for a process that ends without a word: nothing here catches it."""


class PatchDetector:
    """Finds what is bright, and calls it a patch."""

    card = DetectorCard("patch", "Patch", ("patch", "other"), "MIT", "none")

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        found = []
        for image in images:
            rows, columns = np.nonzero(image.max(2)[36:72] > 150)
            if len(rows) < 40:
                found.append(Detections())
                continue
            low, high = np.percentile(columns, (3, 97))
            box = np.array([[low, 36 + np.percentile(rows, 3), high + 1, 36 + np.percentile(rows, 97) + 1]], np.float32)
            found.append(Detections(box, np.array([0.9], np.float32), np.array([0])))
        return found


def worker(served: Served, folder: Path, **parameters: Any) -> VideoWorker:
    whole = RunParameters().merged(parameters).model_dump(mode="json")
    return VideoWorker(whole, None, normalised(served.settings.address), served.bench.token, str(folder), 1 << 30)


def labels(served: Served, dataset: int, video: int) -> list[tuple[int, int, str]]:
    conditions = [{"field": "entityId", "operator": "in", "value": [video]}]
    body = {"datasetId": dataset, "filter": conditions, "per_page": 5000}
    found = served.call("figures.list", body).json()["entities"]
    order = {ident: n for n, ident in enumerate(sorted({f["objectId"] for f in found}))}
    return sorted((order[f["objectId"]], f["meta"]["frame"], str(f["geometry"])) for f in found)


def objects(served: Served, dataset: int, video: int) -> int:
    conditions = [{"field": "entityId", "operator": "=", "value": video}]
    return int(served.call("annotation-objects.list", {"datasetId": dataset, "filter": conditions}).json()["total"])


@pytest.mark.parametrize("where", ["before objects are noted", "among figures", "at the end"])
@pytest.mark.parametrize("mode", ["append", "iou_merge"])
def test_a_kill_doubles_and_loses_nothing(
    served: Served, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, mode: str
) -> None:
    settings = {"predictions_mode": mode}
    output = {"upload_to_source_project": True, "tags": ["confidence"]}

    def run(video: int, folder: str) -> None:
        ready = worker(served, tmp_path / folder, output=output, settings=settings)
        done = ready(VideoTask("job", video, video, False), threading.Event(), lambda done, whole: None)
        assert not done.stopped

    def once(real: Any) -> Any:
        left = [1 if where != "among figures" else 9]

        def dies(*given: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*given, **more)

        return dies

    monkeypatch.setattr(upload, "_NOTE_EVERY", 4)
    first, second = project.videos[0], project.videos[1]
    dataset = project.datasets[0]
    # both videos get the same pictures, so that the results can be compared
    api = served.api
    copy = api.video.upload_hash(dataset, "copy.mp4", api.video.get_info_by_id(first).hash)
    run(first, "whole")
    with monkeypatch.context() as patch:
        if where == "before objects are noted":
            patch.setattr(Ledger, "note_objects", once(Ledger.note_objects))
        elif where == "among figures":
            patch.setattr(FigureWriter, "put", once(FigureWriter.put))
        else:
            patch.setattr(upload, "tag_objects", once(upload.tag_objects))
        with pytest.raises(Killed):
            run(copy.id, "parts")
    run(copy.id, "parts")
    assert labels(served, dataset, copy.id) == labels(served, dataset, first)
    assert objects(served, dataset, copy.id) == objects(served, dataset, first)
    assert labels(served, dataset, second) == []


@pytest.fixture
def detector(served: Served, tmp_path: Path) -> Iterator[int]:
    """Task number of a detector app that listens."""
    access = Access(normalised(served.settings.address), served.bench.token)
    app = create_detector_app(
        ROOT / "apps/detector/config.json",
        Setup("patch"),
        ServingSettings(tmp_path / "detector", access),
        lambda setup: PatchDetector(),
    )
    with AppServer(app) as url:
        config = {"session_tags": ["deployed_nn"]}
        reply = served.own("POST", "apps/register", json={"name": "Patches", "url": url, "config": config})
        assert reply.status_code == 200, reply.text
        yield int(reply.json()["id"])


def test_a_connected_detector_is_followed_with_our_identities(
    predict: Predicting, project: Project, detector: int
) -> None:
    assert detector in [s["task_id"] for s in predict.post("sessions")]
    model = {"mode": "connect", "session_id": detector}
    assert predict.post("deploy", model=model)["classes"] == ["patch", "other"]
    done = predict.run(
        input={"video_ids": project.videos[:2]},
        model=model,
        classes=["patch"],
        output={"upload_to_source_project": True},
    )
    assert [row["objects"] for row in done["videos"]] == [1, 1]
    for video in project.videos[:2]:
        (lefts,) = predict.lefts(video, project.datasets[0]).values()
        assert sorted(lefts) == list(range(FRAMES))
        assert all(abs(left - (8 + SPEED * frame)) < 5 for frame, left in lefts.items())
        assert {o.obj_class.name for o in predict.annotation(video).objects} == {"patch"}


def test_a_connected_detector_that_is_not_there_is_told(predict: Predicting, project: Project) -> None:
    job = predict.post("run", input={"video_id": project.videos[0]}, model={"mode": "connect", "session_id": 98765})
    last = predict.events(job["job_id"])[-1]
    assert last["status"] == "failed"
    assert "connected detector failed" in last["message"]


def box(*xyxy: float) -> np.ndarray:
    return np.array(xyxy, np.float32)


def test_the_same_is_the_same_class_in_the_same_place() -> None:
    there = [Existing(7, "car", box(0, 0, 10, 10)), Existing(8, "dog", box(50, 50, 60, 60))]
    rows = [
        Predicted(1, "car", box(1, 0, 11, 10)),
        Predicted(2, "cat", box(50, 50, 60, 60)),
        Predicted(3, "dog", box(54, 54, 64, 64)),
    ]
    assert covered(rows, there, 0.5) == {1: 7}
    assert covered(rows, there, 0.1) == {1: 7, 3: 8}
    assert covered(rows, [], 0.1) == covered([], there, 0.1) == {}


def test_each_object_goes_on_with_one_identity() -> None:
    counted = Continued()
    for _ in range(3):
        counted.add({1: 7, 2: 7})
    counted.add({1: 7, 2: 8})
    assert counted.objects() == {1: 7, 2: 8}
