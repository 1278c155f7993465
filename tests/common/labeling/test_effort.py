"""The annotator's corrections, counted by hand for motions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from common.geometry.types import Box
from common.labeling.effort import Effort, Life, assisted, by_interpolation, forward, iou, two_sided
from common.tracking.contract import Prediction
from tests.common.labeling.toys import ToyVideo

FRAMES = 24
VIDEO = ToyVideo(FRAMES)


def life(path, key="a", unsure=()) -> Life:
    """path: by frame the left side of a 30 pixel box, None = absent."""
    boxes = np.full((FRAMES, 4), np.nan)
    for frame, left in enumerate(path):
        if left is not None:
            boxes[frame] = left, 40, left + 30, 70
    doubt = np.zeros(FRAMES, bool)
    doubt[list(unsure)] = True
    return Life(key, boxes, doubt)


class Oracle:
    """A tracker that knows where things go, from whatever frame and in whatever direction it is started; `until` frames."""

    def __init__(self, truth: Life, until: int = 10**6) -> None:
        self.truth, self.until = truth, until

    def start(self, image, prompts, exemplars=()):
        return _OracleRun(self, next(f for f in range(FRAMES) if np.array_equal(VIDEO.read(f), image)))


class _OracleRun:
    def __init__(self, oracle: Oracle, frame: int) -> None:
        self.oracle, self.frame, self.age, self.way = oracle, frame, 0, 1

    def push(self, image):
        for way in (1, -1):  # which way the pictures go is seen from them
            there = self.frame + way * (self.age + 1)
            if 0 <= there < FRAMES and np.array_equal(VIDEO.read(there), image):
                self.way = way
        self.age += 1
        box = self.oracle.truth.boxes[self.frame + self.way * self.age]
        lost = self.age > self.oracle.until or not np.isfinite(box[0])
        return [[Prediction("x", None if lost else Box(box.astype(np.float32)), 0.0 if lost else 0.9, not lost)]]

    def flush(self):
        return []


STRAIGHT = [3.0 * f for f in range(FRAMES)]
BENT = [*(3.0 * f for f in range(12)), *(3.0 * (22 - f) for f in range(12, FRAMES))]
LEAVES = [*(3.0 * f for f in range(10)), *[None] * 8, *(3.0 * f for f in range(18, FRAMES))]


@pytest.mark.parametrize(
    ("path", "least", "most"), [(STRAIGHT, 2, 2), (BENT, 3, 8), (LEAVES, 4, 4)], ids=["straight", "bent", "leaves"]
)
def test_interpolation(path, least, most):
    """Both ends of each time it is there; a bend costs more."""
    assert least <= by_interpolation([life(path)], FRAMES).corrections <= most


def test_doubt_is_not_corrected():
    path = list(STRAIGHT)
    path[10] += 60
    assert by_interpolation([life(path)], FRAMES).corrections > 2
    assert by_interpolation([life(path, unsure=[10])], FRAMES).corrections == 2


@pytest.mark.parametrize(("until", "expected"), [(10**6, 1), (8, 3)])
def test_forward_draws_again_where_the_tracker_loses_it(until, expected):
    truth = life(BENT)
    assert forward([truth], VIDEO, Oracle(truth, until)).corrections == expected


def test_a_perfect_tracker_needs_both_ends_only():
    truth = life(BENT)
    assert two_sided([truth], VIDEO, Oracle(truth)).corrections == 2


def test_two_sides_bridge_what_one_cannot():
    truth = life(BENT)
    tracker = Oracle(truth, 13)
    assert two_sided([truth], VIDEO, tracker).corrections == 2
    assert forward([truth], VIDEO, tracker).corrections == 2


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"a1": life(STRAIGHT).boxes}, 1),  # the example
        ({}, 2),  # drawn once more; the tracker does the rest
        ({"a1": life(STRAIGHT).boxes, "a2": life([200.0] * FRAMES).boxes}, 2),  # one is none
        ({"a1": life([*STRAIGHT[:12], *[None] * 12]).boxes, "a2": life([*[None] * 12, *STRAIGHT[12:]]).boxes}, 2),
        ({"a1": life([*STRAIGHT[:12], *(s + 25 for s in STRAIGHT[12:])]).boxes}, 2),
    ],
    ids=["all well", "never found", "a false one", "two names", "drifts off"],
)
def test_the_assistant_s_mistakes_are_counted(found, expected):
    truth = life(STRAIGHT)
    assert assisted([truth], found, VIDEO, Oracle(truth), [0]).corrections == expected


def test_one_that_stays_when_the_object_has_left():
    truth = life([*STRAIGHT[:12], *[None] * 12])
    stays = {"a1": life(STRAIGHT).boxes}
    assert assisted([truth], stays, VIDEO, Oracle(truth), [0]).corrections == 2


@pytest.mark.parametrize(("key", "expected"), [("a1", 2), ("a2", 3)])
def test_one_that_comes_back_under_another_name(key, expected):
    """The example, "it is not here", and where it has a new name that it is the old one."""
    truth = life(LEAVES)
    back = {"a1": life([*STRAIGHT[:12], *[None] * 12]).boxes}
    again = life([*[None] * 18, *STRAIGHT[18:]]).boxes
    found = back | {key: np.where(np.isfinite(again), again, back.get(key, again))}
    assert assisted([truth], found, VIDEO, Oracle(truth), [0]).corrections == expected


def test_overlap_and_rate():
    a, b = np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 15, 10])
    assert iou(a, b) == pytest.approx(1 / 3) and iou(a, a) == 1 and iou(a, a + 100) == 0
    assert Effort(200, 3).per_thousand == 15
