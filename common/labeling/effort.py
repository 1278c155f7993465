"""How much work labeling a video is: corrections of a simulated annotator, by the way of labeling.

The annotator looks at the frames in order and corrects the first figure whose overlap with the truth is under `good`; the
labels that depend on it are then made again. Each figure drawn, each "it is not here" and each wrong object removed counts
as one correction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Box
from common.labeling.mending import Mender, Own
from common.labeling.mending import overlap as iou
from common.tracking.contract import Prediction, Prompt, Tracker
from common.tracking.fusion import fuse
from common.video.contract import FrameSource, Image

Float = NDArray[np.float64]

GOOD = 0.7
"""IoU from which a figure is left as it is."""
_WRONG = 0.5
"""Share of its frames on which an object must lie on a true one, or it is removed."""
_SAME = 0.5
"""IoU from which a found object is taken for a true one."""


@dataclass(frozen=True, eq=False)
class Life:
    """The truth of one object. boxes: float64 (frames, 4), pixels, NaN where it is absent. unsure: bool (frames,), where
    nobody could say (mostly hidden): not looked at."""

    key: str
    boxes: Float
    unsure: NDArray[np.bool_]

    def present(self, frame: int) -> bool:
        return bool(np.isfinite(self.boxes[frame, 0]))

    def stretches(self) -> list[tuple[int, int]]:
        """First and last frame of each time it is there and can be told; mere doubt between does not end one."""
        there = np.isfinite(self.boxes[:, 0])
        edges = np.flatnonzero(np.diff(np.r_[False, there | self.unsure, False].astype(np.int8)))
        found = []
        for start, stop in edges.reshape(-1, 2):
            sure = start + np.flatnonzero(there[start:stop] & ~self.unsure[start:stop])
            if len(sure):
                found.append((int(sure[0]), int(sure[-1])))
        return found


@dataclass(frozen=True)
class Effort:
    """frames: of the video. corrections: in all."""

    frames: int
    corrections: int

    @property
    def per_thousand(self) -> float:
        """Corrections per 1,000 frames."""
        return 1000 * self.corrections / max(self.frames, 1)


def _wrong(life: Life, frame: int, box: Float | None) -> bool:
    """Whether the annotator corrects that figure."""
    if life.unsure[frame]:
        return False
    if not life.present(frame):
        return box is not None
    return box is None or iou(box, life.boxes[frame]) < GOOD


# -- key figures and what is between them ------------------------------------------------------------------------------------

Between = Callable[[int, int, Mapping[int, Float]], dict[int, Float | None]]
"""Figures strictly between two neighbouring key figures."""


def _keyed(life: Life, between: Between) -> int:
    """Corrections when the first and last figure of each stretch are drawn, and then the first wrong one again and again."""
    total = 0
    for first, last in life.stretches():
        keys: dict[int, Float] = {first: life.boxes[first], last: life.boxes[last]}
        start = first
        while start < last:
            stop = min(frame for frame in keys if frame > start)
            figures = between(start, stop, keys)
            bad = next((f for f in range(start + 1, stop) if life.present(f) and _wrong(life, f, figures.get(f))), None)
            if bad is None:
                start = stop
            else:
                keys[bad] = life.boxes[bad]
        total += len(keys)
    return total


def by_interpolation(lives: Sequence[Life], frames: int) -> Effort:
    """Straight lines between key figures."""

    def between(start: int, stop: int, keys: Mapping[int, Float]) -> dict[int, Float | None]:
        a, b = keys[start], keys[stop]
        return {f: a + (b - a) * ((f - start) / (stop - start)) for f in range(start + 1, stop)}

    return Effort(frames, sum(_keyed(life, between) for life in lives))


def two_sided(lives: Sequence[Life], source: FrameSource, tracker: Tracker) -> Effort:
    """Tracked from the key figure before and from the one after, fused."""
    return Effort(source.info.frames, sum(_keyed(life, _tracked_between(source, tracker)) for life in lives))


def _tracked_between(source: FrameSource, tracker: Tracker) -> Between:
    runs: dict[tuple[int, int], list[Prediction]] = {}

    def run(start: int, stop: int, key: Float) -> list[Prediction]:
        """Predictions of the frames after `start`, towards and without `stop`; longer ones are used again."""
        way = 1 if stop > start else -1
        known = runs.get((start, way), [])
        wanted = abs(stop - start) - 1
        if len(known) < wanted:
            known = list(_track(source, tracker, start, stop, key))
            runs[start, way] = known
        return known[:wanted]

    def between(start: int, stop: int, keys: Mapping[int, Float]) -> dict[int, Float | None]:
        forward, backward = run(start, stop, keys[start]), run(stop, start, keys[stop])
        found: dict[int, Float | None] = {}
        for place, (a, b) in enumerate(zip(forward, backward[::-1], strict=True), 1):
            found[start + place] = _box(fuse(a, b, place / (stop - start)), source)
        return found

    return between


def _track(source: FrameSource, tracker: Tracker, start: int, stop: int, box: Float) -> list[Prediction]:
    images = source.stream(start, stop)
    first = next(iter(images))
    run = tracker.start(first, [Prompt("x", Box(box.astype(np.float32)))])
    found: list[Prediction] = []
    for image in images:
        found += [predictions[0] for predictions in run.push(image)]
    return found + [predictions[0] for predictions in run.flush()]


def _box(prediction: Prediction, source: FrameSource) -> Float | None:
    """Cut at the picture's edge, as figures are when they are stored."""
    if not prediction.visible or not isinstance(prediction.geometry, Box):
        return None
    edge = np.array([source.info.width, source.info.height] * 2, np.float64)
    box: Float = np.clip(prediction.geometry.xyxy.astype(np.float64), 0, edge)
    return box


