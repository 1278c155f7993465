"""Labels out and in again, in every form. (That the SDK opens an exported project: `test_journey.py`.)"""

from __future__ import annotations

import json
from pathlib import Path

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


def test_what_goes_out_comes_in(screen: Screen, bench: Bench, video: int, tmp_path: Path) -> None:
    fill(bench, video)
    screen.open(video)
    before = sorted((f["frame"], f["type"]) for f in bench.figures(video))
    for form in ("supervisely", "mot", "coco", "yolo"):
        bring(screen, export(screen, form, tmp_path))
        wait(lambda: len(bench.figures(video)) == 2 * len(before), f"the import of {form}")
        fresh = sorted(bench.figures(video), key=lambda f: int(f["id"]))[len(before) :]
        expected = before if form in ("supervisely", "coco") else [(frame, "rectangle") for frame, _ in before]
        assert sorted((f["frame"], f["type"]) for f in fresh) == sorted(expected), form
        box = next(f for f in fresh if f["frame"] == 0)
        assert box["geometry"]["points"]["exterior"] == [[50, 60], [99, 109]], form
        if form == "supervisely":
            (guess,) = [f for f in fresh if not f["key"]]
            assert guess["score"] == 0.4
        screen.until(f"annotator.S.objects.size === {len(bench.objects(video))}")
        screen.button("Undo")
        wait(lambda: len(bench.figures(video)) == len(before), f"taking the import of {form} back")
        screen.until("annotator.S.objects.size === 2")


NO_LABELS = [
    ("labels.txt", "this is no table", "no line of it is a MOT box"),
    ("labels.json", "{", "damaged JSON"),
    ("labels.json", json.dumps({"a": 1}), "neither a Supervisely video annotation nor COCO"),
    ("other.json", json.dumps({"size": {"width": 1, "height": 1}, "objects": [], "frames": [], "framesCount": 1}), "this one is 320 x 240"),
]  # fmt: skip


def test_a_file_that_is_no_labels_says_so(screen: Screen, bench: Bench, video: int, tmp_path: Path) -> None:
    screen.open(video)
    screen.button("Import labels")
    for name, content, why in NO_LABELS:  # the dialog stays open for another try
        (tmp_path / name).write_text(content)
        screen.page.get_by_label("Label file").set_input_files(tmp_path / name)
        screen.page.get_by_role("dialog").filter(has_text=why).wait_for()
    assert bench.figures(video) == []
