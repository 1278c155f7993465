"""What every online associator promises: one identity per object from its first frame on, right frames, flat memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from common.association import registry
from common.association.contract import Associator, Given, Tracks
from common.association.settings import Settings, Thresholds, Timing
from common.errors import EngineUnavailable
from common.geometry.detections import Detections
from common.geometry.types import Mask
from tests.common.association.scenes import detections, everything, walkers

ALL = pytest.mark.parametrize("name", registry.names())


@ALL
def test_is_an_associator(name: str) -> None:
    assert isinstance(registry.make(name), Associator)


def test_unknown_name_is_the_users_error() -> None:
    with pytest.raises(EngineUnavailable, match="botsort"):
        registry.make("nobody")


@ALL
@pytest.mark.parametrize("appears", [0, 1, 7])
def test_one_identity_from_the_first_frame_on(name: str, appears: int) -> None:
    boxes = walkers(3, 20)
    parts = [detections(b if f >= appears else b[:2]) for f, b in enumerate(boxes)]
    tracks = everything(registry.make(name), parts)
    assert len(np.unique(tracks.ids)) == 3
    late = tracks.keep(tracks.xyxy[:, 1] > 250)
    assert late.frames.tolist() == list(range(appears, 20))
    assert len(np.unique(late.ids)) == 1


@ALL
@pytest.mark.parametrize(
    ("start", "step", "count"),
    [(0, 1, 12), (100, 1, 12), (100, 5, 9), (100, -1, 12), (57, -3, 10)],
)
def test_frame_numbers(name: str, start: int, step: int, count: int) -> None:
    frames = [start + step * k for k in range(count)]
    boxes = walkers(2, 200)
    settings = Settings(timing=Timing(start, step))
    tracks = everything(registry.make(name, settings), [detections(boxes[f]) for f in frames])
    assert sorted(set(tracks.frames.tolist())) == sorted(frames)
    assert len(np.unique(tracks.ids)) == 2 and len(tracks) == 2 * count
    for row in range(len(tracks)):
        truth = boxes[tracks.frames[row]]
        assert np.abs(truth - tracks.xyxy[row]).max(1).min() < 10


@ALL
def test_variable_frame_rate_and_gaps_in_frames(name: str) -> None:
    boxes = walkers(2, 60)
    made = registry.make(name, Settings(timing=Timing(fps=30)))
    frames = [0, 1, 2, 3, 4, 8, 9, 15, 16, 17]
    parts = [made.update(detections(boxes[f]), frame=f, time_s=f / 30) for f in frames]
    tracks = Tracks.joined(parts)
    assert len(np.unique(tracks.ids)) == 2 and len(tracks) == 2 * len(frames)
    with pytest.raises(ValueError, match="after 17"):
        made.update(detections(boxes[3]), frame=3)


@ALL
def test_class_flips_do_not_change_identity(name: str) -> None:
    boxes = walkers(2, 20)
    classes = np.zeros((20, 2), np.int64)
    classes[5::3, 0] = 1
    tracks = everything(registry.make(name), [detections(b, 0.9, c) for b, c in zip(boxes, classes, strict=True)])
    assert len(np.unique(tracks.ids)) == 2
    assert set(tracks.classes.tolist()) == {0}  # voted


def test_another_class_does_not_take_over_a_track() -> None:
    person, truck = np.array([100, 100, 140, 200]), np.array([104, 100, 150, 204])
    parts = [detections([person], 0.9, 0) for _ in range(5)]
    parts += [detections([truck, person + 6], 0.9, np.array([1, 0])) for _ in range(5)]
    tracks = everything(registry.make("botsort", Settings(duplicate=0.95)), parts)
    first = tracks.ids[0]
    assert tracks.classes[tracks.ids == first].tolist() == [0] * 10
    assert len(np.unique(tracks.ids)) == 2


@ALL
def test_two_in_one_process_share_nothing(name: str) -> None:
    boxes = walkers(3, 6)
    alone = everything(registry.make(name), [detections(b) for b in boxes])
    a, b = registry.make(name), registry.make(name)
    both: list[list[Tracks]] = [[], []]
    for frame in boxes:
        both[0].append(a.update(detections(frame)))
        both[1].append(b.update(detections(frame[::-1])))
    assert np.array_equal(Tracks.joined(both[0]).ids, alone.ids)
    assert set(Tracks.joined(both[1]).ids.tolist()) == {1, 2, 3}


@ALL
def test_saved_and_resumed_equals_never_stopped(name: str) -> None:
    boxes = walkers(6, 30)
    rng = np.random.default_rng(0)
    parts = [detections(b[rng.random(6) > 0.3], 0.8) for b in boxes]
    whole = everything(registry.make(name), parts)
    made, found = registry.make(name), []
    for part in parts:
        found.append(made.update(part))
        made = registry.make(name, state=made.save())
    resumed = Tracks.joined([*found, made.flush()])
    for column in ("frames", "ids", "xyxy", "scores", "classes", "rows"):
        assert np.array_equal(getattr(whole, column), getattr(resumed, column)), column
    other = next(n for n in registry.names() if n != name)
    with pytest.raises(ValueError, match="snapshot"):
        registry.make(other, state=made.save())


FRAMES = 3000
"""10,000 pass too, in three times the time."""


@pytest.mark.slow
def test_many_frames_of_a_hundred_objects_in_flat_memory() -> None:
    """A hundred people who come and go and are missed now and then: what is held after 250 frames is held at the end.
    (Most of the frames go by without being measured: tracing memory is slow.)"""
    rng = np.random.default_rng(1)
    base = np.stack((np.arange(100) % 10 * 190.0, np.arange(100) // 10 * 110.0), 1)
    size = np.array([60.0, 90.0])
    made = registry.make()

    def run(first: int, last: int) -> None:
        for frame in range(first, last):
            at = base + rng.normal(0, 2, (100, 2)) + (frame // 100 % 2) * 95
            seen = rng.random(100) > 0.1
            made.update(detections(np.concatenate((at, at + size), 1)[seen], 0.9))

    run(0, 200)
    tracemalloc.start()
    made = registry.make(state=made.save())
    run(200, 250)
    early, early_state = tracemalloc.get_traced_memory()[0], len(made.save())
    tracemalloc.stop()
    run(250, FRAMES - 50)
    tracemalloc.start()
    made = registry.make(state=made.save())
    run(FRAMES - 50, FRAMES)
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert late < 1.5 * early
    assert len(made.save()) < 1.5 * early_state


@ALL
def test_a_birth_begins_at_its_first_good_detection(name: str) -> None:
    box = walkers(1, 12)
    scores = [0.55, 0.55, 0.55] + [0.9] * 9
    tracks = everything(registry.make(name), [detections(b, s) for b, s in zip(box, scores, strict=True)])
    assert tracks.frames.tolist() == list(range(12))
    assert set(tracks.ids.tolist()) == {1}


@ALL
def test_noise_of_one_frame_is_no_track(name: str) -> None:
    parts = [detections(walkers(1, 12)[k]) for k in range(12)]
    noise = np.array([[900, 900, 960, 1000]], np.float32)
    parts[5] = detections(np.concatenate((parts[5].xyxy, noise)))
    assert len(np.unique(everything(registry.make(name), parts).ids)) == 1


def test_the_last_frame_and_single_pictures_are_not_lost() -> None:
    made = registry.make()
    assert len(made.update(detections(walkers(4, 1)[0]))) == 0
    assert made.flush().ids.tolist() == [1, 2, 3, 4]


def test_thresholds_per_class() -> None:
    settings = Settings(per_class={1: Thresholds(0.2, 0.1, 0.2)})
    boxes = walkers(2, 5)
    classes = np.array([0, 1])
    tracks = everything(registry.make("botsort", settings), [detections(b, 0.3, classes) for b in boxes])
    assert set(tracks.classes.tolist()) == {1}


@ALL
def test_human_tracks_go_on_and_are_not_given_out(name: str) -> None:
    """A person labelled object 7 on frames 0..4; detections see it and another one throughout."""
    boxes = walkers(2, 12)
    made, found = registry.make(name), []
    for frame, pair in enumerate(boxes):
        given = Given(np.array([7]), pair[:1].astype(np.float32), np.array([3])) if frame < 5 else None
        found.append(made.update(detections(pair), given=given))
    tracks = Tracks.joined([*found, made.flush()])
    mine = tracks.keep(tracks.ids == 7)
    assert mine.frames.tolist() == list(range(5, 12))
    assert set(mine.classes.tolist()) == {3}
    other = tracks.keep(tracks.ids != 7)
    assert other.frames.tolist() == list(range(12)) and len(np.unique(other.ids)) == 1


def test_a_label_takes_over_the_track_in_its_place() -> None:
    boxes = walkers(1, 10)
    made, found = registry.make(), []
    for frame, pair in enumerate(boxes):
        given = Given(np.array([40]), pair.astype(np.float32), np.array([0])) if frame == 5 else None
        found.append(made.update(detections(pair), given=given))
    tracks = Tracks.joined(found)
    assert tracks.ids.tolist() == [1] * 5 + [40] * 4
    assert 5 not in tracks.frames


def test_camera_motion_is_followed() -> None:
    """A jump of more than a box's width, told or measured."""
    boxes = walkers(3, 12)
    shift = np.array([[1.0, 0, 90], [0, 1, -40]])
    made, found = registry.make(), []
    for frame, b in enumerate(boxes):
        moved = b + np.array([90, -40, 90, -40]) * (frame >= 6)
        found.append(made.update(detections(moved), camera=shift if frame == 6 else None))
    assert len(np.unique(Tracks.joined(found).ids)) == 3


