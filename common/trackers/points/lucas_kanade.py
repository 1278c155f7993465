"""Lucas-Kanade point tracker: no weights, no network, CPU. Polygons, lines and skeletons ride on points with edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import PromptInvalid
from common.geometry.types import Points
from common.trackers.points import outline, patches, rigidity
from common.trackers.points.field import Field, begin, step
from common.tracking.contract import Exemplar, Prediction, Prompt, TrackerCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

_FORMAT = "lucas-kanade/1"

CARD = TrackerCard(
    name="lucas-kanade",
    title="Lucas-Kanade (points, no weights)",
    geometries=frozenset({"points"}),
    licence="Apache-2.0",
    memory_bound="the number of points and the size of one frame",
    paper="Lucas & Kanade, IJCAI 1981; Baker & Matthews, IJCV 2004; Sorkine & Alexa, SGP 2007",
)


@dataclass(frozen=True)
class _Shape:
    """One object's share of the field: key, first index, number of points, edges, key-frame positions (n, 2)."""

    key: str
    first: int
    count: int
    edges: tuple[tuple[int, int], ...]
    rest: NDArray[np.float64]

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """What holds the shape together (see `rigidity.springs`)."""
        return rigidity.springs(self.rest, self.edges)

    @cached_property
    def diagonal(self) -> float:
        """Of the box around the shape as drawn, pixels."""
        return float(np.hypot(*np.ptp(self.rest, axis=0)))


class LucasKanadeTracker:
    """Tracks the points of any number of objects together."""

    @property
    def card(self) -> TrackerCard:
        return CARD

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> LucasKanadeRun:
        """Begin. Points outside the picture start hidden; PromptInvalid when an object has none inside. Exemplars are
        not used.
        """
        height, width = image.shape[:2]
        shapes: list[_Shape] = []
        first = 0
        for prompt in prompts:
            points = prompt.geometry
            if not isinstance(points, Points):
                raise PromptInvalid(f"{CARD.title} tracks points, object {prompt.key!r} is a {type(points).__name__}.")
            inside = ((points.xy >= -0.5) & (points.xy <= np.array([width, height]) - 0.5)).all(1)
            if not inside.any():
                raise PromptInvalid(
                    f"All points of object {prompt.key!r} lie outside the picture ({width} x {height})."
                )
            shapes.append(_Shape(prompt.key, first, len(points.xy), points.edges, points.xy.astype(np.float64)))
            first += len(points.xy)
        xy = np.concatenate([s.rest for s in shapes]) if shapes else np.zeros((0, 2))
        size = (width, height)
        trust = [outline.trust(s.rest, s.edges, size) for s in shapes] or [np.zeros((0, patches.AREA), np.float32)]
        owner = np.repeat(np.arange(len(shapes)), [s.count for s in shapes]).astype(np.int64)
        return LucasKanadeRun(tuple(shapes), begin(_gray(image), xy, np.concatenate(trust), owner))

    def load(self, state: bytes) -> LucasKanadeRun:
        tree = unpack(state)
        if not isinstance(tree, dict) or tree.get("format") != _FORMAT:
            raise ValueError("not a snapshot of the Lucas-Kanade tracker")
        shapes = tuple(
            _Shape(s["key"], s["first"], s["count"], tuple(tuple(e) for e in s["edges"]), s["rest"])
            for s in tree["shapes"]
        )
        return LucasKanadeRun(shapes, Field.from_tree(tree["field"]))


class LucasKanadeRun:
    """One tracking in progress (see `Run`)."""

    def __init__(self, shapes: tuple[_Shape, ...], field: Field) -> None:
        self._shapes, self._field = shapes, field

    def push(self, image: Image) -> list[list[Prediction]]:
        if image.shape[:2] != self._field.gray.shape:
            raise ValueError(f"the frame is {image.shape[:2]}, the first one was {self._field.gray.shape}")
        self._carry(image)
        for shape in self._shapes:
            self._settle(shape)
        return [[self._prediction(shape) for shape in self._shapes]]

    def flush(self) -> list[list[Prediction]]:
        return []

    def save(self) -> bytes:
        shapes: list[dict[str, Any]] = [
            {"key": s.key, "first": s.first, "count": s.count, "edges": [list(e) for e in s.edges], "rest": s.rest}
            for s in self._shapes
        ]
        return pack({"format": _FORMAT, "shapes": shapes, "field": self._field.to_tree()})

    def _carry(self, image: Image) -> None:
        """All points to the next picture."""
        step(self._field, _gray(image))

    def _settle(self, shape: _Shape) -> None:
        """Put the hidden vertices of a shape where the seen ones want them, and call back a seen one that ran away."""
        if len(shape.pairs) == 0:
            return
        field, mine = self._field, slice(shape.first, shape.first + shape.count)
        pull = np.where(field.seen[mine], np.maximum(field.score[mine], 0.1), 0.0)
        if np.count_nonzero(pull) < 2:
            return
        # A vertex that leaves its place is lost, the sooner the worse it looks; limbs may move, so the limit grows with size.
        limit = np.maximum(4.0, shape.diagonal * np.where(field.score[mine] > 0.85, 0.15, 0.04))
        held, trust = rigidity.hold(shape.rest, shape.pairs, field.xy[mine], pull, outlier_px=limit)
        lost = (trust < 0.3) | (pull == 0)
        field.xy[mine] = np.where(lost[:, None], held, field.xy[mine])
        field.seen[mine] &= ~lost
        field.score[mine] = np.where(lost, 0, field.score[mine])

    def _prediction(self, shape: _Shape) -> Prediction:
        mine = slice(shape.first, shape.first + shape.count)
        seen, score = self._field.seen[mine], self._field.score[mine]
        geometry = Points(self._field.xy[mine].astype(np.float32), seen, shape.edges)
        return Prediction(shape.key, geometry, float(score.mean()), bool(seen.any()))


def _gray(image: Image) -> NDArray[np.uint8]:
    gray: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return gray
