"""One tracking in progress with filter and network.

The filter keeps the exact box, and saves time: sizes are searched and lessons learned in some frames only. The network looks
in some frames, and in every one while the filter is in doubt. Where it surely sees the object elsewhere, the filter looks
there too; where the filter fails or has lost the object, it goes on from the network's place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.trackers.boxes import flow
from common.trackers.boxes.patches import Double, Pyramid
from common.trackers.boxes.run import CorrelationRun, Found, Index, Pose, _confidence
from common.trackers.boxes.siamese_contract import Found as Seen
from common.trackers.boxes.state import State
from common.trackers.boxes.tiny_run import TinyProcedure
from common.tracking.contract import Prediction
from common.tracking.snapshot import pack
from common.video.contract import Image

_DETOUR = 1.05
_WIDE = np.array([1.0, 1.5, 2.0, 3.0])
"""Factors on the network's window, in turn, while an object is lost."""


@dataclass(frozen=True)
class HybridSettings:
    """sure: the network's confidence from which its place counts; doubt: the filter's below which it is moved there.
    found: the network's confidence at which a lost object counts as seen again. far: distance in object sizes at which they
    disagree. calm: confidence of the filter from which the network need not look. look, learn, scales: frames between two
    looks of the network then, two lessons of the filter, two searches over sizes; raising any makes it faster.
    """

    sure: float = 0.95
    doubt: float = 0.2
    found: float = 0.97
    far: float = 0.5
    calm: float = 0.8
    look: int = 3
    learn: int = 4
    scales: int = 3


class HybridRun(CorrelationRun):
    """See `common.tracking.contract.Run`."""

    def __init__(self, state: State, procedure: TinyProcedure, settings: HybridSettings | None = None) -> None:
        super().__init__(state)
        self._network, self._settings = procedure, settings or HybridSettings()
        self._seen = Seen(procedure.boxes, np.ones(len(procedure.boxes)))

    def push(self, image: Image) -> list[list[Prediction]]:
        """Next image, uint8 (height, width, 3); one frame comes out."""
        s = self._state
        boxes = np.concatenate((s.centre - s.shape / 2, s.shape), 1)
        needed = bool((s.trust < self._settings.calm).any() or s.hidden.any())
        if image.shape == (s.size[1], s.size[0], 3) and (needed or s.age % self._settings.look == 0):
            self._network.boxes, self._network.angle = boxes, s.angle.copy()
            wide = np.where(s.hidden, _WIDE[s.missing % len(_WIDE)], 1.0)
            self._seen = self._network.follow(image, wide)
        else:
            self._seen = Seen(boxes, np.zeros(len(boxes)))
        return super().push(image)

    def save(self) -> bytes:
        """Snapshot of bounded size."""
        return pack({"filter": self._state.to_tree(), "network": self._network.to_tree()})

    def _where(self, i: int, steady: Double, motion: flow.Motion) -> list[Pose]:
        """As without the network, but sizes and turns are searched in some frames only; at last, where the network surely
        sees the object if that is elsewhere."""
        s = self._state
        poses = super()._where(i, steady, motion)
        if not self._searched():
            near = 5 if s.oriented[i] else 3
            poses = [poses[0], *poses[near:]]
        place = self._place(i)
        if (
            self._seen.score[i] > self._settings.sure
            and self._apart(i, np.array(poses[0][:2]), place) > self._settings.far
        ):
            poses.append((float(place[0]), float(place[1]), float(s.scale[i]), float(s.angle[i])))
        return poses

    def _searched(self) -> bool:
        return self._state.age < 5 or self._state.age % self._settings.scales == 0

    def _where_lost(self, i: int, steady: Double) -> list[Pose]:
        """As without the network, and where it sees the object."""
        s = self._state
        x, y = self._place(i).tolist()
        return [*super()._where_lost(i, steady), (x, y, float(s.scale[i]), float(s.angle[i]))]

    def _choose(self, i: int, found: Found, own: Index) -> tuple[Double, float, float, float, float]:
        """As without the network where sizes were searched; else the first place, unless another answers more strongly."""
        if self._state.hidden[i] or self._searched():
            return super()._choose(i, found, own)
        best = int(own[0])
        other = int(own[np.argmax(found.peak[own])])
        if found.peak[other] > _DETOUR * found.peak[best]:
            best = other
        values = (float(v[best]) for v in (found.peak, found.fit, found.clear, found.memory))
        peak, fit, clear, memory = values
        return found.pose[best].copy(), peak, fit, clear, memory

    def _accept(self, pyramid: Pyramid, found: Found, held: Double, steady: Double) -> None:
        """Takes the filter's places, then the network's where the filter has none worth having."""
        s, settings, seen = self._state, self._settings, self._seen
        hidden = s.hidden.copy()
        score = _confidence(found.clear / s.level[:, 0], found.memory / s.level[:, 1], found.memory, held)
        super()._accept(pyramid, found, held, steady)
        place = seen.boxes[:, :2] + seen.boxes[:, 2:] / 2
        apart = np.hypot(*(place - s.centre).T) / np.sqrt(s.shape.prod(1))
        lost = (score < settings.doubt) & (seen.score > settings.sure) & ((apart > settings.far) | s.hidden)
        moved = np.where(hidden, s.hidden & (seen.score > settings.found), lost)
        s.centre = np.where(moved[:, None], place, s.centre)
        s.velocity = np.where(moved[:, None], 0.0, s.velocity)
        s.trust = np.where(moved, 0.8 * seen.score, s.trust)
        s.missing = np.where(moved, 0, s.missing)
        s.hidden = s.hidden & ~moved

    def _learn(self, pyramid: Pyramid, who: Index) -> None:
        s = self._state
        if s.age < 10 or s.age % self._settings.learn == 0:
            super()._learn(pyramid, who)

    def _place(self, i: int) -> Double:
        box: Double = self._seen.boxes[i]
        return box[:2] + box[2:] / 2

    def _apart(self, i: int, a: Double, b: Double) -> float:
        return float(np.hypot(*(a - b)) / np.sqrt(self._state.shape[i].prod()))
