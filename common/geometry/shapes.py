"""What a person draws with points: polygons, lines, skeletons and single points - and how each travels as `Points`.

Coordinates count from pixel centres, as in types.py: vertex (3, 4) is the centre of the pixel in column 3, row 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from common.geometry.types import Bool, Box, Float, Geometry, Mask, OrientedBox, Points


def _vertices(xy: ArrayLike, least: int, what: str) -> Float:
    value = np.array(xy, np.float32)
    if value.ndim != 2 or value.shape[1] != 2 or len(value) < least or not np.isfinite(value).all():
        raise ValueError(f"{what} has at least {least} finite x,y vertices, got shape {value.shape}")
    value.setflags(write=False)
    return value


@dataclass(frozen=True, eq=False)
class Polygon:
    """Area inside an outline, less the holes. exterior: float32 (n, 2), n >= 3; holes: each float32 (m, 2), m >= 3."""

    exterior: Float
    holes: tuple[Float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "exterior", _vertices(self.exterior, 3, "a polygon's outline"))
        object.__setattr__(self, "holes", tuple(_vertices(h, 3, "a polygon's hole") for h in self.holes))

    @property
    def rings(self) -> tuple[Float, ...]:
        """The outline, then every hole."""
        return (self.exterior, *self.holes)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Polygon)
            and len(self.holes) == len(other.holes)
            and all(np.array_equal(a, b) for a, b in zip(self.rings, other.rings, strict=True))
        )

    def __hash__(self) -> int:
        return hash(tuple(ring.tobytes() for ring in self.rings))


@dataclass(frozen=True, eq=False)
class Polyline:
    """Open line through its vertices. xy: float32 (n, 2), n >= 2."""

    xy: Float

    def __post_init__(self) -> None:
        object.__setattr__(self, "xy", _vertices(self.xy, 2, "a line"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polyline) and np.array_equal(self.xy, other.xy)

    def __hash__(self) -> int:
        return hash(self.xy.tobytes())


@dataclass(frozen=True, eq=False)
class SinglePoint:
    """One point. xy: float32 (2,)."""

    xy: Float

    def __post_init__(self) -> None:
        if np.size(self.xy) != 2:
            raise ValueError(f"a point has one x and one y, got shape {np.shape(self.xy)}")
        object.__setattr__(self, "xy", _vertices(np.reshape(self.xy, (1, 2)), 1, "a point")[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SinglePoint) and np.array_equal(self.xy, other.xy)

    def __hash__(self) -> int:
        return hash(self.xy.tobytes())


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Named nodes joined by bones (Supervisely's `graph`).

    ids: the node ids of the class's template, unique, n >= 1. xy: float32 (n, 2). disabled: bool (n,), True = the node is
    hidden and its place a guess; all False when left out. edges: bones as pairs of indices into ids; they come from the
    class, not from the figure.
    """

    ids: tuple[str, ...]
    xy: Float
    disabled: Bool = field(default_factory=lambda: np.zeros(0, bool))
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        xy = _vertices(self.xy, 1, "a skeleton")
        ids = tuple(str(i) for i in self.ids)
        if len(ids) != len(xy) or len(set(ids)) != len(ids):
            raise ValueError(f"a skeleton needs one unique id for each of its {len(xy)} nodes, got {list(ids)}")
        disabled = np.array(self.disabled, bool) if np.size(self.disabled) else np.zeros(len(xy), bool)
        if disabled.shape != (len(xy),):
            raise ValueError(f"{len(xy)} nodes need {len(xy)} disabled flags, got shape {disabled.shape}")
        edges = tuple((int(a), int(b)) for a, b in self.edges)
        if any(not (0 <= a < len(xy) and 0 <= b < len(xy)) for a, b in edges):
            raise ValueError("a bone names a node that does not exist")
        disabled.setflags(write=False)
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "xy", xy)
        object.__setattr__(self, "disabled", disabled)
        object.__setattr__(self, "edges", edges)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Skeleton)
            and self.ids == other.ids
            and self.edges == other.edges
            and np.array_equal(self.xy, other.xy)
            and np.array_equal(self.disabled, other.disabled)
        )

    def __hash__(self) -> int:
        return hash((self.ids, self.edges, self.xy.tobytes(), self.disabled.tobytes()))


Shape = Polygon | Polyline | SinglePoint | Skeleton
"""What is made of points."""

Value = Box | OrientedBox | Mask | Shape
"""What a person draws: one of Supervisely's seven geometry types."""


def to_points(shape: Shape) -> Points:
    """The vertices of a shape, in order (outline first, then hole after hole), with the edges that hold them together.

    >>> to_points(Polyline(np.array([[0, 0], [4, 0], [4, 3]]))).edges
    ((0, 1), (1, 2))
    """
    match shape:
        case Polygon():
            edges: list[tuple[int, int]] = []
            start = 0
            for ring in shape.rings:
                n = len(ring)
                edges += [(start + i, start + (i + 1) % n) for i in range(n)]
                start += n
            return Points(np.concatenate(shape.rings), edges=tuple(edges))
        case Polyline():
            return Points(shape.xy, edges=tuple((i, i + 1) for i in range(len(shape.xy) - 1)))
        case SinglePoint():
            return Points(shape.xy[None])
        case Skeleton():
            return Points(shape.xy, ~shape.disabled, shape.edges)


def with_points(shape: Shape, points: Points) -> Shape:
    """The same shape with its vertices moved to `points`: the inverse of `to_points`.

    A skeleton's hidden points become disabled nodes; the other shapes have nowhere to note a hidden vertex and keep its
    place. ValueError when the numbers of points differ.
    """
    expected = len(to_points(shape).xy)
    if len(points.xy) != expected:
        raise ValueError(f"a shape of {expected} vertices cannot take {len(points.xy)} points")
    match shape:
        case Polygon():
            ends = np.cumsum([len(r) for r in shape.rings])[:-1]
            exterior, *holes = np.split(points.xy, ends)
            return Polygon(exterior, tuple(holes))
        case Polyline():
            return Polyline(points.xy)
        case SinglePoint():
            return SinglePoint(points.xy[0])
        case Skeleton():
            return Skeleton(shape.ids, points.xy, ~points.visible, shape.edges)


def to_geometry(value: Value) -> Geometry:
    """What a tracker is given for a drawn value: shapes as points, everything else as it is."""
    return value if isinstance(value, Box | OrientedBox | Mask) else to_points(value)


def skeleton(
    nodes: Sequence[tuple[str, float, float, bool]] | dict[str, tuple[float, float]],
    bones: Sequence[tuple[str, str]] = (),
) -> Skeleton:
    """A skeleton from named nodes (id, x, y, disabled) or {id: (x, y)} and bones between ids.

    Bones to nodes that the skeleton lacks are left out: an annotator may have removed a node of the template.
    """
    rows = [(i, x, y, False) for i, (x, y) in nodes.items()] if isinstance(nodes, dict) else list(nodes)
    index = {row[0]: n for n, row in enumerate(rows)}
    return Skeleton(
        tuple(row[0] for row in rows),
        np.array([row[1:3] for row in rows], np.float32).reshape(-1, 2),
        np.array([row[3] for row in rows], bool),
        tuple((index[a], index[b]) for a, b in bones if a in index and b in index),
    )
