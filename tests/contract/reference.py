"""A small honest tracker, so that the suite itself can be tested, and dishonest ones that each break one obligation.

The honest one matches the object's grey template by normalised correlation near its last place and moves the prompt's
geometry along. It handles every kind of geometry, and nothing but translation.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from common.errors import PromptInvalid
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.contract import Exemplar, Prediction, Prompt, Run, TrackerCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

_KINDS = {"box": Box, "oriented_box": OrientedBox, "mask": Mask, "points": Points}


@dataclass
class TemplateRun:
    size: tuple[int, int]
    keys: list[str]
    shapes: list[Geometry]
    templates: list[np.ndarray]
    corners: np.ndarray  # (n, 2) top left of each template at the start
    shifts: np.ndarray  # (n, 2)

    def push(self, image: Image) -> list[list[Prediction]]:
        if image.shape[:2] != self.size:
            raise ValueError(f"expected a picture of {self.size}, got {image.shape[:2]}")
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return [[self._follow(n, grey) for n in range(len(self.keys))]]

    def _follow(self, n: int, grey: np.ndarray) -> Prediction:
        template = self.templates[n]
        h, w = template.shape
        at = self.corners[n] + self.shifts[n]
        padded = cv2.copyMakeBorder(grey, h, h, w, w, cv2.BORDER_CONSTANT)
        left, top = (int(v) for v in np.clip(at + np.array([w - 8, h - 8]), 0, np.array(padded.shape[::-1]) - (w, h)))
        window = padded[top : top + h + 16, left : left + w + 16]
        response = np.nan_to_num(cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED))
        _, best, _, (dx, dy) = cv2.minMaxLoc(response)
        place = np.array([left + dx - w, top + dy - h])
        inside = -w < place[0] < grey.shape[1] and -h < place[1] < grey.shape[0]
        score = float(np.clip(best, 0, 1)) if inside else 0.0
        if score < 0.4:
            return Prediction(self.keys[n], None, 0.0, False)
        self.shifts[n] = place - self.corners[n]
        shape = _moved(self.shapes[n], self.shifts[n], self.size)
        visible = not (isinstance(shape, Mask) and shape.area == 0)
        return Prediction(self.keys[n], shape, score, visible)

    def flush(self) -> list[list[Prediction]]:
        return []

    def save(self) -> bytes:
        shapes = [_to_tree(shape) for shape in self.shapes]
        return pack([list(self.size), self.keys, shapes, self.templates, self.corners, self.shifts])


@dataclass
class TemplateTracker:
    card: TrackerCard = field(
        default_factory=lambda: TrackerCard(
            "template",
            "Template",
            frozenset(_KINDS),
            "Apache-2.0",
            "templates",
            paper="none",  # type: ignore[arg-type]
        )
    )

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        bounds = [_bounds(p, grey.shape) for p in prompts]
        return TemplateRun(
            grey.shape,
            [p.key for p in prompts],
            [p.geometry for p in prompts],
            [grey[y1:y2, x1:x2].copy() for x1, y1, x2, y2 in bounds],
            np.array([b[:2] for b in bounds], np.int64),
            np.zeros((len(bounds), 2), np.int64),
        )

    def load(self, state: bytes) -> Run:
        size, keys, shapes, templates, corners, shifts = unpack(state)
        restored = [_from_tree(shape) for shape in shapes]
        return TemplateRun(
            tuple(size), keys, restored, [np.array(t) for t in templates], np.array(corners), np.array(shifts)
        )


def _bounds(prompt: Prompt, size: tuple[int, int]) -> tuple[int, int, int, int]:
    match prompt.geometry:
        case Box() as box:
            low, high = box.xyxy[:2], box.xyxy[2:]
        case OrientedBox() as box:
            if not box.cxcywh[2:].all():
                raise PromptInvalid("The box has no area.")
            low, high = box.corners().min(0), box.corners().max(0)
        case Mask() as mask:
            if (mask.height, mask.width) != size:
                raise PromptInvalid("The mask has another size than the picture.")
            low = np.array([mask.x, mask.y])
            high = low + mask.window[::-1]
        case Points() as points:
            low, high = points.xy.min(0) - 4, points.xy.max(0) + 5
    if not (high > low).all():
        raise PromptInvalid("The object is empty.")
    x1, y1 = (int(v) for v in np.clip(np.floor(low), 0, size[::-1]))
    x2, y2 = (int(v) for v in np.clip(np.ceil(high), 0, size[::-1]))
    if x1 >= x2 or y1 >= y2 or (isinstance(prompt.geometry, Points) and (high - 5 > size[::-1]).all()):
        raise PromptInvalid("The object is outside the picture.")
    return x1, y1, x2, y2


def _moved(shape: Geometry, shift: np.ndarray, size: tuple[int, int]) -> Geometry:
    match shape:
        case Box():
            return Box(shape.xyxy + np.tile(shift, 2))
        case OrientedBox():
            return OrientedBox(shape.cxcywh + np.r_[shift, 0, 0], shape.angle_rad)
        case Points():
            xy = shape.xy + shift
            inside = ((xy >= -0.5) & (xy < np.array(size[::-1]) - 0.5)).all(1)
            return Points(xy, inside & shape.visible, shape.edges)
        case Mask():
            matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], float)
            return Mask.from_array(cv2.warpAffine(shape.to_array().astype(np.uint8), matrix, size[::-1], flags=0))


def _to_tree(shape: Geometry) -> list:
    match shape:
        case Box():
            return ["box", shape.xyxy]
        case OrientedBox():
            return ["oriented_box", shape.cxcywh, shape.angle_rad]
        case Points():
            return ["points", shape.xy, shape.visible, shape.edges]
        case Mask():
            return ["mask", shape.to_array()]


def _from_tree(tree: list) -> Geometry:
    if tree[0] == "mask":
        return Mask.from_array(tree[1])
    if tree[0] == "points":
        return Points(tree[1], tree[2], tuple(tuple(e) for e in tree[3]))
    return _KINDS[tree[0]](*tree[1:])


# -- dishonest trackers: each is the honest one but for one thing -----------------------------------------------------


class _Wrapped:
    """A run that behaves like the one inside; subclasses spoil one thing."""

    def __init__(self, inner: TemplateRun) -> None:
        self.inner = inner

    def push(self, image: Image) -> list[list[Prediction]]:
        return self.inner.push(image)

    def flush(self) -> list[list[Prediction]]:
        return self.inner.flush()

    def save(self) -> bytes:
        return self.inner.save()


class _Spoiled(TemplateTracker):
    run: type[_Wrapped]

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        return self.run(super().start(image, prompts, exemplars))

    def load(self, state: bytes) -> Run:
        return self.run(super().load(state))


def _spoiled(run: type[_Wrapped]) -> type[_Spoiled]:
    return type(run.__name__, (_Spoiled,), {"run": run})


def _random(run: type[_Wrapped] = _Wrapped) -> type[_Spoiled]:
    class Random(_Wrapped):
        def push(self, image: Image) -> list[list[Prediction]]:
            out = self.inner.push(image)
            return [[Prediction(p.key, p.geometry, p.score * np.random.random(), p.visible) for p in f] for f in out]

    return _spoiled(Random)


class _DoesNothing(_Wrapped):
    def push(self, image: Image) -> list[list[Prediction]]:
        self.inner.push(image)
        return [[Prediction(k, s, 1.0, True) for k, s in zip(self.inner.keys, self.inner.shapes, strict=True)]]


class _DropsKeys(_Wrapped):
    def push(self, image: Image) -> list[list[Prediction]]:
        return [sorted(frame, key=lambda p: p.key) for frame in self.inner.push(image)]


class _LosesOne(_Wrapped):
    def push(self, image: Image) -> list[list[Prediction]]:
        return [frame[:1] if image.mean() % 2 < 1 else frame for frame in self.inner.push(image)]


class _Hoards(_Wrapped):
    def __init__(self, inner: TemplateRun) -> None:
        super().__init__(inner)
        self.hoard: list[Any] = []

    def push(self, image: Image) -> list[list[Prediction]]:
        self.hoard.append(image[::4, ::4].copy())
        return super().push(image)


class _HoardsTensors(_Hoards):
    """Where Python's own tracing sees nothing."""

    def push(self, image: Image) -> list[list[Prediction]]:
        self.hoard.append(torch.from_numpy(image[::4, ::4].copy()).float().byte())
        return self.inner.push(image)


