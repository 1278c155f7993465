"""Run parameters: one schema for what is read and what is given back."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from apps.predict.schema import RunParameters

PLATFORM = {
    "model": {"mode": "connect", "session_id": 5},
    "input": {"video_id": 3},
    "classes": ["car"],
    "settings": {
        "inference_mode": "Full Image",
        "model_prediction_suffix": "_m",
        "predictions_mode": "Merge by IoU threshold",
        "inference_settings": {"conf": 0.4, "existing_objects_iou_thresh": 0.7, "own": 1},
        "tracking_config": {"tracker": "bytetrack"},
        "tracking": True,
    },
    "output": {"mode": "create", "project_name": "P"},
}


def test_the_platforms_spellings_are_read() -> None:
    read = RunParameters.model_validate(PLATFORM)
    assert read.input.video_ids == [3]
    assert read.settings.predictions_mode == "iou_merge"
    assert read.settings.existing_objects_iou_thresh == 0.7
    assert read.settings.inference_settings.confidence == 0.4
    assert read.settings.inference_settings.model_dump()["own"] == 1
    assert read.settings.tracking_settings.tracker == "bytetrack"
    assert read.prediction().confidence == 0.4


def test_what_is_given_back_can_be_read_again() -> None:
    read = RunParameters.model_validate(PLATFORM)
    assert RunParameters.model_validate(read.model_dump(mode="json")) == read
    assert RunParameters().merged(read.model_dump(mode="json")) == read


def test_parts_can_be_changed_one_by_one() -> None:
    read = RunParameters.model_validate(PLATFORM).merged({"settings": {"tracking_config": {"repair": False}}})
    assert read.settings.predictions_mode == "iou_merge"
    assert not read.settings.tracking_settings.repair
    assert read.classes == ["car"]


def test_without_tracking_nothing_is_followed() -> None:
    settings = RunParameters(settings={"tracking": False}).prediction()  # type: ignore[arg-type]
    assert (settings.tracker, settings.repair, settings.looks) == ("none", False, "none")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": {"mode": "connect"}}, "session_id"),
        ({"model": {"mode": "custom", "model_name": "onnx"}}, "checkpoint"),
        ({"settings": {"trackers": 1}}, "trackers"),
        ({"settings": {"tracking_settings": {"tracker": "sort"}}}, "botsort"),
        ({"settings": {"predictions_mode": "some"}}, "predictions_mode"),
        ({"output": {"project_name": "a", "upload_to_source_project": True}}, "one of the two"),
        ({"output": {}}, "project_name"),
        ({"input": {"video_ids": [0]}}, "video_ids"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_mistakes_are_told(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RunParameters().merged(change)
