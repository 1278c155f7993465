"""The YOLO family: the contract with seeded weights, the published file layout, and the library's own suppression."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from functools import lru_cache

import numpy as np
import pytest

from common.detection.contract import DetectorSettings
from common.detection.yolo import YoloDetector, _tasks
from common.detection.yolo_variants import YOLO
from common.errors import WeightsInvalid
from common.weights.options import SEEDED, EngineOptions
from tests.contract.detectors import DETECTOR_CHECKS, pictures, same

if importlib.util.find_spec("ultralytics") is None:  # found, not imported: that changes other packages
    pytest.skip("the package ultralytics is not here", allow_module_level=True)
import torch

CPU = EngineOptions(SEEDED, "cpu")
CHECKED = ("yolo11n-seg", "yolo26n-pose")
EVERY = (
    *CHECKED,
    "yolov8n",
    "yolov8n-obb",
    "yolo26n",
    "yolo26n-seg",
    "yolo26n-obb",
    "yolo12n",
    "yolov10n",
    "yolov9t",
    "yolov5nu",
    "yolo11n-pose",
)


def small(name, options=CPU, **more):
    return YoloDetector(name, YOLO[name], options, DetectorSettings(side=96, **more))


@lru_cache(maxsize=1)
def built(name):
    return small(name)._ready()


def fresh(name):
    """A detector of its own around a network that is built once."""
    detector = small(name)
    detector._model = built(name)
    return detector


@pytest.mark.parametrize("check", DETECTOR_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CHECKED)
def test_contract(name, check):
    check(lambda: fresh(name))


@pytest.mark.parametrize("name", EVERY[len(CHECKED) :])
def test_every_family_and_task_finds_something(name):
    detector = small(name)
    (found,) = detector.detect(pictures(1, 1))
    assert len(found) > 5
    assert (found.masks is not None) == ("-seg" in name)
    assert (found.oriented is not None) == ("-obb" in name)
    assert (found.keypoints is not None) == ("-pose" in name)


def published(name, path, classes, **more):
    """A file as the trainer writes it: the averaged network pickled whole, in half precision, and much beside it."""
    tasks = _tasks()
    variant = YOLO[name]
    kind = {"detect": tasks.DetectionModel, "segment": tasks.SegmentationModel, "pose": tasks.PoseModel}[variant.task]
    module = kind(variant.architecture, nc=len(classes), verbose=False)
    from common.networks.seeding import fill

    fill(module, [n for n in module.state_dict() if n.endswith("dfl.conv.weight")], seed=3)
    module.names = dict(enumerate(classes))
    module.args = {"imgsz": 640}
    content = {"epoch": -1, "model": None, "ema": module.half().eval(), "train_args": {"data": "x.yaml"}, **more}
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["yolo26n-seg", "yolo11n-pose"])
def test_reads_the_published_layout(name, tmp_path):
    classes = ("person",) if "pose" in name else ("cat", "dog", "cat")
    path = published(name, tmp_path / "best.pt", classes)
    images = pictures(2, 2)
    detector = small(name, EngineOptions(str(path), "cpu"))
    first = detector.detect(images)
    assert detector.card.classes == (("person",) if "pose" in name else ("cat 0", "dog", "cat 2"))
    # the same numbers as a plain table of tensors
    content = torch.load(path, weights_only=False)
    plain = tmp_path / "plain.pt"
    torch.save({"model": content["ema"].state_dict(), "names": list(classes)}, plain)
    for a, b in zip(first, small(name, EngineOptions(str(plain), "cpu")).detect(images), strict=True):
        same(a, b, 1e-6)


def test_boxes_are_those_of_the_library(tmp_path):
    """ultralytics' own suppression of the same network's output keeps the same boxes."""
    from ultralytics.utils.nms import non_max_suppression

    path = published("yolov8n", tmp_path / "best.pt", tuple(f"c{n}" for n in range(6)))
    image = pictures(3, 1, 96, 64)[0]
    (found,) = small("yolov8n", EngineOptions(str(path), "cpu"), floor=0.3).detect([image])
    module = torch.load(path, weights_only=False)["ema"].float()
    with torch.no_grad():
        out = module(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255)
    theirs = non_max_suppression(out, conf_thres=0.3, iou_thres=0.7)[0].numpy()
    assert len(theirs) == len(found) > 3
    np.testing.assert_allclose(found.scores, theirs[:, 4], atol=1e-4)
    np.testing.assert_allclose(found.xyxy, np.clip(theirs[:, :4], 0, [96, 64, 96, 64]), atol=0.05)
    assert found.classes.tolist() == theirs[:, 5].astype(int).tolist()


def test_the_package_changes_nothing_for_others():
    """Importing it replaces functions of OpenCV, Pillow and PyTorch; those that others use stay theirs."""
    code = (
        "import cv2, numpy, os, torch; from PIL import Image; cv2.setNumThreads(2)\n"
        "before = (cv2.imread, cv2.imwrite, cv2.imshow, Image.open, torch.save, cv2.getNumThreads(), numpy.get_printoptions())\n"
        "from common.detection.yolo import _tasks; _tasks()\n"
        "after = (cv2.imread, cv2.imwrite, cv2.imshow, Image.open, torch.save, cv2.getNumThreads(), numpy.get_printoptions())\n"
        "assert before == after and 'TORCH_CPP_LOG_LEVEL' not in os.environ"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class _Hostile:
    def __reduce__(self):
        return (__import__("os").system, ("true",))


def test_refuses_files_that_would_run_something_or_do_not_fit(tmp_path):
    hostile = tmp_path / "hostile.pt"
    torch.save({"model": _Hostile()}, hostile)
    with pytest.raises(WeightsInvalid, match="system"):
        small("yolov8n", EngineOptions(str(hostile), "cpu")).prepare()
    other = published("yolov8n", tmp_path / "other.pt", ("a", "b"))
    with pytest.raises(WeightsInvalid, match="does not fit YOLO11 n"):
        small("yolo11n", EngineOptions(str(other), "cpu")).prepare()
    (tmp_path / "empty.pt").write_bytes(pickle.dumps({"epoch": 3}))
    with pytest.raises(WeightsInvalid):
        small("yolov8n", EngineOptions(str(tmp_path / "empty.pt"), "cpu")).prepare()


def test_names_are_those_of_the_published_files():
    assert {"yolo26x-obb", "yolo11m-seg", "yolov8l-pose", "yolov10b", "yolov9e", "yolov5nu"} <= set(YOLO)
