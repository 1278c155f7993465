"""Geometries <-> short byte strings, for journals and caches. Equal geometries give equal bytes."""

from __future__ import annotations

import numpy as np

from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points


def encode(geometry: Geometry) -> bytes:
    """One letter for the kind, then little-endian numbers."""
    match geometry:
        case Box():
            return b"B" + geometry.xyxy.astype("<f4").tobytes()
        case OrientedBox():
            return b"O" + geometry.cxcywh.astype("<f4").tobytes() + np.array(geometry.angle_rad, "<f8").tobytes()
        case Mask():
            head = np.array([geometry.height, geometry.width, geometry.x, geometry.y, *geometry.window], "<i4")
            return b"M" + head.tobytes() + geometry.runs.astype("<u4").tobytes()
        case Points():
            head = np.array([len(geometry.xy), len(geometry.edges)], "<i4")
            edges = np.array(geometry.edges, "<i4").reshape(-1, 2)
            return (
                b"P"
                + head.tobytes()
                + edges.tobytes()
                + geometry.xy.astype("<f4").tobytes()
                + geometry.visible.astype("u1").tobytes()
            )


def decode(data: bytes) -> Geometry:
    """The geometry that `encode` got. Raises ValueError for anything else."""
    kind, body = data[:1], data[1:]
    match kind:
        case b"B":
            return Box(np.frombuffer(body, "<f4"))
        case b"O":
            return OrientedBox(np.frombuffer(body, "<f4", 4), float(np.frombuffer(body, "<f8", 1, 16)[0]))
        case b"M":
            height, width, x, y, h, w = (int(v) for v in np.frombuffer(body, "<i4", 6))
            return Mask(height, width, x, y, (h, w), np.frombuffer(body, "<u4", offset=24).astype(np.uint32))
        case b"P":
            points, edges = (int(v) for v in np.frombuffer(body, "<i4", 2))
            pairs = np.frombuffer(body, "<i4", 2 * edges, 8).reshape(-1, 2)
            xy = np.frombuffer(body, "<f4", 2 * points, 8 + 8 * edges).reshape(-1, 2)
            visible = np.frombuffer(body, "u1", points, 8 + 8 * edges + 8 * points).astype(bool)
            return Points(xy, visible, tuple((int(a), int(b)) for a, b in pairs))
    raise ValueError(f"not a geometry: starts with {kind!r}")
