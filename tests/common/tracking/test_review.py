"""The review list: worst first, spread out, bounded, and in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.geometry.types import Box, Mask
from common.tracking.contract import Prediction
from common.tracking.review import Reason, ReviewQueue, ReviewSettings
from common.tracking.snapshot import pack, unpack


def at(x: float, score: float = 0.9, key: str = "car", side: float = 40) -> Prediction:
    return Prediction(key, Box(np.array([x, 50, x + side, 50 + side])), score, True)


LOST = Prediction("car", None, 0.0, False)


def found(predictions: list[Prediction], **options: float) -> list[tuple[int, Reason]]:
    queue = ReviewQueue(ReviewSettings(**options), (400, 300))  # type: ignore[arg-type]
    for n, p in enumerate(predictions):
        queue.add(n, [p])
    return [(s.frame, s.findings[0].reason) for s in queue.suggestions()]


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([at(100)] * 50, []),
        ([at(100)] * 10 + [at(100, 0.3)] + [at(100)] * 10, [(10, Reason.LOW)]),
        ([at(100)] * 10 + [LOST] * 60 + [at(100)] * 5, [(10, Reason.LOST), (70, Reason.RETURNED)]),
        ([at(100)] * 10 + [LOST] * 200, [(10, Reason.LOST)]),
        ([at(100 - 10 * n) for n in range(11)] + [LOST] * 20, [(11, Reason.LEFT)]),
        ([at(100)] * 10 + [at(180)] * 20, [(10, Reason.JUMPED)]),
        ([at(20 * n) for n in range(15)], []),  # fast but steady
        ([at(n * n / 3) for n in range(30)], []),  # faster and faster
        ([at(100)] * 10 + [at(100, side=90)] * 10, [(10, Reason.JUMPED)]),
        ([at(100), Prediction("car", Mask.from_array(np.zeros((300, 400))), 0.5, True)], [(1, Reason.LOST)]),
    ],
)
def test_reasons(predictions: list[Prediction], expected: list[tuple[int, Reason]]) -> None:
    assert found(predictions) == expected


def test_one_dip_is_one_suggestion_at_its_worst() -> None:
    scores = [1 - 0.06 * max(0, 14 - abs(n - 40)) for n in range(80)]
    assert found([at(100, s) for s in scores], spacing=25) == [(40, Reason.LOW)]


def test_worst_first_and_more_objects_first() -> None:
    queue = ReviewQueue()
    queue.add(10, [at(0, 0.4)])
    queue.add(50, [at(0, 0.1)])
    queue.add(90, [at(0, 0.4), at(0, 0.35, "dog")])
    queue.add(91, [at(0, 0.9)])
    got = queue.suggestions()
    assert [s.frame for s in got] == [50, 90, 10]
    assert got[1].keys == ("dog", "car")
    assert got[1].text == "dog: low confidence (35 %); car: low confidence (40 %)"


def test_objects_added_one_by_one_are_one_suggestion() -> None:
    together, single = ReviewQueue(), ReviewQueue()
    together.add(5, [at(0, 0.2), at(0, 0.1, "dog")])
    single.add(5, [at(0, 0.2)])
    single.add(5, [at(0, 0.1, "dog")])
    assert together.suggestions() == single.suggestions()


def test_discard_forgets() -> None:
    queue = ReviewQueue()
    for n in range(100):
        queue.add(n, [at(0, 0.2 if n in (30, 70) else 0.9)])
    queue.discard(25, 60)
    assert [s.frame for s in queue.suggestions()] == [70]


@given(
    st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), max_size=300),
    st.integers(1, 6),
    st.integers(1, 40),
    st.integers(0, 300),
)
@settings(max_examples=60, deadline=None)
def test_the_list_is_short_spread_sorted_and_survives_saving(
    stream: list[tuple[int, float]], limit: int, spacing: int, cut: int
) -> None:
    chosen = ReviewSettings(limit=limit, spacing=spacing)
    queue, other = ReviewQueue(chosen), ReviewQueue(chosen)
    for n, (x, score) in enumerate(stream):
        queue.add(n, [at(x, score), at(0, score / 2, "dog")])
        if n == cut:
            other = ReviewQueue.load(unpack(pack(other.save())))
        other.add(n, [at(x, score), at(0, score / 2, "dog")])
        assert len(queue._worst) <= 3 * limit
    got = queue.suggestions()
    assert got == other.suggestions()
    assert len(got) <= limit
    assert [s.severity for s in got] == sorted((s.severity for s in got), reverse=True)
    frames = [s.frame for s in got]
    assert all(abs(a - b) >= spacing for i, a in enumerate(frames) for b in frames[:i])
    if any(score < 0.5 for _, score in stream):
        assert got


def test_backward_streams_work() -> None:
    queue = ReviewQueue(size=(400, 300))
    for n in range(100, 0, -1):
        queue.add(n, [LOST if n < 40 else at(100)])
    assert [(s.frame, s.findings[0].reason) for s in queue.suggestions()] == [(39, Reason.LOST)]


@pytest.mark.parametrize("bad", [{"limit": 0}, {"spacing": 0}, {"low": 2.0}, {"jump": 0.0}])
def test_settings_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        ReviewSettings(**bad)  # type: ignore[arg-type]
