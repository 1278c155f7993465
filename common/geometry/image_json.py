"""Geometry JSON of images, whose coordinates are edges of pixels, <-> that of videos, whose coordinates are whole pixels.

Both are what the platform keeps. For images the SDK converts on the way (`Annotation._to_subpixel_coordinate_system_json` of
6.74.51); these are the same steps without it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]


def to_edges(kind: str, geometry: Mapping[str, Any]) -> Json:
    """As an image keeps it. kind: the geometry's type."""
    return _moved(kind, geometry, 1, lambda v: v + 0.5)


def from_edges(kind: str, geometry: Mapping[str, Any]) -> Json:
    """As `common.geometry.supervisely.from_json` reads it. Coordinates may stay fractions."""
    return _moved(kind, geometry, -1, lambda v: v - 0.5)


def _moved(kind: str, geometry: Mapping[str, Any], grown: int, centre: Callable[[float], float]) -> Json:
    """grown: what the far edges of boxes gain. centre: what happens to a coordinate of a point."""
    out = copy.deepcopy(dict(geometry))
    if kind in ("rectangle", "oriented_bbox"):
        corners = out["points"] if kind == "oriented_bbox" else out["points"]["exterior"]
        (x1, y1), (x2, y2) = corners
        low, high = (min(x1, x2), min(y1, y2)), (max(x1, x2), max(y1, y2))
        corners[:] = [list(low), [max(low[0], high[0] + grown), max(low[1], high[1] + grown)]]
    elif "nodes" in out:
        for node in out["nodes"].values():
            node["loc"] = [centre(v) for v in node["loc"]]
    elif "points" in out:
        points = out["points"]
        for ring in (points["exterior"], *(points.get("interior") or ())):
            ring[:] = [[centre(v) for v in point] for point in ring]
    return out
