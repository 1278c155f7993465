"""How well each candidate did: found objects per trial, class mapping by measurement, rates, a table that explains itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections, Detector
from common.errors import FrameUnreadable
from common.geometry.measures import box_iou
from common.labeling import counting
from common.labeling.candidates import Candidate, make
from common.labeling.chosen import mapped
from common.labeling.counting import Hits, Rates, Truth
from common.labeling.trials import Fold, TestPicture
from common.weights.options import DEFAULT, EngineOptions

_RUN_UP = 6
"""Frames before a labelled one that a temporal detector sees."""
MAPPED = 0.5
"""IoU from which a foreign detector's find is taken for the labelled object."""


@dataclass(frozen=True)
class Score:
    """One row of the table. state: "tried", "failed" or "not tried". f1, low, high: mean over classes at the chosen
    thresholds, and where it lies in 90 % of bootstrap samples. classes: rates by class name. ms: processor time per picture. learned_s: to
    learn.
    mapping: by the detector's class name, ours. why: a sentence for people."""

    name: str
    title: str
    state: str
    f1: float = 0.0
    low: float = 0.0
    high: float = 0.0
    ap: float = 0.0
    classes: Mapping[str, Rates] = field(default_factory=dict)
    ms: float = 0.0
    learned_s: float = 0.0
    pictures: int = 0
    mapping: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Score:
        rest = dict(data)
        classes = rest.get("classes", {}).items()
        # rows of older plans do not say how many are distinct, and how good the best threshold was
        rest["classes"] = {
            name: Rates(**{"distinct": rates["wanted"], "reach": rates["f1"], **rates}) for name, rates in classes
        }
        return Score(**rest)


@dataclass(frozen=True, eq=False)
class Tried:
    """What a candidate found on every test picture, with our classes. table: our class of each of its own."""

    candidate: Candidate
    tests: tuple[TestPicture, ...]
    found: tuple[Detections, ...]
    table: NDArray[np.int64]
    score: Score


def attempt(
    candidate: Candidate,
    folds: Sequence[Fold],
    classes: Sequence[str],
    options: EngineOptions = DEFAULT,
    stopped: Callable[[], bool] = lambda: False,
) -> Tried:
    """Tries a candidate on all folds, or on as many as there is time for. Raises what the detector raises."""
    learns = candidate.kind == "exemplar"
    tests: list[TestPicture] = []
    raw: list[Detections] = []
    detector: Detector | None = None
    learned_s, looked_s = 0.0, 0.0
    for fold in folds:
        if (fold.learners and not learns) or (learns and not fold.train) or (tests and stopped()):
            continue
        if learns or detector is None:
            began = time.process_time()
            detector = make(candidate, fold.train, classes, options)
            learned_s = time.process_time() - began
        for test in fold.tests:
            one, spent_s = _found(detector, candidate, test, options)
            if one is not None:
                tests.append(test)
                raw.append(one)
                looked_s += spent_s
    assert detector is not None
    names = detector.card.classes
    if learns:
        table = np.arange(len(classes), dtype=np.int64)
    elif candidate.kind == "open":
        table = np.array(candidate.owners, np.int64)
    else:
        table = measured_mapping(raw, [test.truth for test in tests], len(names), len(classes))
    found = tuple(mapped(one, table) for one in raw)
    score = Score(
        candidate.name,
        candidate.title,
        "tried",
        ms=1000 * looked_s / max(len(tests), 1),
        learned_s=round(learned_s, 3) if learns else 0.0,
        pictures=len(tests),
        mapping={} if learns else {names[n]: classes[int(our)] for n, our in enumerate(table) if our >= 0},
    )
    return Tried(candidate, tuple(tests), found, table, rated(score, found, tests, classes))


def _found(
    detector: Detector, candidate: Candidate, test: TestPicture, options: EngineOptions
) -> tuple[Detections | None, float]:
    """What it finds on the picture, and the processor time for it; None for a temporal detector when the frames before are
    not to be had."""
    if not detector.card.temporal:
        image = test.read()
        began = time.process_time()
        return detector.detect([image])[0], time.process_time() - began
    if test.frame is None or test.source is None or test.frame == 0:
        return None, 0.0
    fresh = make(candidate, (), (), options)
    last: Detections | None = None
    spent_s = 0.0
    try:
        for number in range(max(0, test.frame - _RUN_UP), test.frame + 1):
            image = test.source.read(number)
            began = time.process_time()
            (last,) = fresh.detect([image])
            spent_s = time.process_time() - began
    except FrameUnreadable:
        return None, 0.0
    return last, spent_s


def measured_mapping(found: Sequence[Detections], truths: Sequence[Truth], theirs: int, ours: int) -> NDArray[np.int64]:
    """Our class of each of a detector's classes, -1 = none: the one that its finds are most often, when at least a quarter
    of what it finds with some certainty is that."""
    votes = np.zeros((theirs, ours + 1))
    for one, truth in zip(found, truths, strict=True):
        if not len(one):
            continue
        table = box_iou(one.xyxy, truth.boxes) if len(truth.boxes) else np.zeros((len(one), 1))
        hit = table.max(1) >= MAPPED
        label = truth.classes[table.argmax(1)] if len(truth.boxes) else np.zeros(len(one), np.int64)
        np.add.at(votes, (one.classes, np.where(hit, label, ours)), one.scores)
    total = votes.sum(1)
    best = votes[:, :ours].argmax(1)
    share = votes[np.arange(theirs), best] / np.maximum(total, 1e-9)
    return np.where((share > 0.1) & (votes[np.arange(theirs), best] > 0), best, -1).astype(np.int64)


def rated(score: Score, found: Sequence[Detections], tests: Sequence[TestPicture], classes: Sequence[str]) -> Score:
    """With rates, interval and sentence."""
    rates: dict[str, Rates] = {}
    parts: dict[str, list[Hits]] = {}
    for label, name in enumerate(classes):
        own = [counting.hits(one, test.truth, label) for one, test in zip(found, tests, strict=True)]
        if sum(p.wanted for p in own):
            parts[name] = own
            rates[name] = counting.best(own)
    if not rates:
        return replace(score, classes={}, why="There was nothing it could be tried on.")
    ends = [counting.interval(parts[name], rate.threshold) for name, rate in rates.items()]
    # each class has its own interval; that of the mean is narrower
    f1 = float(np.mean([rate.f1 for rate in rates.values()]))
    halves = np.array([(rate.f1 - low, high - rate.f1) for rate, (low, high) in zip(rates.values(), ends, strict=True)])
    below, above = np.sqrt((np.maximum(halves, 0) ** 2).sum(0)) / len(rates)
    made = replace(
        score,
        f1=f1,
        low=max(0.0, f1 - float(below)),
        high=min(1.0, f1 + float(above)),
        ap=float(np.mean([rate.ap for rate in rates.values()])),
        classes=rates,
    )
    return replace(made, why=sentence(made))


def sentence(score: Score) -> str:
    """What the numbers say."""
    wanted = sum(rate.wanted for rate in score.classes.values())
    found = sum(rate.recall * rate.wanted for rate in score.classes.values())
    wrong = sum(
        rate.recall * rate.wanted * (1 / rate.precision - 1) for rate in score.classes.values() if rate.precision > 0
    )
    speed = f"{score.ms:.0f} ms a picture"
    if not found:
        return f"Finds none of {wanted} labelled objects; {speed}."
    false = "no false alarm" if round(wrong) == 0 else f"{round(wrong)} false alarms"
    return f"Finds {round(found)} of {wanted} labelled objects on {score.pictures} pictures it has not learned, {false}; {speed}."
