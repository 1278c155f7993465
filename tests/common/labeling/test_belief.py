"""Which identities are believed, on results that are written down here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest

from common.geometry.types import Box
from common.labeling.belief import doubtful
from common.prediction.results import Identity, Results, Seen


@dataclass
class Told:
    """What `doubtful` asks of `Results`. seen: by frame. names: class of each identity, "thing" where it is not given."""

    seen: list[list[Seen]]
    names: dict[int, str]

    @property
    def identities(self) -> dict[int, Identity]:
        known = {one.id for frame in self.seen for one in frame}
        return {i: Identity(i, self.names.get(i, "thing"), 0, len(self.seen) - 1, len(self.seen)) for i in known}

    def frames(self) -> Iterator[tuple[int, list[Seen]]]:
        yield from enumerate(self.seen)


def seen(identity: int, xyxy: tuple[float, float, float, float], score: float, filled: bool = False) -> Seen:
    box = Box(np.array(xyxy, np.float32))
    return Seen(identity, box, box, score, filled)


def judged(
    frames: list[list[Seen]], confirmed: set[int] | None = None, names: dict[int, str] | None = None
) -> set[int]:
    return set(doubtful(cast(Results, Told(frames, names or {})), confirmed or set()))


WHOLE, PART, APART = (0, 0, 40, 100), (8, 10, 32, 60), (200, 0, 240, 100)


def test_what_is_found_well_is_believed_and_what_scrapes_past_the_threshold_is_not():
    frames = [[seen(1, WHOLE, 0.9), seen(2, APART, 0.52)] for _ in range(10)]
    assert judged(frames) == {2}


def test_a_label_confirms_what_is_found_badly():
    frames = [[seen(2, APART, 0.52)] for _ in range(10)]
    assert judged(frames, confirmed={2}) == set()


def test_figures_that_were_filled_in_neither_help_nor_harm():
    frames = [[seen(1, APART, 0.9)], *[[seen(1, APART, 0.2, filled=True)] for _ in range(9)]]
    assert judged(frames) == set()


@pytest.mark.parametrize("second", [PART, (4, 2, 44, 102)], ids=["a part", "a second find"])
def test_what_moves_along_in_the_place_of_a_surer_one_is_that_one(second):
    frames = []
    for step in range(10):
        moved = [tuple(v + 5 * step * (n % 2 == 0) for n, v in enumerate(box)) for box in (WHOLE, second)]
        frames.append([seen(1, moved[0], 0.9), seen(2, moved[1], 0.8)])
    assert judged(frames) == {2}
    assert judged(frames, confirmed={1, 2}) == set()


def test_things_that_pass_each_other_both_stay():
    frames = [[seen(1, (x, 0, x + 40, 100), 0.9), seen(2, (90 - x, 5, 125 - x, 95), 0.8)] for x in range(0, 90, 9)]
    assert judged(frames) == set()


def test_a_thing_of_another_class_may_be_a_part():
    frames = [[seen(1, WHOLE, 0.9), seen(2, PART, 0.8)] for _ in range(10)]
    assert judged(frames, names={1: "car", 2: "wheel"}) == set()


def test_of_two_that_are_equally_sure_the_first_stays():
    frames = [[seen(1, WHOLE, 0.9), seen(2, WHOLE, 0.9)] for _ in range(10)]
    assert judged(frames) == {2}


def test_what_was_found_once_is_as_good_as_the_threshold():
    assert judged([[seen(1, WHOLE, 0.55)], [seen(2, WHOLE, 0.45)]]) == {2}


def test_a_label_counts_more_than_a_score():
    frames = [[seen(1, WHOLE, 0.95), seen(2, WHOLE, 0.8)] for _ in range(10)]
    assert judged(frames, confirmed={2}) == {1}


def test_what_is_not_believed_takes_nothing_with_it():
    """A second find between two neighbours goes, and they stay; and nothing goes for lying on a false alarm."""
    three = [[seen(n, (25.0 * (n - 1), 0, 25.0 * (n + 3), 100), 1 - n / 10) for n in (1, 2, 3)] for _ in range(10)]
    assert judged(three) == {2}
    on_an_alarm = [[seen(1, WHOLE, 0.7), seen(2, WHOLE, 1.0 if n == 0 else 0.5)] for n in range(10)]
    assert judged(on_an_alarm) == {2}


def test_a_box_around_several_things_does_not_swallow_them():
    frames = [
        [seen(1, (0, 0, 100, 100), 0.95), *(seen(n, (50.0 * n - 98, 2, 50.0 * n - 54, 98), 0.9) for n in (2, 3))]
        for _ in range(10)
    ]
    assert judged(frames) == set()
