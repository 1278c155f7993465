"""OpenCV's small networks behind the contract, with NanoTrack's published files where they lie beside the checkout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import EngineUnavailable, WeightsMissing
from common.geometry.measures import iou
from common.geometry.types import Box
from common.trackers.boxes.opencv_nets import make
from common.tracking.contract import Prompt
from common.weights.options import EngineOptions
from common.weights.store import FOLDER, MIRROR
from tests.contract.checks import CHECKS
from tests.contract.clips import clip, geometry, play, prompts, scene

FILES = Path(__file__).parents[5] / "shared" / "data" / "weights" / "NanoTrack" / "nanotrackv2"
needs_files = pytest.mark.skipif(not FILES.is_dir(), reason="NanoTrack's files are not beside the checkout")


def nano():
    return make("nanotrack", EngineOptions(weights=str(FILES)))


@needs_files
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check):
    check(nano, "box")


@needs_files
@pytest.mark.parametrize("name", ["follows_an_easy_object", "resumes_from_a_snapshot_exactly"])
def test_contract_for_oriented_boxes(name):
    (check,) = [c for c in CHECKS if c.__name__ == name]
    check(nano, "oriented_box")


@needs_files
def test_it_finds_what_opencv_finds():
    """Driven frame by frame from the outside, it follows as the class does by itself."""
    options = {"speed": 2.2, "noise": 2}
    images, made = clip(21, 30, 160, 120, 2, **options), scene(21, 30, 160, 120, 2, **options)
    parameters = cv2.TrackerNano.Params()
    parameters.backbone, parameters.neckhead = (
        str(FILES / f"nanotrack_{part}_sim.onnx") for part in ("backbone", "head")
    )
    agreement = []
    for prompt in prompts(made.truth(0), "box"):
        ours = play(nano(), images, [prompt])
        theirs = cv2.TrackerNano.create(parameters)
        x1, y1, x2, y2 = (round(float(v)) for v in prompt.geometry.xyxy)
        theirs.init(np.ascontiguousarray(images[0][..., ::-1]), (x1, y1, x2 - x1, y2 - y1))
        for image, (given,) in zip(images[1:], ours[1:], strict=True):
            _, (x, y, w, h) = theirs.update(np.ascontiguousarray(image[..., ::-1]))
            if given.geometry is not None:
                agreement.append(iou(given.geometry, Box(np.array([x, y, x + w, y + h], np.float32))))
    assert np.mean(agreement) > 0.75


@needs_files
def test_an_object_that_was_hidden_is_found_again_where_it_moved_meanwhile():
    options = {"speed": 2.2, "noise": 2}
    images, made = list(clip(21, 30, 160, 120, 1, **options)), scene(21, 30, 160, 120, 1, **options)
    images[6:18] = [np.full_like(images[0], 90)] * 12
    out = [frame[0] for frame in play(nano(), images, prompts(made.truth(0), "box"))]
    assert not any(p.visible for p in out[13:18])
    assert all(p.visible for p in out[22:])
    last = out[29].geometry
    assert isinstance(last, Box) and iou(last, geometry(made.truth(29).objects[0], "box")) > 0.6


@needs_files
def test_a_file_or_its_folder_will_do():
    images, drawn = clip(5, 8), prompts(scene(5, 8).truth(0), "box")
    file = make("nanotrack", EngineOptions(weights=str(FILES / "nanotrack_backbone_sim.onnx")))
    assert play(file, images, drawn) == play(nano(), images, drawn)


@pytest.mark.parametrize("name", ["vittrack", "nanotrack"])
def test_missing_weights_are_told_with_the_command(name, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.delenv(MIRROR, raising=False)
    image, drawn = clip(5, 8)[0], prompts(scene(5, 8).truth(0), "box")
    for weights in (None, str(tmp_path / "none.onnx")):
        with pytest.raises(WeightsMissing, match=rf"python -m apps models download {name}\b"):
            make(name, EngineOptions(weights=weights)).start(image, drawn)


@pytest.mark.parametrize("options", [EngineOptions(weights="seeded"), EngineOptions(device="cuda")])
def test_what_opencv_cannot_do_is_said(options):
    image = clip(5, 8)[0]
    with pytest.raises(EngineUnavailable, match="NanoTrack"):
        make("nanotrack", options).start(image, [Prompt("a", Box(np.array([10, 10, 40, 40], np.float32)))])


def test_files_that_are_no_networks_are_refused(tmp_path):
    (tmp_path / "vit.onnx").write_bytes(b"no network")
    image = clip(5, 8)[0]
    with pytest.raises(EngineUnavailable, match=r"vit\.onnx"):
        make("vittrack", EngineOptions(weights=str(tmp_path / "vit.onnx"))).start(
            image, [Prompt("a", Box(np.array([10, 10, 40, 40], np.float32)))]
        )