class _RemembersWhatItSaid(_Hoards):
    def push(self, image: Image) -> list[list[Prediction]]:
        out = self.inner.push(image)
        self.hoard.extend(out)
        return out


class _GrowsWhenSaved(_Wrapped):
    pushed = 0

    def push(self, image: Image) -> list[list[Prediction]]:
        self.pushed += 1
        return super().push(image)

    def save(self) -> bytes:
        return super().save() + bytes(100 * self.pushed)


class _Forgets(_Wrapped):
    def save(self) -> bytes:
        kept, self.inner.shifts = self.inner.shifts, np.zeros_like(self.inner.shifts)
        state = super().save()
        self.inner.shifts = kept
        return state


class _HoldsBack(_Wrapped):
    def __init__(self, inner: TemplateRun) -> None:
        super().__init__(inner)
        self.held: list[list[Prediction]] = []

    def push(self, image: Image) -> list[list[Prediction]]:
        out, self.held = self.held, super().push(image)
        return out


class _KeepsBuffer(_Wrapped):
    previous: Image | None = None

    def push(self, image: Image) -> list[list[Prediction]]:
        used, self.previous = self.previous, image
        return super().push(image if used is None else used)


class _Scribbles(_Wrapped):
    def push(self, image: Image) -> list[list[Prediction]]:
        out = super().push(image)
        if image.flags.writeable:
            image[0, 0] = 255 - image[0, 0]
        return out


