"""One set of boxes out of several detectors' boxes.

Source: Solovyev, Wang and Gabruseva 2021, "Weighted boxes fusion: ensembling boxes from different object detection models",
https://arxiv.org/abs/1910.13302.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections
from common.geometry.measures import box_iou

Float64 = NDArray[np.float64]


def weighted_fusion(
    found: Sequence[Detections], weights: Sequence[float] | None = None, overlap: float = 0.55, floor: float = 0.0
) -> Detections:
    """Boxes of one class that overlap become one whose corners are their mean, weighted by score; surest first.

    found: what each detector saw in one picture, classes counted alike. weights: trust in each detector, > 0; scores are
    multiplied by it. overlap: IoU with a fused box above which a box joins it; raising it fuses less. floor: boxes that
    score less take no part.

    The score is the mean of the members' times the share of the detectors' weight that saw it: what one of three sees
    alone keeps a third. Masks, turns, keypoints and embeddings are those of each fused box's surest member, where all
    detectors give them. A single detector's boxes come out as they are but for their own duplicates.

    >>> a = Detections([[0, 0, 10, 10]], [0.8], [0])
    >>> b = Detections([[0, 0, 20, 10]], [0.4], [0])
    >>> both = weighted_fusion([a, b], overlap=0.4)
    >>> [round(float(x), 2) for x in both.xyxy[0]], round(float(both.scores[0]), 2)
    ([0.0, 0.0, 13.33, 10.0], 0.6)
    """
    trust = np.ones(len(found)) if weights is None else np.asarray(weights, np.float64)
    if len(trust) != len(found) or not (np.isfinite(trust).all() and (trust > 0).all()):
        raise ValueError(f"{len(found)} detectors need as many weights above 0")
    if not 0 <= overlap <= 1:
        raise ValueError("overlap is 0..1")
    if not found:
        return Detections()
    owner = np.concatenate([np.full(len(one), number) for number, one in enumerate(found)]).astype(np.int64)
    everything = _joined(found)
    raised = everything.scores * trust[owner]
    order = np.argsort(-raised, kind="stable")
    order = order[everything.scores[order] >= floor]
    if not order.size:
        return everything.keep(order)
    cluster, count = _clusters(everything.xyxy.astype(np.float64), raised, everything.classes, order, overlap)
    mass = np.maximum(raised[order], 1e-12)
    total = np.bincount(cluster, mass, count)
    xyxy = np.stack([np.bincount(cluster, mass * everything.xyxy[order, side], count) / total for side in range(4)], 1)
    members = np.bincount(cluster, minlength=count)
    seen = np.zeros((count, len(found)), bool)
    seen[cluster, owner[order]] = True
    # members' scores were raised by their detector's weight: the mean is taken back by the mean weight of those who saw it
    share = seen @ trust
    scores = np.bincount(cluster, raised[order], count) / members * (share / trust.sum()) / (share / seen.sum(1))
    first = np.full(count, -1)
    first[cluster[::-1]] = order[::-1]  # the surest member of each, for order falls
    ranked = np.argsort(-scores, kind="stable")
    best = everything.keep(first[ranked])
    return Detections(
        xyxy[ranked].astype(np.float32),
        np.clip(scores[ranked], 0, 1).astype(np.float32),
        best.classes,
        best.masks,
        best.embeddings,
        best.oriented,
        best.keypoints,
    )


def _clusters(
    boxes: Float64, scores: Float64, classes: NDArray[np.int64], order: NDArray[np.int64], overlap: float
) -> tuple[NDArray[np.int64], int]:
    """Cluster of each row of `order`, surest first, and how many there are: a row joins the fused box of its class that
    it overlaps most, which moves, or begins one."""
    fused, mass = np.zeros((len(order), 4)), np.zeros(len(order))
    kinds = np.full(len(order), -1)
    result = np.zeros(len(order), np.int64)
    count = 0
    for place, row in enumerate(order):
        alike = np.flatnonzero(kinds[:count] == classes[row])
        near = box_iou(boxes[row : row + 1], fused[alike])[0] if alike.size else np.zeros(0)
        if near.size and near.max() > overlap:
            chosen = int(alike[near.argmax()])
        else:
            chosen, count = count, count + 1
            kinds[chosen] = classes[row]
        weight = max(float(scores[row]), 1e-12)
        fused[chosen] = (fused[chosen] * mass[chosen] + boxes[row] * weight) / (mass[chosen] + weight)
        mass[chosen] += weight
        result[place] = chosen
    return result, count


def _joined(found: Sequence[Detections]) -> Detections:
    """All rows below each other; optional columns only where all that saw anything have them, in the same form."""
    seen = [one for one in found if len(one)] or list(found[:1])
    columns: dict[str, NDArray[np.float32] | None] = {}
    for name in ("embeddings", "oriented", "keypoints"):
        values = [getattr(one, name) for one in seen]
        alike = all(v is not None for v in values) and len({v.shape[1:] for v in values}) == 1
        columns[name] = np.concatenate(values) if alike else None
    masks = None
    if all(one.masks is not None for one in seen):
        masks = tuple(mask for one in seen for mask in one.masks or ())
    return Detections(
        np.concatenate([one.xyxy for one in seen]),
        np.concatenate([one.scores for one in seen]),
        np.concatenate([one.classes for one in seen]),
        masks,
        **columns,
    )
