"""What the exemplar detector is learned from, and what can be set of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Mask
from common.video.contract import Image


@dataclass(frozen=True)
class ExemplarSettings:
    """side: pixels of an object's side (the root of its area) at the size it is looked at; raising it tells finer things
    apart, slower. shapes, colours: what is looked at: outlines (gradients), colours, or both. flip: mirrored objects count
    as the same. most_pixels: of a picture at the finest size; raising it finds smaller things, slower. per_octave: sizes
    looked for between one size and its double. reach: how much smaller and larger than the labelled ones objects may be,
    as a factor. proposals: windows of a picture that are looked at closely. floor: detections that score less are not given.
    overlap: IoU above which two detections of a class are one.
    """

    side: int = 32
    shapes: bool = True
    colours: bool = True
    flip: bool = True
    most_pixels: int = 400_000
    per_octave: int = 4
    reach: float = 1.35
    proposals: int = 120
    floor: float = 0.05
    overlap: float = 0.4

    def __post_init__(self) -> None:
        if not (self.shapes or self.colours):
            raise ValueError("an exemplar detector looks at shapes, colours or both")


@dataclass(frozen=True, eq=False)
class ExemplarPicture:
    """One fully labelled picture: what is not labelled is background.

    read: gives the picture; called when it is needed, never kept. boxes: float32 (n, 4), pixels. classes: int64 (n,),
    indices of the class names. masks: of the boxes where they are known. ignore: float32 (m, 4), places that are neither
    objects nor background: instances held out, things that nobody can tell. partial: not everything is labelled: what is not
    is no background either.
    """

    read: Callable[[], Image]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: tuple[Mask | None, ...] = ()
    ignore: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    partial: bool = False

    def __post_init__(self) -> None:
        n = len(self.boxes)
        if len(self.classes) != n or (self.masks and len(self.masks) != n):
            raise ValueError(f"{n} boxes need as many classes, and masks where there are any")
