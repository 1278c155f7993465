"""The part of a drawn value that a picture shows: what is stored and drawn, where trackers keep the whole.

Vertices count from pixel centres, so the picture spans -0.5 .. width - 0.5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.geometry.measures import bounds, crop_to_frame, inside_frame, oriented_corners, segments_inside
from common.geometry.shapes import Polygon, Polyline, SinglePoint, Skeleton, Value, to_points
from common.geometry.types import Box, Float, Mask, OrientedBox

Ring = NDArray[np.float64]


def clip_to_frame(value: Value, width: int, height: int) -> list[Value]:
    """What of a value lies in the picture: nothing, one value, or the pieces of a line that leaves and comes back.

    Boxes and masks are cut. An oriented box stays whole while its centre is in the picture; otherwise it becomes the box
    of the same turn around its visible part, because Supervisely accepts no oriented box whose centre is outside. Polygons
    are cut along the picture's edge (Sutherland and Hodgman 1974: one outline, parts are joined along the edge). A
    skeleton's nodes outside are disabled and held at the edge; it is gone when all of them are outside.
    """
    match value:
        case OrientedBox():
            return _oriented(value, width, height)
        case Box() | Mask():
            part = crop_to_frame(value, width, height)
            return [part] if isinstance(part, Box | Mask) else []
        case Polygon():
            if _whole(value, width, height):
                return [value]
            exterior, *holes = (cut_ring(ring.astype(np.float64), width, height) for ring in value.rings)
            if len(exterior) < 3:
                return []
            return [Polygon(_single(exterior), tuple(_single(hole) for hole in holes if len(hole) >= 3))]
        case Polyline():
            if _whole(value, width, height):
                return [value]
            return [Polyline(_single(piece)) for piece in cut_line(value.xy.astype(np.float64), width, height)]
        case SinglePoint():
            return [value] if inside_frame(value.xy, width, height) else []
        case Skeleton():
            inside = inside_frame(value.xy, width, height)
            if not inside.any():
                return []
            if inside.all():
                return [value]
            held = np.clip(value.xy, 0, np.array([width, height]) - 1)
            xy = np.where(inside[:, None], value.xy, held)
            return [Skeleton(value.ids, xy, value.disabled | ~inside, value.edges)]


def cut_ring(ring: Ring, width: int, height: int) -> Ring:
    """The part of a closed outline (n, 2) inside the picture, (m, 2); m = 0 when there is none."""
    high = (width - 0.5, height - 0.5)
    for axis in (0, 1):
        for limit, sign in ((-0.5, 1.0), (high[axis], -1.0)):
            ring = _cut_half_plane(ring, axis, limit, sign)
    return ring


def cut_line(xy: Ring, width: int, height: int) -> list[Ring]:
    """The pieces of an open line (n, 2), n >= 2, inside the picture, each (m, 2) with m >= 2 (Liang and Barsky 1984)."""
    start, step = xy[:-1], np.diff(xy, axis=0)
    enter, leave = segments_inside(start, step, width, height)
    pieces: list[list[Ring]] = []
    for i in np.flatnonzero(enter < leave):
        first, last = start[i] + enter[i] * step[i], start[i] + leave[i] * step[i]
        if enter[i] == 0 and pieces and np.array_equal(pieces[-1][-1], first):
            pieces[-1].append(last)
        else:
            pieces.append([first, last])
    return [np.array(piece) for piece in pieces]


def _whole(shape: Polygon | Polyline, width: int, height: int) -> bool:
    return bool(inside_frame(to_points(shape).xy, width, height).all())


def _cut_half_plane(ring: Ring, axis: int, limit: float, sign: float) -> Ring:
    """Sutherland-Hodgman against one edge: keeps where sign * (coordinate - limit) >= 0."""
    if len(ring) == 0:
        return ring
    distance = sign * (ring[:, axis] - limit)
    following, next_distance = np.roll(ring, -1, 0), np.roll(distance, -1)
    kept = distance >= 0
    crosses = kept != (next_distance >= 0)
    t = distance / np.where(crosses, distance - next_distance, 1.0)
    crossing = ring + t[:, None] * (following - ring)
    crossing[:, axis] = limit
    # Each vertex gives itself when kept, then the crossing on the way to the next one.
    both = np.stack((ring, crossing), 1).reshape(-1, 2)
    cut: Ring = both[np.stack((kept, crosses), 1).ravel()]
    return cut


def _single(xy: Ring) -> Float:
    single: Float = xy.astype(np.float32)
    return single


def _oriented(box: OrientedBox, width: int, height: int) -> list[Value]:
    if crop_to_frame(box, width, height) is None:
        return []
    cx, cy, w, h = (float(v) for v in box.cxcywh)
    if 0 <= cx < width and 0 <= cy < height:
        return [box]
    corners = oriented_corners(np.array([cx, cy, w, h, box.angle_rad]))[0]
    part = cut_ring(corners - 0.5, width, height) + 0.5
    if len(part) < 3:
        return []
    c, s = np.cos(box.angle_rad), np.sin(box.angle_rad)
    turned = part @ np.array([[c, -s], [s, c]])
    low, high = turned.min(0), turned.max(0)
    centre = np.array([[c, -s], [s, c]]) @ ((low + high) / 2)
    return [OrientedBox(np.concatenate((centre, high - low)), box.angle_rad)]


def visible_bounds(value: Value, width: int, height: int) -> Box | None:
    """Axis-aligned box around what a picture shows of a value; None when it shows nothing."""
    boxes = [
        box
        for part in clip_to_frame(value, width, height)
        if (box := bounds(part if isinstance(part, Box | OrientedBox | Mask) else to_points(part))) is not None
    ]
    if not boxes:
        return None
    low = np.min([b.xyxy[:2] for b in boxes], 0)
    high = np.max([b.xyxy[2:] for b in boxes], 0)
    cut = crop_to_frame(Box(np.concatenate((low, high))), width, height)
    return cut if isinstance(cut, Box) else None