def test_an_unmeasured_shift_of_everything_is_noticed() -> None:
    boxes = walkers(12, 30)
    rng = np.random.default_rng(3)
    shake = np.cumsum(rng.normal(0, 9, (30, 2)), 0)
    parts = [detections(b + np.tile(s, 2)) for b, s in zip(boxes, shake, strict=True)]
    assert len(np.unique(everything(registry.make(), parts).ids)) == 12


def test_rotated_boxes_keep_their_turn_and_identity() -> None:
    parts = []
    for frame in range(15):
        angles = np.array([0.03 * frame, 1.2 - 0.03 * frame])
        oriented = np.array([[100 + 3 * frame, 100, 120, 20, angles[0]], [100 + 3 * frame, 100, 120, 20, angles[1]]])
        oriented[1, 1] += 40
        hull = np.stack([_hull(o) for o in oriented]).astype(np.float32)
        parts.append(
            Detections(hull, np.full(2, 0.9), np.zeros(2, np.int64), oriented=oriented[::1].astype(np.float32))
        )
    tracks = everything(registry.make(), parts)
    assert tracks.oriented is not None and len(tracks) == 30
    first = tracks.keep(tracks.ids == 1)
    assert first.oriented is not None
    assert np.abs(np.diff(first.oriented[:, 4])).max() < 0.1


