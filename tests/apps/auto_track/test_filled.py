"""Polygons tracked as masks: holes and parts come back, and the labeler hears of those that were not drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from apps.auto_track.discovery import Engines, check
from apps.auto_track.engines import InProcessEngine, Start
from apps.auto_track.filled import FilledEngine, Topology, outlines
from apps.auto_track.remote import RemoteEngine
from apps.auto_track.settings import Settings
from common.errors import EngineUnavailable
from common.evaluation.masks import region_similarity
from common.geometry.raster import fill_all
from common.geometry.shapes import Polygon
from common.geometry.types import Mask
from tests.apps.auto_track.conftest import Auto, Lab, points_json
from tests.apps.auto_track.test_track import begin

HOLED = {
    "points": {
        "exterior": [[20, 40], [60, 40], [60, 80], [20, 80]],
        "interior": [[[30, 50], [50, 50], [50, 70], [30, 70]]],
    }
}


def _choose(auto: Auto, **choice: Any) -> None:
    auto.post("settings", {}, settings={"engines": {"polygon": choice}})


def test_the_default_is_points() -> None:
    made = Engines(Settings()).of("polygon")
    assert isinstance(made, InProcessEngine)


def test_a_polygon_with_a_hole_keeps_it(auto: Auto, lab: Lab) -> None:
    _choose(auto, engine="default", as_masks=True)
    ident = lab.object()
    lab.draw(ident, 0, "polygon", HOLED)
    track = begin(auto, lab, [ident], 0, 6)
    lab.finished(track)
    assert (lab.errors(track), lab.warnings(track)) == ([], "")
    figures = lab.figures(ident)
    assert sorted(figures) == list(range(7))
    for frame, (one,) in figures.items():
        assert one["geometryType"] == "polygon"
        points = one["geometry"]["points"]
        assert len(points["interior"]) == 1
        exterior = np.array(points["exterior"])
        assert exterior.min(0).tolist() == [20 + 2 * frame, 40] and exterior.max(0).tolist() == [60 + 2 * frame, 80]
        if frame:
            assert one["trackId"] == track and len(exterior) == 4


def test_between_key_figures_areas_are_fused(auto: Auto, lab: Lab) -> None:
    _choose(auto, engine="default", as_masks=True)
    ident = lab.object()
    for frame in (0, 6):
        left = 20 + 2 * frame
        lab.draw(ident, frame, "polygon", points_json((left, 40), (left + 30, 40), (left + 15, 70)))
    track = begin(auto, lab, [ident], 0, 6)
    lab.finished(track)
    assert lab.errors(track) == []
    assert {f: [one["geometryType"] for one in there] for f, there in lab.figures(ident).items()} == {
        frame: ["polygon"] for frame in range(7)
    }


class _Splits:
    """An engine that breaks what it is given into two, with a speck beside."""

    def start(self, scene: Any, start: Start) -> _Splits:
        self._values = start.values
        return self

    def advance(self, frame: int, until: int) -> list[Any]:
        from apps.auto_track.engines import Sighting

        row = {}
        for key, value in self._values.items():
            assert isinstance(value, Mask), "a mask engine gets masks"
            array = value.to_array()
            columns = np.flatnonzero(array.any(0))
            array[:, columns[len(columns) // 2] : columns[len(columns) // 2] + 3] = False
            array[0, 0] = True
            row[key] = Sighting(Mask.from_array(array), 0.9)
        return [(frame, row)]

    def flush(self) -> list[Any]:
        return []

    def save(self) -> bytes:
        return b""


def test_parts_that_were_not_drawn_are_told_once(auto: Auto, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        type(auto.service.tracks._means.engines(Settings())), "_make", lambda self, kind: FilledEngine(_Splits())
    )  # type: ignore[arg-type]
    ident = lab.object()
    lab.draw(ident, 0, "polygon", points_json((20, 40), (60, 40), (60, 80), (20, 80)))
    track = begin(auto, lab, [ident], 0, 3)
    lab.finished(track)
    figures = lab.figures(ident)
    assert {frame: len(there) for frame, there in figures.items()} == {0: 1, 1: 2, 2: 2, 3: 2}, "and no speck"
    assert {one["geometryType"] for there in figures.values() for one in there} == {"polygon"}
    assert lab.warnings(track).count("has 2 parts and no holes on frame 1, other than it was drawn") == 1
    assert "frame 2" not in lab.warnings(track)


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"engine": "default", "as_masks": True}, InProcessEngine),
        ({"engine": "flow", "as_masks": True}, InProcessEngine),
        ({"task_id": 7, "as_masks": True}, RemoteEngine),
        ({"url": "http://127.0.0.1:1", "as_masks": True}, RemoteEngine),
    ],
)
def test_any_mask_engine_may_be_chosen(choice: dict[str, Any], made: type) -> None:
    chosen = Settings().merged({"engines": {"polygon": choice}})
    check(chosen)
    engine = Engines(chosen).of("polygon")
    assert isinstance(engine, FilledEngine) and isinstance(engine._engine, made)


@pytest.mark.parametrize(
    ("engines", "error"),
    [
        ({"bitmap": {"engine": "default", "as_masks": True}}, ValidationError),
        ({"polygon": {"interpolation": True, "as_masks": True}}, ValidationError),
        ({"polygon": {"as_masks": True}}, ValidationError),
        ({"polygon": {"engine": "correlation", "as_masks": True}}, EngineUnavailable),
        ({"polygon": {"engine": "flow"}}, EngineUnavailable),
    ],
)
def test_what_makes_no_sense_is_refused(engines: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        check(Settings().merged({"engines": engines}))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_outline_is_its_mask_but_for_a_pixel_at_the_rim(seed: int) -> None:
    random = np.random.default_rng(seed)
    centres, radii = random.uniform(20, 100, (4, 2)), random.uniform(8, 25, 4)
    y, x = np.mgrid[0:120, 0:120]
    array = np.zeros((120, 120), bool)
    for (cx, cy), radius in zip(centres, radii, strict=True):
        array |= (x - cx) ** 2 + (y - cy) ** 2 < radius**2
    array[random.random((120, 120)) < 0.0005] ^= True
    found = outlines(Mask.from_array(array))
    assert all(isinstance(polygon, Polygon) for polygon in found)
    assert region_similarity(fill_all(found, 120, 120).to_array(), array) > 0.9
    assert sum(len(polygon.exterior) for polygon in found) < array.sum() / 8, "an outline, not every pixel of it"


def test_nothing_has_no_outline() -> None:
    assert outlines(Mask.from_array(np.zeros((9, 9), bool))) == []
    assert Topology.of([]) == Topology(0, 0)
