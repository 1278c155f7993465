"""The Video Annotation Tool's tracking-by-detection button."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervisely as sly

from common.association.contract import Tracks
from common.detection.contract import Detections, Detector
from common.serving.detection_model import Model, Setup
from common.serving.detection_upload import VideoUpload
from common.serving.detection_video import Seen
from common.serving.outputs import untold
from common.serving.replies import Rejected
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.supervisely_io.writer import WriteReport
from tests.apps.detector.harness import frame_of, near
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import FRAMES, Client, Stage, new_track, wait_until


def tracked(client: Client, stage: Stage, **more: Any) -> tuple[str, dict[str, Any]]:
    track = new_track()
    context = {"videoId": stage.video.id, "trackId": track, **more}
    reply = client.post("tracking_by_detection", context)
    assert (reply.status_code, reply.json()) == (200, {"message": "Track task started."})
    return track, context


@pytest.mark.parametrize(
    ("asked", "frames"),
    [
        ({"startFrameIndex": 5, "framesCount": 8}, list(range(5, 13))),
        ({"frameIndex": 20, "frames": 6, "direction": "backward"}, list(range(15, 21))),
        ({"start_frame": 4, "num_frames": 10, "stride": 3}, [4, 7, 10, 13]),
    ],
)
def test_the_annotation_tools_button(
    app: Client, served: Served, clip: Path, asked: dict[str, Any], frames: list[int]
) -> None:
    stage = Stage(served, clip)
    track, _ = tracked(app, stage, **asked)
    told = stage.wait_final(track)
    currents = [p["progress"]["current"] for p in told]
    assert currents == sorted(currents)
    assert [p["progress"]["current"] == p["progress"]["total"] for p in told].count(True) == 1
    assert told[-1]["progress"]["total"] == len(frames)
    figures = stage.figures(track_id=track)
    objects: dict[int, list[int]] = {}
    for figure in figures:
        objects.setdefault(figure["objectId"], []).append(figure["meta"]["frame"])
        left = figure["geometry"]["points"]["exterior"][0][0]
        assert near(frame_of(left), figure["meta"]["frame"], 2)
    assert [sorted(seen) for seen in objects.values()] == [frames] * 3
    meta = sly.ProjectMeta.from_json(served.api.project.get_meta(stage.video.project_id))
    assert meta.get_obj_class("car").geometry_type is sly.Rectangle and meta.get_obj_class("dog") is not None


def test_a_class_of_another_shape_is_left_alone(app: Client, served: Served, clip: Path) -> None:
    stage = Stage(served, clip)
    project = stage.video.project_id
    meta = sly.ProjectMeta.from_json(served.api.project.get_meta(project))
    served.api.project.update_meta(project, meta.add_obj_class(sly.ObjClass("car", sly.Polygon)))
    track, _ = tracked(app, stage, startFrameIndex=0, framesCount=3)
    stage.wait_final(track)
    meta = sly.ProjectMeta.from_json(served.api.project.get_meta(project))
    assert meta.get_obj_class("car").geometry_type is sly.Polygon
    assert meta.get_obj_class("car_nn").geometry_type is sly.Rectangle


def test_the_tool_can_stop_it(slow_app: Client, stage: Stage) -> None:
    track, context = tracked(slow_app, stage)
    again = slow_app.post("tracking_by_detection", context)
    assert len(slow_app.service.jobs.of_track(track)) == 1 and again.status_code == 200
    wait_until(lambda: len(stage.figures(track_id=track)) > 0)
    assert slow_app.post("stop_tracking", {"trackId": track}).json()["success"]
    (job,) = slow_app.service.jobs.of_track(track)
    wait_until(lambda: not job.active)
    stage.wait_final(track)
    written = len(stage.figures(track_id=track))
    time.sleep(0.5)
    assert len(stage.figures(track_id=track)) == written < 3 * FRAMES


def test_what_was_found_before_a_stop_is_written(app: Client, served: Served, stage: Stage) -> None:
    server = Server(served.settings.address, served.bench.token)
    track, stop = new_track(), threading.Event()
    box, score, number = np.array([[10, 10, 60, 50]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64)
    with VideoUpload(server, video(server, stage.video.id), app.service.model.card, track, "_nn", stop) as upload:
        for frame in range(6):
            tracks = Tracks(np.array([frame]), np.array([1]), box, score, number, number)
            upload.put(Seen(frame, Detections(box, score, number), tracks))
        stop.set()
    assert len(stage.figures(track_id=track)) == 6
    assert upload.report is not None and untold(upload.report) is None
    told = untold(WriteReport(refused=1, dropped=2, refusals=("frame 1, object 2: no",)))
    assert told is not None and "refused 1" in told and "2 of the figures" in told


def test_a_detector_that_cannot_be_made_says_so() -> None:
    def broken(_: Setup) -> Detector:
        raise RuntimeError("no such kernel")

    model = Model(Setup("broken"), broken)
    model.load()
    with pytest.raises(Rejected, match="no such kernel"):
        _ = model.detector


def test_a_failure_is_told_before_the_end(app: Client, stage: Stage) -> None:
    track = new_track()
    reply = app.post("tracking_by_detection", {"videoId": stage.video.id, "trackId": track, "startFrameIndex": 400})
    assert reply.status_code == 200
    stage.wait_final(track)
    kinds = [notice["type"] for notice in stage.notices(track)]
    assert kinds[-2:] == ["videos:tracking-error", "videos:fetch-figures-in-range"]
    assert app.post("tracking_by_detection", {"videoId": stage.video.id}).status_code == 400
