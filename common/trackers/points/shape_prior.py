"""What keeps a polygon, line or skeleton in shape when a network has lost some of its vertices.

Networks track every point for itself. Vertices that are hidden, or that ran away from their fellows, are put where the seen
ones want them (see `rigidity`), and are said to be hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.trackers.points import rigidity

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

SURE = 0.85
"""Probability from which a vertex may leave its place in the shape by `LIMB` of the shape's size instead of `LOOSE`."""
LIMB, LOOSE = 0.15, 0.04
LEAST_PX = 4.0
HELD = 0.3
"""Share of a measurement that must have held for the vertex to count as seen."""
FAINT = 0.05
"""What a network's guess of a hidden vertex counts when there are no seen ones to go by."""


@dataclass(frozen=True)
class Shape:
    """One object: key, first index and number of its points, edges, and rest (n, 2): the shape as drawn, pixels."""

    key: str
    first: int
    count: int
    edges: tuple[tuple[int, int], ...]
    rest: F64

    @property
    def part(self) -> slice:
        return slice(self.first, self.first + self.count)

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """What holds the shape together (see `rigidity.springs`)."""
        return rigidity.springs(self.rest, self.edges)

    @cached_property
    def diagonal(self) -> float:
        """Of the box around the shape as drawn, pixels."""
        return float(np.hypot(*np.ptp(self.rest, axis=0)))


def settle(shape: Shape, xy: F64, probability: F64, known: Bool) -> tuple[F64, Bool]:
    """Where the vertices are, (n, 2), and which of them are seen, (n,).

    xy: (n, 2) pixels as measured, finite. probability: (n,) 0..1 that a measured vertex is seen; above 0.5 counts. known:
    (n,) vertices that are measured at all; the others go where the rest wants them.
    """
    seen = known & (probability > 0.5)
    if known.all() and len(shape.pairs) == 0:
        return xy, seen
    measured = np.where(known[:, None], xy, _carried(shape, xy, np.where(seen, probability, 0.0), probability * known))
    if len(shape.pairs) == 0:
        return measured, seen
    pull = np.where(seen, np.maximum(probability, 0.1), 0.0)
    few = np.count_nonzero(pull) < min(2, shape.count)
    if few:
        pull = np.where(known, np.maximum(pull, FAINT + 0.5 * probability), 0.0)
    limit = np.maximum(LEAST_PX, shape.diagonal * np.where(probability > SURE, LIMB, LOOSE))
    held, trust = rigidity.hold(shape.rest, shape.pairs, measured, pull, outlier_px=limit)
    lost = (trust < HELD) | ~seen
    return np.where(lost[:, None], held, measured), seen & ~lost


def _carried(shape: Shape, xy: F64, sure: F64, faint: F64) -> F64:
    """The shape as drawn, moved along with the vertices that are measured, the seen ones if there are any."""
    weight = sure if sure.any() else faint
    if not weight.any():
        return shape.rest.copy()
    if np.count_nonzero(weight) < 2:
        only: F64 = shape.rest + (weight @ (xy - shape.rest)) / weight.sum()
        return only
    matrix, shift = rigidity.similarity(shape.rest, xy, weight)
    carried: F64 = shape.rest @ matrix.T + shift
    return carried


def shapes_to_tree(shapes: Sequence[Shape]) -> list[dict[str, object]]:
    """Plain values for a snapshot."""
    return [{"key": s.key, "first": s.first, "count": s.count, "edges": list(s.edges), "rest": s.rest} for s in shapes]


def shapes_from_tree(tree: Sequence[dict[str, object]]) -> tuple[Shape, ...]:
    """The shapes of a snapshot."""
    return tuple(
        Shape(s["key"], s["first"], s["count"], tuple((a, b) for a, b in s["edges"]), np.array(s["rest"]))  # type: ignore[arg-type, attr-defined]
        for s in tree
    )
