"""Is the object still there? Decided from the network's own confidence, with patience; and where to look when it is not.

While an object is seen the published procedure runs undisturbed. When the confidence stays low, the object counts as lost:
it goes back to its last sure place, and frame by frame the search region is widened in turn until the network is sure
again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes.siamese_crop import Array, Bool


@dataclass(frozen=True)
class PresenceSettings:
    """lost: score below which a frame is doubtful; raising it gives objects up sooner. found: score at which a lost object
    counts as seen again; raising it returns later and to fewer wrong places. patience: doubtful frames in a row after
    which it is lost. guesses: frames for which a lost object's last sure place is still given. widen: factors on the side
    of the search region, tried in turn while it is lost.
    """

    lost: float = 0.3
    found: float = 0.6
    patience: int = 4
    guesses: int = 30
    widen: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)


@dataclass
class Presence:
    """For n objects: sure, the last box (n, 4) of a frame without doubt; score (n,) of the last frame; doubtful (n,) frames
    in a row; hidden (n,); missing (n,) frames since it was lost.
    """

    sure: Array
    score: Array
    doubtful: NDArray[np.int64]
    hidden: Bool
    missing: NDArray[np.int64]

    @classmethod
    def begin(cls, boxes: Array) -> Presence:
        """All seen, at boxes (n, 4)."""
        n = len(boxes)
        none = np.zeros(n, np.int64)
        return cls(boxes.copy(), np.ones(n), none, np.zeros(n, bool), none.copy())

    def widening(self, settings: PresenceSettings, boxes: Array, size: tuple[int, int]) -> Array:
        """Factors (n,) for this frame's search regions around boxes (n, 4) in a picture of size (width, height)."""
        factors = np.array(settings.widen, np.float64)[self.missing % len(settings.widen)]
        # A region of four object sizes that spans the picture twice shows nothing more when widened.
        enough = 2 * max(size) / (4 * np.sqrt(np.maximum(boxes[:, 2:].prod(1), 1.0)))
        wide: Array = np.where(self.hidden, np.minimum(factors, np.maximum(enough, 1.0)), 1.0)
        return wide

    def judge(self, score: Array, settings: PresenceSettings) -> Bool:
        """Takes the scores (n,) of a frame. Returns (n,): what was found is the object, go on from there."""
        self.score = score
        back = self.hidden & (score >= settings.found)
        self.doubtful = np.where((score < settings.lost) & ~back, self.doubtful + 1, 0)
        lost = ~self.hidden & (self.doubtful >= settings.patience)
        follow = ~lost & (~self.hidden | back)
        self.missing = np.where(self.hidden & ~back, self.missing + 1, 0)
        self.hidden = ~follow
        return follow

    def remember(self, boxes: Array, settings: PresenceSettings) -> None:
        """Takes where the objects are (n, 4) after the frame."""
        good = ~self.hidden & (self.score >= settings.lost)
        self.sure = np.where(good[:, None], boxes, self.sure)

    def to_tree(self) -> dict[str, Any]:
        """Plain values for `pack`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
