"""Projects of images for the tests: every geometry, pictures that are noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
import supervisely as sly
from supervisely.geometry.graph import GraphNodes, Node
from supervisely.geometry.oriented_bbox import OrientedBBox

from tests.apps.workbench.harness import Served

WIDTH, HEIGHT = 64, 48
MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
MASK[5:20, 7:30] = True
MASK[8:12, 10:15] = False
_TEMPLATE = {
    "nodes": {
        "a": {"label": "head", "loc": [10, 10], "color": [255, 0, 0]},
        "b": {"label": "tail", "loc": [30, 30], "color": [0, 255, 0]},
    },
    "edges": [{"src": "a", "dst": "b", "color": [0, 0, 255]}],
}
GEOMETRIES: dict[str, Any] = {
    "rectangle": sly.Rectangle(0, 4, HEIGHT - 1, WIDTH - 1),
    "oriented_bbox": OrientedBBox(3, 2, 25, 40, angle=0.7),
    "bitmap": sly.Bitmap(MASK),
    "polygon": sly.Polygon(
        [sly.PointLocation(1, 1), sly.PointLocation(1, 40), sly.PointLocation(30, 40), sly.PointLocation(30, 1)],
        [[sly.PointLocation(5, 5), sly.PointLocation(5, 10), sly.PointLocation(10, 10)]],
    ),
    "point": sly.Point(11, 12),
    "line": sly.Polyline([sly.PointLocation(2, 3), sly.PointLocation(20, 30), sly.PointLocation(40, 31)]),
    "graph": GraphNodes({"a": Node(sly.PointLocation(3, 4)), "b": Node(sly.PointLocation(9, 8), disabled=True)}),
    "alpha_mask": sly.AlphaMask(np.where(MASK, 130, 0).astype(np.uint8)),
}


def encoded(seed: int, kind: str = ".png", width: int = WIDTH, height: int = HEIGHT) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(kind, picture)[1])


def meta() -> sly.ProjectMeta:
    classes = [
        sly.ObjClass(kind, type(geometry), geometry_config=_TEMPLATE if kind == "graph" else None)
        for kind, geometry in GEOMETRIES.items()
    ]
    tags = [
        sly.TagMeta("plain", sly.TagValueType.NONE),
        sly.TagMeta("words", sly.TagValueType.ANY_STRING),
        sly.TagMeta("amount", sly.TagValueType.ANY_NUMBER),
        sly.TagMeta("choice", sly.TagValueType.ONEOF_STRING, possible_values=["left", "right"]),
    ]
    return sly.ProjectMeta([*classes, sly.ObjClass("any", sly.AnyGeometry)], tags, project_type="images")


def annotation(of: sly.ProjectMeta, kinds: Any = tuple(GEOMETRIES)) -> sly.Annotation:
    tag = {one.name: one for one in of.tag_metas}
    label_tags = sly.TagCollection([sly.Tag(tag["amount"], 0.5), sly.Tag(tag["words"], 'ünï " 🎥')])
    labels = [
        sly.Label(GEOMETRIES[kind], of.get_obj_class(kind), label_tags if kind == "polygon" else None, "a label")
        for kind in kinds
    ]
    image_tags = sly.TagCollection([sly.Tag(tag["plain"]), sly.Tag(tag["choice"], "left")])
    return sly.Annotation((HEIGHT, WIDTH), labels, image_tags, "what it is")


@dataclass
class Pictured:
    project: int
    dataset: int
    images: list[Any]
    meta: sly.ProjectMeta


@pytest.fixture
def pictured(served: Served, request: pytest.FixtureRequest) -> Pictured:
    """A project with three images, the first of them labelled."""
    api = served.api
    project = api.project.create(1, request.node.name[:100], change_name_if_conflict=True)
    stored = api.project.update_meta(project.id, meta())
    dataset = api.dataset.create(project.id, "ds")
    pictures = [cv2.imdecode(np.frombuffer(encoded(n), np.uint8), cv2.IMREAD_COLOR) for n in range(3)]
    images = api.image.upload_nps(dataset.id, [f"{n}.png" for n in range(3)], pictures)
    api.annotation.upload_ann(images[0].id, annotation(stored, ("rectangle", "bitmap", "polygon")))
    return Pictured(project.id, dataset.id, images, stored)
