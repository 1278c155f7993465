"""What every tracker must do, one function per obligation, each for one tracker and one kind of geometry.

They raise AssertionError (or let the tracker's own error out) when the obligation is broken. `CHECKS` lists them all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from functools import partial

import numpy as np
import psutil
import pytest

from common.errors import PromptInvalid
from common.evaluation.points import THRESHOLDS
from common.geometry.measures import iou
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.contract import Exemplar, GeometryKind, Prediction, Prompt, Tracker
from tests.contract.clips import TYPES, clip, fingerprint, geometry, leaving, play, prompts, scene
from tests.contract.memory import in_use, watched

Make = Callable[[], Tracker]
Check = Callable[[Make, GeometryKind], None]
CHECKS: list[Check] = []

# How good the worst tracker may be on an easy clip: far above what standing still scores (see test_suite.py).
FLOORS: dict[GeometryKind, float] = {"box": 0.6, "oriented_box": 0.6, "mask": 0.7, "points": 0.7}


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


# -- what comes out ---------------------------------------------------------------------------------------------------


@check
def gives_one_prediction_per_prompt_in_order(make: Make, kind: GeometryKind) -> None:
    """12 objects at once, named and ordered as the person likes: same keys, same order, in every frame."""
    truth = scene(11, 3, 160, 120, 12, size=0.15).truth(0)
    drawn = [Prompt(f"Objekt {p.key} №", p.geometry) for p in reversed(prompts(truth, kind)) if _usable(p.geometry)]
    assert len(drawn) >= 10
    out = play(make(), clip(11, 3, 160, 120, 12, size=0.15), drawn)
    assert [[p.key for p in frame] for frame in out] == [[p.key for p in drawn]] * 3


@check
def gives_sound_predictions(make: Make, kind: GeometryKind) -> None:
    """Right kind and size, finite, scores 0..1, lost means score 0 and not visible - also in bad light."""
    images = clip(3, 10, 96, 72, 2, noise=20, light=0.7, shutter=1.0, speed=4)
    drawn = prompts(scene(3, 10, 96, 72, 2, noise=20, light=0.7, shutter=1.0, speed=4).truth(0), kind)
    for frame in play(make(), images, drawn):
        for prompt, prediction in zip(drawn, frame, strict=True):
            _assert_sound(prompt, prediction, 96, 72)


@check
def survives_pictures_without_texture(make: Make, kind: GeometryKind) -> None:
    """Fade to black, white and back: nothing breaks, and there are still no NaNs."""
    images = clip(5, 8)
    black, white = np.zeros_like(images[0]), np.full_like(images[0], 255)
    drawn = prompts(scene(5, 8).truth(0), kind)
    for sequence in ([images[0], black, black, white, *images[1:4]], [black] * 5, [white, *images[:3]]):
        for frame in play(make(), sequence, drawn):
            for prompt, prediction in zip(drawn, frame, strict=True):
                _assert_sound(prompt, prediction, 96, 72)


@check
def follows_an_easy_object(make: Make, kind: GeometryKind) -> None:
    """Forward: quality above the floor, which standing still does not reach."""
    assert quality(make, kind, backward=False) > FLOORS[kind]


@check
def follows_an_easy_object_backward(make: Make, kind: GeometryKind) -> None:
    """The same clip played in reverse."""
    assert quality(make, kind, backward=True) > FLOORS[kind]


@check
def notices_that_the_object_has_left(make: Make, kind: GeometryKind) -> None:
    """The object leaves the picture at frame 20 of 45; by the end nothing is called visible."""
    images, truth = leaving(2, 45, 20)
    last = play(make(), images, prompts(truth, kind))[-1][0]
    assert not last.visible
    if isinstance(last.geometry, Points):
        assert not last.geometry.visible.any()


@check
def gives_as_many_frames_as_it_gets(make: Make, kind: GeometryKind) -> None:
    """Pushed and given frames are equal in number after the flush, and never fewer than the lookahead allows."""
    images = clip(5, 8)
    tracker = make()
    for length in (1, 2, 3, 8):
        run = tracker.start(images[0], prompts(scene(5, 8).truth(0), kind))
        given = 0
        for pushed, image in enumerate(images[1:length], 1):
            given += len(run.push(image))
            assert given <= pushed and given >= pushed - tracker.card.lookahead
        given += len(run.flush())
        assert given == length - 1


@check
def handles_the_shortest_clips(make: Make, kind: GeometryKind) -> None:
    """No frame, one frame, two frames. The prompt's own frame comes back as drawn."""
    images, drawn = clip(5, 8), prompts(scene(5, 8).truth(0), kind)
    assert play(make(), [], drawn) == []
    assert play(make(), images[:1], drawn) == [[Prediction(p.key, p.geometry, 1.0, True) for p in drawn]]
    assert len(play(make(), images[:2], drawn)) == 2


