"""One tracking in progress with filter and network.

Both look at every frame. While the filter is sure, its box counts: it is the more exact one of rigid things; only size and
proportions follow the network a little. When it is not, and the network is, the object is where the network sees it, and
the filter goes on from there.
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

_WIDE = np.array([1.0, 1.5, 2.0, 3.0])
"""Factors on the network's window, in turn, while an object is lost."""


@dataclass(frozen=True)
class HybridSettings:
    """sure: the network's confidence from which it may move the filter; doubt: the filter's below which it is moved.
    found: the network's confidence at which a lost object counts as seen again. lean: share of the network's size in the
    box of a frame; shape: the same for its proportions. far: distance in object sizes at which they disagree. learn: frames
    between two lessons of the filter.
    """

    sure: float = 0.5
    doubt: float = 0.5
    found: float = 0.6
    lean: float = 0.1
    shape: float = 0.05
    far: float = 0.3
    learn: int = 4


class HybridRun(CorrelationRun):
    """See `common.tracking.contract.Run`."""

    def __init__(self, state: State, procedure: TinyProcedure, settings: HybridSettings | None = None) -> None:
        super().__init__(state)
        self._network, self._settings = procedure, settings or HybridSettings()
        self._seen = Seen(procedure.boxes, np.ones(len(procedure.boxes)))

    def push(self, image: Image) -> list[list[Prediction]]:
        """Next image, uint8 (height, width, 3); one frame comes out."""
        s = self._state
        if image.shape == (s.size[1], s.size[0], 3):
            self._network.boxes = np.concatenate((s.centre - s.shape / 2, s.shape), 1)
            self._network.angle = s.angle.copy()
            wide = np.where(s.hidden, _WIDE[s.missing % len(_WIDE)], 1.0)
            self._seen = self._network.follow(image, wide)
        return super().push(image)

    def save(self) -> bytes:
        """Snapshot of bounded size."""
        return pack({"filter": self._state.to_tree(), "network": self._network.to_tree()})

    def _where(self, i: int, steady: Double, motion: flow.Motion) -> list[Pose]:
        """One place to look at, where the flow leads; a second where the network is sure to see the object elsewhere."""
        s = self._state
        guess = motion.move(s.centre[i]) if motion.trust > 0.3 else steady + s.velocity[i]
        scale = float(s.scale[i]) * (motion.scale if motion.trust > 0.3 else 1.0)
        turn = motion.angle if motion.trust > 0.3 and s.oriented[i] else 0.0
        poses = [(float(guess[0]), float(guess[1]), scale, float(s.angle[i]) + turn)]
        place = self._place(i)
        if self._seen.score[i] > self._settings.sure and self._apart(i, guess, place) > self._settings.far:
            poses.append((float(place[0]), float(place[1]), float(s.scale[i]), float(s.angle[i])))
        return poses

    def _where_lost(self, i: int, steady: Double) -> list[Pose]:
        """As without the network, and where it sees the object."""
        s = self._state
        x, y = self._place(i).tolist()
        return [*super()._where_lost(i, steady), (x, y, float(s.scale[i]), float(s.angle[i]))]

    def _choose(self, i: int, found: Found, own: Index) -> tuple[Double, float, float, float, float]:
        """The place where the filter answers more strongly, or when lost as without the network."""
        if self._state.hidden[i]:
            return super()._choose(i, found, own)
        best = int(own[np.argmax(found.peak[own])])
        pose = found.pose[best].copy()
        return (pose, *(float(v[best]) for v in (found.peak, found.fit, found.clear, found.memory)))

    def _accept(self, pyramid: Pyramid, found: Found, held: Double, steady: Double) -> None:
        """Takes the filter's places, then lets the network correct them."""
        s, settings, seen = self._state, self._settings, self._seen
        if not len(s.keys):
            return
        hidden = s.hidden.copy()
        score = _confidence(found.clear / s.level[:, 0], found.memory / s.level[:, 1], found.memory, held)
        super()._accept(pyramid, found, held, steady)
        place = seen.boxes[:, :2] + seen.boxes[:, 2:] / 2
        size = np.sqrt(s.shape.prod(1))
        apart = np.hypot(*(place - s.centre).T) / size
        moved = (score < settings.doubt) & (seen.score > settings.sure) & ((apart > settings.far) | s.hidden)
        moved = np.where(hidden, (seen.score > settings.found) & s.hidden, moved)
        for i in np.flatnonzero(moved):
            s.centre[i], s.velocity[i], s.missing[i] = place[i], 0.0, 0
            s.hidden[i], s.trust[i] = False, 0.8 * seen.score[i]
            self._resize(int(i), seen.boxes[i, 2:] if not hidden[i] else s.shape[i])
        agree = ~moved & ~s.hidden & (apart <= settings.far) & (seen.score > settings.sure)
        drawn = seen.detail["raw"] if len(s.keys) else seen.boxes[:, 2:]
        for i in np.flatnonzero(agree & ~s.oriented):
            ratio = np.log(np.maximum(drawn[i], 1.0) / s.shape[i])
            both, apart_ = ratio.mean(), (ratio[0] - ratio[1]) / 2
            loose = 1.0 if s.held[i] < 0.5 else 0.3
            change = np.clip(loose * settings.lean * both, -0.05, 0.05)
            bend = np.clip(loose * settings.shape * apart_, -0.03, 0.03)
            self._resize(int(i), s.shape[i] * np.exp(np.array([change + bend, change - bend])))
        # Where the filter is in doubt the network's confidence is what is known.
        doubtful = ~s.hidden & (score < settings.doubt) & ~moved
        s.trust = np.where(doubtful, np.maximum(s.trust, 0.5 * seen.score), s.trust)
        s.missing = np.where(doubtful & (seen.score > settings.sure) & (apart <= settings.far), 0, s.missing)

    def _learn(self, pyramid: Pyramid, who: Index) -> None:
        s = self._state
        if s.age < 10 or s.age % self._settings.learn == 0:
            super()._learn(pyramid, who)

    def _resize(self, i: int, shape: Double) -> None:
        """The object's size becomes shape (2,)."""
        s = self._state
        shape = np.clip(shape, 2.0, 2.0 * np.array(s.size))
        growth = float(np.sqrt(shape.prod() / s.shape[i].prod()))
        s.shape[i] = shape
        s.scale[i] *= growth

    def _place(self, i: int) -> Double:
        box: Double = self._seen.boxes[i]
        return box[:2] + box[2:] / 2

    def _apart(self, i: int, a: Double, b: Double) -> float:
        return float(np.hypot(*(a - b)) / np.sqrt(self._state.shape[i].prod()))
