"""The mask tracker: masks of many objects, the recorded mask call, and its smart tool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.mask_tracker.main import CONFIG
from apps.mask_tracker.main import app as started
from common.geometry.measures import iou
from common.geometry.supervisely import from_json
from common.geometry.types import Mask
from common.serving.settings import TrackerApp
from common.serving.smart_tool import GrabCut
from tests.apps.workbench.harness import Served
from tests.common.serving.recorded import recorded, same_form
from tests.common.serving.stage import HEIGHT, WIDTH, AppRunning, Client, Stage, data, new_track, value


@pytest.fixture(scope="module")
def mask_app(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    app = TrackerApp.from_config(CONFIG, segmenter=GrabCut())
    with AppRunning(served, tmp_path_factory.mktemp("mask"), app) as client:
        yield client


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_many_masks_either_way(mask_app: Client, stage: Stage, direction: str) -> None:
    start, step = (0, 1) if direction == "forward" else (12, -1)
    drawn, track = [stage.draw("bitmap", start, row) for row in range(3)], new_track()
    mask_app.track(stage, drawn, track, frameIndex=start, frames=5, direction=direction)
    stage.wait_final(track)
    for row, (object_id, figure_id) in enumerate(drawn):
        figures = stage.figures([object_id], track)
        assert sorted(f["meta"]["frame"] for f in figures) == sorted(start + step * n for n in range(1, 6))
        for figure in figures:
            assert figure["meta"]["sourceFigureId"] == figure_id
            found = from_json("bitmap", figure["geometry"], WIDTH, HEIGHT)
            truth = value("bitmap", figure["meta"]["frame"], row)
            assert isinstance(found, Mask) and isinstance(truth, Mask) and iou(found, truth) > 0.75


def test_the_recorded_mask_call(mask_app: Client, stage: Stage) -> None:
    call = next(c for c in recorded(path="/track-api") if "bitmap" in c["case"])
    column = [{"type": "bitmap", "data": data("bitmap")}]
    context = call["request"]["json"]["context"] | {"videoId": stage.video.id, "input_geometries": column}
    reply = mask_app.post("track-api", context)
    assert reply.status_code == 200
    same_form(reply.json(), call["response"]["json"])


def test_it_is_a_smart_tool_too(mask_app: Client, stage: Stage) -> None:
    config = started.state.service.app
    assert config.segmenter is not None and config.shapes == ("bitmap",)
    click = {"crop": [{"x": 14, "y": 10}, {"x": 62, "y": 50}], "positive": [{"x": 38, "y": 30}], "negative": []}
    reply = mask_app.post("smart_segmentation", click | {"video": {"video_id": stage.video.id, "frame_index": 0}})
    assert reply.json()["success"] is True and set(reply.json()["origin"]) == {"x", "y"}
