"""Repair after the run: what must be linked, what must never be, and that every step is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.association.contract import Tracks
from common.association.offline.repair import RepairSettings, repair
from common.association.offline.tracklets import Camera
from tests.common.association.scenes import walkers

PLAIN = RepairSettings(smooth_s=0.0, smooth_size_s=0.0)


def tracks(parts: dict[int, tuple[range, np.ndarray]], classes: dict[int, int] | None = None) -> Tracks:
    """id -> (frames, boxes of all frames (n, 4))."""
    found = []
    for identity, (frames, boxes) in parts.items():
        n = len(frames)
        index = np.array(frames, np.int64)
        found.append(
            Tracks(
                index,
                np.full(n, identity),
                boxes[index].astype(np.float32),
                np.full(n, 0.9, np.float32),
                np.full(n, (classes or {}).get(identity, 0)),
                np.zeros(n, np.int64),
            )
        )
    return Tracks.joined(found)


def test_a_track_that_comes_back_where_it_was_going_is_linked_and_filled() -> None:
    boxes = walkers(1, 80)[:, 0]
    done = repair(tracks({1: (range(30), boxes), 2: (range(45, 80), boxes)}), PLAIN)
    assert done.renamed == {2: 1}
    assert set(done.tracks.ids.tolist()) == {1}
    assert done.tracks.frames.tolist() == list(range(80))
    assert np.abs(done.tracks.xyxy - boxes).max() < 1
    kinds = {d.kind: d for d in done.decisions}
    assert kinds["link"].ids == (1, 2) and kinds["link"].frames == (30, 44) and kinds["link"].score > 0.5
    assert "2 is 1 again" in kinds["link"].text() and "place" in kinds["link"].reasons
    assert kinds["fill"].frames == (30, 44)
    filled = done.tracks.keep(done.tracks.rows == -1)
    assert filled.frames.tolist() == list(range(30, 45)) and (filled.scores < 0.9).all()


@pytest.mark.parametrize(
    ("before", "after", "step", "filled"),
    [
        (10, 10, 1, True),
        (9, 1, 1, True),  # as many as are missing, on whichever side
        (4, 5, 1, False),  # nine frames around ten that are missing
        (10, 10, 3, True),
        (4, 5, 3, False),
    ],
)
def test_what_is_mostly_unseen_is_not_filled_in(before: int, after: int, step: int, filled: bool) -> None:
    boxes = walkers(1, 100)[:, 0]
    seen = [*range(before), *range(before + 10, before + 10 + after)]
    found = tracks({1: (range(len(seen)), boxes[seen])})
    found = Tracks(np.array(seen) * step, found.ids, found.xyxy, found.scores, found.classes, found.rows)
    done = repair(found, RepairSettings(smooth_s=0.0, smooth_size_s=0.0, step=step, fps=30.0 * step, flicker_s=0.0))
    assert (done.tracks.rows == -1).sum() == (10 if filled else 0)


def _apart(boxes: np.ndarray) -> dict[int, tuple[range, np.ndarray]]:
    return {1: (range(30), boxes), 2: (range(45, 80), boxes + 400)}


def _together(boxes: np.ndarray) -> dict[int, tuple[range, np.ndarray]]:
    return {1: (range(50), boxes), 2: (range(45, 80), boxes)}


def _too_late(boxes: np.ndarray) -> dict[int, tuple[range, np.ndarray]]:
    return {1: (range(5), boxes), 2: (range(70, 80), boxes)}


def _other_size(boxes: np.ndarray) -> dict[int, tuple[range, np.ndarray]]:
    grown = boxes + np.array([-60, -120, 60, 120])
    return {1: (range(30), boxes), 2: (range(45, 80), grown)}


@pytest.mark.parametrize("case", [_apart, _together, _too_late, _other_size])
def test_what_is_never_linked(case: object) -> None:
    done = repair(tracks(case(walkers(1, 80)[:, 0])), PLAIN)  # type: ignore[operator]
    assert not done.renamed and set(done.tracks.ids.tolist()) == {1, 2}


def test_another_class_or_other_looks_forbid_a_link_and_make_it_a_suggestion() -> None:
    boxes = walkers(1, 80)[:, 0]
    parts = {1: (range(30), boxes), 2: (range(45, 80), boxes)}
    by_class = repair(tracks(parts, {2: 5}), PLAIN)
    assert not by_class.renamed
    assert [(s.kind, s.ids) for s in by_class.suggestions] == [("merge", (1, 2))]
    a, b = np.eye(2)
    by_looks = repair(tracks(parts), PLAIN, looks={1: a, 2: b})
    assert not by_looks.renamed
    assert repair(tracks(parts), PLAIN, looks={1: a, 2: a}).renamed == {2: 1}


def test_two_that_could_be_it_are_suggested_not_linked() -> None:
    boxes = walkers(1, 80)[:, 0]
    shift = np.array([12, 0, 12, 0])
    parts = {1: (range(30), boxes), 2: (range(40, 80), boxes + shift), 3: (range(40, 80), boxes - shift)}
    done = repair(tracks(parts), PLAIN)
    assert not done.renamed and any(s.kind == "merge" for s in done.suggestions)


def test_what_people_own_is_never_renamed() -> None:
    boxes = walkers(1, 80)[:, 0]
    kept = RepairSettings(smooth_s=0.0, smooth_size_s=0.0, keep=frozenset({2}))
    done = repair(tracks({1: (range(30), boxes), 2: (range(45, 80), boxes)}), kept)
    assert not done.renamed and [s.ids for s in done.suggestions] == [(1, 2)]


def test_flicker_goes_and_is_told() -> None:
    boxes = walkers(2, 60)
    whole = tracks({1: (range(60), boxes[:, 0]), 2: (range(20, 23), boxes[:, 1])})
    doubtful = Tracks(
        whole.frames, whole.ids, whole.xyxy, np.where(whole.ids == 2, 0.4, 0.9), whole.classes, whole.rows
    )
    done = repair(doubtful, PLAIN)
    assert set(done.tracks.ids.tolist()) == {1}
    assert [(d.kind, d.ids, d.frames) for d in done.decisions] == [("drop", (2,), (20, 22))]
    assert set(repair(whole, PLAIN).tracks.ids.tolist()) == {1, 2}


STILL = np.tile(np.array([100.0, 100, 140, 200]), (700, 1))


def half_second(first: int, score: float = 0.6) -> Tracks:
    """Seen half a second long, not well."""
    found = tracks({1: (range(first, first + 15), STILL)})
    return replace(found, scores=np.full(15, score, np.float32))


@pytest.mark.parametrize(
    ("first", "span", "stays"),
    [
        (200, (0, 699), False),
        (200, (0, 299), True),  # in a short clip nothing is there for long
        (0, (0, 699), True),  # who knows how long it was there before
        (685, (0, 699), True),
    ],
)
def test_what_is_brief_depends_on_the_video(first: int, span: tuple[int, int], stays: bool) -> None:
    assert bool(len(repair(half_second(first), PLAIN, span=span).tracks)) == stays
    assert len(repair(half_second(first, 0.9), PLAIN, span=span).tracks) == 15


def test_what_people_drew_is_never_brief() -> None:
    brief = half_second(200)
    drawn = replace(brief, scores=np.r_[np.float32(1), brief.scores[1:]])
    assert len(repair(drawn, PLAIN, span=(0, 699)).tracks) == 15
    assert len(repair(brief, replace(PLAIN, people=1), span=(0, 699)).tracks) == 15


def test_smoothing_takes_jitter_and_leaves_motion() -> None:
    boxes = walkers(3, 120)
    noisy = boxes + np.random.default_rng(0).normal(0, 3, boxes.shape)
    noisy[..., 2:] = np.maximum(noisy[..., 2:], noisy[..., :2] + 1)
    whole = tracks({k + 1: (range(120), noisy[:, k]) for k in range(3)})
    done = repair(whole).tracks
    order = np.lexsort((done.ids, done.frames))
    off = np.abs(done.xyxy[order].reshape(120, 3, 4) - boxes).mean()
    assert off < 0.7 * np.abs(noisy - boxes).mean()
    clean = tracks({1: (range(120), boxes[:, 0])})
    assert np.abs(repair(clean).tracks.xyxy - clean.xyxy).max() < 0.01


def test_gaps_follow_the_camera_and_the_step() -> None:
    """A camera that pans while a standing object is hidden; every second frame is used."""
    pan = {frame: np.array([[1.0, 0, 5.0 if 20 < frame <= 30 else 0.0], [0, 1, 0]]) for frame in range(60)}
    shift = np.cumsum([pan[f][0, 2] for f in range(60)])
    boxes = np.array([100, 100, 140, 200]) + shift[:, None] * np.array([1, 0, 1, 0])
    frames = [*range(0, 20, 2), *range(32, 60, 2)]
    whole = tracks({1: (frames, boxes)})  # type: ignore[dict-item]
    done = repair(whole, RepairSettings(smooth_s=0.0, smooth_size_s=0.0, step=2), motions=pan).tracks
    assert done.frames.tolist() == list(range(0, 60, 2))
    assert np.abs(done.xyxy - boxes[done.frames]).max() < 0.5


def test_what_the_camera_moves_is_no_motion_of_the_object() -> None:
    """A steady pan over a standing object: where it comes back is where it was, not as far ahead again as the pan went."""
    pan = {frame: np.array([[1.0, 0, 9.0], [0, 1, 0]]) for frame in range(60)}
    boxes = np.array([0, 100, 40, 200]) + 9.0 * np.arange(60)[:, None] * np.array([1, 0, 1, 0])
    halves = tracks({1: (range(20), boxes), 2: (range(32, 60), boxes)})
    reasons = [d.reasons for d in repair(halves, PLAIN, motions=pan).decisions if d.kind == "link"]
    assert [r["place"] for r in reasons] == [pytest.approx(0, abs=0.01)]
    assert not [d for d in repair(halves, PLAIN).decisions if d.kind == "link"], "so far it goes only with the camera"


def test_the_camera_is_told_over_hours_of_driving_forward() -> None:
    """Each step enlarges by half a percent about the picture's middle: after 40,000 steps the whole is past all numbers."""
    grow, middle = 1.005, np.array([320.0, 240])
    steps = {f: np.array([[grow, 0, 0], [0, grow, 0]]) for f in range(40_000)}
    for step in steps.values():
        step[:, 2] = middle * (1 - grow)
    camera = Camera(steps)
    for last in (5, 63, 64, 39_000):
        for gap in (1, 64, 200):
            there = camera.between(last, last + gap)
            assert there is not None
            expected = middle + grow**gap * (np.array([300.0, 250]) - middle)
            assert there[:, :2] @ (300.0, 250) + there[:, 2] == pytest.approx(expected, abs=1e-6)
            back = camera.between(last + gap, last)
            assert back is not None
            assert back[:, :2] @ expected + back[:, 2] == pytest.approx((300.0, 250), abs=1e-6)


