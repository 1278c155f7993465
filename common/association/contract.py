"""The associator contract: detections of one frame in, identities out; online, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from common.geometry.detections import Detections
from common.video.contract import Image

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Affine = NDArray[np.float64]
"""float64 (2, 3): takes pixels of the previous frame to pixels of this one."""


def _ints() -> Int:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Tracks:
    """Boxes that have an identity, one row each, sorted by frame and identity.

    frames: int64 (n,), the frame's number in the video. ids: int64 (n,), from 1. xyxy: float32 (n, 4), pixels,
    filtered: steadier than the detections, which `rows` leads to. scores: float32 (n,), the detection's. classes: int64 (n,), the track's class as voted so far, which may differ from the
    detection's. rows: int64 (n,), which row of its frame's `Detections` this is, -1 for none (a filled gap). oriented:
    float32 (n, 5) as in `Detections`, or None.
    """

    frames: Int = field(default_factory=_ints)
    ids: Int = field(default_factory=_ints)
    xyxy: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    classes: Int = field(default_factory=_ints)
    rows: Int = field(default_factory=_ints)
    oriented: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.frames)
        same = n == len(self.ids) == len(self.xyxy) == len(self.scores) == len(self.classes) == len(self.rows)
        if not same or (self.oriented is not None and len(self.oriented) != n):
            raise ValueError("all columns of tracks have the same length")

    def __len__(self) -> int:
        return len(self.frames)

    def keep(self, chosen: NDArray[np.bool_] | Int) -> Tracks:
        """Those rows, in that order (bool (n,) or indices)."""
        return Tracks(
            self.frames[chosen],
            self.ids[chosen],
            self.xyxy[chosen],
            self.scores[chosen],
            self.classes[chosen],
            self.rows[chosen],
            None if self.oriented is None else self.oriented[chosen],
        )

    def ordered(self) -> Tracks:
        """Sorted by frame, then identity."""
        return self.keep(np.lexsort((self.ids, self.frames)))

    @staticmethod
    def joined(parts: Sequence[Tracks]) -> Tracks:
        """All rows of several, sorted by frame and identity. Turned boxes are kept when all parts with rows have them."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return Tracks()
        oriented = [part.oriented for part in parts if part.oriented is not None]
        return Tracks(
            np.concatenate([part.frames for part in parts]),
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.xyxy for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.classes for part in parts]),
            np.concatenate([part.rows for part in parts]),
            np.concatenate(oriented) if len(oriented) == len(parts) else None,
        ).ordered()


@dataclass(frozen=True, eq=False)
class Given:
    """What people labelled on one frame: it is never changed, given out again or doubled, and its identities go on.

    ids: int64 (n,), distinct, from 1. xyxy: float32 (n, 4), pixels. classes: int64 (n,).
    """

    ids: Int
    xyxy: NDArray[np.float32]
    classes: Int

    def __post_init__(self) -> None:
        if not (len(self.ids) == len(self.xyxy) == len(self.classes)) or len(np.unique(self.ids)) != len(self.ids):
            raise ValueError("given boxes have one class each and distinct identities")


@runtime_checkable
class Associator(Protocol):
    """One video's identities. Owned by one caller, never shared; identities belong to the instance."""

    @property
    def lookback(self) -> int:
        """How many updates ago the oldest row of what `update` returns can lie (a birth is given out once it is sure,
        with the frames it has been seen on)."""
        ...

    def update(
        self,
        detections: Detections,
        image: Image | None = None,
        *,
        frame: int | None = None,
        time_s: float | None = None,
        camera: Affine | None = None,
        given: Given | None = None,
    ) -> Tracks:
        """The next frame's detections in, what became sure out: rows of this frame, and of the frames before for objects
        that were confirmed just now. The frame number is the last one plus the step unless `frame` says otherwise, the
        time passed follows from it unless `time_s` says. camera: motion of the camera since the last update, measured
        elsewhere; else measured in `image` when the associator is set to. The arguments are neither kept nor changed.
        """
        ...

    def flush(self) -> Tracks:
        """What is still unsure at the end of the video and nothing speaks against."""
        ...

    def save(self) -> bytes:
        """Bounded snapshot: going on from it gives the same as never stopping."""
        ...
