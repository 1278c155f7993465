"""What every detector must do, one function per obligation. They raise AssertionError when it is broken; `DETECTOR_CHECKS`
lists them all. A maker gives a fresh detector each time."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable

import numpy as np

from common.detection.contract import Detections, Detector, Resumable

MakeDetector = Callable[[], Detector]
DETECTOR_CHECKS: list[Callable[[MakeDetector], None]] = []


def check(function: Callable[[MakeDetector], None]) -> Callable[[MakeDetector], None]:
    DETECTOR_CHECKS.append(function)
    return function


def pictures(seed: int, count: int, width: int = 160, height: int = 120) -> list[np.ndarray]:
    """Coloured blobs on noise."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        image = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
        for _ in range(4):
            x, y = rng.integers(0, width - 8), rng.integers(0, height - 8)
            w, h = rng.integers(8, max(9, width // 2)), rng.integers(8, max(9, height // 2))
            image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        out.append(image)
    return out


def assert_sound(found: Detections, detector: Detector, width: int, height: int) -> None:
    card = detector.card
    assert isinstance(found, Detections)
    assert np.isfinite(found.xyxy).all() and found.xyxy.dtype == np.float32
    assert (found.xyxy >= -1e-3).all() and (found.xyxy <= np.array([width, height] * 2) + 1e-3).all()
    assert (found.classes >= 0).all() and (found.classes < len(card.classes)).all()
    if found.masks is not None:
        assert all((mask.height, mask.width) == (height, width) for mask in found.masks)
    if len(found):
        assert (found.masks is not None) == (card.finds == "mask")
        assert (found.oriented is not None) == (card.finds == "oriented_box")
        assert (found.keypoints is not None) == (card.finds == "keypoints")
    if found.keypoints is not None and len(found):
        assert found.keypoints.shape[1] == len(card.keypoints)
        assert (found.keypoints[..., 2] >= 0).all() and (found.keypoints[..., 2] <= 1).all()


def same(a: Detections, b: Detections, atol: float = 0.0) -> None:
    assert len(a) == len(b)
    np.testing.assert_allclose(a.xyxy, b.xyxy, atol=atol * 500)
    np.testing.assert_allclose(a.scores, b.scores, atol=atol)
    assert a.classes.tolist() == b.classes.tolist()
    if atol == 0:
        assert a.masks == b.masks


@check
def is_a_detector_with_a_card(make: MakeDetector) -> None:
    detector = make()
    assert isinstance(detector, Detector)
    card = detector.card
    assert card.name and card.title and card.memory_bound and card.paper and card.devices and card.licence
    assert card.classes and len(set(card.classes)) == len(card.classes)
    assert all(max(bone) < len(card.keypoints) for bone in card.bones)
    pickle.dumps(card)


@check
def is_made_at_once(make: MakeDetector) -> None:
    """Weights are read when detection starts. The first one may import modules."""
    make()
    began = time.perf_counter()
    make()
    assert time.perf_counter() - began < 1.0


@check
def gives_sound_detections_for_every_picture(make: MakeDetector) -> None:
    detector = make()
    assert detector.detect([]) == []
    found = detector.detect(pictures(1, 3))
    assert len(found) == 3
    for one in found:
        assert_sound(one, detector, 160, 120)


@check
def leaves_the_pictures_alone(make: MakeDetector) -> None:
    images = pictures(2, 2)
    before = [image.copy() for image in images]
    for image in images:
        image.setflags(write=False)
    make().detect(images)
    assert all(np.array_equal(a, b) for a, b in zip(images, before, strict=True))


@check
def says_the_same_of_the_same_pictures(make: MakeDetector) -> None:
    images = pictures(3, 3)
    first, second = make().detect(images), make().detect(images)
    for a, b in zip(first, second, strict=True):
        same(a, b)


@check
def pictures_do_not_influence_each_other(make: MakeDetector) -> None:
    """Alone, or together with others in a batch - but for detectors that compare the frames of a video."""
    detector = make()
    if detector.card.temporal:
        return
    images = pictures(4, 3)
    together = detector.detect(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.detect([image])
        assert abs(len(alone) - len(found)) <= 2  # rounding may move a score across the floor
        best = min(len(alone), len(found), 5)
        np.testing.assert_allclose(np.sort(alone.scores)[::-1][:best], np.sort(found.scores)[::-1][:best], atol=2e-3)


@check
def survives_every_shape_of_picture(make: MakeDetector) -> None:
    rng = np.random.default_rng(5)
    for width, height in ((1, 1), (3, 200), (200, 3), (17, 31), (64, 128)):
        detector = make() if make().card.temporal else None
        detector = detector or make()
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        for shown in (image, np.zeros_like(image), np.full_like(image, 255)):
            (found,) = detector.detect([shown])
            assert_sound(found, detector, width, height)


@check
def takes_pictures_of_different_sizes_together(make: MakeDetector) -> None:
    detector = make()
    if detector.card.temporal:
        return
    images = [pictures(6, 1, w, h)[0] for w, h in ((96, 64), (40, 80), (96, 64))]
    for image, found in zip(images, detector.detect(images), strict=True):
        assert_sound(found, detector, image.shape[1], image.shape[0])


@check
def takes_pictures_whose_rows_lie_apart(make: MakeDetector) -> None:
    """Crops and mirrored pictures are views."""
    image = pictures(7, 1, 200, 160)[0][20:140:1, 160:0:-1]
    detector = make()
    (found,) = detector.detect([image])
    (again,) = make().detect([np.ascontiguousarray(image)])
    same(found, again)


@check
def goes_on_from_its_state(make: MakeDetector) -> None:
    """A fresh one that is given the state says what the first would have said; its state has a bound."""
    first, second = make(), make()
    if not isinstance(first, Resumable) or not isinstance(second, Resumable):
        return
    base = pictures(8, 1)[0]
    frames = [np.roll(base, (t, 2 * t), (0, 1)) for t in range(12)]
    sizes = []
    for frame in frames[:8]:
        first.detect([frame])
        state = first.state()
        assert state is not None
        sizes.append(len(state))
    assert sizes[-1] == sizes[1]
    second.restore(state)
    for a, b in zip(first.detect(frames[8:]), second.detect(frames[8:]), strict=True):
        same(a, b)
    try:
        make().restore(b"not a state")  # type: ignore[attr-defined]
    except ValueError:
        return
    raise AssertionError("a damaged state was taken")
