"""How a video will be labelled: the chosen detectors, learned from all examples, how often they look, what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.detection.contract import Detector
from common.detection.exemplar.detector import ExemplarDetector
from common.errors import FrameUnreadable, PromptInvalid
from common.labeling import areas
from common.labeling.candidates import make
from common.labeling.chosen import MIDDLE, ChosenDetector
from common.labeling.propagation import Carrier
from common.labeling.selection import Choice
from common.labeling.support import SupportSet
from common.labeling.temporal import Given, VideoDetector
from common.prediction.settings import DESCRIPTOR, PredictionSettings
from common.prediction.untracked import UNTRACKED
from common.tracking.snapshot import pack, unpack
from common.video.contract import FrameSource
from common.weights.options import DEFAULT, EngineOptions

NAME = "assistant"
"""Name of the detector in prediction settings."""

_FRAME_MS = 100.0
"""Time that a frame may take on average; slower detectors look less often, where the motion allows it."""
_MOST_EVERY = 4
"""Frames from one look to the next at most, so that new objects are found within five."""
_MOVED = 0.3
"""Share of its size that an object may move between two looks."""
_BORN = 0.6
"""Score from which a find begins an object: what is there scores that before long. Finds at the chosen threshold (0.5) go on with
those that are known."""


_WISHES = ("every", "masks", "still", "tracker", "repair", "looks", "segmenter")


@dataclass(frozen=True)
class Plan:
    """Plain values, for disk and other processes. models: what each of the choice's candidates learned, None where it
    does not learn. every: frames from one look to the next. masks: whether areas are drawn, segmenter: by whom. still: the pictures are no
    video: nothing is carried, nothing has an identity. tracker, repair, looks: see `PredictionSettings`.
    """

    choice: Choice
    models: tuple[bytes | None, ...]
    every: int = 1
    masks: bool = False
    still: bool = False
    tracker: str = "botsort"
    repair: bool = True
    looks: str = DESCRIPTOR
    segmenter: str = areas.GRABCUT

    @property
    def classes(self) -> tuple[str, ...]:
        return self.choice.classes

    def settings(self, options: EngineOptions = DEFAULT) -> PredictionSettings:
        """For `common.prediction`."""
        return PredictionSettings(
            NAME,
            options,
            UNTRACKED if self.still else self.tracker,
            self.repair and not self.still,
            self.looks,
            confidence=MIDDLE if self.still else _BORN,
            batch=4,
        )

    def pictures(self, options: EngineOptions = DEFAULT) -> ChosenDetector:
        """A detector for single pictures."""
        members = []
        for candidate, table, model in zip(self.choice.candidates, self.choice.tables, self.models, strict=True):
            detector: Detector = (
                make(candidate, (), self.classes, options) if model is None else ExemplarDetector.load(model)
            )
            members.append((detector, np.array(table, np.int64)))
        return ChosenDetector(
            members, self.choice.rules, self.classes, [np.array(s, np.float32) for s in self.choice.scenes]
        )

    def video(self, labelled: Mapping[int, Given] | None = None, options: EngineOptions = DEFAULT) -> VideoDetector:
        """A fresh detector for one video. labelled: what people labelled on it."""
        return VideoDetector(
            self.pictures(options),
            1 if self.still else self.every,
            carry=not self.still,
            labelled=labelled,
            segmenter=areas.make(self.segmenter, options) if self.masks else None,
        )

    def save(self) -> bytes:
        """Bytes that do not grow with the examples."""
        rest = {name: getattr(self, name) for name in _WISHES}
        return pack({"plan": 1, "choice": self.choice.to_json(), "models": list(self.models), **rest})

    @staticmethod
    def load(data: bytes) -> Plan:
        """Raises `PromptInvalid` when the bytes are no plan."""
        try:
            tree: dict[str, Any] = unpack(data)
            choice, models = Choice.from_json(tree.pop("choice")), tuple(tree.pop("models"))
            if tree.pop("plan") != 1:
                raise ValueError("it was made by another version")
            return Plan(choice, models, **tree)
        except (KeyError, TypeError, ValueError) as error:
            raise PromptInvalid(f"This is no plan of the labeling assistant: {error}.") from error


def make_plan(
    support: SupportSet,
    choice: Choice,
    *,
    every: int | None = None,
    masks: bool | None = None,
    still: bool = False,
    tracker: str = "botsort",
    repair: bool = True,
    looks: str = DESCRIPTOR,
    segmenter: str | None = None,
    options: EngineOptions = DEFAULT,
) -> Plan:
    """Learns from all examples. every: None = from the detectors' speed and the objects' motion. masks: None = when most
    examples are drawn as areas. segmenter: None = the best that is here. Raises `EngineUnavailable` when nobody has its name.
    """
    wanted = areas.preferred() if segmenter is None else areas.known(segmenter)
    pictures = [support.picture(n) for n in range(len(support.examples))]
    models: list[bytes | None] = []
    for candidate in choice.candidates:
        learned = make(candidate, pictures, choice.classes, options) if candidate.kind == "exemplar" else None
        models.append(learned.save() if isinstance(learned, ExemplarDetector) else None)
    return Plan(
        choice,
        tuple(models),
        every if every is not None else look_every(support, choice),
        support.outlined if masks is None else masks,
        still,
        tracker,
        repair,
        looks,
        wanted,
    )


def look_every(support: SupportSet, choice: Choice) -> int:
    """Frames from one look to the next: as few as the time allows, as many as the motion does."""
    known = {score.name: score for score in choice.scores}
    ms = sum(known[candidate.name].ms for candidate in choice.candidates if candidate.name in known)
    wanted = int(np.clip(np.ceil(ms / _FRAME_MS), 1, _MOST_EVERY))
    if wanted == 1:
        return 1
    pace = _pace(support)
    return int(np.clip(_MOVED / max(pace, 1e-3), 1, wanted))


def _pace(support: SupportSet) -> float:
    """How far labelled objects go in a frame, as a share of their size: the larger ones' pace."""
    found: list[float] = []
    for index, example in enumerate(support.examples[:4]):
        if example.source is None or example.frame is None or example.frame + 2 >= example.source.info.frames:
            continue
        boxes = support.picture(index).boxes
        carrier = Carrier(boxes)
        try:
            for number in range(example.frame, example.frame + 3):
                carrier.follow(example.source.read(number))
        except FrameUnreadable:
            continue
        way = np.linalg.norm((carrier.boxes[:, :2] + carrier.boxes[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 4, axis=1)
        size = np.sqrt(np.maximum(boxes[:, 2:] - boxes[:, :2], 1).prod(1))
        found += (way / size)[carrier.trust > 0.4].tolist()
    return float(np.quantile(found, 0.8)) if found else 0.1


def labelled_boxes(support: SupportSet, source: FrameSource) -> dict[int, Given]:
    """What people labelled on the frames of that video, for `Plan.video`."""
    found = {}
    for frame, labels in support.frames(source).items():
        drawn = [label for label in labels if label.box is not None]
        boxes = np.array([label.box.xyxy for label in drawn if label.box is not None], np.float32).reshape(-1, 4)
        classes = np.array([support.classes.index(label.class_name) for label in drawn], np.int64)
        found[frame] = Given(boxes, classes)
    return found
