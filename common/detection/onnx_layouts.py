"""What the numbers that ONNX detectors give mean: the usual layouts, recognised by the outputs' names and shapes.

| layout | outputs |
|---|---|
| fastestdet | (n, 5 + classes, h, w): objectness, tanh of x and y in the cell, sigmoid of width and height, class scores |
| yolo | (n, 4 + classes [+ extra], anchors): centre, size, class scores; ultralytics' v8 to 12 |
| yolo_objectness | (n, anchors, 5 + classes): centre, size, objectness, class scores; v5, v7 |
| yolo_final | (n, rows, 6 [+ extra]): corners, score, class; v10, YOLO26, and exports with suppression inside |
| yolo_rows | (rows, 7): picture, corners, class, score; v7 with suppression inside |
| counted | num_dets, det_boxes, det_scores, det_classes: suppression as TensorRT does it |
| detr_final | labels, boxes, scores: RT-DETR, D-FINE, DEIM as their authors export them |
| detr | boxes (n, queries, 4) as centre and size in 0..1, and class logits (n, queries, classes) |

Extra columns are mask coefficients when there are prototypes (n, c, h, w), else keypoints or a turn, as the task says.
Sources: https://docs.ultralytics.com/modes/export, https://github.com/lyuwenyu/RT-DETR,
https://github.com/dog-qiuqiu/FastestDet, https://github.com/WongKinYiu/yolov7, https://github.com/roboflow/rf-detr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from common.detection.decoding import Raw, Task, corners, detr_rows, final_rows, sigmoid, yolo_rows
from common.errors import WeightsInvalid

Layout = Literal["fastestdet", "yolo", "yolo_objectness", "yolo_final", "yolo_rows", "counted", "detr_final", "detr"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
STRETCHED: frozenset[Layout] = frozenset({"fastestdet", "detr_final", "detr"})
"""Layouts of networks that take pictures stretched to their input."""

Shape = tuple[int | None, ...]
Arrays = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Reading:
    """How to read a model's outputs. classes: how many it tells apart, where the outputs say so or a person did."""

    layout: Layout
    task: Task = "detect"
    classes: int | None = None


def recognise(
    shapes: Mapping[str, Shape], task: str | None = None, classes: int | None = None, layout: Layout | None = None
) -> Reading:
    """The layout of outputs with these names and shapes; None in a shape = any length.

    task, classes: from the model's metadata, where it has them. layout: when a person says so. Raises `WeightsInvalid`
    for outputs that are unknown.
    """
    given: Task | None = task if task in get_args(Task) else None  # type: ignore[assignment]
    if layout is not None:
        return Reading(layout, given or "detect", classes)
    names, first = set(shapes), next(iter(shapes.values()), ())
    if {"num_dets", "det_boxes", "det_scores", "det_classes"} <= names:
        return Reading("counted", classes=classes)
    if {"labels", "boxes", "scores"} <= names:
        return Reading("detr_final", classes=classes)
    pair = _detr_names(shapes)
    if pair is not None:
        return Reading("detr", classes=classes or shapes[pair[1]][2])
    if len(shapes) == 1 and len(first) == 4 and first[1] is not None and first[1] > 5:
        return Reading("fastestdet", classes=first[1] - 5)
    if len(first) == 2 and first[1] == 7:
        return Reading("yolo_rows", classes=classes)
    prototypes = next((shape[1] for shape in list(shapes.values())[1:] if len(shape) == 4), None)
    kind: Task = given or ("detect" if prototypes is None else "segment")
    if len(first) == 3:
        _, rows, columns = first
        extra = (prototypes or 0) if kind == "segment" else 1 if kind == "obb" else 0
        if columns is not None and (columns == 6 + extra or _final_pose(kind, rows, columns)):
            return Reading("yolo_final", kind, classes)
        if rows is not None and (columns is None or rows < columns):
            fixed = rows - 4 - extra
            return Reading("yolo", kind, classes or (1 if kind == "pose" else fixed))
        if columns is not None:
            return Reading("yolo_objectness", kind, classes or columns - 5 - extra)
    described = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    raise WeightsInvalid(
        f"The ONNX model's outputs ({described}) are in no known layout. Known: {', '.join(LAYOUTS)}; "
        "export it again as one of them, or name its layout in a JSON file beside it."
    )


def _final_pose(task: Task, rows: int | None, columns: int) -> bool:
    """Six columns and three for each keypoint, fewer than there are rows."""
    return task == "pose" and columns > 6 and columns % 3 == 0 and (rows is None or rows > columns)


