"""The motion detector finds what moves, however the camera moves, and nothing else."""

import numpy as np
import pytest

from common.detection import registry
from common.detection.contract import Detections, Detector
from common.detection.motion import MotionDetector


def ground(seed: int = 0, size: int = 400) -> np.ndarray:
    import cv2

    noise = np.random.default_rng(seed).integers(0, 255, (size // 8, size // 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def picture(base, t, pan=(0.0, 0.0), boxes=(), noise=0.0, seed=0):
    """160 x 120 of the ground; boxes: (x, y, vx, vy, w, h, colour) in the picture."""
    import cv2

    x, y = 100 + pan[0] * t, 100 + pan[1] * t
    image = cv2.getRectSubPix(base, (160, 120), (x, y)).copy()
    for bx, by, vx, vy, w, h, colour in boxes:
        left, top = round(bx + vx * t), round(by + vy * t)
        image[max(0, top) : top + h, max(0, left) : left + w] = colour
    if noise:
        image = np.clip(image + np.random.default_rng([seed, t]).normal(0, noise, image.shape), 0, 255).astype(np.uint8)
    return image


def overlap(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


@pytest.mark.parametrize("pan", [(0, 0), (1.5, 0.4), (2.2, -1.0)])
@pytest.mark.parametrize("seed", [1, 2])
def test_finds_a_moving_thing_and_follows_it(pan, seed):
    base, detector = ground(seed), MotionDetector()
    thing = (20, 40, 3.0, 0.5, 24, 20, (250, 250, 60))
    hits = 0
    for t in range(36):
        (found,) = detector.detect([picture(base, t, pan, [thing], noise=2.0, seed=seed)])
        left, top = round(20 + 3 * t), round(40 + 0.5 * t)
        # at first its box reaches back to where it began
        hits += t >= 12 and any(overlap(box, (left, top, left + 24, top + 20)) > 0.5 for box in found.xyxy)
    assert hits >= 20


@pytest.mark.parametrize("pan", [(0, 0), (1.3, -0.7), (3.1, 0.9)])
def test_a_scene_without_motion_gives_next_to_nothing(pan):
    base, detector = ground(3), MotionDetector()
    counts = [len(detector.detect([picture(base, t, pan, noise=3.0)])[0]) for t in range(24)]
    assert sum(counts) <= 2


def test_a_cut_is_no_object_and_is_forgotten():
    detector = MotionDetector()
    one, other = ground(4), ground(5)
    for t in range(6):
        detector.detect([picture(one, t)])
    after = [len(detector.detect([picture(other, t)])[0]) for t in range(6)]
    assert sum(after) == 0


def test_memory_does_not_grow_with_frames():
    import tracemalloc

    base, detector = ground(6), MotionDetector()
    frames = [picture(base, t, boxes=[(0, 10, 4, 1, 20, 20, (0, 0, 0))]) for t in range(20)]
    detector.detect(frames)
    tracemalloc.start()
    for _ in range(6):
        for frame in frames:
            detector.detect([frame])
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 2_000_000


def test_pictures_of_another_size_are_refused():
    detector = MotionDetector()
    detector.detect([np.zeros((40, 50, 3), np.uint8)])
    with pytest.raises(ValueError, match="one size"):
        detector.detect([np.zeros((41, 50, 3), np.uint8)])


def test_the_registry_makes_detectors_that_keep_to_the_contract():
    for name in registry.names():
        detector = registry.make(name)
        assert isinstance(detector, Detector)
        assert detector.card.name == name


@pytest.mark.parametrize(
    ("rows", "scores", "why"),
    [
        ([[5, 0, 1, 1]], [0.5], "x1 <= x2"),
        ([[0, 0, 1, 1]], [1.5], "0..1"),
        ([[0, 0, 1, 1]], [], "need 1 scores"),
        ([[0, 0, np.nan, 1]], [0.5], "finite"),
    ],
)
def test_detections_check_what_they_hold(rows, scores, why):
    with pytest.raises(ValueError, match=why):
        Detections(np.array(rows), np.array(scores), np.zeros(len(scores), int))


def test_rows_can_be_chosen():
    found = Detections(np.array([[0, 0, 1, 1], [2, 2, 3, 3]]), np.array([0.1, 0.9]), np.array([0, 1]))
    assert found.keep(np.array([1, 0])).scores.tolist() == pytest.approx([0.9, 0.1])
    assert found.keep(found.scores > 0.5).classes.tolist() == [1]
