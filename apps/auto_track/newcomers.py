"""New objects: detections that no tracked object explains become objects of the video, and are tracked from there."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from apps.auto_track import messages
from apps.auto_track.engines import EngineFailed, Scene
from apps.auto_track.loading import Loader, Seed, Warn
from apps.auto_track.remote import Address
from apps.auto_track.settings import EngineChoice
from common.detection import registry
from common.detection.contract import Detector
from common.errors import FrameUnreadable, PromptInvalid
from common.geometry.clip import clip_to_frame
from common.geometry.measures import bounds, box_iou
from common.geometry.shapes import Value, to_geometry
from common.geometry.supervisely import from_json, geometry_type, to_json
from common.geometry.types import Box
from common.supervisely_io.projects import NewTag, add_objects, ensure, tag_objects
from common.supervisely_io.records import ClassRecord, NewFigure, TagDefinition

log = logging.getLogger(__name__)

AUTO_TAG, CONFIDENCE_TAGS = "auto-detected-object", ("confidence", "conf")
_SAME = 0.7
_NEAR, _STEADY = 0.2, 0.8
_CONFIRM = 6
_MOST_TRIES = 3


@dataclass(frozen=True)
class Found:
    """One detection. name: its class, "" when the detector cannot tell. score: 0..1."""

    name: str
    value: Value
    score: float

    @property
    def box(self) -> Box | None:
        return bounds(to_geometry(self.value))


class FrameDetector(Protocol):
    """confirm: looks in a row in which something must be seen. every: frames between two looks."""

    confirm: int
    every: int

    def look(self, scene: Scene, frame: int) -> list[Found]:
        """Raises `EngineFailed`, `FrameUnreadable`."""
        ...


class InProcessDetector:
    """A detector of the registry. One that compares frames sees all of them and needs a moment to be sure."""

    def __init__(self, name: str, choice: EngineChoice, make: Callable[[str], Detector] = registry.make) -> None:
        self._detector = make(name)
        self._confidence = float(choice.extra_params.get("confidence", 0.5))
        temporal = self._detector.card.temporal
        self.confirm = _CONFIRM if temporal else 1
        self.every = 1 if temporal else max(1, int(choice.extra_params.get("every", 1)))

    def look(self, scene: Scene, frame: int) -> list[Found]:
        image = scene.frames.get(frame, 1)
        try:
            (rows,) = self._detector.detect([image])
        except Exception as error:
            raise EngineFailed(f"{type(error).__name__}: {error}") from error
        names = self._detector.card.classes
        found = []
        for number in np.flatnonzero(rows.scores >= self._confidence):
            value: Value = Box(rows.xyxy[number]) if rows.masks is None else rows.masks[int(number)]
            found.append(Found(names[int(rows.classes[number])], value, float(rows.scores[number])))
        return found


class RemoteDetector:
    """A detector app: `inference_video_id`, one frame at a time."""

    confirm = 1

    def __init__(self, address: Address, choice: EngineChoice) -> None:
        self._address = address
        self._confidence = float(choice.extra_params.get("confidence", 0.5))
        self._settings = dict(choice.inference_settings)
        self.every = max(1, int(choice.extra_params.get("every", 1)))

    def look(self, scene: Scene, frame: int) -> list[Found]:
        state = {
            "videoId": scene.video.id,
            "startFrameIndex": frame,
            "framesCount": 1,
            "settings": self._settings,
        }
        reply = self._address.ask(scene.caller, "inference_video_id", {}, state, scene.stop)
        entries = reply.get("ann", reply.get("annotations")) if isinstance(reply, dict) else reply
        if not isinstance(entries, list):
            raise EngineFailed("the detector answered no annotations")
        found = []
        for entry in entries[:1]:
            annotation = entry.get("annotation", entry) if isinstance(entry, dict) else {}
            for label in annotation.get("objects") or ():
                one = self._read(scene, label)
                if one is not None and one.score >= self._confidence:
                    found.append(one)
        return found

    @staticmethod
    def _read(scene: Scene, label: Mapping[str, Any]) -> Found | None:
        try:
            value = from_json(str(label["geometryType"]), label, scene.video.width, scene.video.height)
        except (PromptInvalid, KeyError) as error:
            log.warning("a detection is left out: %s", error)
            return None
        scores = [t.get("value") for t in label.get("tags") or () if t.get("name") in CONFIDENCE_TAGS]
        score = float(scores[0]) if scores and isinstance(scores[0], int | float) else 1.0
        return Found(str(label.get("classTitle") or ""), value, min(max(score, 0.0), 1.0))


def unmatched(found: Sequence[Found], known: Sequence[tuple[str, Box]], threshold: float) -> list[Found]:
    """Detections that are none of the known objects. Pure.

    known: class and box of each, class "" = may be any. A detection and an object are the same when their boxes overlap by
    `threshold` (IoU) and their classes do not speak against it; each explains one other at most, best overlaps together.
    Of detections that nearly cover each other the surest stays.
    """
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: -f.score):
        box = one.box
        if box is not None and not any(k.box and box_iou(box.xyxy, k.box.xyxy)[0, 0] > _SAME for k in kept):
            kept.append(one)
    if not kept or not known:
        return kept
    boxes = np.array([k.box.xyxy for k in kept if k.box is not None])
    overlap = box_iou(boxes, np.array([box.xyxy for _, box in known]))
    other = np.array([[bool(k.name and name and k.name != name) for name, _ in known] for k in kept])
    overlap = np.where(other, 0.0, overlap)
    rows, columns = linear_sum_assignment(1 - overlap)
    taken = {r for r, c in zip(rows.tolist(), columns.tolist(), strict=True) if overlap[r, c] >= threshold}
    # a second detection on top of a known object is part of it, not a new one
    taken |= set(np.flatnonzero((overlap >= max(threshold, 0.5)).any(1)).tolist())
    return [k for n, k in enumerate(kept) if n not in taken]


@dataclass(frozen=True)
class Newcomer:
    """A new object with its first figure."""

    object_id: int
    seed: Seed
    figure: NewFigure


class Lookout:
    """Looks for new objects over the frames that people want tracked forward. Owned by one thread."""

    def __init__(
        self, detector: FrameDetector, choice: EngineChoice, scene: Scene, loader: Loader, track_id: str
    ) -> None:
        self.loader = loader
        self._detector, self._choice, self._scene, self._track_id = detector, choice, scene, track_id
        self._threshold = float(choice.extra_params.get("threshold", 0.1))
        self.next: int | None = None
        self.end = -1
        self._seen: deque[list[Found]] = deque(maxlen=max(0, detector.confirm - 1))
        self._classes: dict[int, str] = {}
        self._failures = 0

    def want(self, first: int, last: int) -> None:
        """These frames, too."""
        if self.next is None and last > self.end:
            self.next = max(first, self.end + 1) if self.end >= 0 else first
        self.end = max(self.end, last)

    def look(self, frame: int, boxes: Sequence[tuple[int, Box]], warn: Warn) -> list[Newcomer]:
        """What is new on this frame; it is made an object of the video, with tags that say who found it."""
        following = frame + self._detector.every
        self.next = following if following <= self.end else None
        try:
            found = self._detector.look(self._scene, frame)
        except FrameUnreadable:
            return []
        except EngineFailed as error:
            self._failures += 1
            if self._failures >= _MOST_TRIES:
                self.next, self.end = None, self._scene.video.frames
                warn(messages.detector_failed(str(error)))
            return []
        self._failures = 0
        steady = [one for one in found if all(any(_alike(one, o) for o in before) for before in self._seen)]
        sure = len(self._seen) == self._seen.maxlen
        self._seen.append(found)
        if not sure or not steady:
            return []
        known = [(self._class_of(ident), box) for ident, box in boxes]
        return self._add(frame, unmatched(steady, known, self._threshold), warn)

    def _class_of(self, object_id: int) -> str:
        if object_id not in self._classes:
            found = self.loader.objects([object_id]).get(object_id)
            self._classes[object_id] = "" if found is None else found.class_name
        return self._classes[object_id]

    def _add(self, frame: int, new: Sequence[Found], warn: Warn) -> list[Newcomer]:
        video = self._scene.video
        fitting: list[tuple[Found, ClassRecord, Value]] = []
        unknown: set[str] = set()
        for one in new:
            name = str(self._choice.extra_params.get("class_name") or one.name)
            pieces = clip_to_frame(one.value, video.width, video.height)
            if not pieces:
                continue
            chosen = self._class_for(name, pieces[0])
            if chosen is None:
                unknown.add(name or "moving object")
            else:
                fitting.append((one, chosen, pieces[0]))
        if unknown:
            warn(messages.class_unknown(unknown))
        if not fitting:
            return []
        idents = add_objects(self._scene.server, video, [known.id for _, known, _ in fitting])
        self._tag(frame, idents, [one.score for one, _, _ in fitting])
        newcomers = []
        for ident, (one, known, value) in zip(idents, fitting, strict=True):
            self._classes[ident] = known.name
            kind = geometry_type(value)
            geometry = to_json(value, video.width, video.height)
            figure = NewFigure(ident, frame, kind, geometry, self._track_id, score=one.score, visible=True)
            stored = from_json(kind, geometry, video.width, video.height)
            newcomers.append(Newcomer(ident, Seed(0, kind, stored), figure))
        return newcomers

    def _class_for(self, name: str, value: Value) -> ClassRecord | None:
        """The project's class; a detector that cannot tell classes may use the only one that takes such figures."""
        classes = self.loader.project.classes.values()
        fitting = [known for known in classes if known.shape in ("any", geometry_type(value))]
        named = next((known for known in fitting if known.name == name), None)
        if named is not None or name:
            return named
        return fitting[0] if len(fitting) == 1 else None

    def _tag(self, frame: int, idents: Sequence[int], scores: Sequence[float]) -> None:
        project = self.loader.project
        old = next((tag.name for name in CONFIDENCE_TAGS if (tag := project.tag_named(name)) is not None), None)
        confidence = old or CONFIDENCE_TAGS[0]
        wanted = [TagDefinition(0, AUTO_TAG, "none"), TagDefinition(0, confidence, "any_number")]
        if any(project.tag_named(tag.name) is None for tag in wanted):
            project = ensure(self._scene.server, self._scene.video.project_id, tags=wanted)
        auto, number = project.tag_named(AUTO_TAG), project.tag_named(confidence)
        assert auto is not None and number is not None
        tags = [NewTag(ident, auto.id) for ident in idents]
        if number.value_type == "any_number":
            tags += [
                NewTag(ident, number.id, (frame, frame), round(score, 4))
                for ident, score in zip(idents, scores, strict=True)
            ]
        tag_objects(self._scene.server, self._scene.video.project_id, self._scene.video, tags)


def _alike(one: Found, other: Found) -> bool:
    """Whether two detections, a few frames apart, are one thing of one size: while something comes into view, or comes
    apart from where it was, its box grows."""
    a, b = one.box, other.box
    if one.name != other.name or a is None or b is None:
        return False
    size = np.stack((a.xyxy[2:] - a.xyxy[:2], b.xyxy[2:] - b.xyxy[:2]))
    same = float(size.min(0).prod() / max(float(size.max(0).prod()), 1e-6))
    return same >= _STEADY and bool(box_iou(a.xyxy, b.xyxy)[0, 0] >= _NEAR)
