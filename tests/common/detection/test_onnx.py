"""Every layout of ONNX outputs is recognised and read: the same two things, told in eight ways."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.detection import coco, registry
from common.detection.contract import DetectorSettings
from common.detection.onnx_layouts import recognise
from common.errors import WeightsInvalid, WeightsMissing
from common.weights.options import EngineOptions
from tests.common.detection.onnx_files import write

SIZE = (64, 64)
# in the input's pixels: a person on the left, a car (class 2) on the right, and a weaker copy of the person
BOXES = np.array([[8, 12, 24, 44], [36, 20, 60, 32], [9, 12, 25, 44]], np.float32)
SCORES, CLASSES = np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 2, 0])
CENTRED = np.concatenate(((BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]), 1)


def one_hot(classes=3):
    table = np.zeros((3, classes), np.float32)
    table[np.arange(3), CLASSES] = SCORES
    return table


def fastestdet():
    cells = np.zeros((8, 8, 8), np.float32)
    for box, score, label in zip(CENTRED, SCORES, CLASSES, strict=True):
        cx, cy, w, h = box / 64
        x, y = int(cx * 8), int(cy * 8)
        if cells[0, y, x]:
            x += 1
        cells[0, y, x], cells[5 + label, y, x] = 1, score
        cells[1:3, y, x] = np.arctanh([cx * 8 - x, cy * 8 - y])
        cells[3:5, y, x] = np.log(np.array([w, h]) / (1 - np.array([w, h])))
    return {"out": cells[None]}


def logit(p):
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p)).astype(np.float32)


def padded(rows, count=40):
    return np.concatenate((rows, np.zeros((count - len(rows), rows.shape[1]), np.float32)))[None]


FINAL = np.concatenate((BOXES, SCORES[:, None], CLASSES[:, None]), 1).astype(np.float32)[:2]
LAYOUTS = {
    "fastestdet": (fastestdet(), {}),
    "yolo": ({"output0": np.ascontiguousarray(padded(np.concatenate((CENTRED, one_hot()), 1)).transpose(0, 2, 1))}, {}),
    "yolo_objectness": (
        {"output": padded(np.concatenate((CENTRED, np.ones((3, 1)), one_hot()), 1).astype(np.float32))},
        {},
    ),
    "yolo_final": ({"output0": padded(FINAL)}, {}),
    "counted": (
        {
            "num_dets": np.array([[2]], np.float32),
            "det_boxes": padded(BOXES[:2]),
            "det_scores": padded(SCORES[:2, None])[..., 0],
            "det_classes": padded(CLASSES[:2, None].astype(np.float32))[..., 0],
        },
        {},
    ),
    "detr_final": (
        {"labels": CLASSES[None, :2].astype(np.float32), "boxes": BOXES[None, :2] / 64, "scores": SCORES[None, :2]},
        {"sizes": True},
    ),
    "detr": ({"dets": CENTRED[None, :2] / 64, "labels": logit(one_hot()[None, :2])}, {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch", [1, "batch"])
def test_reads_every_layout(tmp_path, layout, batch):
    outputs, how = LAYOUTS[layout]
    path = write(
        tmp_path / "model.onnx", outputs, SIZE, batch=batch, metadata={"names": "{0: 'a', 1: 'b', 2: 'c'}"}, **how
    )
    detector = registry.make("onnx", EngineOptions(str(path)))
    # twice as wide as the input: the family of YOLO sees it between grey bars, the others see it squeezed
    image = np.full((96, 192, 3), 90, np.uint8)
    found = detector.detect([image, image])
    assert detector.card.classes == ("a", "b", "c")
    scale = np.array([3, 1.5, 3, 1.5]) if layout in ("fastestdet", "detr_final", "detr") else np.array([3, 3, 3, 3])
    shift = np.array([0, 0, 0, 0]) if layout in ("fastestdet", "detr_final", "detr") else np.array([0, 48, 0, 48])
    wanted = np.clip(BOXES[:2] * scale - shift, 0, [192, 96, 192, 96])
    for one in found:
        assert one.classes.tolist() == [0, 2]
        np.testing.assert_allclose(one.xyxy, wanted, atol=0.01)
        np.testing.assert_allclose(one.scores, SCORES[:2], atol=1e-5)


def test_rows_of_all_pictures_together(tmp_path):
    """YOLOv7 with suppression inside gives the rows of all pictures below each other."""
    rows = np.concatenate((np.zeros((2, 1)), BOXES[:2], CLASSES[:2, None], SCORES[:2, None]), 1).astype(np.float32)
    from common.detection.onnx_layouts import decode

    reading = recognise({"output": (None, 7)})
    assert reading.layout == "yolo_rows"
    rows[1, 0] = 1
    first, second = decode({"output": rows}, reading, 2, 64, 64, 0.05)
    assert first.classes.tolist() == [0] and second.classes.tolist() == [2]
    np.testing.assert_allclose(second.xyxy, BOXES[1:2])


@pytest.mark.parametrize(
    ("shapes", "task", "classes", "layout", "kind", "count"),
    [
        ({"output0": (1, 84, 8400)}, None, None, "yolo", "detect", 80),
        ({"output0": (None, 84, None)}, "detect", 80, "yolo", "detect", 80),
        ({"output0": (1, 116, 8400), "output1": (1, 32, 160, 160)}, "segment", 80, "yolo", "segment", 80),
        ({"output0": (1, 56, 8400)}, "pose", 1, "yolo", "pose", 1),
        ({"output0": (1, 20, 21504)}, "obb", 15, "yolo", "obb", 15),
        ({"output0": (1, 25200, 85)}, None, None, "yolo_objectness", "detect", 80),
        ({"output0": (1, 300, 6)}, "detect", 80, "yolo_final", "detect", 80),
        ({"output0": (1, 300, 38), "output1": (1, 32, 160, 160)}, "segment", 80, "yolo_final", "segment", 80),
        ({"output0": (1, 300, 57)}, "pose", 1, "yolo_final", "pose", 1),
        ({"output0": (1, 300, 7)}, "obb", 15, "yolo_final", "obb", 15),
        ({"758": (1, 85, 22, 22)}, None, None, "fastestdet", "detect", 80),
        ({"dets": (1, 300, 4), "labels": (1, 300, 91)}, None, None, "detr", "detect", 91),
        ({"logits": (None, 300, 80), "pred_boxes": (None, 300, 4)}, None, None, "detr", "detect", 80),
        (
            {"labels": (None, 300), "boxes": (None, 300, 4), "scores": (None, 300)},
            None,
            None,
            "detr_final",
            "detect",
            None,
        ),
    ],
)
def test_recognises_published_exports(shapes, task, classes, layout, kind, count):
    reading = recognise(shapes, task, classes)
    assert (reading.layout, reading.task, reading.classes) == (layout, kind, count)


def test_reads_masks_turns_and_keypoints(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)

    def found(task, extra, **more):
        rows = np.concatenate((CENTRED, one_hot(), extra), 1).astype(np.float32)
        outputs = {"output0": np.ascontiguousarray(padded(rows, 60).transpose(0, 2, 1)), **more}
        path = write(tmp_path / f"{task}.onnx", outputs, SIZE, metadata={"task": task, "names": "['a', 'b', 'c']"})
        detector = registry.make("onnx", EngineOptions(str(path)))
        (one,) = detector.detect([image])
        return detector.card, one

    # the prototype is positive in the upper half of the picture
    prototype = np.repeat(np.where(np.arange(16) < 8, 1.0, -1.0), 16).reshape(1, 1, 16, 16).astype(np.float32)
    card, one = found("segment", np.ones((3, 1)), protos=prototype)
    assert card.finds == "mask" and one.masks is not None
    person = one.masks[0].to_array()
    assert person.shape == (64, 64) and person[12:32, 8:24].all() and person.sum() == 20 * 16
    card, one = found("obb", np.full((3, 1), np.pi / 2))
    assert card.finds == "oriented_box" and one.oriented is not None
    np.testing.assert_allclose(one.oriented[0], [16, 28, 16, 32, np.pi / 2], atol=1e-4)
    np.testing.assert_allclose(one.xyxy[0], [0, 20, 32, 36], atol=1e-4)
    points = np.tile(np.array([10, 20, 0.5, 30, 40, 1.5]), (3, 1))
    card, one = found("pose", points)
    assert card.finds == "keypoints" and one.keypoints is not None
    np.testing.assert_allclose(one.keypoints[0], [[10, 20, 0.5], [30, 40, 1.0]])


def test_a_file_beside_the_model_says_what_it_is(tmp_path):
    path = write(tmp_path / "m.onnx", {"o": FINAL[:1]}, SIZE)
    with pytest.raises(WeightsInvalid, match="no known layout"):
        registry.make("onnx", EngineOptions(str(path))).detect([np.zeros((8, 8, 3), np.uint8)])
    path = write(tmp_path / "n.onnx", {"o": padded(FINAL)}, SIZE)
    path.with_suffix(".json").write_text(json.dumps({"names": ["cat", "dog", "cow"], "layout": "yolo_final"}))
    detector = registry.make("onnx", EngineOptions(str(path)))
    detector.detect([np.zeros((64, 64, 3), np.uint8)])
    assert detector.card.classes == ("cat", "dog", "cow")
    path.with_suffix(".json").write_text("[")
    with pytest.raises(WeightsInvalid, match="no JSON"):
        registry.make("onnx", EngineOptions(str(path))).detect([np.zeros((64, 64, 3), np.uint8)])


def test_numbers_that_are_none_are_left_out(tmp_path):
    rows = FINAL.copy()
    rows[0, 2] = np.nan
    path = write(tmp_path / "m.onnx", {"o": padded(rows)}, SIZE)
    (one,) = registry.make("onnx", EngineOptions(str(path))).detect([np.zeros((64, 64, 3), np.uint8)])
    assert one.classes.tolist() == [2]


@pytest.mark.parametrize("damage", [b"", b"no model at all", b"\x08\x08:\x04abcd"])
def test_a_damaged_file_is_told(tmp_path, damage):
    path = tmp_path / "m.onnx"
    path.write_bytes(damage)
    with pytest.raises(WeightsInvalid, match=r"m\.onnx cannot be run"):
        registry.make("onnx", EngineOptions(str(path))).detect([np.zeros((8, 8, 3), np.uint8)])


def test_missing_files_are_told(tmp_path, monkeypatch):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(WeightsMissing, match="--weights"):
        registry.make("onnx").detect([image])
    with pytest.raises(WeightsMissing, match="no file"):
        registry.make("onnx", EngineOptions(str(tmp_path / "x.onnx"))).detect([image])
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissing, match="python -m apps models download fastestdet"):
        registry.make("fastestdet").detect([image])


SHARED = Path(__file__).parents[4] / "shared" / "data"


def test_fastestdet_finds_people():
    """On every tenth frame of a real clip; the figure of the whole clip is in docs/benchmarks.md."""
    model, clip = SHARED / "weights/FastestDet/FastestDet.onnx", SHARED / "mot/MOT15/TUD-Stadtmitte"
    if not model.is_file() or not clip.is_dir():
        pytest.skip("../shared/data with FastestDet and TUD-Stadtmitte is not here")
    from common.geometry.measures import box_iou
    from common.video.reader import open_source

    detector = registry.make("fastestdet", EngineOptions(str(model)), DetectorSettings(floor=0.3))
    truth = np.loadtxt(clip / "gt/gt.txt", delimiter=",")
    source = open_source(clip / "TUD-Stadtmitte.mp4")
    frames = range(0, source.info.frames, 20)
    hits = wrong = total = 0
    for number, one in zip(frames, detector.detect([source.read(n) for n in frames]), strict=True):
        rows = truth[truth[:, 0] == number + 1]
        boxes = np.concatenate((rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]), 1)
        people = one.keep(one.classes == coco.NAMES.index("person"))
        overlap = box_iou(people.xyxy, boxes) > 0.5
        hits, wrong, total = hits + overlap.any(0).sum(), wrong + (~overlap.any(1)).sum(), total + len(boxes)
    source.close()
    assert hits / total > 0.7 and wrong / max(hits + wrong, 1) < 0.25
