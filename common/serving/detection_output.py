"""What a detector found, as the platform's JSON. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common.detection.contract import Detections, DetectorCard
from common.geometry.meta import ObjectClass, Template
from common.geometry.shapes import Value, skeleton
from common.geometry.supervisely import geometry_type, to_json
from common.geometry.types import Box, OrientedBox

CONFIDENCE_TAG = "confidence"
_SHAPES = {"box": "rectangle", "mask": "bitmap", "oriented_box": "oriented_bbox", "keypoints": "graph"}
_VISIBLE = 0.3
"""Keypoints less sure than that are given as disabled nodes."""

NAMELESS = "object"


def class_names(card: DetectorCard) -> tuple[str, ...]:
    """The card's classes as a project shows them; things without a name are objects."""
    return tuple(name or NAMELESS for name in card.classes)


def object_classes(card: DetectorCard) -> list[ObjectClass]:
    """Classes of a project that can hold what the detector finds."""
    template = None
    if card.finds == "keypoints":
        nodes = card.keypoints
        template = Template(nodes, tuple((nodes[a], nodes[b]) for a, b in card.bones))
    return [ObjectClass(name, _SHAPES[card.finds], template=template) for name in class_names(card)]


def model_meta(card: DetectorCard) -> dict[str, Any]:
    """`/get_model_meta`."""
    tag = {"name": CONFIDENCE_TAG, "value_type": "any_number", "color": "#8A8A8A", "hotkey": "", "classes": []}
    tag |= {"applicable_type": "all", "target_type": "all"}
    return {"classes": [one.to_json() for one in object_classes(card)], "tags": [tag], "projectType": "images"}


def value_of(found: Detections, row: int, card: DetectorCard, xyxy: np.ndarray[Any, Any] | None = None) -> Value | None:
    """The most telling geometry of one detection; None for one that cannot be stored (an empty mask or box)."""
    if found.keypoints is not None and card.keypoints:
        points = found.keypoints[row]
        nodes = [
            (name, float(x), float(y), bool(score < _VISIBLE))
            for name, (x, y, score) in zip(card.keypoints, points, strict=True)
        ]
        return skeleton(nodes, tuple((card.keypoints[a], card.keypoints[b]) for a, b in card.bones))
    if found.masks is not None:
        return found.masks[row] if found.masks[row].area else None
    if found.oriented is not None:
        cx, cy, w, h, angle = (float(v) for v in found.oriented[row])
        return OrientedBox(np.array([cx, cy, w, h], np.float32), angle) if w > 0 and h > 0 else None
    box = found.xyxy[row] if xyxy is None else xyxy
    return Box(box) if box[2] > box[0] and box[3] > box[1] else None


def label(name: str, value: Value, score: float | None, width: int, height: int) -> dict[str, Any]:
    """One object of an image annotation."""
    tags = [] if score is None else [{"name": CONFIDENCE_TAG, "value": round(float(score), 4)}]
    shape = geometry_type(value)
    return {
        "classTitle": name,
        "description": "",
        "tags": tags,
        **to_json(value, width, height),
        "geometryType": shape,
        "shape": shape,
    }


def annotation(
    labels: Iterable[Mapping[str, Any]], width: int, height: int, ids: Sequence[int] | None = None
) -> dict[str, Any]:
    """A picture's annotation. ids: of the tracks, one per label."""
    made: dict[str, Any] = {
        "description": "",
        "tags": [],
        "size": {"height": height, "width": width},
        "objects": list(labels),
    }
    if ids is not None:
        made["customBigData"] = list(ids)
    return made


def prediction(made: Mapping[str, Any], **about: Any) -> dict[str, Any]:
    """One result of an inference call. about: what of the usual keys is known."""
    nothing = dict.fromkeys(
        (
            "source",
            "name",
            "path",
            "url",
            "project_id",
            "dataset_id",
            "image_id",
            "image_name",
            "video_id",
            "frame_index",
        )
    )
    return nothing | about | {"annotation": dict(made), "data": {}}


def picture_labels(found: Detections, card: DetectorCard, width: int, height: int) -> list[dict[str, Any]]:
    """All detections of a picture as labels, in their order."""
    names = class_names(card)
    labels = []
    for row in range(len(found)):
        value = value_of(found, row, card)
        if value is not None:
            labels.append(label(names[int(found.classes[row])], value, float(found.scores[row]), width, height))
    return labels


def video_annotation(
    size: tuple[int, int],
    frames_total: int,
    classes: Mapping[int, str],
    frames: Iterable[tuple[int, Sequence[tuple[int, str, Mapping[str, Any]]]]],
) -> dict[str, Any]:
    """A whole video's annotation. size: (width, height). classes: track -> class name. frames: number, and of each figure
    its track, geometry type and geometry."""
    keys = {track: uuid.uuid4().hex for track in classes}
    shown = []
    for number, figures in sorted(frames, key=lambda entry: entry[0]):
        shown.append(
            {
                "index": number,
                "figures": [
                    {
                        "key": uuid.uuid4().hex,
                        "objectKey": keys[track],
                        "geometryType": kind,
                        "geometry": dict(geometry),
                        "trackId": str(track),
                    }
                    for track, kind, geometry in figures
                ],
            }
        )
    return {
        "description": "",
        "key": uuid.uuid4().hex,
        "tags": [],
        "size": {"height": size[1], "width": size[0]},
        "framesCount": frames_total,
        "objects": [{"key": keys[track], "classTitle": name, "tags": []} for track, name in classes.items()],
        "frames": shown,
    }
