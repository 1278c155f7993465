"""What each identity looked like over a video: one vector for each, for the repair afterwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.association.contract import Tracks
from common.geometry.detections import Detections


class LooksBank:
    """Sums of unit vectors. Memory: one vector per identity, however long each is seen."""

    def __init__(self) -> None:
        self._sums: dict[int, NDArray[np.float64]] = {}

    def add(self, tracks: Tracks, frame: int, detections: Detections) -> None:
        """What an update gave out for this frame. Detections without embeddings add nothing."""
        if detections.embeddings is None:
            return
        rows = np.flatnonzero((tracks.frames == frame) & (tracks.rows >= 0))
        looks = detections.embeddings[tracks.rows[rows]].astype(np.float64)
        for identity, vector in zip(tracks.ids[rows].tolist(), looks, strict=True):
            if identity in self._sums:
                self._sums[identity] += vector
            else:
                self._sums[identity] = vector.copy()

    def looks(self) -> dict[int, NDArray[np.float64]]:
        """Unit vectors by identity."""
        return {identity: v / max(float(np.linalg.norm(v)), 1e-12) for identity, v in self._sums.items()}
