"""What a published procedure for following boxes offers to the run that drives it.

The procedure is the authors' own: crops, network, mapping back, templates. It holds all objects of a run and knows
nothing of prompts, lost objects or turning; see siamese_run.py for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from common.trackers.boxes.siamese_crop import Array, Bool
from common.video.contract import Image


@dataclass(frozen=True)
class Found:
    """Where the network sees n objects in one frame.

    boxes: float64 (n, 4) x, y, width, height in pixels, before the turn. score: float64 (n,) 0..1, the network's own
    confidence. detail: what the procedure wants back in `accept`, and tests look at.
    """

    boxes: Array
    score: Array
    detail: dict[str, Any] = field(default_factory=dict)


class Procedure(Protocol):
    """All objects of one run, in one batch per frame."""

    boxes: Array
    """Where the objects are, float64 (n, 4) x, y, width, height before the turn."""
    angle: Array
    """Their turns, float64 (n,) radians; 0 means upright."""

    def follow(self, image: Image, widen: Array) -> Found:
        """Look for every object around where it is. widen: (n,) factor on the side of the search region, 1 = as published.
        Changes nothing.
        """
        ...

    def accept(self, image: Image, found: Found, follow: Bool, learn: Bool) -> None:
        """Go on from what was found: objects with follow (n,) are there now; from those with learn (n,) templates and
        memories may be taken. All true is the published procedure.
        """
        ...

    def to_tree(self) -> dict[str, Any]:
        """Everything that `from_tree` of the same class needs to go on exactly, bounded."""
        ...


def margins(boxes: Array, published: float) -> Array:
    """Least width and height (n,) that a box may get: the published one, less for objects drawn smaller than twice it."""
    least: Array = np.clip(0.5 * boxes[:, 2:].min(1, initial=np.inf), 1.0, published)
    return least


class Engine(Protocol):
    """A network with its weights, on its device: makes procedures. Shared by all runs of a tracker, never changed."""

    def begin(self, image: Image, boxes: Array, angle: Array, others: Sequence[Sighting]) -> Procedure:
        """Objects drawn in image: boxes float64 (n, 4) x, y, width, height before their turn by angle (n,). others: the
        same objects elsewhere.
        """
        ...

    def resume(self, tree: dict[str, Any]) -> Procedure:
        """From `Procedure.to_tree`."""
        ...


@dataclass(frozen=True)
class Sighting:
    """Objects labelled on another frame. boxes, angle: as in `Engine.begin`; known: (n,) who is labelled there."""

    image: Image
    boxes: Array
    angle: Array
    known: Bool
