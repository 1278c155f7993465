"""One tracking in progress with a network: queries in, final frames out, shapes kept. Knows nothing of the network.

An object's points become queries. Every point is asked for on the first frame, and once more on each exemplar (a correction,
the next key figure), so that a point has several looks; per frame the look that is found most surely wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import PromptInvalid
from common.geometry.types import Points
from common.trackers.points.shape_prior import Shape, settle, shapes_from_tree, shapes_to_tree
from common.tracking.contract import Exemplar, Prediction, Prompt
from common.tracking.snapshot import pack
from common.video.contract import Image

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

EXEMPLARS = 3
"""Exemplars that are used, the last ones given: a point's looks are a fixed budget."""
UNANSWERED = -1.0
"""Stands for the probability of a query that a network cannot answer."""
FAR = 4.0
"""Positions are kept within this many picture sizes."""


@dataclass(frozen=True)
class Queries:
    """m questions. picture: (m,) 0 = the first frame, 1, 2.. = an exemplar. xy: (m, 2) pixels on that picture. start: (m, 2)
    where the point is on the first frame as far as is known. group: (m,) number of the object. point: (m,) number of the
    point that is asked for.
    """

    picture: I64
    xy: F64
    start: F64
    group: I64
    point: I64


@dataclass(frozen=True)
class Found:
    """Answers to m queries in one frame: xy (m, 2) pixels, probability (m,) 0..1 of being seen there, above 0.5 = visible."""

    xy: F64
    probability: F64


class Engine(Protocol):
    """A network at work on one video. The first frame is its own: given with the queries, answered first."""

    def push(self, image: Image) -> list[Found]: ...

    def flush(self) -> list[Found]: ...

    def save(self) -> Any:
        """Bounded plain values for a snapshot."""
        ...


class Backend(Protocol):
    """A network with its weights. Stateless: any number of engines at once, in any threads."""

    def begin(self, images: Sequence[Image], queries: Queries) -> tuple[Engine, list[Found]]:
        """images: the first frame, then the exemplars. Returns what is final already, the first frame's answers among it
        or still to come."""
        ...

    def resume(self, saved: Any, size: tuple[int, int]) -> Engine:
        """size: (height, width) of the frames."""
        ...


def shapes_of(image: Image, prompts: Sequence[Prompt], title: str) -> tuple[Shape, ...]:
    """The prompts as shapes. Raises `PromptInvalid` for what is no set of points, or has none in the picture."""
    height, width = image.shape[:2]
    shapes: list[Shape] = []
    first = 0
    for prompt in prompts:
        points = prompt.geometry
        if not isinstance(points, Points):
            raise PromptInvalid(f"{title} tracks points, object {prompt.key!r} is a {type(points).__name__}.")
        if not inside(points.xy, width, height).any():
            raise PromptInvalid(f"All points of object {prompt.key!r} lie outside the picture ({width} x {height}).")
        shapes.append(Shape(prompt.key, first, len(points.xy), points.edges, points.xy.astype(np.float64)))
        first += len(points.xy)
    return tuple(shapes)


def inside(xy: NDArray[np.floating[Any]], width: int, height: int) -> Bool:
    """Which of the points (n, 2) lie in the picture."""
    x, y = xy.T
    result: Bool = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return result


def queries_of(
    image: Image, prompts: Sequence[Prompt], shapes: Sequence[Shape], exemplars: Sequence[Exemplar]
) -> tuple[list[Image], Queries]:
    """The pictures that are asked about, and the questions. Points that are hidden or outside are not asked for there."""
    images = [image, *(e.image for e in exemplars[:EXEMPLARS])]
    drawn = [
        {p.key: p.geometry for p in prompts},
        *({p.key: p.geometry for p in e.prompts} for e in exemplars[:EXEMPLARS]),
    ]
    parts: list[tuple[I64, F64, F64, I64, I64]] = []
    for picture, (view, figures) in enumerate(zip(images, drawn, strict=True)):
        for group, shape in enumerate(shapes):
            points = figures.get(shape.key)
            if not isinstance(points, Points) or len(points.xy) != shape.count:
                continue
            usable = np.flatnonzero(points.visible & inside(points.xy, view.shape[1], view.shape[0]))
            if picture == 0 and len(usable) == 0:
                usable = np.flatnonzero(inside(points.xy, view.shape[1], view.shape[0]))
            many = len(usable)
            parts.append(
                (
                    np.full(many, picture, np.int64),
                    points.xy[usable].astype(np.float64),
                    shape.rest[usable],
                    np.full(many, group, np.int64),
                    shape.first + usable,
                )
            )
    if not parts:
        nothing = np.zeros(0, np.int64)
        return images, Queries(nothing, np.zeros((0, 2)), np.zeros((0, 2)), nothing, nothing)
    picture_, xy, start, group_, point = (np.concatenate(values) for values in zip(*parts, strict=True))
    return images, Queries(picture_, xy, start, group_, point)


