"""Finds what looks like the labelled examples. Learned in about a second, with no weights; it grows better with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections, DetectorCard
from common.detection.exemplar import channels, closer
from common.detection.exemplar.channels import Level
from common.detection.exemplar.closer import Closer
from common.detection.exemplar.learning import Learned, learn
from common.detection.exemplar.refining import Refiner, refined
from common.detection.exemplar.settings import ExemplarPicture, ExemplarSettings
from common.detection.exemplar.windows import Finder, Template
from common.detection.selection import suppress
from common.errors import PromptInvalid
from common.geometry.measures import box_within
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

Float = NDArray[np.float32]


_WITHIN, _PART = 0.85, 0.7
"""Share of a box inside a surer one from which it may be a part, and what is left of its score then."""


class ExemplarDetector:
    """A `Detector`. Its score is the overlap to expect with an object, stretched: 0.5 is an IoU of 0.5.

    Memory: the model (some megabytes, however many pictures it was learned from) and one picture's channels.
    """

    def __init__(self, learned: Learned, classes: Sequence[str], settings: ExemplarSettings | None = None) -> None:
        self._learned = learned
        self._settings = settings or ExemplarSettings()
        self._finder = Finder(learned.templates)
        self._card = DetectorCard(
            name="exemplar",
            title="Like the examples (no model)",
            classes=tuple(classes),
            licence="Apache-2.0",
            memory_bound="the examples' samples, and one picture's channels",
            paper="Hariharan et al. 2012, Discriminative decorrelation; Dollár et al. 2014, Fast feature pyramids",
        )

    @classmethod
    def from_pictures(
        cls, pictures: Sequence[ExemplarPicture], classes: Sequence[str], settings: ExemplarSettings | None = None
    ) -> ExemplarDetector:
        """Learns. The pictures are fully labelled. Raises `PromptInvalid` when no object is labelled."""
        chosen = settings or ExemplarSettings()
        return cls(learn(pictures, len(classes), chosen), classes, chosen)

    @property
    def card(self) -> DetectorCard:
        return self._card

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [self.look(image) for image in images]

    def look(self, image: Image, proposed: Float | None = None) -> Detections:
        """As `detect`, for one picture. proposed: boxes (n, 4) to look at besides those that it finds itself, such as
        where objects of the frame before should be."""
        s = self._settings
        levels = self._levels(image)
        boxes, _, _ = self._finder.windows(levels, s.proposals)
        if proposed is not None and len(proposed):
            boxes = np.concatenate((boxes, np.asarray(proposed, np.float32)))
        if not len(boxes):
            return Detections()
        scores, boxes = self._judged(levels, boxes)
        again, moved = self._judged(levels, boxes)
        # the second look is at the corrected box: its place is better, and its score is that of the place
        boxes, scores = moved, again
        found = self._given(boxes, scores, image.shape)
        put = refined(image, found.xyxy, found.classes, self._learned.refiners, s, self._learned.table)
        return Detections(put, found.scores, found.classes)

    def score(self, image: Image, boxes: Float) -> Float:
        """How much each box shows an object of each class, float32 (n, classes), 0..1."""
        if not len(boxes):
            return np.zeros((0, len(self._card.classes)), np.float32)
        levels = self._levels(image)
        return self._learned.closer.score(self._reduced(levels, np.asarray(boxes, np.float32)))

    def save(self) -> bytes:
        """Everything learned, in bytes that do not grow with the examples; `load` gives a detector that finds the same."""
        learned, look = self._learned, self._learned.closer
        return pack(
            {
                "classes": list(self._card.classes),
                "settings": asdict(self._settings),
                "table": learned.table,
                "sides": [learned.smallest, learned.largest],
                "templates": [{"weights": t.weights, "offset": t.offset, "label": t.label} for t in learned.templates],
                "refiners": [{"label": r.label, "mean": r.mean, "weights": r.weights} for r in learned.refiners],
                "closer": {name: getattr(look, name) for name in Closer.__dataclass_fields__},
            }
        )

    @classmethod
    def load(cls, data: bytes) -> ExemplarDetector:
        """Raises `PromptInvalid` when the bytes are not such a detector's."""
        try:
            tree = unpack(data)
            templates = tuple(Template(t["weights"], float(t["offset"]), int(t["label"])) for t in tree["templates"])
            low, high = tree["sides"]
            refiners = tuple(Refiner(int(r["label"]), r["mean"], r["weights"]) for r in tree["refiners"])
            learned = Learned(tree["table"], templates, Closer(**tree["closer"]), float(low), float(high), refiners)
            return cls(learned, tree["classes"], ExemplarSettings(**tree["settings"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PromptInvalid(f"This is no model learned from examples: {error}.") from error

    def _levels(self, image: Image) -> list[Level]:
        learned = self._learned
        return channels.pyramid(image, learned.smallest, learned.largest, self._settings, learned.table)

    def _reduced(self, levels: Sequence[Level], boxes: Float) -> Float:
        looks = channels.sample(levels, boxes, closer.GRID, closer.MARGIN, self._settings.side)
        return self._learned.closer.reduced(looks, boxes)

    def _judged(self, levels: Sequence[Level], boxes: Float) -> tuple[Float, Float]:
        """Scores (n, classes) of the boxes, and where their objects rather lie (n, 4)."""
        reduced = self._reduced(levels, boxes)
        return self._learned.closer.score(reduced), self._learned.closer.corrected(reduced, boxes)

    def _given(self, boxes: Float, scores: Float, shape: tuple[int, ...]) -> Detections:
        rows, columns = shape[:2]
        boxes = np.clip(boxes, 0, np.array([columns, rows, columns, rows], np.float32))
        labels = scores.argmax(1)
        best = scores[np.arange(len(scores)), labels]
        good = (best >= self._settings.floor) & (boxes[:, 2] - boxes[:, 0] > 2) & (boxes[:, 3] - boxes[:, 1] > 2)
        kept = np.flatnonzero(good)
        kept = kept[suppress(boxes[kept], best[kept], labels[kept], self._settings.overlap)]
        boxes, best, labels = boxes[kept], best[kept], labels[kept]
        best = best * np.where(_inside_a_surer_one(boxes, labels), np.float32(_PART), 1)
        order = np.argsort(-best, kind="stable")
        return Detections(boxes[order], best[order], labels[order].astype(np.int64))


def _inside_a_surer_one(boxes: Float, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which boxes, surest first, lie within a surer one of their class: more likely a part of it than a thing behind it."""
    within = box_within(boxes, boxes) > _WITHIN
    surer = np.tri(len(boxes), k=-1, dtype=bool)
    found: NDArray[np.bool_] = (within & surer & (labels[:, None] == labels[None])).any(1)
    return found
