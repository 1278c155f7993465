"""The flow tracker keeps the tracker contract: equality of runs, no overlap, honest loss, any size and content."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import PromptInvalid
from common.geometry.types import Box, Mask
from common.trackers.masks.flow import FlowTracker
from common.trackers.registry import make
from common.tracking.contract import Exemplar, Prediction, Prompt, track

Array = NDArray[np.uint8]


def texture(seed: int, height: int, width: int, grey: bool = False) -> Array:
    """Smooth random pattern, uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((4, 1.0), (9, 0.7), (24, 0.5)):
        coarse = random.random((cells, cells, 3), dtype=np.float32)
        total += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = cv2.normalize(total, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return np.repeat(picture[..., :1], 3, 2) if grey else picture


class Scene:
    """Textured shapes over a textured ground, at whole-pixel places, so that every mask is exact."""

    def __init__(
        self, shapes: Sequence[NDArray[np.bool_]], height: int = 120, width: int = 160, grey: bool = False
    ) -> None:
        self.size = (height, width)
        self.ground = texture(1, height, width, grey)
        self.shapes = shapes
        # Each object is tinted differently from the ground, as objects are.
        tints = ([120, -60, -60], [-60, 100, -60], [-60, -60, 120], [90, 90, -80])
        self.skins = [
            np.clip(
                texture(10 + i, *s.shape, grey) / 2 + 64 + (np.array(tints[i % 4]) if not grey else 60 - 120 * (i % 2)),
                0,
                255,
            ).astype(np.uint8)
            for i, s in enumerate(shapes)
        ]

    def at(self, places: Sequence[tuple[int, int] | None]) -> tuple[Array, list[NDArray[np.bool_]]]:
        """Picture and visible masks with the shapes' top-left corners at the (x, y) places; later ones in front."""
        height, width = self.size
        picture, masks = self.ground.copy(), [np.zeros(self.size, bool) for _ in places]
        for i, place in enumerate(places):
            if place is None:
                continue
            ys, xs = np.nonzero(self.shapes[i])
            x, y = xs + place[0], ys + place[1]
            inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
            picture[y[inside], x[inside]] = self.skins[i][ys[inside], xs[inside]]
            for mask in masks:
                mask[y[inside], x[inside]] = False
            masks[i][y[inside], x[inside]] = True
        return picture, masks


def disc(diameter: int) -> NDArray[np.bool_]:
    r = np.arange(diameter) - (diameter - 1) / 2
    return np.hypot(r[:, None], r[None]) <= diameter / 2


def ring(diameter: int) -> NDArray[np.bool_]:
    shape = disc(diameter)
    hole = diameter // 2
    start = (diameter - hole) // 2
    shape[start : start + hole, start : start + hole] &= ~disc(hole)
    return shape


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def prompts_of(masks: Sequence[NDArray[np.bool_]]) -> list[Prompt]:
    return [Prompt(f"object {i}", Mask.from_array(m)) for i, m in enumerate(masks)]


def array_of(prediction: Prediction, size: tuple[int, int]) -> NDArray[np.bool_]:
    return prediction.geometry.to_array() if isinstance(prediction.geometry, Mask) else np.zeros(size, bool)


def two_discs(frames: int) -> tuple[list[Array], list[list[NDArray[np.bool_]]]]:
    scene = Scene([disc(30), disc(24)])
    made = [scene.at([(20 + 2 * t, 30), (100 - 2 * t, 70)]) for t in range(frames)]
    return [m[0] for m in made], [m[1] for m in made]


def test_registry_makes_it() -> None:
    assert make("flow").card.name == "flow"


@pytest.mark.parametrize("frames", [1, 2])
def test_short_clips(frames: int) -> None:
    pictures, masks = two_discs(frames)
    given = list(track(FlowTracker(), iter(pictures), prompts_of(masks[0])))
    assert len(given) == frames
    assert all([p.key for p in frame] == ["object 0", "object 1"] for frame in given)
    assert all(p.score == 1.0 and p.visible for p in given[0])


def test_two_runs_are_equal_and_independent() -> None:
    pictures, masks = two_discs(8)
    tracker = FlowTracker()
    one, two = (tracker.start(pictures[0], prompts_of(masks[0])) for _ in range(2))
    for picture in pictures[1:]:
        before = picture.copy()
        assert one.push(picture) == two.push(picture)
        assert np.array_equal(picture, before)
    assert one.flush() == [] and one.save() == two.save()


def test_resumed_run_equals_uninterrupted() -> None:
    pictures, masks = two_discs(12)
    run = FlowTracker().start(pictures[0], prompts_of(masks[0]))
    for picture in pictures[1:5]:
        run.push(picture)
    resumed = FlowTracker().load(run.save())
    for picture in pictures[5:]:
        assert run.push(picture) == resumed.push(picture)
    assert run.save() == resumed.save()


def test_snapshot_does_not_grow() -> None:
    pictures, masks = two_discs(6)
    run = FlowTracker().start(pictures[0], prompts_of(masks[0]))
    sizes = []
    for picture in (pictures[1:] + pictures[-2::-1]) * 3:
        run.push(picture)
        sizes.append(len(run.save()))
    cycle = len(sizes) // 3
    assert max(sizes[2 * cycle :]) < 1.01 * max(sizes[:cycle])


def test_hidden_object_is_said_to_be_gone_and_is_found_again() -> None:
    scene = Scene([disc(30), np.ones((120, 50), bool)])
    made = [scene.at([(10 + 4 * t, 40), (60, 0)]) for t in range(30)]
    run = FlowTracker().start(made[0][0], prompts_of(made[0][1])[:1])
    for t, (picture, masks) in enumerate(made[1:], 1):
        (prediction,) = run.push(picture)[0]
        if masks[0].sum() == 0:
            assert not prediction.visible and prediction.geometry is None and prediction.score == 0, t
        elif t > 27:
            assert prediction.visible and overlap(array_of(prediction, scene.size), masks[0]) > 0.7, t


def test_object_that_leaves_the_frame_returns() -> None:
    scene = Scene([disc(30), disc(26)])
    there = [120 + 6 * t for t in range(8)] + [162] * 4
    path = there + there[::-1]
    made = [scene.at([(x, 50), (30, 20)]) for x in path]
    given = list(track(FlowTracker(), (m[0] for m in made), prompts_of(made[0][1])))
    for t, (frame, (_, masks)) in enumerate(zip(given, made, strict=True)):
        assert overlap(array_of(frame[1], scene.size), masks[1]) > 0.8, t
        if path[t] >= 160:
            assert not frame[0].visible and frame[0].geometry is None, t
    assert overlap(array_of(given[-1][0], scene.size), made[-1][1][0]) > 0.7


def test_disconnected_parts_stay() -> None:
    shape = np.zeros((30, 70), bool)
    shape[:, :30], shape[:, 40:] = disc(30), disc(30)
    scene = Scene([shape])
    made = [scene.at([(10 + 2 * t, 30 + t)]) for t in range(20)]
    for frame, (_, masks) in zip(track(FlowTracker(), (m[0] for m in made), prompts_of(made[0][1])), made, strict=True):
        assert overlap(array_of(frame[0], scene.size), masks[0]) > 0.9


@pytest.mark.parametrize(("side", "least"), [(4, 0.6), (6, 0.9), (12, 0.9)])
@pytest.mark.parametrize(("height", "width"), [(120, 160), (1080, 1920)])
def test_small_objects(side: int, least: float, height: int, width: int) -> None:
    scene = Scene([np.ones((side, side), bool)], height=height, width=width)
    made = [scene.at([(60 + 2 * t, 40 + t)]) for t in range(7)]
    *_, last = track(FlowTracker(), (m[0] for m in made), prompts_of(made[0][1]))
    assert overlap(array_of(last[0], scene.size), made[-1][1][0]) > least


@pytest.mark.parametrize("side", [2, 3])
def test_a_few_pixels_are_followed_or_said_to_be_lost(side: int) -> None:
    scene = Scene([np.ones((side, side), bool)])
    made = [scene.at([(60 + 2 * t, 40 + t)]) for t in range(10)]
    for (prediction,), (_, masks) in zip(
        track(FlowTracker(), (m[0] for m in made), prompts_of(made[0][1])), made, strict=True
    ):
        assert not prediction.visible or overlap(array_of(prediction, scene.size), masks[0]) > 0.3


def test_bad_prompts_are_refused() -> None:
    picture = texture(0, 40, 60)
    for geometry in (
        Mask.from_array(np.zeros((40, 60), bool)),
        Mask.from_array(np.ones((40, 50), bool)),
        Box(np.array([1, 1, 5, 5], np.float32)),
    ):
        with pytest.raises(PromptInvalid, match="'a'"):
            FlowTracker().start(picture, [Prompt("a", geometry)])


def test_other_size_is_refused() -> None:
    run = FlowTracker().start(texture(0, 40, 60), prompts_of([np.ones((40, 60), bool)]))
    with pytest.raises(ValueError, match="shape"):
        run.push(texture(0, 60, 40))


@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (17, 33), (1, 1), (3, 200), (101, 67), (24, 25)], ids=lambda v: str(v)
)
@pytest.mark.parametrize("cover", ["two pixels", "half", "all"])
def test_any_size(height: int, width: int, cover: str) -> None:
    mask = np.zeros((height, width), bool)
    match cover:
        case "two pixels":
            mask.ravel()[mask.size // 2 : mask.size // 2 + 2] = True
        case "half":
            mask[: (height + 1) // 2] = True
        case _:
            mask[:] = True
    pictures = [np.roll(texture(5, height, width), t, 1) for t in range(4)]
    for frame in track(FlowTracker(), iter(pictures), prompts_of([mask])):
        (prediction,) = frame
        assert 0 <= prediction.score <= 1
        if isinstance(prediction.geometry, Mask):
            assert (prediction.geometry.height, prediction.geometry.width) == (height, width)
            assert prediction.geometry.area > 0
        else:
            assert not prediction.visible and prediction.score == 0


def test_touching_objects_never_overlap() -> None:
    scene = Scene([disc(36), disc(36), np.ones((20, 60), bool)])
    made = [scene.at([(20 + 2 * t, 30), (56 - t, 34 + t), (30 + t, 66)]) for t in range(15)]
    for frame in track(FlowTracker(), (m[0] for m in made), prompts_of(made[0][1])):
        assert np.sum([array_of(p, scene.size) for p in frame], 0).max() <= 1


def test_exemplar_changes_the_model_and_may_be_empty() -> None:
    pictures, masks = two_discs(6)
    late = Exemplar(pictures[5], [prompts_of(masks[5])[0]])
    empty = Exemplar(pictures[5], [Prompt("object 0", Mask.from_array(np.zeros((120, 160), bool)))])
    states = [FlowTracker().start(pictures[0], prompts_of(masks[0]), e).save() for e in ((), (late,), (empty,))]
    assert states[0] != states[1]
    assert states[0] == states[2]
