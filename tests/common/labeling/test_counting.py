"""Rates of finds against labels: hand-made cases, and what must hold for any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.detection.contract import Detections
from common.labeling import counting
from common.labeling.counting import Hits, Truth

BOXES = np.array([[0, 0, 10, 10], [50, 50, 70, 70], [100, 0, 120, 30]], np.float32)


def truth(n: int = 3, ignore: list[list[float]] | None = None) -> Truth:
    return Truth(BOXES[:n], np.zeros(n, np.int64), np.array(ignore or [], np.float32).reshape(-1, 4))


def found(boxes, scores, classes=None) -> Detections:
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, classes or [0] * len(scores))


FAR = [200, 200, 220, 220]
CASES = {
    "all found": (found(BOXES, [0.9, 0.8, 0.7]), truth(), 1.0, 1.0, 1.0),
    "one missed": (found(BOXES[:2], [0.9, 0.8]), truth(), 0.8, 1.0, 2 / 3),
    "a sure false alarm": (found([FAR, *BOXES], [0.95, 0.9, 0.8, 0.7]), truth(), 6 / 7, 0.75, 1.0),
    "a doubtful false alarm": (found([*BOXES, FAR], [0.9, 0.8, 0.7, 0.2]), truth(), 1.0, 1.0, 1.0),
    "twice the same": (found([BOXES[0], BOXES[0]], [0.9, 0.8]), truth(1), 1.0, 1.0, 1.0),
    "on what is ignored": (found([BOXES[0], FAR], [0.5, 0.9]), truth(1, [FAR]), 1.0, 1.0, 1.0),
    "another class": (found(BOXES, [0.9, 0.8, 0.7], [1, 1, 1]), truth(), 0.0, 0.0, 0.0),
    "nothing": (Detections(), truth(), 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize(("seen", "real", "f1", "precision", "recall"), CASES.values(), ids=CASES)
def test_rates(seen, real, f1, precision, recall):
    rates = counting.best([counting.hits(seen, real, 0)])
    assert (rates.f1, rates.precision, rates.recall) == pytest.approx((f1, precision, recall))
    assert rates.wanted == len(real.boxes)


def test_beside_what_was_corrected_nothing_is_wrong():
    """One thing of several was labelled: only what lies on it can be wrong."""
    one = Truth(BOXES[:1], np.zeros(1, np.int64), np.zeros((0, 4), np.float32), partial=True)
    beside = counting.best([counting.hits(found([*BOXES, FAR], [0.9, 0.8, 0.7, 0.6]), one, 0)])
    assert (beside.f1, beside.precision, beside.wanted) == (1.0, 1.0, 1)
    badly = counting.at([counting.hits(found([[0, 0, 10, 25]], [0.9]), one, 0)], 0.5)
    assert (badly.precision, badly.recall) == (0.0, 0.0)


def test_the_threshold_lies_between_hits_and_false_alarms():
    parts = [counting.hits(found([*BOXES, FAR], [0.8, 0.75, 0.7, 0.3]), truth(), 0)]
    assert 0.3 < counting.best(parts).threshold <= 0.7
    low = [counting.hits(found([*BOXES, FAR], [0.3, 0.28, 0.26, 0.05]), truth(), 0)]
    assert 0.05 < counting.best(low).threshold <= 0.26


SEEN_AGAIN = {
    "two false alarms": ([0.6, 0.55], [0.95, 0.9, 0.85, 0.8], 0.5, 0.7),
    "half of the hits lower": ([], [0.9, 0.8, 0.45, 0.4], 0.5, 0.3),
    "nearly all hits lower": ([], [0.9, 0.45, 0.4, 0.35], 0.26, 0.26),
    "a flood of false alarms": ([0.6] * 20, [0.95, 0.9, 0.85, 0.8], 0.7, 0.7),
}


@pytest.mark.parametrize(("wrong", "right", "again", "apart"), SEEN_AGAIN.values(), ids=SEEN_AGAIN)
def test_the_same_objects_again_leave_the_usual_threshold_for_more_than_one_of_them(wrong, right, again, apart):
    scores = np.array([*right, *wrong])
    hit = np.arange(len(scores)) < len(right)

    def threshold(objects: frozenset[int] | None) -> float:
        """Two objects on two frames each."""
        parts = [Hits(scores[row::2], hit[row::2], 2, objects) for row in (0, 1)]
        rates = counting.best(parts)
        assert (rates.wanted, rates.distinct) == (4, 4 if objects is None else 2)
        return rates.threshold

    assert threshold(frozenset({0, 1})) == pytest.approx(again, abs=0.05)
    assert threshold(None) == pytest.approx(apart, abs=0.05)


def test_one_object_that_is_seen_again_does_not_excuse_a_flood():
    scores, hit = np.array([0.95, *[0.6] * 20]), np.arange(21) < 1
    rates = counting.best([Hits(scores, hit, 1, frozenset({0}))] * 2)
    assert (rates.distinct, rates.f1, rates.reach) == (1, 1.0, 1.0) and 0.6 < rates.threshold <= 0.95


def test_how_good_a_candidate_can_be_does_not_hang_on_the_threshold_that_stays():
    parts = [
        Hits(np.array([0.9, 0.45]), np.array([True, True]), 2, frozenset({0, 1})),
        Hits(np.array([0.8]), np.array([True]), 2, frozenset({0, 1})),
    ]
    rates = counting.best(parts)
    assert rates.threshold == 0.5 and rates.f1 == pytest.approx(2 / 3) and rates.reach == pytest.approx(6 / 7)


def test_things_that_are_somewhere_excuse_as_many_wrong_finds():
    places = [[200, 200, 220, 220], [300, 0, 320, 20], [300, 300, 320, 320]]
    lost = replace(truth(1), lost=np.array([0, 1]))
    for scores, wrong in (([0.9, 0.8, 0.7, 0.6], 2), ([0.9, 0.8], 0), ([0.9], 0)):
        parts = counting.hits(found([*BOXES[:1], *places][: len(scores)], scores), lost, 0)
        assert (int(parts.hit.sum()), int((~parts.hit).sum())) == (1, wrong)
    left = counting.hits(found(places, [0.9, 0.8, 0.7]), lost, 0).scores
    assert left == pytest.approx([0.8, 0.7]), "the surest is excused"


many = st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(many, st.integers(0, 10))
@example([(0.5, True), (0.25, False), (1 / 64, True)], 0)
@example([(1 / 64, True)], 0)
@example([(0.5, False), (0.75, True)], 0)
@example([(0.5, False), *[(0.75, True)] * 7, (0.25, True)], 0)  # good above and below, bad in between
@example([(0.985, True), (0.982, False), (0.25, False), (0.125, True)], 3)  # only all above the highest threshold
def test_no_threshold_is_better_than_the_best(rows, more):
    scores, hit = np.array([s for s, _ in rows]), np.array([h for _, h in rows])
    order = np.argsort(-scores, kind="stable")
    parts = [Hits(scores[order], hit[order], int(hit.sum()) + more)]
    chosen = counting.best(parts)
    everywhere = [counting.at(parts, threshold).f1 for threshold in np.linspace(0.02, 0.98, 40)]
    assert chosen.f1 >= max(everywhere) - 0.011
    assert 0 <= chosen.ap <= 1 and 0 < chosen.threshold < 1
    low, high = counting.interval(parts, chosen.threshold)
    assert 0 <= low <= high <= 1


def test_more_measurements_are_surer():
    def width(n: int) -> float:
        hit = np.arange(n) % 4 > 0
        low, high = counting.interval([Hits(np.full(n, 0.9), hit, n)], 0.5)
        return high - low

    assert width(8) > width(40) > width(400) > 0
