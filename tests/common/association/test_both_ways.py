"""A run backward corrects a run forward where they part, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from common.association import registry
from common.association.contract import Tracks
from common.association.offline.backward import run_backward
from common.association.offline.both_ways import both_ways, unchanged
from common.association.settings import Settings, Timing
from common.geometry.detections import Detections

FRAMES = 40


def walking(ids: np.ndarray) -> Tracks:
    """Two objects that walk through one another, 3 pixels a frame; ids (FRAMES, 2), 0 = not seen there."""
    frames, whose = np.nonzero(ids)
    x = np.where(whose == 0, 3.0 * frames, 3.0 * (FRAMES - 1 - frames))
    y = np.where(whose == 0, 50.0, 60.0)
    xyxy = np.stack((x, y, x + 30, y + 60), 1).astype(np.float32)
    scores = np.full(len(frames), 0.9, np.float32)
    return Tracks(frames, ids[frames, whose], xyxy, scores, np.zeros_like(frames), whose)


def followed(change: int = FRAMES, first: int = 1, second: int = 2) -> np.ndarray:
    """Identities that are swapped from a frame on."""
    ids = np.tile([first, second], (FRAMES, 1))
    ids[change:] = ids[change:, ::-1]
    return ids


RIGHT = followed()


@pytest.mark.parametrize(
    ("forward", "backward", "expected"),
    [
        (RIGHT, followed(first=7, second=8), RIGHT),  # they agree: names do not matter
        (followed(20), followed(first=7, second=8), RIGHT),  # forward has swapped them where they met
        (RIGHT, followed(20, 8, 7), RIGHT),  # backward has
        (RIGHT, np.zeros_like(RIGHT), RIGHT),  # backward has found nothing
    ],
    ids=["agree", "forward errs", "backward errs", "alone"],
)
def test_what_fits_from_both_sides(forward: np.ndarray, backward: np.ndarray, expected: np.ndarray) -> None:
    found = both_ways(walking(forward), walking(backward), 30.0)
    assert _same(found, walking(expected)) and len(found) == 2 * FRAMES


def _same(found: Tracks, wanted: Tracks) -> bool:
    """The same identity for the same object throughout, whatever its name."""
    place = {
        (f, r): i for f, r, i in zip(wanted.frames.tolist(), wanted.rows.tolist(), wanted.ids.tolist(), strict=True)
    }
    pairs = {
        (place[f, r], i) for f, r, i in zip(found.frames.tolist(), found.rows.tolist(), found.ids.tolist(), strict=True)
    }
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_a_gap_that_only_forward_bridged_stays_bridged_and_what_only_backward_saw_stays_out() -> None:
    seen, late = RIGHT.copy(), RIGHT.copy()
    seen[10:15, 0] = 0
    late[:20, 0] = 9  # backward gave up in the gap, and calls it another one
    late[10:15, 0] = 0
    late[30:, 1] = 2
    found = both_ways(walking(seen), walking(late), 30.0)
    assert _same(found, walking(seen)) and len(found) == np.count_nonzero(seen)
    assert unchanged(walking(seen), found) == {1, 2}
    assert unchanged(walking(followed(20)), walking(RIGHT)) == frozenset()


@pytest.mark.parametrize(
    ("late", "people", "expected"),
    [
        (3, 1, [[1] * FRAMES, [2] * FRAMES]),  # found as 3, labelled as 1 later: it is 1 throughout
        (3, 0, [[3] * FRAMES, [2] * FRAMES]),
        (1, 3, [[1] * 20 + [3] * 20, [2] * FRAMES]),  # people said 1, then 3: they stay two
    ],
)
def test_people_s_names_win(late: int, people: int, expected: list[list[int]]) -> None:
    ids = RIGHT.copy()
    ids[:20, 0], ids[20:, 0] = late, 1 if people == 1 else 3
    if people == 0:
        ids[20:, 0] = 1
    found = both_ways(walking(ids), walking(RIGHT), 30.0, people=people)
    for row, names in enumerate(expected):
        assert found.ids[found.rows == row].tolist() == names


def test_boxes_are_the_mean_of_both() -> None:
    forward, backward = walking(RIGHT), walking(RIGHT)
    moved = Tracks(backward.frames, backward.ids, backward.xyxy + 4, backward.scores, backward.classes, backward.rows)
    assert np.allclose(both_ways(forward, moved).ordered().xyxy, forward.ordered().xyxy + 2)
    assert both_ways(forward, Tracks()) is forward and not len(both_ways(Tracks(), forward))


@pytest.mark.parametrize("step", [1, 3])
def test_a_run_backward_follows_the_same_objects(step: int) -> None:
    """Frame numbers, rows and the camera's motion are right: the camera moves by 25 pixels a frame, more than a box."""
    motions = {n: np.array([[1.0, 0, 25 * step], [0, 1, 0]]) for n in range(step, 60, step)}
    frames = range(0, 60, step)

    def seen(n: int) -> Detections:
        x = np.array([100.0, 400.0]) + 25 * n
        boxes = np.stack((x, [50.0, 60.0], x + 20, [110.0, 120.0]), 1).astype(np.float32)
        return Detections(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64))

    settings = Settings(timing=Timing(0, step, 30.0))
    backward = run_backward("botsort", settings, ((n, seen(n)) for n in reversed(frames)), motions)
    engine = registry.make("botsort", settings)
    parts = [engine.update(seen(n), frame=n, camera=motions.get(n)) for n in frames]
    forward = Tracks.joined([*parts, engine.flush()])
    assert sorted(zip(backward.frames, backward.rows, strict=True)) == sorted(
        zip(forward.frames, forward.rows, strict=True)
    )
    assert len(np.unique(backward.ids)) == 2
    assert _same(both_ways(forward, backward, 30.0, step, motions), forward)
    assert not len(run_backward("botsort", settings, ()))
