"""How oriented boxes turn: measured on the object's own pixels, because the networks know upright boxes only.

Each object is compared with a picture of it kept from the prompt's frame, so that errors cannot add up; when it no longer
looks like that, with its picture from the frame before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes import anchor
from common.trackers.boxes.patches import Pyramid
from common.trackers.boxes.siamese_crop import Array, Bool, Index

_TRUSTED = 0.5
_MOST_TURN = 0.6
_GROWTH = (0.2, 5.0)


@dataclass
class Turns:
    """who: (m,) which of the run's objects are oriented. drawn: (m, 2) their sizes as drawn. growth: (m,) by how much they
    look larger now, for the comparison only. kept: uint8 (m, 2, s, s), their pictures on the prompt's frame and on the last.
    """

    who: Index
    drawn: Array
    growth: Array
    kept: NDArray[np.uint8]

    @classmethod
    def begin(cls, pyramid: Pyramid, boxes: Array, angle: Array, oriented: Bool) -> Turns:
        """boxes: (n, 4) x, y, width, height before the turn. angle, oriented: (n,)."""
        who = np.flatnonzero(oriented)
        drawn = boxes[who, 2:].copy()
        centre = boxes[who, :2] + 0.5 * drawn
        shots = [anchor.take(pyramid, c, d, float(a)) for c, d, a in zip(centre, drawn, angle[who], strict=True)]
        kept = np.array(shots, np.uint8).reshape(-1, 1, anchor.SIZE, anchor.SIZE).repeat(2, 1)
        return cls(who, drawn, np.ones(len(who)), kept)

    def update(self, pyramid: Pyramid, boxes: Array, angle: Array, seen: Bool) -> Array:
        """New angles (n,) of objects that are now at boxes (n, 4) and stood at angle (n,); those not seen (n,) stay."""
        turned = angle.copy()
        for row, i in enumerate(self.who):
            if not seen[i]:
                continue
            centre = boxes[i, :2] + 0.5 * boxes[i, 2:]
            for kept in self.kept[row]:
                shape = self.drawn[row] * self.growth[row]
                rest = anchor.align(kept, pyramid, centre, shape, float(turned[i]))
                if rest.trust > _TRUSTED and abs(rest.angle) < _MOST_TURN:
                    turned[i] += rest.angle
                    self.growth[row] = np.clip(self.growth[row] * rest.scale, *_GROWTH)
                    break
            shape = self.drawn[row] * self.growth[row]
            self.kept[row, 1] = anchor.take(pyramid, centre, shape, float(turned[i]))
        return turned

    def to_tree(self) -> dict[str, Any]:
        """Plain values for `pack`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