def test_boxes_are_carried_by_a_camera_that_zooms() -> None:
    grow = {f: np.array([[1.02, 0, -6.4], [0, 1.02, -4.8]]) for f in range(50, 200)}
    frames = np.array([90, 100, 120, 130, 140])
    boxes = np.array([[320 + 10 * 1.02 ** (f - 90), 240, 20 * 1.02 ** (f - 90), 40 * 1.02 ** (f - 90)] for f in frames])
    carried = Camera(grow).carried(boxes, frames, 130)
    assert carried == pytest.approx(np.tile(boxes[3], (5, 1)), rel=1e-9)


def test_what_comes_in_over_the_edge_is_smoothed_as_fast_as_it_grows() -> None:
    """The edge that is in the picture goes on evenly, where sizes smoothed over a longer time would bend it."""
    left = -160 + 8.0 * np.arange(60)
    boxes = np.stack((np.maximum(left, 0), np.full(60, 50.0), np.maximum(left + 160, 1), np.full(60, 90.0)), 1)
    done = repair(tracks({1: (range(1, 60), boxes)}), size=(640, 480)).tracks
    assert np.abs(done.xyxy[4:-4, 2] - boxes[5:-4, 2]).max() < 0.1


def test_a_jump_is_suggested_as_a_split() -> None:
    boxes = walkers(1, 60)[:, 0]
    boxes[30:] += 300
    found = repair(tracks({1: (range(60), boxes)}), PLAIN).suggestions
    assert [(s.kind, s.frame) for s in found] == [("split", 30)]


def test_nothing_in_nothing_out() -> None:
    done = repair(Tracks())
    assert len(done.tracks) == 0 and not done.decisions and not done.suggestions
