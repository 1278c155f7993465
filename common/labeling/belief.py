"""Which identities are not believed: no label confirms them, and they are found badly, or always on something else.

One find says little: at the chosen threshold about two in five are right. All finds of an identity say more. What is there is
found well on most frames, false alarms are not; and what moves along in the place of a surer thing all its life is a second
find of it, or a part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

from common.geometry.measures import box_iou, box_within
from common.labeling.chosen import MIDDLE
from common.prediction.results import Results

_LIKELY = 0.6
"""Mean score of an identity's detections below which it is taken for a false alarm; what was found once is only asked for
`MIDDLE`, the chosen threshold."""
_ON, _IN = 0.5, 0.85
"""IoU from which a figure lies on another one, and share of it from which it lies in another one."""
_APART = 0.1
"""IoU below which two figures in a third one are two things, and the third one a group."""
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
    unlikely = frozenset(
        identity
        for identity, score in mean.items()
        if identity not in confirmed and score < (_LIKELY if finds[identity] > 1 else MIDDLE)
    )
    return unlikely | _second(results, confirmed, mean, unlikely)


def _second(
    results: Results, confirmed: Container[int], mean: dict[int, float], unlikely: frozenset[int]
) -> frozenset[int]:
    """Identities that lie on or in a surer one of their class on most of their frames, where that one is believed itself."""
    classes = {identity: known.class_name for identity, known in results.identities.items()}
    frames, together = Counter[int](), Counter[tuple[int, int]]()

    def sure(identity: int) -> tuple[bool, float, int]:
        return identity in confirmed, mean.get(identity, 0.0), -identity

    for _, seen in results.frames():
        kept = [one for one in seen if one.id not in unlikely]
        frames.update(one.id for one in kept)
        for row, column in np.argwhere(_covers(np.array([one.box.xyxy for one in kept]).reshape(-1, 4))).tolist():
            a, b = kept[row].id, kept[column].id
            if a not in confirmed and classes[a] == classes[b] and sure(b) > sure(a):
                together[a, b] += 1
    places: dict[int, list[int]] = defaultdict(list)
    for (a, b), count in together.items():
        if count > _ALWAYS * frames[a]:
            places[a].append(b)
    out: set[int] = set()
    for a in sorted(places, key=sure, reverse=True):
        if not out.issuperset(places[a]):
            out.add(a)
    return frozenset(out)


def _covers(boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which boxes (n, 4) lie on or in which others: bool (n, n). In one that holds several things nothing lies."""
    iou, inside = box_iou(boxes, boxes), box_within(boxes, boxes) > _IN
    np.fill_diagonal(iou, 0)
    np.fill_diagonal(inside, False)
    for holder in np.flatnonzero(inside.sum(0) > 1).tolist():
        held = np.flatnonzero(inside[:, holder])
        if (iou[np.ix_(held, held)] + np.eye(len(held)) < _APART).any():
            inside[:, holder] = False
    found: NDArray[np.bool_] = (iou > _ON) | inside
    return found
