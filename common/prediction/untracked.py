"""No identities: every detection that is sure enough stands for itself."""

from __future__ import annotations

import numpy as np

from common.association.contract import Affine, Given, Tracks
from common.association.settings import Settings
from common.geometry.detections import Detections
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

UNTRACKED = "none"
"""In the place of an associator's name."""


class Untracked:
    """An `Associator` that gives each detection from the `birth` threshold on a number of its own."""

    lookback = 0

    def __init__(self, settings: Settings, state: bytes | None = None) -> None:
        self._settings = settings
        self._next, self._frame = settings.first_id, settings.timing.start - settings.timing.step
        if state is not None:
            self._next, self._frame = unpack(state)

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
        """See `Associator.update`."""
        self._frame = self._frame + self._settings.timing.step if frame is None else frame
        _, _, birth = self._settings.limits(detections.classes)
        rows = np.flatnonzero(detections.scores >= birth)
        ids = self._next + np.arange(len(rows))
        self._next += len(rows)
        kept = detections.keep(rows)
        return Tracks(
            np.full(len(rows), self._frame, np.int64), ids, kept.xyxy, kept.scores, kept.classes, rows, kept.oriented
        )

    def flush(self) -> Tracks:
        """Nothing waits."""
        return Tracks()

    def save(self) -> bytes:
        """See `Associator.save`."""
        return pack((self._next, self._frame))
