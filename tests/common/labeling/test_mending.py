"""What a correction changes: only what depends on it, for as long as it does."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from common.errors import Interrupted
from common.labeling.mending import Mender, Offset, mended, overlap
from tests.common.labeling.test_effort import FRAMES, STRAIGHT, VIDEO, Oracle, life
from tests.common.labeling.toys import ToyVideo

TRUTH = life(STRAIGHT)


def own(shift: dict[int, float]) -> dict[int, np.ndarray]:
    """The labeling's figures: right but for these frames, by so many pixels."""
    return {f: TRUTH.boxes[f] + np.array([1, 0, 1, 0]) * shift.get(f, 0.0) for f in range(FRAMES)}


class Counted:
    """The clip, and which frames were read."""

    info = VIDEO.info

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def stream(self, start, stop):
        for frame in range(start, stop, 1 if stop >= start else -1):
            self.seen.add(frame)
            yield VIDEO.read(frame)


@pytest.mark.parametrize(
    ("wrong", "corrected"),
    [(range(10, 15), [11]), (range(10, 15), [10, 14]), (range(8, FRAMES), [9]), (range(9, 12), [10])],
    ids=["once", "both ends", "wrong to the end", "short"],
)
def test_what_was_wrong_is_right_and_the_rest_untouched(wrong, corrected):
    drawn = {frame: TRUTH.boxes[frame] for frame in corrected}
    figures = {f: box for f, box in own(dict.fromkeys(wrong, 22.0)).items() if f not in drawn}
    source = Counted()
    found = mended(source, Oracle(TRUTH), figures, drawn)  # type: ignore[arg-type]
    after = {**figures, **drawn, **found}
    assert all(overlap(after[f], TRUTH.boxes[f]) > 0.8 for f in range(FRAMES))
    assert set(found) <= set(wrong) - set(drawn)
    assert source.seen <= set(range(min(wrong) - 6, max(wrong) + 7)), "frames far from it are not even read"


def test_what_people_only_confirmed_changes_nothing():
    figures = own({})
    drawn = {12: figures.pop(12)}
    source = Counted()
    assert mended(source, Oracle(TRUTH), figures, drawn) == {} and not source.seen  # type: ignore[arg-type]


def test_a_figure_that_was_lost_goes_on():
    figures = {f: box for f, box in own({}).items() if f < 10 or f > 16}
    found = mended(VIDEO, Oracle(TRUTH), figures, {12: TRUTH.boxes[12]})
    assert set(found) >= {10, 11, 13, 14, 15, 16}
    assert all(overlap(found[f], TRUTH.boxes[f]) > 0.8 for f in found)


def test_an_offset_is_put_right_on_other_boxes():
    offset = Offset(np.array([0.0, 0, 10, 20]), np.array([5.0, 0, 25, 20]))
    np.testing.assert_allclose(offset.moved(np.array([100.0, 50, 110, 70])), [105, 50, 125, 70])
    half = offset.moved(np.array([100.0, 50, 105, 60]))
    np.testing.assert_allclose(half, [102.5, 50, 112.5, 60])


def test_one_that_is_always_too_large_is_mended_even_when_the_tracker_is_lost():
    """After the tracker has said that the offset stays."""
    large = {f: np.array([-6.0, -6, 6, 6]) + TRUTH.boxes[f] for f in range(FRAMES)}
    made = Mender(Oracle(TRUTH, until=4), large.get, (256, 160))
    made.correct(6, VIDEO.read(6), TRUTH.boxes[6])
    for frame in range(7, 16):
        box = made.push(frame, VIDEO.read(frame))
        assert box is not None and overlap(box, TRUTH.boxes[frame]) > 0.9, frame


def test_an_object_that_ended_is_not_followed_for_long():
    """The labeling has it up to frame 6, and the tracker goes on for ever."""
    ended, clip = {f: box for f, box in own({}).items() if f < 7}, ToyVideo(FRAMES)
    clip.info = replace(clip.info, fps=5.0)
    found = mended(clip, Oracle(TRUTH), ended, {6: TRUTH.boxes[6] + 9})
    assert sorted(f for f in found if f > 6) == [7, 8, 9, 10, 11]
    made = Mender(Oracle(TRUTH), None, (256, 160), 5)
    made.correct(6, VIDEO.read(6), TRUTH.boxes[6])
    assert all(made.push(f, VIDEO.read(f)) is not None for f in range(7, 20)), "a new object has nothing to end it"


def test_a_stop_ends_it_on_the_way():
    stop = threading.Event()

    class Stopping(Counted):
        def stream(self, start, stop_at):
            for image in super().stream(start, stop_at):
                yield image
                stop.set()

    figures = {f: box for f, box in own(dict.fromkeys(range(8, FRAMES), 22.0)).items() if f != 9}
    source = Stopping()
    with pytest.raises(Interrupted):
        mended(source, Oracle(TRUTH), figures, {9: TRUTH.boxes[9]}, stop=stop)  # type: ignore[arg-type]
    assert len(source.seen) < 8, "those that were read ahead"


def test_what_a_person_says_is_gone_stays_gone():
    figures = own({})
    made = Mender(Oracle(TRUTH), lambda f: None if f == 12 else figures[f], (256, 160))
    assert made.push(7, None) is not None
    made.correct(8, VIDEO.read(8), None)
    assert [made.push(f, None) is None for f in (9, 10, 11, 12, 13)] == [True, True, True, True, False]


def test_an_object_that_left_over_the_edge_is_followed_no_further():
    """Trackers cling to the edge; an end within the picture may be a mistake of the labeling, and is followed on."""
    for left, followed in ((0.0, 0), (30.0, 3)):
        start = np.array([left, 40.0, left + 30, 70.0])
        figures = {f: start if f < 4 else None for f in range(FRAMES)}
        there = life([left + 6] * FRAMES)
        mender = Mender(Oracle(there), figures.get, (VIDEO.info.width, VIDEO.info.height))
        mender.push(0, None)
        mender.correct(1, VIDEO.read(1), there.boxes[1])
        seen = [mender.push(f, VIDEO.read(f) if mender.active else None) for f in range(2, 7)]
        assert all(figure is not None for figure in seen[:2])
        assert sum(figure is not None for figure in seen[2:]) == followed
