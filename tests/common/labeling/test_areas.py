"""Areas by a network where its weights are, and a clear word where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from common.detection.contract import Detections
from common.errors import EngineUnavailable, WeightsMissing
from common.labeling import areas
from common.labeling.areas import Sam2Areas
from common.labeling.segmenter import Segmenter
from common.trackers.masks.sam2 import Sam2Tracker
from common.weights.entries import catalogue
from common.weights.options import EngineOptions
from common.weights.store import Store
from tests.common.labeling.toys import ToyVideo

IMAGE = ToyVideo(4, seed=1).read(0)
FOUND = Detections([[20, 20, 50, 50], [200, 100, 250, 158]], [0.9, 0.6], [0, 1])


def test_the_best_that_is_here_is_taken(tmp_path):
    store = Store(tmp_path)
    assert areas.preferred(store) == "grabcut" and isinstance(areas.make("grabcut"), Segmenter)
    entry = catalogue().find("sam2.1-small")
    (tmp_path / entry.name).mkdir()
    for file in entry.files:
        (tmp_path / entry.name / file.name).touch()
    assert areas.preferred(store) == "sam2.1-small"


def test_missing_weights_and_unknown_names_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissing, match=r"models download sam2\.1-tiny"):
        areas.make("sam2.1-tiny").prepare()
    with pytest.raises(EngineUnavailable, match="choose grabcut, sam2"):
        areas.make("magic")


def test_every_box_gets_an_area_near_it():
    from tests.common.trackers.masks.test_sam2 import SMALLEST

    made = Sam2Areas(Sam2Tracker("sam2.1-tiny", EngineOptions("seeded", "cpu"), sizes=SMALLEST))
    made.prepare()
    outlined = made.outlined(IMAGE, FOUND)
    assert outlined.masks is not None and len(outlined.masks) == 2
    np.testing.assert_array_equal(outlined.xyxy, FOUND.xyxy)
    for mask, (x1, y1, x2, y2) in zip(outlined.masks, FOUND.xyxy, strict=True):
        assert (mask.width, mask.height) == (256, 160)
        y, x = np.nonzero(mask.to_array())
        if len(x):
            assert x.min() >= x1 - 6 and x.max() <= x2 + 6 and y.min() >= y1 - 6 and y.max() <= y2 + 6
    assert made.outlined(IMAGE, Detections()).masks == ()
    again = made.outlined(IMAGE, FOUND.keep(np.array([1])))
    assert again.masks is not None and again.masks[0] == outlined.masks[1], "boxes are drawn apart from each other"
