"""What a detector finds against what was labelled: hits by score, the best threshold, F1, average precision.

Source: the matching and the all-points average precision of the PASCAL VOC challenge, Everingham et al. 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections
from common.geometry.measures import box_iou

Float = NDArray[np.float64]

OVERLAP = 0.5
"""IoU from which a detection is a hit."""
_ABOUT = 0.2
"""IoU from which a detection is about a labelled thing, well or badly."""
_LEAST = 0.4
"""Share of the best F1 that the usual threshold must have to stay."""
_LOWEST, _HIGHEST = 0.02, 0.98
"""Thresholds that are used."""
_USUAL = 0.5
"""The threshold that is kept to where the measurement says too little."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is on a picture. boxes: float32 (n, 4). classes: int64 (n,). ignore: float32 (m, 4): hits there count for
    nothing. partial: other things may be there, which nobody labelled: only what lies on the labelled ones counts. objects:
    int64 (n,), numbers of the labelled things that these are, where several pictures show the same; None = each counts by
    itself. lost: int64 (k,), classes of things that are on the picture, nobody knows where: of what is found in the wrong place
    as many count for nothing."""

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    ignore: NDArray[np.float32]
    partial: bool = False
    objects: NDArray[np.int64] | None = None
    lost: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Hits:
    """Of one class on one picture. scores, hit: of each detection that counts, surest first. wanted: how many there are.
    objects: their numbers, where several pictures show the same ones."""

    scores: Float
    hit: NDArray[np.bool_]
    wanted: int
    objects: frozenset[int] | None = None


@dataclass(frozen=True)
class Rates:
    """At the threshold. All 0..1. wanted: objects that were counted. distinct: how many different ones those are; the same again on
    other frames makes no measurement surer. reach: F1 at the best threshold for what was measured."""

    threshold: float
    f1: float
    precision: float
    recall: float
    ap: float
    wanted: int
    distinct: int
    reach: float


def hits(found: Detections, truth: Truth, label: int) -> Hits:
    """Greedy matching, surest first, each labelled object once."""
    mine = np.flatnonzero(found.classes == label)
    mine = mine[np.argsort(-found.scores[mine], kind="stable")]
    boxes = found.xyxy[mine]
    own = truth.classes == label
    wanted = truth.boxes[own]
    table = box_iou(boxes, wanted) if len(boxes) and len(wanted) else np.zeros((len(boxes), len(wanted)))
    spared = box_iou(boxes, truth.ignore).max(1) if len(boxes) and len(truth.ignore) else np.zeros(len(boxes))
    near = box_iou(boxes, truth.boxes).max(1) if len(boxes) and len(truth.boxes) else np.zeros(len(boxes))
    free = np.ones(len(wanted), bool)
    hit = np.zeros(len(boxes), bool)
    counts = np.ones(len(boxes), bool)
    somewhere = int(np.count_nonzero(truth.lost == label))
    for row in range(len(boxes)):
        overlaps = np.where(free, table[row], 0.0)
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best >= 0 and overlaps[best] >= OVERLAP:
            hit[row], free[best] = True, False
        elif spared[row] > 0.3 or somewhere > 0 or (truth.partial and near[row] < _ABOUT):
            counts[row] = False
            somewhere -= 1
    objects = None if truth.objects is None else frozenset(truth.objects[own].tolist())
    return Hits(found.scores[mine][counts].astype(np.float64), hit[counts], len(wanted), objects)


def curve(parts: Sequence[Hits]) -> tuple[Float, Float, Float, int]:
    """Over all pictures: scores falling, hits and false alarms down to each, how many are wanted."""
    scores = np.concatenate([p.scores for p in parts]) if parts else np.zeros(0)
    hit = np.concatenate([p.hit for p in parts]) if parts else np.zeros(0, bool)
    order = np.argsort(-scores, kind="stable")
    return scores[order], np.cumsum(hit[order]), np.cumsum(~hit[order]), sum(p.wanted for p in parts)


def distinct(parts: Sequence[Hits]) -> int:
    """How many different objects are wanted."""
    named = frozenset[int]().union(*(part.objects for part in parts if part.objects is not None))
    return len(named) + sum(part.wanted for part in parts if part.objects is None)


def best(parts: Sequence[Hits]) -> Rates:
    """The threshold with the best F1, in the middle of all that are about as good, and the rates there.

    Where pictures show the same objects again, frames near the one that was learned from, the usual threshold stays unless what
    speaks against it is worth one object or most of F1: the scores of few things lie high or low together there, and further
    away they are lower.
    """
    scores, right, wrong, wanted = curve(parts)
    if not wanted or not len(scores):
        return at(parts, _USUAL)
    f1 = 2 * right / (right + wrong + wanted)
    # a threshold at a score takes all of that score; the highest takes all above it
    below = np.append(scores[1:], 0.0)
    f1 = np.where((below < scores) & (scores >= _LOWEST) & (below < _HIGHEST), f1, -1.0)
    reach = float(f1.max())
    if reach < 0:
        return at(parts, _LOWEST)
    usual = at(parts, _USUAL)
    again = any(part.objects is not None for part in parts)
    if again and usual.f1 > max(_LEAST * reach, reach - 1 / usual.distinct):
        return replace(usual, reach=reach)
    top = int(f1.argmax())
    near = _run(np.flatnonzero(f1 >= 0), top, f1 >= reach - 0.01 - 1e-9)
    near = near[np.abs(near - top) <= max(2, 0.1 * wanted)]
    high, low = float(scores[near].max()), float(below[near].min())
    # between the score of the last hit and the next false alarm any threshold is as good (at `low` itself the false alarm is
    # taken, too): the usual one if it is there
    threshold = _USUAL if low < _USUAL <= high else (max(low, 0.6 * high) + high) / 2
    return replace(at(parts, float(np.clip(threshold, _LOWEST, _HIGHEST))), reach=reach)


def _run(places: NDArray[np.int64], middle: int, good: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Those of the places from which only good places lead to the middle, itself among them. good: bool, by place."""
    bad = places[~good[places]]
    left, right = bad[bad < middle].max(initial=-1), bad[bad > middle].min(initial=len(good))
    inside: NDArray[np.int64] = places[(places > left) & (places < right)]
    return inside


