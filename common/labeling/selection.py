"""Which candidate does each class best, measured on what people labelled, within a time budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.detection.contract import Detections
from common.errors import UserError
from common.labeling import counting
from common.labeling.candidates import Candidate
from common.labeling.chosen import MIDDLE, Rule, fused
from common.labeling.counting import Rates
from common.labeling.per_scene import of_scenes
from common.labeling.scoring import Score, Tried, attempt, rated
from common.labeling.support import SupportSet
from common.labeling.trials import folds
from common.weights.options import DEFAULT, EngineOptions

GAIN = 0.015
"""F1 that a fusion must be better by than its best member, for it costs the time of both."""
_DOUBT = 0.12
"""F1 that candidates may differ by at most and count as equal; less the more objects they were measured on."""
_ONE = 0.75
"""Share of one object's worth of F1 by which candidates may differ and count as equal."""
_SURE_OF = 1.5
"""Objects that a fusion, or a detector of a class's own, must get right beyond the others: one may be chance."""
_SLOW = 0.01
"""F1 that a candidate is worth less for each doubling of its time beyond 100 ms a picture."""


@dataclass(frozen=True)
class Choice:
    """What is used. candidates: those that are needed. tables: our class of each class of theirs, -1 = none. rules: one
    for each class that can be found, and others for scenes that need them. scores: all rows, best first. text: why, for
    people. scenes: looks of those that rules are for, `common.labeling.scenes.look`."""

    classes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    tables: tuple[tuple[int, ...], ...]
    rules: tuple[Rule, ...]
    scores: tuple[Score, ...]
    text: str
    scenes: tuple[tuple[float, ...], ...] = ()

    @property
    def names(self) -> str:
        """Of what was chosen, for people."""
        return " + ".join(candidate.name for candidate in self.candidates)

    def to_json(self) -> dict[str, Any]:
        return {
            "classes": list(self.classes),
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "tables": [list(table) for table in self.tables],
            "rules": [rule.to_json() for rule in self.rules],
            "scores": [score.to_json() for score in self.scores],
            "text": self.text,
            "scenes": [list(scene) for scene in self.scenes],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Choice:
        return Choice(
            tuple(data["classes"]),
            tuple(Candidate.from_json(one) for one in data["candidates"]),
            tuple(tuple(int(v) for v in table) for table in data["tables"]),
            tuple(Rule.from_json(rule) for rule in data["rules"]),
            tuple(Score.from_json(score) for score in data["scores"]),
            str(data["text"]),
            tuple(tuple(float(v) for v in scene) for scene in data.get("scenes", ())),
        )


def select(
    support: SupportSet,
    candidates: Sequence[Candidate],
    *,
    budget_s: float = 60.0,
    options: EngineOptions = DEFAULT,
    near: bool = True,
    stop: threading.Event | None = None,
    on_score: Callable[[Score], None] | None = None,
) -> Choice:
    """Tries the candidates in their order until the time is up; the first is always tried. near: whether the frames
    around a lone labelled one may be looked at. on_score: told each row as it is known. Raises what the first candidate
    raises when it cannot work at all, and `ValueError` for no candidates.
    """
    if not candidates:
        raise ValueError("at least one candidate is needed")
    end = time.monotonic() + budget_s
    trials = folds(support, near)
    tried: list[Tried] = []
    rows: list[Score] = []

    def late() -> bool:
        return time.monotonic() > end or (stop is not None and stop.is_set())

    for candidate in candidates:
        if tried and late():
            rows.append(Score(candidate.name, candidate.title, "not tried", why="There was no time left to try it."))
        else:
            try:
                one = attempt(candidate, trials, support.classes, options, late)
                tried.append(one)
                rows.append(one.score)
            except UserError as error:
                if len(candidates) == 1:
                    raise
                rows.append(Score(candidate.name, candidate.title, "failed", why=str(error)))
        if on_score is not None:
            on_score(rows[-1])
    if not tried:
        raise UserError(f"None of the {len(candidates)} candidates works here. {rows[0].why}")
    return _choose(support.classes, tried, rows, on_score)


def _worth(tried: Tried, name: str) -> float:
    """F1 of a class at the best threshold, a little less for slow ones; AP decides between equals."""
    rates = tried.score.classes.get(name)
    if rates is None:
        return 0.0
    slow = max(0.0, float(np.log2(max(tried.score.ms, 1.0) / 100.0)))
    return rates.reach + 0.05 * rates.ap - _SLOW * slow


def _likely(worths: Sequence[float], wanted: int) -> int:
    """The first of those that are about as good as the best: candidates come with the likely ones first, and what a few
    objects measure is not sure. wanted: how many objects it was measured on."""
    least = max(worths) - min(_DOUBT, _ONE / max(wanted, 1))
    return next(number for number, worth in enumerate(worths) if worth >= least)


def _choose(
    classes: tuple[str, ...],
    tried: Sequence[Tried],
    rows: list[Score],
    on_score: Callable[[Score], None] | None,
) -> Choice:
    rules: list[Rule] = []
    used: list[Tried] = []
    told: list[str] = []

    def place(one: Tried) -> int:
        if one not in used:
            used.append(one)
        return used.index(one)

    means = [float(np.mean([_worth(one, name) for name in classes])) for one in tried]
    distinct = {name: rate.distinct for name, rate in tried[0].score.classes.items()}
    wanted = sum(distinct.values())
    overall = tried[_likely(means, wanted)]
    for label, name in enumerate(classes):
        ranked = sorted(tried, key=lambda t: -_worth(t, name))
        best = tried[_likely([_worth(one, name) for one in tried], distinct.get(name, 0))]
        # a class of its own detector only where that is clearly better than the detector that is best for all
        needed = max(GAIN, _SURE_OF / max(distinct.get(name, 1), 1))
        if _worth(best, name) < _worth(overall, name) + needed:
            best = overall
        rates = best.score.classes.get(name)
        if rates is None or rates.f1 <= 0:
            told.append(f"{name} was found by none of them, so it is left to people")
            if rates is None:  # never tried: nothing speaks against it
                rules.append(Rule(label, (place(best),), (MIDDLE,)))
            continue
        pair = _complement(best, ranked, label, name)
        if pair is None:
            rules.append(Rule(label, (place(best),), (rates.threshold,)))
            told.append(f"{name} by {best.score.title} (F1 {rates.f1:.2f})")
        else:
            other, rule, together = pair
            rules.append(replace(rule, members=(place(best), place(other))))
            told.append(f"{name} by {best.score.title} and {other.score.title}, fused (F1 {together.f1:.2f})")
            row = _fused_row(best, other, classes, label, rule)
            rows.append(row)
            if on_score is not None:
                on_score(row)
    if not rules:
        best = overall
        rules = [Rule(n, (place(best),), (MIDDLE,)) for n in range(len(classes))]

    def needed_of(objects: int) -> float:
        return max(GAIN, _SURE_OF / max(objects, 1))

    scenes, special, why = of_scenes(classes, tried, used, rules, place, needed_of)
    rules += special
    told += why
    order = sorted(rows, key=lambda row: (row.state != "tried", -row.f1, -row.ap))
    return Choice(
        classes,
        tuple(one.candidate for one in used),
        tuple(tuple(int(v) for v in one.table) for one in used),
        tuple(rules),
        tuple(order),
        _text(told, tried),
        tuple(tuple(float(v) for v in scene) for scene in scenes),
    )


def _complement(best: Tried, ranked: Sequence[Tried], label: int, name: str) -> tuple[Tried, Rule, Rates] | None:
    """Another candidate whose boxes, fused with the best one's, find the class clearly better."""
    own = best.score.classes[name]
    if own.reach + _SURE_OF / max(own.distinct, 1) >= 1:  # nothing can be so much better
        return None
    top: tuple[Tried, Rule, Rates] | None = None
    for other in ranked[:4]:
        rates = other.score.classes.get(name)
        if other is best or rates is None or rates.reach < 0.5 * own.reach or other.tests != best.tests:
            continue
        rule = Rule(label, (0, 1), (own.threshold, rates.threshold))
        parts = _fused_parts(best, other, rule)
        hits = [counting.hits(one, test.truth, label) for one, test in zip(parts, best.tests, strict=True)]
        together = counting.best(hits)
        needed = own.reach + max(GAIN, _SURE_OF / max(own.distinct, 1))
        if together.reach > max(needed, top[2].reach if top else 0.0):
            top = (other, replace(rule, threshold=together.threshold), together)
    return top


def _fused_parts(best: Tried, other: Tried, rule: Rule) -> list[Detections]:
    return [fused(pair, rule) for pair in zip(best.found, other.found, strict=True)]


def _fused_row(best: Tried, other: Tried, classes: Sequence[str], label: int, rule: Rule) -> Score:
    name = f"{best.score.name}+{other.score.name}"
    row = Score(
        f"{name}/{classes[label]}",
        f"{best.score.title} and {other.score.title}, fused, for {classes[label]}",
        "tried",
        ms=best.score.ms + other.score.ms,
        pictures=len(best.tests),
    )
    return rated(row, _fused_parts(best, other, replace(rule, threshold=MIDDLE)), best.tests, classes)


def _text(told: Sequence[str], tried: Sequence[Tried]) -> str:
    pictures = tried[0].score.pictures
    about = ", ".join(dict.fromkeys(test.about.split(",")[-1].strip() for test in tried[0].tests))
    return f"{'; '.join(told)}. Measured on {pictures} pictures ({about}); {len(tried)} candidates were tried."