class NetworkRun:
    """See `Run`. Memory is the engine's, and a few numbers per point."""

    def __init__(
        self, name: str, engine: Engine, shapes: tuple[Shape, ...], point: I64, size: tuple[int, int], skip: int
    ) -> None:
        """name: of the tracker. point: (m,) which point each query asks for. skip: 1 until the first frame's own answers,
        which nobody wants, have come out of the engine."""
        self._name, self._engine, self._shapes, self._point = name, engine, shapes, point
        self._size, self._skip = size, skip
        self._points = sum(shape.count for shape in shapes)

    def take(self, found: Sequence[Found]) -> list[list[Prediction]]:
        """The engine's answers as predictions, without those for the first frame."""
        wanted = list(found)[self._skip :]
        self._skip = max(0, self._skip - len(found))
        return [self._predictions(answers) for answers in wanted]

    def push(self, image: Image) -> list[list[Prediction]]:
        if image.shape[:2] != self._size:
            raise ValueError(f"the frame is {image.shape[:2]}, the first one was {self._size}")
        return self.take(self._engine.push(image))

    def flush(self) -> list[list[Prediction]]:
        return self.take(self._engine.flush())

    def save(self) -> bytes:
        return pack(
            {
                "tracker": self._name,
                "shapes": shapes_to_tree(self._shapes),
                "point": self._point,
                "size": list(self._size),
                "skip": self._skip,
                "engine": self._engine.save(),
            }
        )

    @classmethod
    def from_tree(cls, name: str, tree: dict[str, Any], backend: Backend) -> NetworkRun:
        """The run of a snapshot."""
        height, width = tree["size"]
        engine = backend.resume(tree["engine"], (height, width))
        return cls(name, engine, shapes_from_tree(tree["shapes"]), tree["point"], (height, width), tree["skip"])

    def _predictions(self, found: Found) -> list[Prediction]:
        height, width = self._size
        limit = np.array([FAR * width, FAR * height])
        xy, probability, known = self._fused(found)
        predictions = []
        for shape in self._shapes:
            part = shape.part
            settled, seen = settle(shape, np.clip(xy[part], -limit, limit), probability[part], known[part])
            settled = np.clip(settled, -limit, limit)
            seen = seen & inside(settled, width, height)
            score = float(np.where(seen, probability[part], 0.5 * probability[part]).mean())
            geometry = Points(settled.astype(np.float32), seen, shape.edges)
            predictions.append(Prediction(shape.key, geometry, score, bool(seen.any())))
        return predictions

    def _fused(self, found: Found) -> tuple[F64, F64, Bool]:
        """Per point the position and probability of the look that was found most surely, and whether it has one at all.
        What is no number (half precision can overflow) is no answer."""
        sound = np.isfinite(found.xy).all(1) & np.isfinite(found.probability)
        probability = np.where(sound, found.probability, UNANSWERED)
        best = np.full(self._points, UNANSWERED)
        np.maximum.at(best, self._point, probability)
        # Of equally sure looks the first one wins, which is that of the first frame: it is written last.
        winners = np.flatnonzero(sound & (probability == best[self._point]))[::-1]
        xy = np.zeros((self._points, 2))
        xy[self._point[winners]] = found.xy[winners]
        return xy, np.maximum(best, 0.0), best >= 0
