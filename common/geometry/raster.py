"""Polygons and masks into each other, pixel for pixel.

The filling rule is the Supervisely SDK's: vertices on whole pixels, outlines inclusive, then holes erased, their outlines
included. Contours are traced so that filling them by that rule gives the mask back exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.measures import place
from common.geometry.shapes import Polygon
from common.geometry.types import Bool, Float, Mask

Pixels = NDArray[np.uint8]

_LIMIT = 1 << 20
"""Vertices are held within this distance of the picture: OpenCV draws in 32-bit fixed point."""


def fill(polygon: Polygon, width: int, height: int) -> Mask:
    """The pixels of a polygon in a picture of width x height. Vertices are rounded to pixel centres (half to even)."""
    return fill_all((polygon,), width, height)


def fill_all(polygons: Iterable[Polygon], width: int, height: int) -> Mask:
    """The pixels of one object made of several parts: a pixel belongs to it when it belongs to any part."""
    canvas: Pixels | None = None
    for polygon in polygons:
        if canvas is None:
            canvas = np.zeros((height, width), np.uint8)
        rings = [_whole(ring) for ring in polygon.rings]
        every = np.concatenate(rings)
        low, high = every.min(0), every.max(0) + 1
        if (low < 0).any() or (high > (width, height)).any():
            # OpenCV cuts lines at the canvas before it draws them, which moves pixels: cut where the SDK cuts.
            low, high = np.zeros(2, np.int32), np.array([width, height], np.int32)
        # Only the window around the polygon is worked on: a small polygon in a large picture costs little.
        part: Pixels = np.zeros((high - low)[::-1], np.uint8)
        cv2.fillPoly(part, [rings[0] - low], 1)
        if len(rings) > 1:
            cv2.fillPoly(part, [ring - low for ring in rings[1:]], 0)
        canvas[low[1] : high[1], low[0] : high[0]] |= part
    return Mask.from_array(np.zeros((height, width), bool) if canvas is None else canvas)


def contours(mask: Mask, tolerance: float = 0.0, min_area: int = 0) -> list[Polygon]:
    """The polygons that a mask is made of, with their holes, largest part first; [] for an empty mask.

    Parts are connected over eight neighbours, holes over four. With `tolerance` 0, `fill_all` of the result is exactly the
    mask. Raising it drops vertices that lie within so many pixels of the simplified outline (Douglas and Peucker 1973).
    Parts and holes of fewer than `min_area` pixels are left out (a left-out hole is filled).
    """
    if mask.window == (0, 0):
        return []
    parts = _trace(mask.crop(), tolerance, min_area)
    if tolerance == 0 and min_area == 0:
        # A hole whose outline passes diagonally between two pixels cuts off what lies behind; that becomes its own part.
        missing = _missing(mask, parts)
        while missing.any():
            parts += _trace(missing, 0.0, 0)
            missing = _missing(mask, parts)
    offset = np.array([mask.x, mask.y], np.float32)
    return [Polygon(p.exterior + offset, tuple(h + offset for h in p.holes)) for p in parts]


def components(mask: Mask) -> list[Mask]:
    """The parts of a mask that hang together over eight neighbours, largest first; [] for an empty mask."""
    if mask.window == (0, 0):
        return []
    return [place(c, mask.x + x, mask.y + y, mask.width, mask.height) for c, x, y in _components(mask.crop(), 8)]


def union(masks: Sequence[Mask]) -> Mask:
    """The pixels of any of the masks: the inverse of `components`. ValueError for none, or for pictures of unlike size."""
    if not masks or len({(m.height, m.width) for m in masks}) != 1:
        raise ValueError("a union needs masks of one picture")
    canvas = masks[0].to_array()
    for mask in masks[1:]:
        h, w = mask.window
        canvas[mask.y : mask.y + h, mask.x : mask.x + w] |= mask.crop()
    return Mask.from_array(canvas)


def _whole(ring: Float) -> NDArray[np.int32]:
    rounded: NDArray[np.int32] = np.clip(np.rint(ring), -_LIMIT, _LIMIT).astype(np.int32)
    return rounded


def _components(array: Bool, connectivity: int) -> list[tuple[Bool, int, int]]:
    """Tight windows (array, x, y) of the connected components, largest first (ties: topmost, then leftmost)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(array.astype(np.uint8), connectivity=connectivity)
    found = []
    for label in (np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1).tolist():
        x, y, w, h = stats[label, :4].tolist()
        found.append((labels[y : y + h, x : x + w] == label, x, y))
    return found


def _trace(array: Bool, tolerance: float, min_area: int) -> list[Polygon]:
    parts = []
    for component, x, y in _components(array, 8):
        if np.count_nonzero(component) < min_area:
            break
        outline = _outline(component)
        filled: Pixels = np.zeros(component.shape, np.uint8)
        cv2.fillPoly(filled, [outline], 1)
        erased: Pixels = np.zeros(component.shape, np.uint8)
        holes = []
        # Other parts that lie in a hole belong to the hole here; they are parts of their own and are filled afterwards.
        for hole, hole_x, hole_y in _components(filled.astype(bool) & ~component, 4):
            if np.count_nonzero(hole) < min_area:
                break
            row, column = (int(v[0]) for v in np.nonzero(hole))
            if erased[hole_y + row, hole_x + column]:
                continue  # inside another hole's outline: erasing it twice would fill it again
            ring = _outline(hole) + np.array([hole_x, hole_y], np.int32)
            cv2.fillPoly(erased, [ring], 1)
            holes.append(ring)
        offset = np.array([x, y], np.float32)
        rings = [_simplify(ring, tolerance) + offset for ring in (outline, *holes)]
        parts.append(Polygon(rings[0], tuple(rings[1:])))
    return parts


def _outline(component: Bool) -> NDArray[np.int32]:
    """Outer contour (n, 2) of one connected component, along its own pixels."""
    found, _ = cv2.findContours(component.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline: NDArray[np.int32] = np.asarray(found[0], np.int32).reshape(-1, 2)
    return outline


def _simplify(ring: NDArray[np.int32], tolerance: float) -> Float:
    if tolerance > 0:
        ring = np.asarray(cv2.approxPolyDP(ring, tolerance, True), np.int32).reshape(-1, 2)
    if len(ring) < 3:  # a pixel or a straight run of pixels: a polygon has three vertices, the last one is repeated
        ring = np.concatenate((ring, np.repeat(ring[-1:], 3 - len(ring), 0)))
    return ring.astype(np.float32)


def _missing(mask: Mask, parts: list[Polygon]) -> Bool:
    h, w = mask.window
    missing: Bool = mask.crop() & ~fill_all(parts, w, h).to_array()
    return missing
