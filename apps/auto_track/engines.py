"""What moves figures from frame to frame: trackers in this process, and constant velocity without a model.

An engine makes runs; a run follows one set of figures one way and keeps its memory of them for as long as it lives. Other
apps' trackers are in remote.py, figures made with the Smart Tool in smart.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from apps.auto_track.frames import Frames
from common.errors import EngineUnavailable, FrameUnreadable, Interrupted, PromptInvalid, UserError
from common.geometry.codec import decode, encode
from common.geometry.measures import centre, place
from common.geometry.shapes import Shape, Value, to_geometry, with_points
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.serving.access import Caller
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.trackers import registry
from common.tracking.contract import Exemplar, GeometryKind, Prompt, Tracker, TrackerCard
from common.tracking.interpolation import Between, same_sides
from common.tracking.live import LiveTrack
from common.tracking.snapshot import pack, unpack
from common.weights.entries import catalogue
from common.weights.store import Store

_KINDS: dict[str, GeometryKind] = {
    "rectangle": "box",
    "oriented_bbox": "oriented_box",
    "bitmap": "mask",
    "polygon": "points",
    "point": "points",
    "line": "points",
    "graph": "points",
}
TRACKABLE = tuple(_KINDS)


@dataclass(frozen=True)
class Sighting:
    """Where one figure is on one frame. value: None = lost. score: 0..1, None when the engine does not say. visible: False
    when the object is hidden or gone, as far as the engine can tell; a value is then a guess. meta: more for the figure's
    meta."""

    value: Value | None
    score: float | None = None
    visible: bool = True
    meta: Mapping[str, Any] = field(default_factory=dict)


Row = tuple[int, Mapping[str, Sighting]]
"""A frame and what is on it, by figure."""


class EngineFailed(UserError):
    """An engine gave no answer, or none that can be used. It says nothing about where the object is."""


@dataclass(frozen=True)
class Start:
    """Where a run begins. values: what was drawn there, by key. elsewhere: the same figures on other frames, nearest
    first. before: figures of the frames before it, newest first, as (frame, values); for engines that extrapolate."""

    frame: int
    step: int
    values: Mapping[str, Value]
    elsewhere: Sequence[tuple[int, Mapping[str, Value]]] = ()
    before: Sequence[tuple[int, Mapping[str, Value]]] = ()
    extra: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What engines work on: a video, its frames, and the server it is on. stop: set when the work should end at once.
    warn: told what a labeler should know."""

    server: Server
    caller: Caller
    video: VideoRecord
    frames: Frames
    stop: threading.Event
    warn: Callable[[str], None] = lambda message: None


class EngineRun(Protocol):
    """Owned by one thread."""

    def advance(self, frame: int, until: int) -> list[Row]:
        """The next frame in the direction of travel; what became final, in order. until: the last frame that will be
        asked for as far as is known. Raises `EngineFailed`, `FrameUnreadable`, `Interrupted`."""
        ...

    def flush(self) -> list[Row]:
        """No more frames: what was held back."""
        ...

    def save(self) -> bytes:
        """Bounded snapshot for `Engine.load`."""
        ...


class Engine(Protocol):
    def start(self, scene: Scene, start: Start) -> EngineRun:
        """Raises `PromptInvalid` when what was drawn cannot be tracked, else as `EngineRun.advance`."""
        ...

    def load(self, scene: Scene, start: Start, snapshot: bytes) -> EngineRun:
        """Goes on where the saved run was."""
        ...


def trackers_for(kind: str) -> list[tuple[str, str]]:
    """(name, title) of the trackers in this process that can track a geometry type now, the default first. Those whose
    weights are not on this machine are left out."""
    wanted = _KINDS.get(kind)
    cards = [registry.make(name).card for name in registry.names()]
    found = [(card.name, card.title) for card in cards if wanted in card.geometries and _usable(card)]
    return sorted(found, key=lambda entry: wanted is None or entry[0] != registry.DEFAULTS.get(wanted))


def _usable(card: TrackerCard) -> bool:
    """Other people's trackers may bring weights that the catalogue does not know; they look after them."""
    weights = catalogue().entries.get(card.weights) if card.weights else None
    return weights is None or Store.from_env().status(weights) != "not here"


class InProcessEngine:
    """A tracker of the registry, in this process. Every run is a `LiveTrack`: its memory lives as long as the run."""

    def __init__(self, name: str, make: Callable[[str], Tracker] = registry.shared) -> None:
        self._name, self._make = name, make

    @classmethod
    def default(cls, kind: str) -> InProcessEngine:
        """Raises `EngineUnavailable` for a geometry that nothing here can track."""
        if kind not in _KINDS:
            raise EngineUnavailable(f"Nothing here can track {kind} figures.")
        return cls(registry.DEFAULTS[_KINDS[kind]])

    def start(self, scene: Scene, start: Start) -> EngineRun:
        image = scene.frames.get(start.frame)
        exemplars = []
        for frame, values in start.elsewhere:
            with suppress(FrameUnreadable):  # it helps, but tracking does without
                exemplars.append(Exemplar(scene.frames.get(frame), _prompts(values)))
        try:
            live = LiveTrack.start(self._make(self._name), image, _prompts(start.values), exemplars, scene.video.fps)
        except (PromptInvalid, EngineUnavailable):
            raise
        except Exception as error:
            raise EngineFailed(f"{type(error).__name__}: {error}") from error
        return _LiveRun(scene, live, start)

    def load(self, scene: Scene, start: Start, snapshot: bytes) -> EngineRun:
        return _LiveRun(scene, LiveTrack.load(self._make(self._name), snapshot), start)


