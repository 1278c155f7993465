"""Trackers of boxes that are networks, behind the tracker contract. Imports no torch: that waits until tracking starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from common.errors import PromptInvalid
from common.geometry.types import Box, OrientedBox
from common.trackers.boxes.patches import Pyramid
from common.trackers.boxes.siamese_contract import Engine, Sighting
from common.trackers.boxes.siamese_crop import Array
from common.trackers.boxes.siamese_presence import Presence, PresenceSettings
from common.trackers.boxes.siamese_run import SiameseRun
from common.trackers.boxes.siamese_turn import Turns
from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.video.contract import Image

MOST_EXEMPLARS = 2
"""Labels on other frames that a run keeps as templates; the last ones given count."""


class SiameseTracker:
    """A network that looks for a template in a search region. Stateless apart from its weights, which are read once.

    open: reads the weights and gives the engine; called at the first start, raises `WeightsMissing`.
    """

    def __init__(self, card: TrackerCard, open: Callable[[], Engine], settings: PresenceSettings) -> None:
        self._card, self._open, self._settings = card, open, settings
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    @property
    def card(self) -> TrackerCard:
        """See `TrackerCard`."""
        return self._card

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> SiameseRun:
        """Begin. The first two exemplars become templates where the network takes more than one.

        Raises `PromptInvalid` for a geometry that is no box, has no area or lies outside the picture, `WeightsMissing`.
        """
        poses = [pose_of(prompt, image) for prompt in prompts]
        boxes, angle = _stacked(poses)
        engine = self._loaded()
        others = [_sighting(exemplar, prompts) for exemplar in exemplars]
        known = [other for other in others if other.known.any()][:MOST_EXEMPLARS]
        oriented = np.array([isinstance(p.geometry, OrientedBox) for p in prompts], bool)
        size = (image.shape[1], image.shape[0])
        keys = [p.key for p in prompts]
        turns = Turns.begin(Pyramid(image), boxes, angle, oriented)
        procedure = engine.begin(image, boxes, angle, known)
        return SiameseRun(
            self._card.name, size, keys, oriented, procedure, Presence.begin(boxes), turns, self._settings
        )

    def load(self, state: bytes) -> SiameseRun:
        """A run from `save`. Raises ValueError when the bytes are not one of this tracker's."""
        return SiameseRun.load(self._card.name, self._loaded(), state, self._settings)

    def _loaded(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._open()
            return self._engine


def pose_of(prompt: Prompt, image: Image) -> tuple[float, float, float, float, float]:
    """x, y, width, height before the turn, and the turn, of a prompt drawn in image. Raises `PromptInvalid`."""
    height, width = image.shape[:2]
    geometry = prompt.geometry
    if isinstance(geometry, Box):
        x1, y1, x2, y2 = (float(v) for v in geometry.xyxy)
        pose = (x1, y1, x2 - x1, y2 - y1, 0.0)
        low, high = geometry.xyxy[:2], geometry.xyxy[2:]
    elif isinstance(geometry, OrientedBox):
        cx, cy, w, h = (float(v) for v in geometry.cxcywh)
        pose = (cx - w / 2, cy - h / 2, w, h, geometry.angle_rad)
        corners = geometry.corners()
        low, high = corners.min(0), corners.max(0)
    else:
        kind = type(geometry).__name__.lower()
        raise PromptInvalid(f"{prompt.key!r} is a {kind}; this tracker follows boxes. Draw a box around the object.")
    if pose[2] <= 0 or pose[3] <= 0:
        raise PromptInvalid(f"The box of {prompt.key!r} has no area. Draw it around the whole object.")
    if (high <= 0).any() or low[0] >= width or low[1] >= height:
        raise PromptInvalid(
            f"The box of {prompt.key!r} lies outside the picture. Draw it on the object, inside the picture."
        )
    return pose


def _stacked(poses: Sequence[tuple[float, ...]]) -> tuple[Array, Array]:
    rows = np.array(poses, np.float64).reshape(-1, 5)
    return rows[:, :4].copy(), rows[:, 4].copy()


def _sighting(exemplar: Exemplar, prompts: Sequence[Prompt]) -> Sighting:
    """The prompts' objects in an exemplar. Those that are not in it, or not as a box inside its picture, are not known."""
    drawn = {prompt.key: prompt for prompt in exemplar.prompts}
    poses: list[tuple[float, ...]] = []
    known = np.zeros(len(prompts), bool)
    for number, prompt in enumerate(prompts):
        pose: tuple[float, ...] = (0.0, 0.0, 1.0, 1.0, 0.0)
        if prompt.key in drawn:
            try:
                pose = pose_of(drawn[prompt.key], exemplar.image)
                known[number] = True
            except PromptInvalid:
                known[number] = False
        poses.append(pose)
    boxes, angle = _stacked(poses)
    return Sighting(exemplar.image, boxes, angle, known)
