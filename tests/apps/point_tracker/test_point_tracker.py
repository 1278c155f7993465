"""The point tracker: points, lines, polygons with holes and skeletons; and what holds for every tracker app's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.point_tracker.main import CONFIG
from apps.workbench.specs import read_spec
from common.geometry.shapes import Polygon
from common.geometry.supervisely import to_json
from common.serving.settings import TrackerApp
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import HEIGHT, WIDTH, AppRunning, Client, Stage, data, new_track

ROOT = Path(__file__).resolve().parents[3]
APPS = ("box_tracker", "mask_tracker", "point_tracker")


@pytest.fixture(scope="module")
def point_app(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with AppRunning(served, tmp_path_factory.mktemp("point"), TrackerApp.from_config(CONFIG)) as client:
        yield client


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_every_shape_keeps_its_form(point_app: Client, stage: Stage, direction: str) -> None:
    start = 0 if direction == "forward" else 12
    kinds = ("point", "line", "polygon", "graph")
    drawn, track = [stage.draw(kind, start, n % 3) for n, kind in enumerate(kinds)], new_track()
    point_app.track(stage, drawn, track, frameIndex=start, frames=5, direction=direction)
    stage.wait_final(track)
    step = 1 if direction == "forward" else -1
    for kind, (object_id, _) in zip(kinds, drawn, strict=True):
        figures = {f["meta"]["frame"]: f for f in stage.figures([object_id], track)}
        assert sorted(figures) == sorted(start + step * n for n in range(1, 6))
        last = figures[start + 5 * step]["geometry"]
        first = data(kind, start, kinds.index(kind) % 3)
        assert places(last).shape == places(first).shape
        assert np.abs(places(last) - places(first) - (10 * step, 0)).max() <= 3
        if kind == "graph":
            assert list(last["nodes"]) == ["a", "b", "c"]


def places(geometry: dict[str, Any]) -> np.ndarray:
    if "nodes" in geometry:
        return np.array([node["loc"] for node in geometry["nodes"].values()])
    return np.array(geometry["points"]["exterior"])


def test_holes_move_with_their_polygon(point_app: Client, stage: Stage) -> None:
    hole = np.array([[32, 24], [44, 24], [44, 34], [32, 34]])
    polygon = Polygon(np.array([[20, 16], [55, 16], [55, 43], [20, 43]]), (hole,))
    column = {"type": "polygon", "data": to_json(polygon, WIDTH, HEIGHT)}
    context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 5, "input_geometries": [column]}
    rows = point_app.post("track-api", context).json()
    [moved] = rows[-1][0]["data"]["points"]["interior"]
    assert np.abs(np.array(moved) - hole - (10, 0)).max() <= 3


def test_boxes_are_not_its_own(point_app: Client, stage: Stage) -> None:
    context = {"videoId": stage.video.id, "frameIndex": 0, "frames": 5}
    context["input_geometries"] = [{"type": "rectangle", "data": data("rectangle")}]
    reply = point_app.post("track-api", context)
    assert reply.status_code == 400 and "polygon" in reply.json()["message"]


@pytest.mark.parametrize("name", APPS)
def test_the_folder_of_an_app(name: str) -> None:
    folder = ROOT / "apps" / name
    config = json.loads((folder / "config.json").read_text())
    assert config["type"] == "app" and config["version"] == "2.0.0" and config["port"] == 8000
    assert config["headless"] is True and config["task_location"] == "application_sessions"
    assert "sly_video_tracking" in config["session_tags"]
    assert ("sly_smart_annotation" in config["session_tags"]) == (name == "mask_tracker")
    spec = read_spec(folder, ROOT)
    assert f"apps.{name}.main:app" in spec.argv and "{port}" in spec.argv
    app = import_module(f"apps.{name}.main").app
    assert set(app.state.service.app.shapes) <= set(config["allowed_shapes"])
    assert app.state.service.engines.names
    assert not (folder / "requirements.txt").exists()
    readme = (folder / "README.md").read_text()
    assert config["name"] in readme and all(shape in readme for shape in config["allowed_shapes"])


def test_the_apps_together_take_all_seven_geometries() -> None:
    shapes = [shape for name in APPS for shape in import_module(f"apps.{name}.main").app.state.service.app.shapes]
    assert sorted(shapes) == sorted(["rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "graph"])