def _hull(o: np.ndarray) -> np.ndarray:
    c, s = abs(np.cos(o[4])), abs(np.sin(o[4]))
    half = np.array([o[2] * c + o[3] * s, o[2] * s + o[3] * c]) / 2
    return np.concatenate((o[:2] - half, o[:2] + half))


def test_masks_tell_apart_what_boxes_cannot() -> None:
    """Two triangles of one square box each, half a box apart: their boxes are ambiguous, their masks are not."""
    size, parts = 64, []
    upper = np.triu(np.ones((size, size), bool), 8)
    for frame in range(12):
        masks, boxes = [], []
        for x, shape in ((20 + frame, upper), (24 + frame, upper[::-1, ::-1])):
            picture = np.zeros((120, 160), bool)
            picture[30 : 30 + size, x : x + size] = shape
            masks.append(Mask.from_array(picture))
            boxes.append((x, 30, x + size, 30 + size))
        order = [0, 1] if frame % 2 else [1, 0]
        parts.append(
            Detections(
                np.array(boxes, np.float32)[order],
                np.full(2, 0.9),
                np.zeros(2, np.int64),
                masks=tuple(masks[k] for k in order),
            )
        )
    tracks = everything(registry.make("botsort", Settings(duplicate=1.1)), parts)
    assert len(np.unique(tracks.ids)) == 2
    for identity in (1, 2):
        own = tracks.keep(tracks.ids == identity)
        assert len(set((own.rows + own.frames).astype(int) % 2)) == 1  # the same shape throughout
