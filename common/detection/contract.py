"""The detector contract: pictures in, boxes with scores and classes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from common.geometry.detections import Detections
from common.video.contract import Image

__all__ = ["Detections", "Detector", "DetectorCard", "DetectorSettings", "Finds", "Resumable"]

Finds = Literal["box", "mask", "oriented_box", "keypoints"]
"""The most telling geometry that a detector gives for each thing it finds."""


@dataclass(frozen=True)
class DetectorCard:
    """What a person needs to choose a detector.

    name: as typed after --detector. classes: what it can tell apart, in the order of class indices; ("",) for one that
    finds things without knowing what they are. temporal: it compares each picture with those before, so the pictures
    must be the frames of one video in order and every video needs a detector of its own. finds: its geometry. keypoints:
    their names in order, bones: pairs of indices into them. open_vocabulary: it looks for whatever it is told
    (`DetectorSettings.prompts`); classes are then those prompts. The rest as in `TrackerCard`.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    licence: str
    memory_bound: str
    temporal: bool = False
    weights: str | None = None
    weights_licence: str | None = None
    paper: str = ""
    devices: tuple[str, ...] = ("cpu",)
    finds: Finds = "box"
    keypoints: tuple[str, ...] = ()
    bones: tuple[tuple[int, int], ...] = ()
    open_vocabulary: bool = False


@dataclass(frozen=True)
class DetectorSettings:
    """What a person may want of a detector when it is made.

    floor: detections that score less are not given at all, 0..1; keep it low, for trackers use weak detections too, and
    let `selection.select` apply thresholds. side: length of the longer side of the network's input in pixels, None =
    as published; raising it finds smaller things, slower. batch: pictures that go through a network together. prompts:
    what an open-vocabulary detector looks for.
    """

    floor: float = 0.05
    side: int | None = None
    batch: int = 8
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is 0..1, got {self.floor}")
        if self.batch < 1 or (self.side is not None and self.side < 32):
            raise ValueError("batch is at least 1 and side at least 32 pixels")


@runtime_checkable
class Detector(Protocol):
    """Finds objects in pictures. Not shared between threads."""

    @property
    def card(self) -> DetectorCard: ...

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """One `Detections` per picture. The pictures are not kept or changed. Raises ValueError for a temporal detector
        when a picture has another size than those before."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """What a temporal `Detector` may offer as well: its memory in a snapshot, so that a job that goes on need not show it
    the video again."""

    def state(self) -> bytes | None:
        """Bounded; a detector of the same settings that was given it goes on as if it had never stopped. None when there
        is something in it that cannot be saved (an ensemble with a member that is not resumable)."""
        ...

    def restore(self, state: bytes) -> None:
        """Before the first picture. Raises ValueError for another detector's state."""
        ...