# -- sizes and prompts ------------------------------------------------------------------------------------------------


@check
def handles_any_picture_size(make: Make, kind: GeometryKind) -> None:
    """Odd, narrow, flat and tiny pictures."""
    for width, height in ((97, 61), (33, 120), (121, 17), (16, 16), (1, 1), (5, 3)):
        images = clip(7, 4, width, height)
        shape = _central(kind, width, height)
        for frame in play(make(), images, [Prompt("a", shape)]):
            _assert_sound(Prompt("a", shape), frame[0], width, height)


@check
def handles_prompts_of_every_size(make: Make, kind: GeometryKind) -> None:
    """One pixel, the whole picture, half of it outside."""
    images = clip(5, 8)
    shapes: dict[GeometryKind, list[Geometry]] = {
        "box": [_box(40, 30, 41, 31), _box(0, 0, 96, 72), _box(-20, 20, 20, 50), _box(80, 60, 140, 130)],
        "oriented_box": [
            OrientedBox(np.array(cxcywh, np.float32), angle)
            for cxcywh, angle in (((40, 30, 1, 1), 0.3), ((48, 36, 96, 72), 0.0), ((0, 36, 30, 20), 1.0), ((90, 70, 40, 40), 3.1))
        ],
        "mask": [_mask(30, 31, 40, 41), _mask(0, 72, 0, 96), _mask(0, 20, 0, 30), _mask(60, 72, 90, 96)],
        "points": [
            Points(np.array(xy, np.float32))
            for xy in ([(0, 0)], [(95, 71)], [(95.4, 71.4), (-0.4, -0.4)], [(40, 30), (140, 30)], [(40, 30), (40, 30)])
        ],
    }  # fmt: skip
    for shape in shapes[kind]:
        for frame in play(make(), images[:4], [Prompt("a", shape)]):
            _assert_sound(Prompt("a", shape), frame[0], 96, 72)


@check
def refuses_prompts_that_cannot_be_tracked(make: Make, kind: GeometryKind) -> None:
    """Outside the picture, empty, or of a kind the tracker does not take: `PromptInvalid`, in one sentence."""
    image = clip(5, 8)[0]
    tracker = make()
    wrong: dict[GeometryKind, list[Geometry]] = {
        "box": [_box(200, 200, 250, 240), _box(-50, 10, -10, 40), _box(30, 30, 30, 30), _box(30, 30, 30, 60)],
        "oriented_box": [
            OrientedBox(np.array((300, 300, 20, 20), np.float32), 0.4),
            OrientedBox(np.array((40, 40, 0, 20), np.float32), 0.4),
        ],
        "mask": [Mask.from_array(np.zeros((72, 96), bool)), Mask.from_array(np.ones((40, 40), bool))],
        "points": [Points(np.array([[200, 200], [300, -40]], np.float32))],
    }
    for shape in wrong[kind]:
        with pytest.raises(PromptInvalid) as caught:
            tracker.start(image, [Prompt("a", shape)])
        assert str(caught.value) and "\n" not in str(caught.value)
        # One bad prompt among good ones is refused as well, not dropped.
        with pytest.raises(PromptInvalid):
            tracker.start(image, [Prompt("good", _central(kind, 96, 72)), Prompt("bad", shape)])
    for other in TYPES:
        if other not in tracker.card.geometries:
            with pytest.raises(PromptInvalid):
                tracker.start(image, [Prompt("a", _central(other, 96, 72))])


