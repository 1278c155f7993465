"""Is this the JSON of a geometry, and what box does it fill? Checked before a figure is stored.

The workbench keeps geometries as text and gives back what it was given; it only refuses what no reader could use:
missing parts, numbers that are not numbers, a bitmap that is no picture, a figure that leaves its frame.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from apps.workbench.store.errors import Refused

Bounds = tuple[float, float, float, float]
"""top, left, bottom, right: the order of the SDK's Rectangle."""

MAX_COORDINATE = 1e6
_PNG_HEAD = struct.Struct(">8sI4sII")


def bounds(geometry_type: str, geometry: Any) -> Bounds | None:
    """The box around a geometry, None for a type whose inside is not looked at. Raises `Refused` for anything broken."""
    if not isinstance(geometry, Mapping):
        raise Refused("it is not an object")
    reader = _READERS.get(geometry_type)
    if reader is None:
        raise Refused(f"the type {geometry_type!r} is not known; known are {', '.join(sorted(_READERS))}")
    try:
        return reader(geometry)
    except KeyError as error:
        raise Refused(f"it has no {error.args[0]!r}") from error


def _number(value: Any) -> float:
    # bool is an int to Python, and JSON as Python reads it may hold NaN and Infinity
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused(f"{str(value)[:40]!r} is not a coordinate")
    if abs(value) > MAX_COORDINATE:
        raise Refused(f"the coordinate {value:g} is too far out")
    return float(value)


def _around(points: Any, at_least: int) -> Bounds:
    if not isinstance(points, list) or len(points) < at_least:
        raise Refused(f"it needs at least {at_least} point(s)")
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise Refused("every point must be [x, y]")
    xs = [_number(point[0]) for point in points]
    ys = [_number(point[1]) for point in points]
    return min(ys), min(xs), max(ys), max(xs)


def _exterior(at_least: int, at_most: int | None = None) -> Callable[[Mapping[str, Any]], Bounds]:
    def read(geometry: Mapping[str, Any]) -> Bounds:
        points = geometry["points"]
        if not isinstance(points, Mapping):
            raise Refused("its points must be an object with exterior and interior")
        exterior = points["exterior"]
        box = _around(exterior, at_least)
        if at_most is not None and len(exterior) > at_most:
            raise Refused(f"it must have {at_most} point(s), not {len(exterior)}")
        for hole in points.get("interior") or []:
            _around(hole, 3)
        return box

    return read


def _oriented_box(geometry: Mapping[str, Any]) -> Bounds:
    """The hull of the box after it was turned about its centre."""
    top, left, bottom, right = _around(geometry["points"], 2)
    angle = _number(geometry["angle"])
    half_w, half_h = (right - left) / 2, (bottom - top) / 2
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    reach_x, reach_y = half_w * cos + half_h * sin, half_w * sin + half_h * cos
    x, y = (left + right) / 2, (top + bottom) / 2
    return y - reach_y, x - reach_x, y + reach_y, x + reach_x


def _graph(geometry: Mapping[str, Any]) -> Bounds:
    nodes = geometry["nodes"]
    # The SDK writes an object by node id; the platform's own samples also hold a list of nodes.
    entries = list(nodes.values()) if isinstance(nodes, Mapping) else nodes
    if not isinstance(entries, list) or not all(isinstance(node, Mapping) for node in entries):
        raise Refused("its nodes must be an object of nodes by id")
    return _around([node["loc"] for node in entries], 1)


def _bitmap(geometry: Mapping[str, Any]) -> Bounds:
    bitmap = geometry["bitmap"]
    if not isinstance(bitmap, Mapping):
        raise Refused("its bitmap must be an object with origin and data")
    top, left, _, _ = _around([bitmap["origin"]], 1)
    width, height = _png_size(bitmap["data"])
    return top, left, top + height - 1, left + width - 1


def _png_size(data: Any) -> tuple[int, int]:
    """Width and height from the head of a base64(zlib(PNG)), without unpacking the rest."""
    if not isinstance(data, str):
        raise Refused("its bitmap data must be text")
    try:
        packed = base64.b64decode(data, validate=True)
        head = zlib.decompressobj().decompress(packed, _PNG_HEAD.size)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise Refused("its bitmap data is not base64 of a zlib stream") from error
    if len(head) < _PNG_HEAD.size or not head.startswith(b"\x89PNG\r\n\x1a\n"):
        raise Refused("its bitmap data holds no PNG picture")
    _, _, kind, width, height = _PNG_HEAD.unpack(head)
    if kind != b"IHDR" or width == 0 or height == 0:
        raise Refused("its bitmap data holds no PNG picture")
    return width, height


def _unchecked(_: Mapping[str, Any]) -> None:
    return None


_READERS: dict[str, Callable[[Mapping[str, Any]], Bounds | None]] = {
    "rectangle": _exterior(2, 2),
    "oriented_bbox": _oriented_box,
    "point": _exterior(1, 1),
    "line": _exterior(2),
    "polyline": _exterior(2),
    "polygon": _exterior(3),
    "graph": _graph,
    "bitmap": _bitmap,
    "alpha_mask": _bitmap,
    "cuboid": _unchecked,
    "cuboid_2d": _unchecked,
}


def inside(geometry_type: str, box: Bounds, width: int, height: int) -> bool:
    """Whether the SDK takes a geometry with that box for one inside a frame of that size.

    The SDK refuses to read an annotation with any figure outside (of an oriented box only the centre must be inside), so
    one such figure, once stored, would keep its whole project from being downloaded.
    """
    top, left, bottom, right = box
    if geometry_type == "oriented_bbox":
        top = bottom = (top + bottom) / 2
        left = right = (left + right) / 2
    return round(left) >= 0 and round(top) >= 0 and round(right) <= width - 1 and round(bottom) <= height - 1


def fits_class(shape: str, geometry_type: str) -> bool:
    """Whether a class of that shape may hold a figure of that type ("polyline" is another word for "line")."""
    alias = {"polyline": "line"}
    return shape == "any" or alias.get(shape, shape) == alias.get(geometry_type, geometry_type)
