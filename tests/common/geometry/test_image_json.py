"""Coordinates of images are the SDK's; what covers what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisely.annotation.annotation import Annotation

from common.geometry.covering import covered
from common.geometry.image_json import from_edges, to_edges
from common.geometry.types import Box, Mask, OrientedBox

SIZE = {"height": 60, "width": 80}
_X, _Y = st.integers(0, 79), st.integers(0, 59)
_POINTS = st.lists(st.tuples(_X, _Y).map(list), min_size=3, max_size=6)


def _geometry(kind: str, points: list[list[int]]) -> dict[str, Any]:
    if kind == "graph":
        return {"nodes": {str(n): {"loc": list(p)} for n, p in enumerate(points)}}
    if kind == "oriented_bbox":
        return {"points": [list(p) for p in points[:2]], "angle": 0.3}
    if kind == "bitmap":
        return {"bitmap": {"origin": list(points[0]), "data": "x"}}
    counts = {"rectangle": 2, "point": 1}
    exterior = [list(p) for p in points[: counts.get(kind, len(points))]]
    return {"points": {"exterior": exterior, "interior": [[list(p) for p in points]] if kind == "polygon" else []}}


@given(st.sampled_from(["rectangle", "oriented_bbox", "point", "line", "polygon", "graph", "bitmap"]), _POINTS)
def test_coordinates_move_as_the_sdk_moves_them(kind: str, points: list[list[int]]) -> None:
    geometry = _geometry(kind, points)
    label = {"geometryType": kind, "classTitle": "a", **geometry}
    sent = Annotation._to_subpixel_coordinate_system_json({"size": SIZE, "objects": [label], "tags": []})
    [theirs] = sent["objects"]
    ours = to_edges(kind, geometry)
    assert {key: theirs[key] for key in ours} == ours
    back = from_edges(kind, ours)
    assert to_edges(kind, back) == ours
    if kind not in ("rectangle", "oriented_bbox"):
        assert back == geometry


def _mask(x1: int, y1: int, x2: int, y2: int) -> Mask:
    full = np.zeros((40, 40), bool)
    full[y1:y2, x1:x2] = True
    return Mask.from_array(full)


def _box(x1: float, y1: float, x2: float, y2: float) -> Box:
    return Box(np.array([x1, y1, x2, y2], np.float32))


@pytest.mark.parametrize(
    ("found", "there", "threshold", "same"),
    [
        (("car", _box(0, 0, 10, 10)), ("car", _box(0, 0, 10, 10)), 1.0, True),
        (("car", _box(0, 0, 10, 10)), ("dog", _box(0, 0, 10, 10)), 0.1, False),
        (("car", _box(0, 0, 10, 10)), ("car", _box(0, 0, 10, 5)), 0.5, True),
        (("car", _box(0, 0, 10, 10)), ("car", _box(0, 0, 10, 4.9)), 0.5, False),
        # two halves of one box: the boxes around them are alike, the masks are not
        (("car", _mask(0, 0, 20, 20)), ("car", _mask(0, 0, 20, 9)), 0.5, False),
        (("car", _mask(0, 0, 20, 20)), ("car", _mask(0, 0, 20, 12)), 0.5, True),
        (("car", OrientedBox(np.array([10, 10, 18, 4], np.float32), 0.0)), ("car", _box(1, 8, 19, 12)), 0.99, True),
        (("car", OrientedBox(np.array([10, 10, 18, 4], np.float32), 1.5708)), ("car", _box(1, 8, 19, 12)), 0.5, False),
    ],
)
def test_what_is_a_label_already(found: Any, there: Any, threshold: float, same: bool) -> None:
    other = ("car", _box(30, 30, 39, 39))
    assert covered([found, other], [there], threshold).tolist() == [same, False]
    assert covered([found], [], threshold).tolist() == [False]
