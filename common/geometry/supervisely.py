"""Supervisely's geometry JSON <-> values, without the SDK.

Conventions (checked against the SDK, 6.74.51):
* JSON holds whole pixels, x (column) first. Points, lines, polygons and skeletons: the pixel whose centre is the vertex.
* Rectangles are inclusive: `[[left, top], [right, bottom]]` covers columns left..right, so width = right - left + 1
  (`sly.Rectangle.width`). A `Box` spans edges, so x1 = left and x2 = right + 1, and the same for oriented boxes before
  their turn. Whole JSON -> value -> JSON is exact; value -> JSON -> value moves no edge by more than half a pixel, except
  that a box thinner than a pixel becomes one pixel wide.
* Bitmaps: base64(zlib(PNG)); the PNG written has one bit per pixel, a palette and a transparent background, as the SDK
  writes it. Read: alpha where there is alpha, anything but black where there is none, also a PNG without the zlib.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import PromptInvalid
from common.geometry.measures import place
from common.geometry.shapes import Polygon, Polyline, Shape, SinglePoint, Skeleton, Value, skeleton
from common.geometry.types import Bool, Box, Float, Mask, OrientedBox

Json = dict[str, Any]

GEOMETRY_TYPES = ("rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "graph")
"""The names of the seven geometries, as in `geometryType` and in a class's `shape`."""

_ALIASES = {"polyline": "line"}


def geometry_type(value: Value) -> str:
    """Supervisely's name of a value's type, one of `GEOMETRY_TYPES`."""
    match value:
        case Box():
            return "rectangle"
        case OrientedBox():
            return "oriented_bbox"
        case Mask():
            return "bitmap"
        case Polygon():
            return "polygon"
        case SinglePoint():
            return "point"
        case Polyline():
            return "line"
        case Skeleton():
            return "graph"


def known_type(name: str) -> str | None:
    """The name in `GEOMETRY_TYPES` for a `geometryType` or `shape` ("polyline" is "line"); None for any other type."""
    name = _ALIASES.get(name, name)
    return name if name in GEOMETRY_TYPES else None


def from_json(
    kind: str, data: Mapping[str, Any], width: int, height: int, bones: Sequence[tuple[str, str]] = ()
) -> Value:
    """The value in a figure's `geometry`.

    kind: `geometryType`. width, height: the picture's, needed for bitmaps, which are cut to it. bones: pairs of node ids
    from the class's template (`Template.bones`), for `graph`. Unknown keys (`shape`, `geometryType`, creation data) are
    ignored. Raises `PromptInvalid` when the JSON is not a geometry of that kind.
    """
    name = known_type(kind)
    if name is None:
        raise PromptInvalid(f"Geometry {kind!r} cannot be tracked; use one of {', '.join(GEOMETRY_TYPES)}.")
    try:
        return _parse(name, data, width, height, bones)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PromptInvalid(f"The JSON of a {name} geometry is damaged: {error!r}.") from error


def to_json(value: Value, width: int | None = None, height: int | None = None) -> Json:
    """The figure's `geometry`, in whole pixels, with the keys and their order that the SDK writes.

    With width and height, rounding never leaves the picture: vertices are held on its pixels, boxes inside it (an oriented
    box by its centre, as the SDK asks). ValueError for an empty mask, which Supervisely cannot store.
    """
    name = geometry_type(value)
    frame = (width, height) if width is not None and height is not None else None
    kind = {"shape": name, "geometryType": name}
    match value:
        case Box():
            left, top, right, bottom = _inclusive(value.xyxy.astype(np.float64), frame)
            return {"points": {"exterior": [[left, top], [right, bottom]], "interior": []}}
        case OrientedBox():
            cxcywh = value.cxcywh.astype(np.float64)
            xyxy = np.concatenate((cxcywh[:2] - cxcywh[2:] / 2, cxcywh[:2] + cxcywh[2:] / 2))
            left, top, right, bottom = _inclusive(xyxy, None)
            if frame is not None:
                dx = _into((left + right) // 2, frame[0])
                dy = _into((top + bottom) // 2, frame[1])
                left, right, top, bottom = left + dx, right + dx, top + dy, bottom + dy
            return {"points": [[left, top], [right, bottom]], "angle": value.angle_rad}
        case Mask():
            if value.area == 0:
                raise ValueError("an empty mask cannot be stored")
            return {"bitmap": {"origin": [value.x, value.y], "data": encode_bitmap(value.crop())}, **kind}
        case Polygon():
            exterior, *holes = (_whole(ring, frame) for ring in value.rings)
            return {"points": {"exterior": exterior, "interior": holes}, **kind}
        case Polyline():
            return {"points": {"exterior": _whole(value.xy, frame), "interior": []}, **kind}
        case SinglePoint():
            return {"points": {"exterior": _whole(value.xy[None], frame), "interior": []}}
        case Skeleton():
            nodes: Json = {}
            for node, loc, disabled in zip(value.ids, _whole(value.xy, frame), value.disabled, strict=True):
                nodes[node] = {"loc": loc, "disabled": True} if disabled else {"loc": loc}
            return {"nodes": nodes}


def encode_bitmap(array: Bool) -> str:
    """base64(zlib(PNG)) of a bool array (h, w), h and w >= 1: palette of two, index 0 transparent."""
    height, width = array.shape
    rows = np.concatenate((np.zeros((height, 1), np.uint8), np.packbits(array, axis=1)), 1)  # filter 0 before each row

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    png = b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)),
            chunk(b"PLTE", bytes((0, 0, 0, 255, 255, 255))),
            chunk(b"tRNS", b"\x00"),
            chunk(b"IDAT", zlib.compress(rows.tobytes())),
            chunk(b"IEND", b""),
        )
    )
    return base64.b64encode(zlib.compress(png)).decode("ascii")