def _detr_names(shapes: Mapping[str, Shape]) -> tuple[str, str] | None:
    """The outputs of boxes and of class logits of a DETR, by shape."""
    boxes = [name for name, shape in shapes.items() if len(shape) == 3 and shape[2] == 4]
    logits = [name for name, shape in shapes.items() if len(shape) == 3 and name not in boxes]
    return (boxes[0], logits[0]) if len(shapes) >= 2 and boxes and logits else None


def decode(outputs: Arrays, reading: Reading, count: int, width: int, height: int, floor: float) -> list[Raw]:
    """What each of `count` pictures shows, in pixels of the input of that width and height."""
    first = next(iter(outputs.values()))
    match reading.layout:
        case "fastestdet":
            return [_fastestdet(first[n], width, height, floor) for n in range(count)]
        case "yolo":
            classes = reading.classes or first.shape[1] - 4
            return [yolo_rows(first[n].T, classes, reading.task, floor) for n in range(count)]
        case "yolo_objectness":
            return [_objectness(first[n], reading, floor) for n in range(count)]
        case "yolo_final":
            return [final_rows(first[n], reading.task, floor) for n in range(count)]
        case "yolo_rows":
            return [_own_rows(first[np.round(first[:, 0]) == n], floor) for n in range(count)]
        case "counted":
            return [_counted(outputs, n, floor) for n in range(count)]
        case "detr_final":
            return [_final_queries(outputs, n, floor) for n in range(count)]
        case "detr":
            pair = _detr_names({name: value.shape for name, value in outputs.items()})
            if pair is None:
                raise WeightsInvalid("The ONNX model gives no boxes (n, queries, 4) with class logits.")
            boxes, logits = (outputs[name] for name in pair)
            return [detr_rows(boxes[n], logits[n], width, height, floor) for n in range(count)]


def prototypes_of(outputs: Arrays, reading: Reading) -> NDArray[np.floating] | None:
    """Mask prototypes (n, c, h, w) where there are any."""
    if reading.task != "segment":
        return None
    return next((value for value in list(outputs.values())[1:] if value.ndim == 4), None)


def _fastestdet(cells: NDArray[np.floating], width: int, height: int, floor: float) -> Raw:
    _, rows, columns = cells.shape
    flat = cells.reshape(len(cells), -1).T.astype(np.float32)
    labels = flat[:, 5:].argmax(1)
    scores = np.clip(flat[:, 0], 0, 1) * np.clip(flat[np.arange(len(flat)), 5 + labels], 0, 1)
    y, x = np.divmod(np.arange(rows * columns), columns)
    cx, cy = (np.tanh(flat[:, 1]) + x) / columns * width, (np.tanh(flat[:, 2]) + y) / rows * height
    w, h = sigmoid(flat[:, 3]) * width, sigmoid(flat[:, 4]) * height
    chosen = np.flatnonzero(scores >= floor)
    boxes = corners(np.stack((cx, cy, w, h), 1)[chosen])
    return Raw(boxes, scores[chosen].astype(np.float32), labels[chosen].astype(np.int64))


def _objectness(rows: NDArray[np.floating], reading: Reading, floor: float) -> Raw:
    classes = reading.classes or rows.shape[1] - 5
    scored = rows[:, 5 : 5 + classes] * rows[:, 4:5]
    table = np.concatenate((rows[:, :4], scored, rows[:, 5 + classes :]), 1).astype(np.float32)
    return yolo_rows(table, classes, reading.task, floor)


def _own_rows(rows: NDArray[np.floating], floor: float) -> Raw:
    return final_rows(rows[:, [1, 2, 3, 4, 6, 5]].astype(np.float32), "detect", floor)


def _counted(outputs: Arrays, n: int, floor: float) -> Raw:
    most = int(np.ravel(outputs["num_dets"])[n])
    columns: Sequence[NDArray[np.floating]] = (
        outputs["det_boxes"][n, :most],
        outputs["det_scores"][n, :most, None],
        outputs["det_classes"][n, :most, None],
    )
    return final_rows(np.concatenate(columns, 1).astype(np.float32), "detect", floor)


def _final_queries(outputs: Arrays, n: int, floor: float) -> Raw:
    columns = (outputs["boxes"][n], outputs["scores"][n, :, None], outputs["labels"][n, :, None])
    return final_rows(np.concatenate(columns, 1).astype(np.float32), "detect", floor)
