"""Which predictions are labels that are there already, and which identities go on with an object that a person made. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.geometry.measures import box_iou
from common.geometry.types import Float


@dataclass(frozen=True)
class Existing:
    """A label on one frame. object_id: of the object that it belongs to. box: xyxy float32 (4,)."""

    object_id: int
    class_name: str
    box: Float


@dataclass(frozen=True)
class Predicted:
    """A prediction on the same frame."""

    identity: int
    class_name: str
    box: Float


def covered(predicted: Sequence[Predicted], existing: Sequence[Existing], threshold: float) -> dict[int, int]:
    """Identities whose box is a label of the same class (IoU from `threshold` on) -> that label's object."""
    if not predicted or not existing:
        return {}
    overlap = box_iou(np.stack([p.box for p in predicted]), np.stack([e.box for e in existing]))
    same = np.array([[p.class_name == e.class_name for e in existing] for p in predicted])
    overlap = np.where(same, overlap, -1.0)
    best = overlap.argmax(1)
    return {
        p.identity: existing[int(j)].object_id
        for p, j, value in zip(predicted, best, overlap.max(1), strict=True)
        if value >= threshold
    }


class Continued:
    """Counts which object each identity covers, frame after frame; memory: one number for each pair that meets."""

    def __init__(self) -> None:
        self._met: dict[int, Counter[int]] = {}

    def add(self, same: Mapping[int, int]) -> None:
        for identity, ident in same.items():
            self._met.setdefault(identity, Counter())[ident] += 1

    def objects(self) -> dict[int, int]:
        """The object that each identity goes on with: the one it covers most often; each object once, the identity that
        covers it most."""
        pairs = [(count, identity, ident) for identity, met in self._met.items() for ident, count in met.items()]
        taken: set[int] = set()
        found: dict[int, int] = {}
        for _, identity, ident in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if identity not in found and ident not in taken:
                found[identity] = ident
                taken.add(ident)
        return found


def by_frame(labels: Iterable[tuple[int, Existing]]) -> dict[int, list[Existing]]:
    found: dict[int, list[Existing]] = {}
    for frame, label in labels:
        found.setdefault(frame, []).append(label)
    return found