class _LiveRun:
    def __init__(self, scene: Scene, live: LiveTrack, start: Start) -> None:
        self._scene, self._live, self._start = scene, live, start

    def advance(self, frame: int, until: int) -> list[Row]:
        image = self._scene.frames.get(frame, self._start.step)
        return self._rows(lambda: self._live.push(frame, image))

    def flush(self) -> list[Row]:
        return self._rows(self._live.flush)

    def save(self) -> bytes:
        return self._live.save()

    def _rows(self, work: Callable[[], Sequence[object]]) -> list[Row]:
        try:
            final = work()
        except (FrameUnreadable, Interrupted):
            raise
        except Exception as error:
            raise EngineFailed(f"{type(error).__name__}: {error}") from error
        rows: dict[int, dict[str, Sighting]] = {}
        for tracked in final:
            prediction = tracked.prediction  # type: ignore[attr-defined]
            value = value_of(prediction.geometry, self._start.values[prediction.key])
            sighting = Sighting(value, prediction.score, prediction.visible)
            rows.setdefault(tracked.frame, {})[prediction.key] = sighting  # type: ignore[attr-defined]
        return list(rows.items())


def value_of(geometry: Geometry | None, drawn: Value) -> Value | None:
    """A tracker's answer as the kind of figure that was drawn."""
    if isinstance(geometry, Points):
        assert not isinstance(drawn, Box | OrientedBox | Mask)
        shape: Shape = with_points(drawn, geometry)
        return shape
    if isinstance(geometry, Mask) and geometry.area == 0:
        return None
    return geometry


def _prompts(values: Mapping[str, Value]) -> list[Prompt]:
    return [Prompt(key, to_geometry(value)) for key, value in values.items()]


class VelocityEngine:
    """No model: on the way to the next key figure it is interpolated. Into the open every figure goes on as it went between
    the nearest frame before (five at most) and the key figure, at constant velocity in place, size and turn; one that has
    none before stays where it is. For all geometries; masks only move.
    """

    extrapolates = True

    def start(self, scene: Scene, start: Start) -> EngineRun:
        return _VelocityRun(start, {})

    def load(self, scene: Scene, start: Start, snapshot: bytes) -> EngineRun:
        tree = unpack(snapshot)
        return _VelocityRun(start, {key: (decode(data), gap) for key, (data, gap) in tree.items()})


class _VelocityRun:
    def __init__(self, start: Start, known: Mapping[str, tuple[Geometry, int]]) -> None:
        self._start = start
        self._before = dict(known)
        for frame, values in start.before:
            for key, value in values.items():
                if key in start.values and key not in self._before:
                    self._before[key] = (to_geometry(value), abs(start.frame - frame))

        ahead = [(f, v) for f, v in start.elsewhere if (f - start.frame) * start.step > 0]
        self._ahead = {key: self._path(key, ahead) for key in start.values}

    def _path(self, key: str, ahead: Sequence[tuple[int, Mapping[str, Value]]]) -> tuple[int, Between] | None:
        """To the nearest key figure ahead; None when there is none, or nothing between the two."""
        for frame, values in ahead:
            if key in values:
                try:
                    return frame, Between(to_geometry(self._start.values[key]), to_geometry(values[key]))
                except ValueError:
                    return None
        return None

    def advance(self, frame: int, until: int) -> list[Row]:
        return [(frame, {key: Sighting(self._at(key, value, frame)) for key, value in self._start.values.items()})]

    def _at(self, key: str, value: Value, frame: int) -> Value | None:
        path, distance = self._ahead[key], abs(frame - self._start.frame)
        if path is not None and distance <= abs(path[0] - self._start.frame):
            return value_of(path[1](distance / abs(path[0] - self._start.frame)), value)
        return self._moved(key, value, distance)

    def flush(self) -> list[Row]:
        return []

    def save(self) -> bytes:
        return pack({key: (encode(geometry), gap) for key, (geometry, gap) in self._before.items()})

    def _moved(self, key: str, value: Value, distance: int) -> Value | None:
        if key not in self._before:
            return value
        before, gap = self._before[key]
        return value_of(extrapolate(before, to_geometry(value), distance / gap), value)


def extrapolate(before: Geometry, now: Geometry, steps: float) -> Geometry | None:
    """`now` moved on by `steps` times what it moved since `before`; as it is when the two cannot be compared. None for a
    box that shrank to nothing."""
    match before, now:
        case Box(), Box():
            xyxy = now.xyxy.astype(np.float64) + steps * (now.xyxy.astype(np.float64) - before.xyxy)
            return Box(xyxy.astype(np.float32)) if xyxy[0] < xyxy[2] and xyxy[1] < xyxy[3] else None
        case OrientedBox(), OrientedBox():
            earlier, angle = same_sides(now, before)
            cxcywh = now.cxcywh.astype(np.float64) + steps * (now.cxcywh.astype(np.float64) - earlier)
            turn = now.angle_rad + steps * (now.angle_rad - angle)
            return OrientedBox(cxcywh.astype(np.float32), turn) if (cxcywh[2:] > 0).all() else None
        case Points(), Points() if len(before.xy) == len(now.xy):
            xy = now.xy.astype(np.float64) + steps * (now.xy.astype(np.float64) - before.xy)
            return Points(xy.astype(np.float32), now.visible, now.edges)
        case Mask(), Mask() if before.area and now.area:
            return _moved_mask(before, now, steps)
    return now


def _moved_mask(before: Mask, now: Mask, steps: float) -> Mask | None:
    was, here = centre(before), centre(now)
    assert was is not None and here is not None
    dx, dy = (round(float(v)) for v in steps * (here.astype(np.float64) - was))
    moved = place(now.crop(), now.x + dx, now.y + dy, now.width, now.height)
    return moved if moved.area else None
