"""Which identities are not believed: no label confirms them, and they are found badly, or always on something else.

One find says little: at the chosen threshold about two in five are right. All finds of an identity say more. What is there is
found well on most frames, false alarms are not; and what moves along in the place of a surer thing all its life is a second
find of it, or a part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container

import numpy as np

from common.geometry.measures import box_iou, box_within
from common.prediction.results import Results

_LIKELY = 0.6
"""Mean score of an identity's detections below which it is taken for a false alarm; 0.5 is the chosen threshold."""
_ON, _IN = 0.5, 0.85
"""IoU from which a figure lies on another one, and share of it from which it lies in another one."""
_ALWAYS = 0.5
"""Share of its frames on which an identity lies on or in another one, from which it is that one."""


def doubtful(results: Results, confirmed: Container[int]) -> frozenset[int]:
    """Identities to leave out. confirmed: those that a label confirms, which stay. Goes through the results twice; memory: a
    few numbers for each identity, and for each two that meet."""
    total: dict[int, float] = defaultdict(float)
    finds = Counter[int]()
    for _, seen in results.frames():
        for one in seen:
            if not one.filled:
                total[one.id] += one.score
                finds[one.id] += 1
    mean = {identity: total[identity] / count for identity, count in finds.items()}
    unlikely = frozenset(identity for identity in mean if identity not in confirmed and mean[identity] < _LIKELY)
    return unlikely | _second(results, confirmed, mean, unlikely)


def _second(
    results: Results, confirmed: Container[int], mean: dict[int, float], unlikely: frozenset[int]
) -> frozenset[int]:
    """Identities that lie on or in a surer one of their class on most of their frames."""
    classes = {identity: known.class_name for identity, known in results.identities.items()}
    frames, together = Counter[int](), Counter[tuple[int, int]]()

    def sure(identity: int) -> tuple[bool, float, int]:
        return identity in confirmed, mean.get(identity, 0.0), -identity

    for _, seen in results.frames():
        kept = [one for one in seen if one.id not in unlikely]
        frames.update(one.id for one in kept)
        boxes = np.array([one.box.xyxy for one in kept]).reshape(-1, 4)
        covers = (box_iou(boxes, boxes) > _ON) | (box_within(boxes, boxes) > _IN)
        np.fill_diagonal(covers, False)
        for row, column in np.argwhere(covers).tolist():
            a, b = kept[row].id, kept[column].id
            if a not in confirmed and classes[a] == classes[b] and sure(b) > sure(a):
                together[a, b] += 1
    return frozenset(a for (a, _), count in together.items() if count > _ALWAYS * frames[a])