def at(parts: Sequence[Hits], threshold: float) -> Rates:
    """The rates at a threshold."""
    scores, right, wrong, wanted = curve(parts)
    taken = int(np.searchsorted(-scores, -threshold, side="right"))
    tp, fp = (float(right[taken - 1]), float(wrong[taken - 1])) if taken else (0.0, 0.0)
    precision = tp / (tp + fp) if taken else 0.0
    recall = tp / wanted if wanted else 0.0
    f1 = 2 * tp / (tp + fp + wanted) if tp + fp + wanted else 0.0
    return Rates(threshold, f1, precision, recall, _average(right, wrong, wanted), wanted, distinct(parts), f1)


def interval(parts: Sequence[Hits], threshold: float, seed: int = 0, draws: int = 200) -> tuple[float, float]:
    """Where F1 at the threshold lies in 90 % of bootstrap samples of single objects and false alarms (Efron 1979)."""
    hit = np.concatenate([p.hit[p.scores >= threshold] for p in parts]) if parts else np.zeros(0, bool)
    wanted = sum(p.wanted for p in parts)
    tp, fp = int(hit.sum()), int((~hit).sum())
    missed = wanted - tp
    if tp + fp + missed == 0:
        return 0.0, 1.0
    rng = np.random.default_rng(seed)
    # one more miss and one more hit than were seen: few samples leave room on both sides
    events = np.array([tp + 0.5, fp + 0.25, missed + 0.25])
    count = tp + fp + missed
    drawn = rng.multinomial(max(count, 1), events / events.sum(), draws)
    f1 = 2 * drawn[:, 0] / np.maximum(2 * drawn[:, 0] + drawn[:, 1] + drawn[:, 2], 1)
    low, high = np.quantile(f1, (0.05, 0.95))
    return float(low), float(high)


def _average(right: Float, wrong: Float, wanted: int) -> float:
    if not wanted or not len(right):
        return 0.0
    precision = right / (right + wrong)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(np.append(0.0, right))
    return float((envelope * gained).sum() / wanted)
