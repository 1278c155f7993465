"""The support set: the few pictures that people labelled fully, from which everything is learned and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from common.detection.exemplar.settings import ExemplarPicture
from common.errors import PromptInvalid
from common.geometry.annotation import Annotation
from common.geometry.measures import bounds
from common.geometry.raster import fill
from common.geometry.shapes import Polygon, Value, to_geometry
from common.geometry.types import Box, Mask
from common.video.contract import FrameSource, Image

Float = NDArray[np.float32]

LEAST_SIDE = 4.0
"""Objects with a shorter side, in pixels, are neither learned from nor counted."""


@dataclass(frozen=True)
class Labelled:
    """One thing that a person labelled. key: of the object, the same on all frames of a video. value: as it was drawn."""

    key: str
    class_name: str
    value: Value

    @cached_property
    def box(self) -> Box | None:
        """Around it; None for what has no extent."""
        found = bounds(to_geometry(self.value))
        if found is None or (found.xyxy[2:] - found.xyxy[:2]).min() < LEAST_SIDE:
            return None
        return found

    def mask(self, width: int, height: int) -> Mask | None:
        """Its area where that was drawn."""
        if isinstance(self.value, Mask):
            return self.value
        return fill(self.value, width, height) if isinstance(self.value, Polygon) else None

    @property
    def outlined(self) -> bool:
        """Whether the person drew its area and not a box."""
        return isinstance(self.value, Mask | Polygon)


@dataclass(frozen=True, eq=False)
class Example:
    """A picture on which every object of the classes is labelled. read: gives the picture, when it is needed. frame and
    source: which frame of which video it is; None for a picture of its own. partial: there may be others: somebody corrected
    a few. Those are learned from as objects, and measured; the rest of the picture says nothing."""

    read: Callable[[], Image]
    labels: tuple[Labelled, ...]
    frame: int | None = None
    source: FrameSource | None = None
    partial: bool = False


@dataclass(frozen=True, eq=False)
class SupportSet:
    """examples: in the order of the video. classes: names, in the order of class indices. text: what a person says about
    the classes, by class name: other words for open-vocabulary detectors. Raises `PromptInvalid` when nothing is labelled.
    """

    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    text: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        complete = [example for example in self.examples if not example.partial]
        if not any(label.box is not None for example in complete for label in example.labels):
            raise PromptInvalid("No object is labelled that has an extent: label all objects of at least one frame.")

    @property
    def outlined(self) -> bool:
        """Whether most objects are drawn by their area, so that areas are wanted."""
        labels = [label.outlined for example in self.examples for label in example.labels]
        return sum(labels) * 2 > len(labels)

    @property
    def count(self) -> int:
        """Labelled objects, each counted on every picture."""
        return sum(len(example.labels) for example in self.examples)

    def picture(self, index: int, *, held_out: Sequence[int] = ()) -> ExemplarPicture:
        """An example as detectors learn from it. held_out: places among its labels that are to be ignored."""
        example = self.examples[index]
        boxes: list[Float] = []
        classes: list[int] = []
        masks: list[Mask | None] = []
        ignore: list[Float] = []
        size: tuple[int, int] | None = None
        for place, label in enumerate(example.labels):
            if label.box is None:
                continue
            if place in held_out:
                ignore.append(label.box.xyxy)
                continue
            boxes.append(label.box.xyxy)
            classes.append(self.classes.index(label.class_name))
            if isinstance(label.value, Polygon) and size is None:
                size = example.read().shape[1::-1]
            masks.append(label.mask(*(size or (0, 0))))
        return ExemplarPicture(
            example.read,
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(classes, np.int64),
            tuple(masks),
            np.array(ignore, np.float32).reshape(-1, 4),
            example.partial,
        )

    def frames(self, source: FrameSource) -> dict[int, tuple[Labelled, ...]]:
        """What was labelled on which frames of that video; only those on which everything is."""
        return {
            e.frame: e.labels for e in self.examples if e.source is source and e.frame is not None and not e.partial
        }

    def joined(self, more: SupportSet) -> SupportSet:
        """With the examples of both; a frame that both have is `more`'s: corrections come last."""
        own = [
            e
            for e in self.examples
            if e.frame is None or not any(o.source is e.source and o.frame == e.frame for o in more.examples)
        ]
        classes = tuple(dict.fromkeys((*self.classes, *more.classes)))
        return SupportSet((*own, *more.examples), classes, {**self.text, **more.text})


def from_annotation(
    annotation: Annotation,
    source: FrameSource,
    frames: Iterable[int] | None = None,
    text: dict[str, tuple[str, ...]] | None = None,
) -> SupportSet:
    """The frames of a video that a person labelled.

    frames: those on which everything is labelled; None = all that have figures drawn by a person. Raises `PromptInvalid`
    for an annotation of another size, a frame that does not exist, or when nothing is labelled.
    """
    info = source.info
    if (annotation.width, annotation.height) != (info.width, info.height):
        raise PromptInvalid(
            f"The examples were drawn on {annotation.width} x {annotation.height} pixels, {info.name} is "
            f"{info.width} x {info.height}."
        )
    drawn = annotation.key_figures()
    chosen = sorted(drawn if frames is None else set(frames))
    missing = [frame for frame in chosen if not 0 <= frame < info.frames]
    if missing:
        raise PromptInvalid(
            f"Frame {missing[0]} of the examples does not exist: {info.name} has {info.frames} frames, numbered 0 to "
            f"{info.frames - 1}."
        )
    examples = []
    for frame in chosen:
        labels = tuple(
            Labelled(figure.key, annotation.objects[figure.key].class_name, figure.geometry)
            for figure in drawn.get(frame, ())
        )
        examples.append(Example(_reader(source, frame), labels, frame, source))
    names = dict.fromkeys(label.class_name for example in examples for label in example.labels)
    return SupportSet(tuple(examples), tuple(names), dict(text or {}))


def from_pictures(pictures: Iterable[tuple[Callable[[], Image], Sequence[Labelled]]]) -> SupportSet:
    """Labelled pictures that are no frames of a video. Raises `PromptInvalid` when nothing is labelled."""
    examples = tuple(Example(read, tuple(labels)) for read, labels in pictures)
    names = dict.fromkeys(label.class_name for example in examples for label in example.labels)
    return SupportSet(examples, tuple(names))


def _reader(source: FrameSource, frame: int) -> Callable[[], Image]:
    return lambda: source.read(frame)