@check
def refuses_pictures_of_another_size(make: Make, kind: GeometryKind) -> None:
    images = clip(5, 8)
    run = make().start(images[0], prompts(scene(5, 8).truth(0), kind))
    run.push(images[1])
    for wrong in (clip(5, 2, 72, 96)[0], clip(5, 2, 97, 72)[0]):
        with pytest.raises(ValueError, match=r"\w"):
            run.push(wrong)


@check
def takes_exemplars(make: Make, kind: GeometryKind) -> None:
    """The objects labelled on another frame: used or ignored, but taken."""
    made, images = scene(3, 10, 96, 72, 2), clip(3, 10, 96, 72, 2)
    drawn = prompts(made.truth(0), kind)
    exemplars = [Exemplar(images[8], prompts(made.truth(8), kind))]
    run = make().start(images[0], drawn, exemplars)
    out = [frame for image in images[1:4] for frame in run.push(image)] + run.flush()
    assert [[p.key for p in frame] for frame in out] == [[p.key for p in drawn]] * 3


# -- runs -------------------------------------------------------------------------------------------------------------


@check
def repeats_itself_exactly(make: Make, kind: GeometryKind) -> None:
    """Two runs of one tracker and one of another: the same bytes."""
    images, drawn = clip(3, 10, 96, 72, 2), prompts(scene(3, 10, 96, 72, 2).truth(0), kind)
    tracker = make()
    first, second = (fingerprint(play(tracker, images, drawn)) for _ in range(2))
    assert first == second == alone(make, kind, 3, 10, 2)


@check
def forgets_a_cancelled_run(make: Make, kind: GeometryKind) -> None:
    """Cancelling is not pushing any more; the next run knows nothing of it."""
    images, drawn = clip(3, 10, 96, 72, 2), prompts(scene(3, 10, 96, 72, 2).truth(0), kind)
    tracker = make()
    expected = alone(make, kind, 3, 10, 2)
    cancelled = tracker.start(clip(9, 8)[0], prompts(scene(9, 8).truth(0), kind))
    for image in clip(9, 8)[1:6]:
        cancelled.push(image)
    assert fingerprint(play(tracker, images, drawn)) == expected
    del cancelled
    assert fingerprint(play(tracker, images, drawn)) == expected


@check
def keeps_runs_apart(make: Make, kind: GeometryKind) -> None:
    """Two runs of one tracker, image by image in turn: as if each were alone."""
    tracker = make()
    clips = [(clip(s, 8), prompts(scene(s, 8).truth(0), kind)) for s in (5, 9)]
    runs = [tracker.start(images[0], drawn) for images, drawn in clips]
    mixed: list[list[list[Prediction]]] = [[], []]
    for number in range(1, 8):
        for out, run, (images, _) in zip(mixed, runs, clips, strict=True):
            out.extend(run.push(images[number]))
    for out, run in zip(mixed, runs, strict=True):
        out.extend(run.flush())
    assert [fingerprint(out) for out in mixed] == [alone(make, kind, s, 8)[1:] for s in (5, 9)]


