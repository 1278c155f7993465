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
from common.geometry.rings import ring
from common.geometry.types import Points
from common.trackers.points import outline, patches, rigidity
from common.trackers.points.field import Field, begin, step
from common.tracking.contract import Exemplar, Prediction, Prompt, TrackerCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

FAINT = 0.05
"""What the places count where hidden points are thought to be, when there are no seen ones to go by."""

_FORMAT = "lucas-kanade/2"

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
    """One object's share of the field: key, first index, number of points, edges, key-frame positions (m, 2) of its points
    and, after them, of corners within its outline that help to carry it."""

    key: str
    first: int
    count: int
    edges: tuple[tuple[int, int], ...]
    rest: NDArray[np.float64]

    @property
    def part(self) -> slice:
        """Points and helpers in the field."""
        return slice(self.first, self.first + len(self.rest))

    @property
    def filled(self) -> bool:
        """Whether it is an area with something to see in it."""
        return len(self.rest) > self.count

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """What holds the shape together."""
        drawn = rigidity.springs(self.rest[: self.count], self.edges)
        return rigidity.meshed(self.rest, drawn) if self.filled else drawn

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
        gray = _gray(image)
        shapes: list[_Shape] = []
        trust = [np.zeros((0, patches.AREA), np.float32)]
        drawn = [p.geometry for p in prompts if isinstance(p.geometry, Points)]
        most = outline.most_within(sum(bool(ring(len(p.xy), p.edges)) for p in drawn))
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
            rest = points.xy.astype(np.float64)
            area = outline.area(rest, points.edges, (width, height))
            if area is not None:
                rest = np.concatenate([rest, outline.within(gray, area, most)])
            shapes.append(_Shape(prompt.key, first, len(points.xy), points.edges, rest))
            trust.append(outline.trust(rest, area))
            first += len(rest)
        xy = np.concatenate([np.zeros((0, 2)), *(s.rest for s in shapes)])
        owner = np.repeat(np.arange(len(shapes)), [len(s.rest) for s in shapes]).astype(np.int64)
        whole = np.array([s.filled for s in shapes], bool)[owner]
        return LucasKanadeRun(tuple(shapes), begin(gray, xy, np.concatenate(trust), owner, whole))

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
        field, mine = self._field, shape.part
        seen, score = field.seen[mine], field.score[mine]
        # How its patches turned tells a filled shape's pose from one of them; on a bare line they see more of what is behind.
        turns = field.affine[mine] @ field.before[mine] if shape.filled else None
        few = np.count_nonzero(seen) < (1 if shape.filled else 2)
        pull = np.where(seen, np.maximum(score, 0.1), FAINT if few else 0.0)
        # A vertex that leaves its place is lost, the sooner the worse it looks; limbs may move, so the limit grows with size.
        limit = np.maximum(4.0, shape.diagonal * np.where(score > 0.85, 0.15, 0.04))
        held, trust = rigidity.hold(shape.rest, shape.pairs, field.xy[mine], pull, outlier_px=limit, turns=turns)
        lost = (trust < 0.3) | ~seen
        field.xy[mine] = np.where(lost[:, None], held, field.xy[mine])
        field.seen[mine] &= ~lost
        field.score[mine] = np.where(lost, 0, field.score[mine])

    def _prediction(self, shape: _Shape) -> Prediction:
        seen, score = self._field.seen[shape.part], self._field.score[shape.part]
        drawn = self._field.xy[shape.first : shape.first + shape.count].astype(np.float32)
        geometry = Points(drawn, seen[: shape.count], shape.edges)
        return Prediction(shape.key, geometry, float(score.mean()), bool(seen.any()))


def _gray(image: Image) -> NDArray[np.uint8]:
    gray: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return gray