def decode_bitmap(text: str) -> Bool:
    """Bool (h, w) of a bitmap's `data`. ValueError when it is no picture."""
    try:
        raw = base64.b64decode(text)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error
    with contextlib.suppress(zlib.error):  # some tools store the PNG as it is, which the SDK's reader accepts too
        raw = zlib.decompress(raw)
    picture = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED) if raw else None
    if picture is None:
        raise ValueError("the bitmap holds no picture")
    pixels: NDArray[Any] = np.asarray(picture)
    if pixels.ndim == 2:
        return pixels.astype(bool)
    mask: Bool = (pixels[:, :, -1] if pixels.shape[2] in (2, 4) else pixels.max(2)).astype(bool)
    return mask


def _parse(name: str, data: Mapping[str, Any], width: int, height: int, bones: Sequence[tuple[str, str]]) -> Value:
    match name:
        case "rectangle":
            return Box(_single(_edges(data["points"]["exterior"])))
        case "oriented_bbox":
            x1, y1, x2, y2 = _edges(data["points"])
            centre_and_size = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], np.float32)
            return OrientedBox(centre_and_size, float(data.get("angle") or 0.0))
        case "bitmap":
            x, y = (int(v) for v in data["bitmap"]["origin"])
            return place(decode_bitmap(data["bitmap"]["data"]), x, y, width, height)
        case "graph":
            nodes = [
                (str(i), float(node["loc"][0]), float(node["loc"][1]), bool(node.get("disabled", False)))
                for i, node in data["nodes"].items()
            ]
            return skeleton(nodes, bones)
    return _parse_shape(name, data["points"])


def _parse_shape(name: str, points: Mapping[str, Any]) -> Shape:
    exterior = np.array(points["exterior"], np.float32)
    match name:
        case "polygon":
            holes = tuple(_three(np.array(hole, np.float32)) for hole in points.get("interior") or ())
            return Polygon(_three(exterior), holes)
        case "line":
            return Polyline(exterior)
        case _:
            return SinglePoint(exterior)


def _edges(corners: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Two opposite inclusive corners, in any order, to x1, y1, x2, y2."""
    array = np.array(corners, np.float64)
    if array.shape != (2, 2):
        raise ValueError("a rectangle has two corners")
    return np.concatenate((array.min(0), array.max(0) + 1))


def _single(values: NDArray[np.float64]) -> Float:
    single: Float = values.astype(np.float32)
    return single


def _three(ring: Float) -> Float:
    """The ring with its last vertex repeated up to three, as the SDK repairs shorter ones."""
    if ring.ndim == 2 and 0 < len(ring) < 3:
        return np.concatenate((ring, np.repeat(ring[-1:], 3 - len(ring), 0)))
    return ring


def _inclusive(xyxy: NDArray[np.float64], frame: tuple[int, int] | None) -> tuple[int, int, int, int]:
    """left, top, right, bottom in whole pixels, right >= left and bottom >= top, in the frame if there is one."""
    spans = []
    for axis in (0, 1):
        low, high = float(xyxy[axis]), float(xyxy[axis + 2])
        first, last = round(low), round(high) - 1
        if last < first:  # thinner than a pixel: the pixel its middle lies in
            first = last = int(np.floor((low + high) / 2))
        if frame is not None:
            first, last = (min(max(v, 0), frame[axis] - 1) for v in (first, last))
        spans.append((first, last))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def _into(position: int, size: int) -> int:
    """How far a position must move to lie in 0..size-1."""
    return min(max(position, 0), size - 1) - position


def _whole(xy: Float, frame: tuple[int, int] | None) -> list[list[int]]:
    rounded = np.rint(xy.astype(np.float64))
    if frame is not None:
        rounded = np.clip(rounded, 0, np.array(frame) - 1)
    pairs: list[list[int]] = rounded.astype(np.int64).tolist()
    return pairs