# -- forward -----------------------------------------------------------------------------------------------------------------


def forward(lives: Sequence[Life], source: FrameSource, tracker: Tracker) -> Effort:
    """Drawn on its first frame and tracked from there, and again from each correction."""
    return Effort(source.info.frames, sum(_forward(life, source, tracker) for life in lives))


def _forward(life: Life, source: FrameSource, tracker: Tracker) -> int:
    total = 0
    stretches = life.stretches()
    if not stretches:
        return 0
    follow = _Follower(tracker, source)
    for frame, image in enumerate(source.stream(stretches[0][0], source.info.frames), stretches[0][0]):
        box = follow.push(image)
        if _wrong(life, frame, box):
            total += 1
            follow.draw(image, life.boxes[frame] if life.present(frame) else None)
    return total


class _Follower:
    """A tracker that follows what was drawn last, if anything."""

    def __init__(self, tracker: Tracker, source: FrameSource) -> None:
        self._tracker, self._source = tracker, source
        self._run: object | None = None

    def push(self, image: Image) -> Float | None:
        if self._run is None:
            return None
        (predictions,) = self._run.push(image)  # type: ignore[attr-defined]
        return _box(predictions[0], self._source)

    def draw(self, image: Image, box: Float | None) -> None:
        prompt = None if box is None else Prompt("x", Box(box.astype(np.float32)))
        self._run = None if prompt is None else self._tracker.start(image, [prompt])


# -- the assistant -----------------------------------------------------------------------------------------------------------


def assisted(
    lives: Sequence[Life],
    found: Mapping[str, Float],
    source: FrameSource,
    tracker: Tracker,
    examples: Sequence[int],
) -> Effort:
    """Corrections of a labelled video. found: by key, float64 (frames, 4), NaN where it is not. examples: frames that were
    labelled by hand first, which is counted. A correction changes what `Mender` says that it changes."""
    total = sum(life.present(frame) and not life.unsure[frame] for life in lives for frame in examples)
    total += _removed(lives, found)
    read = lru_cache(maxsize=2)(source.read)
    size = (source.info.width, source.info.height)
    for life in lives:
        total += _corrected(life, found, read, tracker, set(examples), size)
    return Effort(source.info.frames, int(total))


def _removed(lives: Sequence[Life], found: Mapping[str, Float]) -> int:
    """Objects that are none."""
    removed = 0
    for boxes in found.values():
        frames = np.flatnonzero(np.isfinite(boxes[:, 0]))
        on = [
            any(
                life.unsure[int(f)] or (life.present(int(f)) and iou(boxes[f], life.boxes[f]) >= _SAME)
                for life in lives
            )
            for f in frames
        ]
        removed += bool(len(frames)) and float(np.mean(on)) < _WRONG
    return removed


def _corrected(
    life: Life,
    found: Mapping[str, Float],
    read: Callable[[int], Image],
    tracker: Tracker,
    examples: set[int],
    size: tuple[int, int],
) -> int:
    total = 0
    own: str | None = None
    last: str | None = None  # what it was known as before it left

    def of(key: str | None) -> Own | None:
        def figure(frame: int) -> Float | None:
            box = found[known][frame]
            return box if np.isfinite(box[0]) else None

        known = key or ""
        return None if key is None else figure

    made = Mender(tracker, of(None), size)
    for frame in range(len(life.boxes)):
        box = made.push(frame, read(frame) if made.active else None)
        if frame in examples:
            own = _nearest(life, found, frame, GOOD) or own
            last = own or last
            made.rebind(of(own))
            continue
        if not _wrong(life, frame, box):
            continue
        if not life.present(frame):
            total += 1
            own = None
            made.rebind(of(own))
            continue
        other = _nearest(life, found, frame, GOOD)
        if other is not None and other != own:  # found, under another or a first name
            total += last is not None and other != last
            own = last = other
            made.rebind(of(own))
            continue
        total += 1
        if own is None:
            own = _nearest(life, found, frame, 0.3)
            last = own or last
            made.rebind(of(own))
        made.correct(frame, read(frame), life.boxes[frame])
    return total


def _nearest(life: Life, found: Mapping[str, Float], frame: int, least: float) -> str | None:
    """The found object that lies on the true one."""
    if not life.present(frame):
        return None
    best, chosen = least, None
    for key, boxes in found.items():
        if np.isfinite(boxes[frame, 0]):
            overlap = iou(boxes[frame], life.boxes[frame])
            if overlap >= best:
                best, chosen = overlap, key
    return chosen
