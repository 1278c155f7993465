"""Which detections to keep: thresholds per class, chosen classes, and one detection for each thing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.detection.contract import Detections
from common.geometry.measures import box_iou, oriented_iou


@dataclass(frozen=True)
class Selection:
    """threshold: least score of a detection, 0..1; raising it gives fewer and surer ones. per_class: class name -> another
    threshold for that class. classes: only these names; None = all. overlap: of detections of one class that overlap more
    (IoU) only the surest is kept; None leaves them, for detectors that give one per thing. across: suppress across
    classes, too. most: so many at most, the surest.
    """

    threshold: float = 0.25
    per_class: Mapping[str, float] = field(default_factory=dict, hash=False)
    classes: Collection[str] | None = None
    overlap: float | None = None
    across: bool = False
    most: int = 300

    def __post_init__(self) -> None:
        values = [self.threshold, *self.per_class.values(), *(() if self.overlap is None else (self.overlap,))]
        if not all(0 <= value <= 1 for value in values):
            raise ValueError("thresholds and overlaps are 0..1")
        if self.most < 1:
            raise ValueError("most is at least 1")


def select(found: Detections, names: Sequence[str], chosen: Selection) -> Detections:
    """The detections that `chosen` asks for, surest first. names: the detector's class names."""
    limits = np.array([chosen.per_class.get(name, chosen.threshold) for name in names], np.float32)
    if chosen.classes is not None:
        wanted = set(chosen.classes)
        limits[[name not in wanted for name in names]] = np.inf
    kept = np.flatnonzero(found.scores >= limits[found.classes])
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    if chosen.overlap is not None:
        boxes = found.xyxy if found.oriented is None else found.oriented
        groups = None if chosen.across else found.classes[kept]
        kept = kept[suppress(boxes[kept], found.scores[kept], groups, chosen.overlap)]
    return found.keep(kept[: chosen.most])


def suppress(
    boxes: ArrayLike, scores: ArrayLike, groups: ArrayLike | None, overlap: float, most: int = 30_000
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices of what stays, surest first.

    boxes: (n, 4) xyxy, or (n, 5) rotated as in `Detections.oriented`. groups: int (n,); boxes of different groups do not
    suppress each other; None = all may. overlap: IoU above which the less sure one goes. most: stop after so many.
    """
    rows = np.asarray(boxes, np.float64)
    order = np.argsort(-np.asarray(scores), kind="stable")
    labels = None if groups is None else np.asarray(groups)
    measure = oriented_iou if rows.ndim == 2 and rows.shape[1] == 5 else box_iou
    kept: list[int] = []
    while order.size and len(kept) < most:
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        if not rest.size:
            break
        near = measure(rows[best : best + 1], rows[rest])[0] > overlap
        if labels is not None:
            near &= labels[rest] == labels[best]
        order = rest[~near]
    return np.array(kept, np.int64)
