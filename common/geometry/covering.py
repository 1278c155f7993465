"""Which things found are labels that are there already. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.geometry.measures import bounds, box_iou, iou, mask_iou
from common.geometry.shapes import Value, to_geometry
from common.geometry.types import Box, Geometry, Mask, OrientedBox

Named = tuple[str, Value]
"""Class name and geometry."""


def covered(found: Sequence[Named], there: Sequence[Named], threshold: float) -> NDArray[np.bool_]:
    """bool (found,): whether a label of the same class overlaps it with an IoU from `threshold` on, 0..1.

    Masks are compared by their pixels and boxes by their area; of things of different kinds, and of points, the boxes
    around them count.
    """
    result = np.zeros(len(found), bool)
    ours, theirs = _boxed(found), _boxed(there)
    if not ours or not theirs:
        return result
    overlap = box_iou(np.stack([b.xyxy for *_, b in ours]), np.stack([b.xyxy for *_, b in theirs]))
    for place, (row, name, value, _) in enumerate(ours):
        for other in np.flatnonzero(overlap[place] > 0):
            _, title, label, _ = theirs[int(other)]
            if title == name and _overlap(value, label, float(overlap[place, other])) >= threshold:
                result[row] = True
                break
    return result


def _boxed(things: Sequence[Named]) -> list[tuple[int, str, Geometry, Box]]:
    rows = []
    for row, (name, value) in enumerate(things):
        geometry: Geometry = value if isinstance(value, Box | OrientedBox | Mask) else to_geometry(value)
        box = bounds(geometry)
        if box is not None:
            rows.append((row, name, geometry, box))
    return rows


def _overlap(a: Geometry, b: Geometry, of_boxes: float) -> float:
    if isinstance(a, Mask) and isinstance(b, Mask):
        return mask_iou(a, b) if (a.width, a.height) == (b.width, b.height) else of_boxes
    if isinstance(a, Box | OrientedBox) and isinstance(b, Box | OrientedBox):
        return iou(a, b)
    return of_boxes
