"""The correlation tracker: accuracy on rendered scenes, and every kind of box and picture it must survive."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import PromptInvalid
from common.geometry.measures import iou
from common.geometry.types import Box, Mask, OrientedBox
from common.trackers.boxes.correlation import CorrelationTracker
from common.trackers.registry import make
from common.tracking.contract import Exemplar, Prediction, Prompt, Tracker, track
from tests.common.trackers.boxes.scenes import Picture, overlap, paste, texture


def box(x1: float, y1: float, x2: float, y2: float) -> Box:
    return Box(np.array([x1, y1, x2, y2], np.float32))


def sliding(frames: int = 16, width: int = 320, height: int = 240) -> tuple[list[Picture], list[tuple[float, ...]]]:
    """A 48 x 40 patch that slides over a textured ground."""
    ground, patch = texture(1, height, width), texture(2, 40, 48, 5)
    pictures, boxes = [], []
    for t in range(frames):
        x, y = 100.0 + 4 * t, 90.0 + 2.5 * t
        pictures.append(paste(ground, patch, (x, y)))
        boxes.append((x - 24, y - 20, x + 24, y + 20))
    return pictures, boxes


def follow(pictures: list[Picture], prompts: list[Prompt]) -> list[list[Prediction]]:
    return list(track(CorrelationTracker(), iter(pictures), prompts))


def same(a: list[list[Prediction]], b: list[list[Prediction]]) -> bool:
    return a == b


def test_registry_makes_it() -> None:
    tracker = make("correlation")
    assert isinstance(tracker, Tracker)
    assert tracker.card.name == "correlation"
    assert tracker.card.weights is None


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_follows_a_sliding_patch(backward: bool, grey: bool) -> None:
    pictures, boxes = sliding()
    if grey:
        pictures = [np.repeat(p.mean(2, keepdims=True).astype(np.uint8), 3, 2) for p in pictures]
    if backward:
        pictures, boxes = pictures[::-1], boxes[::-1]
    result = follow(pictures, [Prompt("a", box(*boxes[0]))])
    for frame, true in zip(result, boxes, strict=True):
        geometry = frame[0].geometry
        assert isinstance(geometry, Box)
        assert overlap(geometry.xyxy, true) > 0.8
        assert frame[0].visible and frame[0].score > 0.5


def test_follows_growth() -> None:
    ground, patch = texture(3, 240, 320), texture(4, 60, 60, 6)
    scales = 1.025 ** np.arange(20)
    pictures = [paste(ground, patch, (160, 120), 0, s) for s in scales]
    last = follow(pictures, [Prompt("a", box(130, 90, 190, 150))])[-1][0].geometry
    assert isinstance(last, Box)
    width, height = last.xyxy[2:] - last.xyxy[:2]
    assert width == pytest.approx(60 * scales[-1], rel=0.08)
    assert height == pytest.approx(60 * scales[-1], rel=0.08)


@pytest.mark.parametrize("speed", [2.0, -5.0, 8.0])
def test_turn_of_an_oriented_box(speed: float) -> None:
    ground, patch = texture(5, 240, 320, 12), texture(6, 56, 56, 6)
    turns = np.deg2rad(speed) * np.arange(24) + 0.2
    pictures = [paste(ground, patch, (160 + t, 120), a) for t, a in enumerate(turns)]
    result = follow(pictures, [Prompt("a", OrientedBox(np.array([160, 120, 56, 56], np.float32), float(turns[0])))])
    for frame, angle in zip(result, turns, strict=True):
        geometry = frame[0].geometry
        assert isinstance(geometry, OrientedBox)
        assert abs(np.rad2deg(geometry.angle_rad - angle)) < 3
        np.testing.assert_allclose(geometry.cxcywh[2:], 56, rtol=0.05)


def test_comes_back_after_occlusion() -> None:
    ground, patch, wall = texture(7, 240, 320), texture(8, 40, 40, 5), texture(9, 140, 60, 15)
    pictures, boxes = [], []
    for t in range(50):
        x = 60.0 + 4 * t
        pictures.append(paste(paste(ground, patch, (x, 120)), wall, (165, 120)))
        boxes.append((x - 20, 100, x + 20, 140))
    result = follow(pictures, [Prompt("a", box(*boxes[0]))])
    hidden = [t for t, frame in enumerate(result) if not frame[0].visible]
    assert hidden, "the object was never reported hidden"
    assert all(15 < t < 48 for t in hidden)
    last = result[-1][0]
    assert last.visible
    assert isinstance(last.geometry, Box)
    assert overlap(last.geometry.xyxy, boxes[-1]) > 0.6


def test_leaving_the_picture_is_said() -> None:
    ground, patch = texture(10, 200, 240), texture(11, 40, 40, 5)
    pictures = [paste(ground, patch, (180 + 5 * t, 100)) for t in range(30)]
    result = follow(pictures, [Prompt("a", box(160, 80, 200, 120))])
    assert all(frame[0].visible for frame in result[:8])
    for frame in result[22:]:
        assert not frame[0].visible
        assert frame[0].score == 0.0


@pytest.mark.parametrize(
    ("size", "corners"),
    [
        ((240, 320), (100, 100, 102, 102)),
        ((240, 320), (0, 0, 320, 240)),
        ((240, 320), (-30, -20, 40, 30)),
        ((240, 320), (300, 200, 400, 300)),
        ((239, 317), (50, 60, 91, 103)),
        ((240, 320), (10, 100, 310, 103)),
        ((240, 320), (100, 100, 100.4, 180)),
        ((16, 16), (4, 4, 12, 12)),
        ((2, 3), (0, 0, 2, 2)),
        ((1, 1), (0, 0, 1, 1)),
        ((8, 900), (200, 1, 260, 7)),
    ],
)
def test_any_box_in_any_picture(size: tuple[int, int], corners: tuple[float, ...]) -> None:
    still = texture(12, *size)
    result = follow(
        [still] * 4,
        [
            Prompt("a", box(*corners)),
            Prompt("b", OrientedBox(np.array([size[1] / 2, size[0] / 2, 5, 4], np.float32), 1.0)),
        ],
    )
    assert [len(frame) for frame in result] == [2] * 4
    for a, b in result:
        assert isinstance(a.geometry, Box | None)
        assert isinstance(b.geometry, OrientedBox | None)
        assert 0 <= a.score <= 1 and 0 <= b.score <= 1


def test_two_pixels_are_followed() -> None:
    ground = np.full((120, 160, 3), 90, np.uint8)
    pictures = []
    for t in range(12):
        picture = ground.copy()
        picture[40 + t : 42 + t, 50 + t : 52 + t] = (250, 220, 30)
        pictures.append(picture)
    last = follow(pictures, [Prompt("a", box(50, 40, 52, 42))])[-1][0].geometry
    assert isinstance(last, Box)
    np.testing.assert_allclose((last.xyxy[:2] + last.xyxy[2:]) / 2, (62, 52), atol=1.0)


def test_blank_pictures_do_no_harm() -> None:
    blank = np.zeros((60, 80, 3), np.uint8)
    for frame in follow([blank] * 6, [Prompt("a", box(20, 20, 40, 40))])[1:]:
        assert frame[0].score <= 1


@pytest.mark.parametrize("frames", [1, 2])
def test_shortest_clips(frames: int) -> None:
    pictures, boxes = sliding(frames)
    assert len(follow(pictures, [Prompt("a", box(*boxes[0]))])) == frames


def test_no_objects() -> None:
    assert follow([texture(1, 40, 40)] * 3, []) == [[], [], []]


def test_twenty_objects_are_each_followed_as_if_alone() -> None:
    ground = texture(13, 360, 480)
    patches = [texture(20 + k, 32, 32, 4) for k in range(20)]
    homes = [(50.0 + 90 * (k % 5), 50.0 + 80 * (k // 5)) for k in range(20)]
    pictures = []
    for t in range(5):
        picture = ground
        for patch, (x, y) in zip(patches, homes, strict=True):
            picture = paste(picture, patch, (x + 2 * t, y + t))
        pictures.append(picture)
    prompts = [Prompt(str(k), box(x - 16, y - 16, x + 16, y + 16)) for k, (x, y) in enumerate(homes)]
    for prediction, (x, y) in zip(follow(pictures, prompts)[-1], homes, strict=True):
        assert isinstance(prediction.geometry, Box)
        assert overlap(prediction.geometry.xyxy, (x - 8, y - 12, x + 24, y + 20)) > 0.75


def test_same_input_same_output_and_resume_is_exact() -> None:
    pictures, boxes = sliding(14)
    prompts = [Prompt("a", box(*boxes[0])), Prompt("b", OrientedBox(np.array([200, 100, 30, 50], np.float32), 0.5))]
    tracker = CorrelationTracker()
    whole = tracker.start(pictures[0], prompts)
    expected = [frame for p in pictures[1:] for frame in whole.push(p)]
    run = tracker.start(pictures[0], prompts)
    got = []
    for picture in pictures[1:]:
        run = CorrelationTracker().load(run.save())
        got += run.push(picture)
    assert same(got, expected)
    assert run.save() == whole.save()
    assert run.flush() == []


def test_memory_is_flat_and_the_image_is_left_alone() -> None:
    pictures, boxes = sliding(8)
    copies = [p.copy() for p in pictures]
    run = CorrelationTracker().start(pictures[0], [Prompt("a", box(*boxes[0]))])
    sizes = []
    for picture in pictures[1:]:
        picture.setflags(write=False)
        run.push(picture)
        sizes.append(len(run.save()))
    assert max(sizes) - min(sizes) < 64
    for picture, copy in zip(pictures, copies, strict=True):
        np.testing.assert_array_equal(picture, copy)


@pytest.mark.parametrize(
    "geometry",
    [
        box(400, 10, 420, 30),
        box(-50, 10, 0, 30),
        box(10, 10, 10, 30),
        OrientedBox(np.array([50, 50, 0, 10], np.float32), 0.3),
        OrientedBox(np.array([-50, 50, 10, 10], np.float32), 0.3),
        Mask.from_array(np.ones((240, 320), bool)),
    ],
)
def test_impossible_prompts_are_refused(geometry: Box | OrientedBox | Mask) -> None:
    with pytest.raises(PromptInvalid, match="car"):
        CorrelationTracker().start(texture(1, 240, 320), [Prompt("car", geometry)])


def test_wrong_picture_size_and_foreign_state() -> None:
    pictures, boxes = sliding(1)
    run = CorrelationTracker().start(pictures[0], [Prompt("a", box(*boxes[0]))])
    with pytest.raises(ValueError, match="320 x 240"):
        run.push(texture(1, 100, 100))
    with pytest.raises(ValueError, match="snapshot"):
        CorrelationTracker().load(b"nonsense")


@pytest.mark.parametrize("seed", range(4))
def test_drawn_half_hidden_it_is_known_from_elsewhere(seed: int) -> None:
    """A correction is often made where something stands before the object: the other key figures show all of it."""
    ground, patch, post = (
        texture(3 * seed, 180, 320) // 3 + 60,
        texture(3 * seed + 1, 60, 60, 10),
        texture(3 * seed + 2, 120, 50, 10),
    )

    def place(t: int) -> Box:
        return box(180 - 3 * t, 60, 240 - 3 * t, 120)

    def picture(t: int, hidden: bool) -> Picture:
        alone = paste(ground, patch, (210 - 3 * t, 90))
        return paste(alone, post, (235 + 3 * t, 100)) if hidden else alone

    exemplar = Exemplar(picture(-4, False), [Prompt("a", place(-4))])
    pictures = [picture(t, True) for t in range(25)]
    found = list(track(CorrelationTracker(), iter(pictures), [Prompt("a", place(0))], [exemplar]))
    assert np.mean([iou(p.geometry, place(t)) if p.geometry else 0.0 for t, (p,) in enumerate(found)]) > 0.9
