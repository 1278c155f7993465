"""Labels out and in again, in every form; the Supervisely project opens with the SDK."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import supervisely as sly

from tests.apps.workbench.annotator.browser import Bench, Screen, wait


def fill(bench: Bench, video: int) -> None:
    kind = bench.add_class(video, "thing")
    ident = bench.add_box(video, kind, 0, 50, 60, 99, 109)
    geometry = {"points": {"exterior": [[60, 60], [109, 109]], "interior": []}}
    figure = {
        "objectId": ident, "geometryType": "rectangle", "geometry": geometry, "meta": {"frame": 5}, "trackId": "t",
        "nnCreated": True, "nnUpdated": True, "customData": {"score": 0.4},
    }  # fmt: skip
    bench.call("figures.bulk.add", entityId=video, figures=[figure])
    outline = {"points": {"exterior": [[150, 60], [200, 60], [180, 110]], "interior": []}}
    polygon = {"op": "add_figure", "objectId": -1, "frame": 3, "geometryType": "polygon", "geometry": outline}
    bench.apply(video, {"op": "add_object", "classId": kind}, polygon)


def export(screen: Screen, format: str, folder: Path) -> Path:
    screen.button("Export labels")
    with screen.page.expect_download() as download:
        screen.page.locator(f"[data-format={format}]").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def bring(screen: Screen, path: Path) -> None:
    screen.button("Import labels")
    screen.page.get_by_label("Label file").set_input_files(path)


@pytest.mark.parametrize("form", ["supervisely", "mot", "coco", "yolo"])
def test_what_goes_out_comes_in(screen: Screen, bench: Bench, video: int, tmp_path: Path, form: str) -> None:
    fill(bench, video)
    screen.open(video)
    path = export(screen, form, tmp_path)
    before = sorted((f["frame"], f["type"]) for f in bench.figures(video))
    bring(screen, path)
    wait(lambda: len(bench.figures(video)) == 2 * len(before), "the import")
    fresh = sorted(bench.figures(video), key=lambda f: int(f["id"]))[len(before) :]
    expected = before if form in ("supervisely", "coco") else [(frame, "rectangle") for frame, _ in before]
    assert sorted((f["frame"], f["type"]) for f in fresh) == sorted(expected)
    box = next(f for f in fresh if f["frame"] == 0)
    assert box["geometry"]["points"]["exterior"] == [[50, 60], [99, 109]]
    if form == "supervisely":
        (guess,) = [f for f in fresh if not f["key"]]
        assert guess["score"] == 0.4
    screen.until(f"annotator.S.objects.size === {len(bench.objects(video))}")
    screen.button("Undo")
    wait(lambda: len(bench.figures(video)) == len(before), "taking the import back")


def test_the_sdk_opens_the_exported_project(screen: Screen, bench: Bench, video: int, tmp_path: Path) -> None:
    fill(bench, video)
    screen.open(video)
    path = export(screen, "supervisely", tmp_path)
    zipfile.ZipFile(path).extractall(tmp_path / "out")
    project = sly.VideoProject(str(tmp_path / "out" / "project"), sly.OpenMode.READ)
    ((dataset),) = project.datasets
    ann = dataset.get_ann("small.mp4", project.meta, sly.KeyIdMap())
    assert ann.frames_count == 48
    assert [(f.index, len(f.figures)) for f in ann.frames] == [(0, 1), (3, 1), (5, 1)]
    assert Path(dataset.get_item_path("small.mp4")).stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("labels.txt", "this is no table", "no line of it is a MOT box"),
        ("labels.json", "{", "damaged JSON"),
        ("labels.json", json.dumps({"a": 1}), "neither a Supervisely video annotation nor COCO"),
        ("other.json", json.dumps({"size": {"width": 1, "height": 1}, "objects": [], "frames": [], "framesCount": 1}), "this one is 320 x 240"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_labels_says_so(
    screen: Screen, bench: Bench, video: int, tmp_path: Path, name: str, content: str, why: str
) -> None:
    (tmp_path / name).write_text(content)
    screen.open(video)
    bring(screen, tmp_path / name)
    wait(lambda: why in screen.page.get_by_role("dialog").inner_text(), "the reason")
    assert bench.figures(video) == []
