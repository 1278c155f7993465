"""The tracker contract: push an image, get the frames that became final. Everything else is derived from it.

Backward tracking is the same calls on frames in reverse. Cancelling is not pushing any more. Length is unlimited because
nothing may keep what it has given out. All objects of a request are tracked together, image by image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from common.geometry.types import Geometry
from common.video.contract import Image

GeometryKind = Literal["box", "oriented_box", "mask", "points"]


@dataclass(frozen=True)
class Prompt:
    """What the person drew on the first frame. key: the object's name within the request, unique, not empty."""

    key: str
    geometry: Geometry


@dataclass(frozen=True)
class Exemplar:
    """The same objects labelled elsewhere: a correction, or the next key figure. Keys match those of the prompts."""

    image: Image
    prompts: Sequence[Prompt]


@dataclass(frozen=True)
class Prediction:
    """Where one object is in one frame.

    geometry: same kind as its prompt; None = lost. score: 0..1, how sure the tracker is of this geometry (1.0 on the
    prompt's own frame, 0.0 when lost). visible: False when the object is occluded, off-screen or lost; a geometry that
    is still given is then a best guess.
    """

    key: str
    geometry: Geometry | None
    score: float
    visible: bool


@dataclass(frozen=True)
class TrackerCard:
    """What a person needs to choose a tracker.

    name: as typed after --tracker. title: as shown to a labeler. geometries: kinds it can be prompted with. licence: SPDX
    of our code's dependency that matters; weights: catalogue name, None when it needs none; weights_licence: SPDX or None.
    memory_bound: in words, what its memory depends on (never the number of frames). lookahead: most frames it holds back
    before they are final (0 = online). paper: reference or URL. devices: where it can run.
    """

    name: str
    title: str
    geometries: frozenset[GeometryKind]
    licence: str
    memory_bound: str
    weights: str | None = None
    weights_licence: str | None = None
    lookahead: int = 0
    paper: str = ""
    devices: tuple[str, ...] = ("cpu",)


class Run(Protocol):
    """One tracking in progress; owned by one caller, never shared between threads."""

    def push(self, image: Image) -> list[list[Prediction]]:
        """Next image in; out come the frames that became final, in order: usually one, none while a windowed network
        fills its window, several when it completes. The image of `start` is frame 0 and is not pushed; its own
        predictions are not given out. Every given frame has one prediction per prompt key, in the prompts' order.
        Memory is O(1) in the number of images pushed. The image must have the size of the first; ValueError if not.
        The run must not keep or change the caller's array.
        """
        ...

    def flush(self) -> list[list[Prediction]]:
        """No more images: the frames still held back. Pushed images and given frames are then equal in number."""
        ...

    def save(self) -> bytes:
        """Bounded snapshot. A run loaded from it and fed the same images gives exactly what this run would give."""
        ...


@runtime_checkable
class Tracker(Protocol):
    """Makes runs. Stateless apart from loaded weights: two runs of one tracker never influence each other."""

    @property
    def card(self) -> TrackerCard: ...

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        """Begin on `image`, where the prompts were drawn. Raises `PromptInvalid` for a geometry that cannot be tracked
        (wrong kind, empty, entirely outside the picture). exemplars: nearest frame first; a tracker that takes only some
        takes the first, one without memory may ignore them.
        """
        ...

    def load(self, state: bytes) -> Run:
        """A run from `Run.save`."""
        ...


def track(
    tracker: Tracker,
    frames: Iterator[Image],
    prompts: Sequence[Prompt],
    exemplars: Sequence[Exemplar] = (),
) -> Iterator[list[Prediction]]:
    """Predictions for every image of `frames`; the first image is the one the prompts were drawn on and comes back as
    given, with score 1. Empty when there are no frames.
    """
    first = next(frames, None)
    if first is None:
        return
    run = tracker.start(first, prompts, exemplars)
    yield [Prediction(p.key, p.geometry, 1.0, True) for p in prompts]
    for image in frames:
        yield from run.push(image)
    yield from run.flush()