class _TakesAnySize(_Wrapped):
    def push(self, image: Image) -> list[list[Prediction]]:
        return super().push(cv2.resize(image, self.inner.size[::-1]))


class _NeverLoses(_Wrapped):
    def push(self, image: Image) -> list[list[Prediction]]:
        pairs = [zip(frame, self.inner.shapes, strict=True) for frame in super().push(image)]
        return [[Prediction(p.key, p.geometry or shape, 0.5, True) for p, shape in frame] for frame in pairs]


class _OverConfident(_Wrapped):
    def push(self, image: Image) -> list[list[Prediction]]:
        return [[Prediction(p.key, p.geometry, p.score * 1.2, p.visible) for p in f] for f in super().push(image)]


class _NotLost(_Wrapped):
    def push(self, image: Image) -> list[list[Prediction]]:
        return [[Prediction(p.key, p.geometry, max(p.score, 0.1), p.visible) for p in f] for f in super().push(image)]


class AcceptsAnything(TemplateTracker):
    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        kept = []
        for prompt in prompts:
            try:
                _bounds(prompt, image.shape[:2])
                kept.append(prompt)
            except PromptInvalid:
                continue
        return super().start(image, kept, exemplars)


class SharesState(TemplateTracker):
    """Keeps where the object is on the tracker instead of the run."""

    def __init__(self) -> None:
        super().__init__()
        self.shifts: dict[int, np.ndarray] = {}

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        run = super().start(image, prompts, exemplars)
        run.shifts = self.shifts.setdefault(len(prompts), run.shifts)
        return run


class SharesScratch(TemplateTracker):
    """Correct in turn, wrong in two threads: all runs convert colours into one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = np.zeros((72, 96, 3), np.uint8)

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        inner, scratch = super().start(image, prompts, exemplars), self.scratch

        class Shared(_Wrapped):
            def push(self, picture: Image) -> list[list[Prediction]]:
                scratch[:] = picture
                threading.Event().wait(0.03)  # on a busy machine the other thread may begin late
                return self.inner.push(scratch)

        return Shared(inner)


BROKEN: dict[str, tuple[type[TemplateTracker], str]] = {
    "random": (_random(), "repeats_itself_exactly"),
    "does nothing, forward": (_spoiled(_DoesNothing), "follows_an_easy_object"),
    "does nothing, backward": (_spoiled(_DoesNothing), "follows_an_easy_object_backward"),
    "sorts its keys": (_spoiled(_DropsKeys), "gives_one_prediction_per_prompt_in_order"),
    "loses objects": (_spoiled(_LosesOne), "gives_sound_predictions"),
    "keeps a little of every frame": (_spoiled(_Hoards), "needs_no_more_memory_as_time_goes_by"),
    "keeps a little of every frame in tensors": (_spoiled(_HoardsTensors), "needs_no_more_memory_as_time_goes_by"),
    "keeps all that it said": (_spoiled(_RemembersWhatItSaid), "needs_no_more_memory_as_time_goes_by"),
    "snapshot grows": (_spoiled(_GrowsWhenSaved), "needs_no_more_memory_as_time_goes_by"),
    "snapshot forgets": (_spoiled(_Forgets), "resumes_from_a_snapshot_exactly"),
    "never gives the last frame": (_spoiled(_HoldsBack), "gives_as_many_frames_as_it_gets"),
    "keeps the caller's array": (_spoiled(_KeepsBuffer), "leaves_the_callers_pictures_alone"),
    "changes the caller's array": (_spoiled(_Scribbles), "leaves_the_callers_pictures_alone"),
    "takes any size": (_spoiled(_TakesAnySize), "refuses_pictures_of_another_size"),
    "always sees the object": (_spoiled(_NeverLoses), "notices_that_the_object_has_left"),
    "scores above 1": (_spoiled(_OverConfident), "gives_sound_predictions"),
    "scores what is lost": (_spoiled(_NotLost), "survives_pictures_without_texture"),
    "drops bad prompts": (AcceptsAnything, "refuses_prompts_that_cannot_be_tracked"),
    "shares state between runs": (SharesState, "forgets_a_cancelled_run"),
    "shares state in turn": (SharesState, "keeps_runs_apart"),
    "shares a buffer between threads": (SharesScratch, "keeps_threads_apart"),
}
"""What is wrong -> (the tracker, the check that must notice)."""
