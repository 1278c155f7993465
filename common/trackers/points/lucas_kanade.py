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

GONE = 25
"""Frames after which a helper that is hidden says no more about the object."""
LAST = 1.5
"""Votes of the last pose, where a patch that fits has one: no single patch says that an area has turned or grown."""
FAINT = 0.05
"""What the places count where hidden points are thought to be, when there are no seen ones to go by."""

_FORMAT = "lucas-kanade/2"

CARD = TrackerCard(
    name="lucas-kanade",
    title="Lucas-Kanade (points, no weights)",
    geometries=frozenset({"points"}),
    licence="Apache-2.0",
    memory_bound="the number of points, up to 24 more for each polygon, and the size of one frame",
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
        noise = patches.noise_level(gray.astype(np.float32))
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
                rest = np.concatenate([rest, outline.within(gray, area, most, noise)])
            shapes.append(_Shape(prompt.key, first, len(points.xy), points.edges, rest))
            trust.append(outline.trust(rest, area))
            first += len(rest)
        xy = np.concatenate([np.zeros((0, 2)), *(s.rest for s in shapes)])
        owner = np.repeat(np.arange(len(shapes)), [len(s.rest) for s in shapes]).astype(np.int64)
        whole = np.array([s.filled for s in shapes], bool)[owner]
        helper = np.concatenate([np.zeros(0, bool), *(np.arange(len(s.rest)) >= s.count for s in shapes)])
        return LucasKanadeRun(tuple(shapes), begin(gray, xy, np.concatenate(trust), owner, whole, helper))

    def load(self, state: bytes) -> LucasKanadeRun:
        tree = unpack(state)
        if not isinstance(tree, dict) or tree.get("format") != _FORMAT:
            raise ValueError("not a snapshot of this Lucas-Kanade tracker, or one of an earlier version")
        shapes = tuple(
            _Shape(s["key"], s["first"], s["count"], tuple(tuple(e) for e in s["edges"]), s["rest"])
            for s in tree["shapes"]
        )
        poses = {s["key"]: np.array(s["pose"]) for s in tree["shapes"]}
        return LucasKanadeRun(shapes, Field.from_tree(tree["field"]), poses)


class LucasKanadeRun:
    """One tracking in progress (see `Run`)."""

    def __init__(
        self, shapes: tuple[_Shape, ...], field: Field, poses: dict[str, NDArray[np.float64]] | None = None
    ) -> None:
        self._shapes, self._field = shapes, field
        self._poses = poses or {s.key: np.eye(2) for s in shapes}

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
            | {"pose": self._poses[s.key]}
            for s in self._shapes
        ]
        return pack({"format": _FORMAT, "shapes": shapes, "field": self._field.to_tree()})

    def _carry(self, image: Image) -> None:
        """All points to the next picture."""
        step(self._field, _gray(image))

    def _settle(self, shape: _Shape) -> None:
        """Put the hidden vertices of a shape where the seen ones want them, and call back a seen one that ran away."""
        field, mine = self._field, shape.part
        few = np.count_nonzero(field.seen[mine]) < 2
        if len(shape.pairs) == 0 or (few and not shape.filled):
            return
        if few:  # one of so many is something else that looks like it (in scenes, 19 times out of 20)
            field.seen[mine], field.score[mine] = False, 0
        seen, score = field.seen[mine], field.score[mine]
        # An area of which nothing is seen stays what it is, where its places are thought to be.
        pull = np.where(seen, np.maximum(score, 0.1), FAINT if few else 0.0)
        # A vertex that leaves its place is lost, the sooner the worse it looks; limbs may move, so the limit grows with size.
        limit = np.maximum(4.0, shape.diagonal * np.where(score > 0.85, 0.15, 0.04))
        usual = self._turned(shape) if shape.filled else None
        held, trust = rigidity.hold(shape.rest, shape.pairs, field.xy[mine], pull, outlier_px=limit, usual=usual)
        lost = (trust < 0.3) | ~seen
        field.xy[mine] = np.where(lost[:, None], held, field.xy[mine])
        field.seen[mine] &= ~lost
        field.score[mine] = np.where(lost, 0, field.score[mine])
        if shape.filled:
            pose = rigidity.similarity(shape.rest, held, np.ones(len(held)))[0]
            known = np.asarray(np.isfinite(field.before[mine]).all((1, 2)))
            field.before[mine] = np.where(known[:, None, None], field.before[mine], pose)
            self._poses[shape.key] = pose

    def _turned(self, shape: _Shape) -> NDArray[np.float64]:
        """How an area has turned and grown, (2, 2), by most of its patches that are seen."""
        field, mine = self._field, shape.part
        turns = field.affine[mine] @ field.before[mine]
        known = field.seen[mine] & np.isfinite(turns).all((1, 2))
        votes = np.maximum(field.score[mine][known], 0.1)
        return rigidity.common_turn(
            np.concatenate([turns[known], self._poses[shape.key][None]]), np.append(votes, LAST)
        )

    def _prediction(self, shape: _Shape) -> Prediction:
        """Its score is that of its points; of an area half of it, the other half that of its helpers, but for those that are
        gone for good. Seen is what has a point or a helper that is."""
        field = self._field
        seen, score, hidden = field.seen[shape.part], field.score[shape.part], field.hidden[shape.part]
        drawn = field.xy[shape.first : shape.first + shape.count].astype(np.float32)
        geometry = Points(drawn, seen[: shape.count], shape.edges)
        well = float(score[: shape.count].mean())
        carrying = score[shape.count :][hidden[shape.count :] <= GONE]
        if len(carrying):
            well = (well + float(carrying.mean())) / 2
        return Prediction(shape.key, geometry, well, bool(seen.any()))


def _gray(image: Image) -> NDArray[np.uint8]:
    gray: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return gray