@check
def keeps_threads_apart(make: Make, kind: GeometryKind) -> None:
    """Runs of one tracker in two threads at a time: as if each were alone."""
    tracker = make()
    clips = [(clip(s, 8), prompts(scene(s, 8).truth(0), kind)) for s in (5, 9)]
    results: list[list[bytes]] = [[], []]

    def work(number: int) -> None:
        results[number] = fingerprint(play(tracker, *clips[number]))

    threads = [threading.Thread(target=work, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone(make, kind, s, 8) for s in (5, 9)]


@check
def resumes_from_a_snapshot_exactly(make: Make, kind: GeometryKind) -> None:
    """Saved after 0, 1 and 5 frames, loaded by another tracker: the rest is the same bytes, twice; saving disturbs nothing."""
    images, drawn = clip(3, 10, 96, 72, 2), prompts(scene(3, 10, 96, 72, 2).truth(0), kind)
    expected = alone(make, kind, 3, 10, 2)[1:]
    run = make().start(images[0], drawn)
    out: list[list[Prediction]] = []
    saved: list[tuple[int, int, bytes]] = []
    for pushed, image in enumerate(images[1:]):
        if pushed in (0, 1, 5):
            state = run.save()
            assert isinstance(state, bytes) and state == run.save()
            saved.append((pushed, len(out), state))
        out += run.push(image)
    assert fingerprint(out + run.flush()) == expected
    other = make()
    for pushed, given, state in [*saved, saved[-1]]:
        resumed = other.load(state)
        rest = [frame for image in images[1 + pushed :] for frame in resumed.push(image)] + resumed.flush()
        assert fingerprint(rest) == expected[given:]


@check
def leaves_the_callers_pictures_alone(make: Make, kind: GeometryKind) -> None:
    """One buffer for all frames, overwritten with noise after each call: same result, and never changed by the tracker."""
    images, drawn = clip(3, 10, 96, 72, 2)[:10], prompts(scene(3, 10, 96, 72, 2).truth(0), kind)
    expected = alone(make, kind, 3, 10, 2)[1:]
    buffer, noise = np.empty_like(images[0]), np.random.default_rng(0).integers(0, 256, images[0].shape, np.uint8)
    buffer[:] = images[0]
    run = make().start(buffer, drawn)
    assert np.array_equal(buffer, images[0])
    buffer[:] = noise
    out = []
    for image in images[1:]:
        buffer[:] = image
        out.extend(run.push(buffer))
        assert np.array_equal(buffer, image)
        buffer[:] = noise
    assert fingerprint(out + run.flush()) == expected


MOST_KEPT = 30 * np.array((410, 4, 68))
"""Of 30 frames: bytes on the heap, objects, bytes of the snapshot. A frame has 9 KiB: keeping a twentieth of each shows,
and so does keeping what was said of each."""


@check
def needs_no_more_memory_as_time_goes_by(make: Make, kind: GeometryKind) -> None:
    """After 60 frames nothing grows any more: not the heap, the number of Python's objects, the snapshot or the process."""
    images = clip(5, 8, 64, 48)
    cycle = [*images, *images[-2:0:-1]]
    run = make().start(images[0], prompts(scene(5, 8, 64, 48).truth(0), kind))
    for number in range(1, 61):
        run.push(cycle[number % len(cycle)])
    process = psutil.Process()
    resident, number = process.memory_info().rss, 60
    peaks: list[np.ndarray] = []
    grown = MOST_KEPT + 1
    # Peaks of 30 frames, which is longer than any tracker's rhythm. What is kept of every frame raises each; what else the
    # process does meanwhile does not, so up to three are looked at for one that is not above the one before.
    with watched():
        while len(peaks) < 2 or ((grown > MOST_KEPT).any() and len(peaks) < 4):
            peak = np.zeros(3, np.int64)
            for _ in range(30):
                number += 1
                run.push(cycle[number % len(cycle)])
                if number % 3 == 0:  # the C library takes its time to count in a process that has done much before
                    peak = np.maximum(peak, (*in_use(), 0 if number % 6 else len(run.save())))
            peaks.append(peak)
            if len(peaks) > 1:
                grown = peak - peaks[-2]
        kept_resident = process.memory_info().rss - resident
    assert (grown <= MOST_KEPT).all(), f"(bytes, objects, bytes of the snapshot) more in 30 frames: {grown.tolist()}"
    assert kept_resident < 16 * 2**20, f"{kept_resident} bytes more resident after {number - 60} frames"


# -- helpers ----------------------------------------------------------------------------------------------------------


_ALONE: dict[Hashable, list[bytes]] = {}


def alone(make: Make, kind: GeometryKind, seed: int, frames: int, objects: int = 1) -> list[bytes]:
    """What a new tracker with nothing else to do says of a clip. Played once for all checks that compare with it."""
    who: Hashable = (make.func, make.args, *make.keywords.items()) if isinstance(make, partial) else make
    key = (who, kind, seed, frames, objects)
    if key not in _ALONE:
        drawn = prompts(scene(seed, frames, 96, 72, objects).truth(0), kind)
        _ALONE[key] = fingerprint(play(make(), clip(seed, frames, 96, 72, objects), drawn))
    return _ALONE[key]


def quality(make: Make, kind: GeometryKind, backward: bool) -> float:
    """Mean overlap (boxes, masks) or mean share of points within 1, 2, 4, 8, 16 pixels, 0..1, over an easy clip's frames."""
    options = {"speed": 2.2, "noise": 2}
    made, images = scene(21, 30, 160, 120, 2, **options), clip(21, 30, 160, 120, 2, **options)
    order = list(range(30))[:: -1 if backward else 1]
    out = play(make(), [images[i] for i in order], prompts(made.truth(order[0]), kind))
    scores = []
    for frame, index in zip(out[1:], order[1:], strict=True):
        for prediction, truth in zip(frame, made.truth(index).objects, strict=True):
            scores.append(
                _agreement(prediction.geometry, geometry(truth, kind), truth.points and truth.points.visible[:6])
            )
    return float(np.mean(scores))


def _agreement(found: Geometry | None, truth: Geometry, visible: np.ndarray | None) -> float:
    if found is None:
        return 0.0
    if not isinstance(truth, Points) or not isinstance(found, Points):
        return iou(found, truth)
    error = np.hypot(*(found.xy - truth.xy).T)[visible]
    return float(np.mean([error < t for t in THRESHOLDS])) if error.size else 1.0


def _assert_sound(prompt: Prompt, prediction: Prediction, width: int, height: int) -> None:
    shape, asked = prediction.geometry, prompt.geometry
    assert prediction.key == prompt.key
    assert 0.0 <= prediction.score <= 1.0  # false for NaN
    assert isinstance(prediction.visible, bool)
    if shape is None:
        assert prediction.score == 0.0 and not prediction.visible
        return
    assert type(shape) is type(asked)  # its own constructor refuses what is not finite
    if isinstance(shape, Mask):
        assert (shape.height, shape.width) == (height, width)
        assert not (prediction.visible and shape.area == 0)
    if isinstance(shape, Points) and isinstance(asked, Points):
        assert len(shape.xy) == len(asked.xy) and shape.edges == asked.edges
        assert prediction.visible or not shape.visible.any()


def _central(kind: GeometryKind, width: int, height: int) -> Geometry:
    """About the middle half of a picture of any size."""
    x1, y1 = width // 4, height // 4
    x2, y2 = x1 + max(width // 2, 1), y1 + max(height // 2, 1)
    if kind == "box":
        return _box(x1, y1, x2, y2)
    if kind == "oriented_box":
        return OrientedBox(np.array(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), np.float32), 0.2)
    if kind == "mask":
        filled = np.zeros((height, width), bool)
        filled[y1:y2, x1:x2] = True
        return Mask.from_array(filled)
    return Points(np.array([[x1, y1], [x2 - 1, y1], [(x1 + x2) // 2, y2 - 1]], np.float32), edges=((0, 1), (1, 2)))


def _box(x1: float, y1: float, x2: float, y2: float) -> Box:
    return Box(np.array((x1, y1, x2, y2), np.float32))


def _mask(top: int, bottom: int, left: int, right: int) -> Mask:
    filled = np.zeros((72, 96), bool)
    filled[top:bottom, left:right] = True
    return Mask.from_array(filled)


def _usable(shape: Geometry) -> bool:
    return not (isinstance(shape, Mask) and shape.area < 30)
