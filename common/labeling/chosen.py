"""The winner as one detector: for each class one or several detectors, their scores on one scale, fused where that helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections, Detector, DetectorCard, Resumable
from common.detection.exemplar.detector import ExemplarDetector
from common.detection.fusion import weighted_fusion
from common.detection.selection import suppress
from common.labeling.scenes import look, nearest
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

Float = NDArray[np.float32]

MIDDLE = 0.5
"""The score that every threshold is brought to."""
_ACROSS = 0.65
"""IoU above which things of different classes are one thing."""


@dataclass(frozen=True)
class Rule:
    """How one class is found. label: its index. members: indices of detectors. thresholds: of each; threshold: of what
    they give together, when they are several. scene: where it takes the place of the class's other rule; -1 = everywhere."""

    label: int
    members: tuple[int, ...]
    thresholds: tuple[float, ...]
    threshold: float = MIDDLE
    scene: int = -1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Rule:
        return Rule(
            int(data["label"]),
            tuple(data["members"]),
            tuple(data["thresholds"]),
            float(data.get("threshold", MIDDLE)),
            int(data.get("scene", -1)),
        )


def mapped(found: Detections, table: NDArray[np.int64]) -> Detections:
    """With the support set's classes. table: our class of each of the detector's, -1 = none."""
    classes = table[found.classes]
    kept = np.flatnonzero(classes >= 0)
    rest = found.keep(kept)
    return Detections(rest.xyxy, rest.scores, classes[kept], rest.masks)


def calibrated(scores: Float, threshold: float) -> Float:
    """Scores 0..1 on a scale where the threshold is `MIDDLE`.

    >>> calibrated(np.array([0.1, 0.2, 0.6], np.float32), 0.2).round(3).tolist()
    [0.25, 0.5, 0.75]
    """
    low = MIDDLE * scores / threshold
    high = MIDDLE + (1 - MIDDLE) * (scores - threshold) / (1 - threshold)
    return np.asarray(np.clip(np.where(scores < threshold, low, high), 0, 1), np.float32)


def fused(found: Sequence[Detections], rule: Rule) -> Detections:
    """One class of one picture. found: what each member gives, with our classes."""
    own = []
    for detections, threshold in zip(found, rule.thresholds, strict=True):
        mine = detections.keep(np.flatnonzero(detections.classes == rule.label))
        own.append(Detections(mine.xyxy, calibrated(mine.scores, threshold), mine.classes, mine.masks))
    if len(own) == 1:
        return own[0]
    together = weighted_fusion(own, overlap=0.5)
    return Detections(together.xyxy, calibrated(together.scores, rule.threshold), together.classes, together.masks)


class ChosenDetector:
    """A `Detector` of the support set's classes; things score 0.5 and more. members: with the table of `mapped` for each.
    scenes: the looks of those that rules are for, see `common.labeling.scenes`; a member looks only where it has a say."""

    def __init__(
        self,
        members: Sequence[tuple[Detector, NDArray[np.int64]]],
        rules: Sequence[Rule],
        classes: Sequence[str],
        scenes: Sequence[Float] = (),
    ) -> None:
        self._members = list(members)
        self._known = np.array(scenes, np.float32)
        usual = {rule.label: rule for rule in rules if rule.scene < 0}
        self._rules = [
            list({**usual, **{rule.label: rule for rule in rules if rule.scene == scene}}.values())
            for scene in range(max(1, len(scenes)))
        ]
        cards = [detector.card for detector, _ in self._members]
        self._card = DetectorCard(
            name="assistant",
            title="Labeling assistant: " + ", ".join(dict.fromkeys(card.title for card in cards)),
            classes=tuple(classes),
            licence=" AND ".join(dict.fromkeys(card.licence for card in cards)) or "Apache-2.0",
            memory_bound="the sum of its detectors'",
            temporal=any(card.temporal for card in cards),
            weights=next((card.weights for card in cards if card.weights), None),
            weights_licence=" AND ".join(dict.fromkeys(c.weights_licence for c in cards if c.weights_licence)) or None,
            paper="Solovyev et al. 2021, Weighted boxes fusion",
        )

    @property
    def card(self) -> DetectorCard:
        return self._card

    def prepare(self) -> None:
        """Reads weights now."""
        for detector, _ in self._members:
            ready = getattr(detector, "prepare", None)
            if ready is not None:
                ready()

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        scenes = [self._scene(image) for image in images]
        found: list[list[Detections]] = []
        for number, (detector, table) in enumerate(self._members):
            needed = [n for n, scene in enumerate(scenes) if self._says(number, scene)]
            given = detector.detect([images[n] for n in needed]) if needed else []
            every = dict(zip(needed, mapped_all(given, table), strict=True))
            found.append([every.get(n, Detections()) for n in range(len(images))])
        return self._put_together(found, scenes)

    def look(self, image: Image, proposed: Float) -> Detections:
        """One picture, looking at the proposed boxes (n, 4) as well where a member can do that."""
        found = []
        scene = self._scene(image)
        for number, (detector, table) in enumerate(self._members):
            if not self._says(number, scene):
                one = Detections()
            elif isinstance(detector, ExemplarDetector):
                one = detector.look(image, proposed)
            else:
                (one,) = detector.detect([image])
            found.append([mapped(one, table)])
        return self._put_together(found, [scene])[0]

    def _scene(self, image: Image) -> int:
        return nearest(look(image), self._known) if len(self._known) > 1 else 0

    def _says(self, member: int, scene: int) -> bool:
        """Whether it is asked for pictures of that scene: one that looks at the frames before must see them all."""
        return self._members[member][0].card.temporal or any(member in rule.members for rule in self._rules[scene])

    def state(self) -> bytes | None:
        """See `Resumable`."""
        states = [one.state() if isinstance(one, Resumable) else None for one, _ in self._members]
        if any(state is None and one.card.temporal for (one, _), state in zip(self._members, states, strict=True)):
            return None
        return pack(states)

    def restore(self, state: bytes) -> None:
        """See `Resumable`."""
        states = unpack(state)
        if not isinstance(states, list) or len(states) != len(self._members):
            raise ValueError("not a snapshot of these detectors")
        for (one, _), part in zip(self._members, states, strict=True):
            if part is not None and isinstance(one, Resumable):
                one.restore(part)

    def _put_together(self, found: Sequence[Sequence[Detections]], scenes: Sequence[int]) -> list[Detections]:
        out = []
        for picture, scene in enumerate(scenes):
            parts = [fused([found[m][picture] for m in rule.members], rule) for rule in self._rules[scene]]
            out.append(together(parts))
        return out


def mapped_all(found: Sequence[Detections], table: NDArray[np.int64]) -> list[Detections]:
    return [mapped(one, table) for one in found]


def together(parts: Sequence[Detections]) -> Detections:
    """All classes; where two classes claim one thing, the surer one has it."""
    parts = [Detections(p.xyxy, p.scores, p.classes) for p in parts]
    boxes = np.concatenate([p.xyxy for p in parts]) if parts else np.zeros((0, 4), np.float32)
    scores = np.concatenate([p.scores for p in parts]) if parts else np.zeros(0, np.float32)
    classes = np.concatenate([p.classes for p in parts]) if parts else np.zeros(0, np.int64)
    kept = suppress(boxes, scores, None, _ACROSS)
    return Detections(boxes[kept], scores[kept], classes[kept])
