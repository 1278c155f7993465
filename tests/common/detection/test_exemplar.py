"""A detector learned from one labelled picture finds the things again, elsewhere, and remembers it in bounded bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.detection.contract import Detector
from common.detection.exemplar import channels, refining
from common.detection.exemplar.detector import ExemplarDetector
from common.detection.exemplar.settings import ExemplarPicture, ExemplarSettings
from common.errors import PromptInvalid
from common.geometry.measures import box_iou
from tests.common.labeling.toys import CLASSES, ToyVideo
from tests.contract.detectors import DETECTOR_CHECKS


def learned(video: ToyVideo, frames: tuple[int, ...] = (0,), **settings: object) -> ExemplarDetector:
    support = video.support(frames)
    pictures = [support.picture(n) for n in range(len(frames))]
    return ExemplarDetector.from_pictures(pictures, CLASSES, ExemplarSettings(**settings))


def rates(detector: Detector, video: ToyVideo, frames: range, threshold: float = 0.5) -> tuple[int, int, int]:
    """Hits, false alarms, misses at IoU 0.5 with the right class."""
    hit = wrong = missed = 0
    for frame in frames:
        (found,) = detector.detect([video.read(frame)])
        found = found.keep(found.scores >= threshold)
        truth = video.boxes(frame)
        table = box_iou(found.xyxy, np.array([box for _, box in truth])) if len(found) else np.zeros((0, len(truth)))
        table = np.where(found.classes[:, None] == [t.kind for t, _ in truth], table, 0) if len(found) else table
        right = int((table.max(0, initial=0) >= 0.5).sum())
        hit, missed = hit + right, missed + len(truth) - right
        wrong += int((table.max(1, initial=0) < 0.25).sum())
    return hit, wrong, missed


@pytest.fixture(scope="module")
def detector() -> ExemplarDetector:
    return learned(ToyVideo(seed=1))


@pytest.mark.parametrize("settings", [{}, {"shapes": False}, {"colours": False}, {"flip": False, "side": 40}], ids=str)
def test_finds_the_things_on_frames_and_ground_it_has_not_seen(settings):
    made = learned(ToyVideo(seed=1), **settings)
    hit, wrong, missed = rates(made, ToyVideo(seed=2), range(6, 24, 6))
    assert hit >= 12 and wrong <= 2 and missed <= 3, (hit, wrong, missed)


def test_things_of_another_size_are_found(detector):
    import cv2

    video = ToyVideo(seed=1)
    for scale in (0.8, 1.25):
        image = cv2.resize(video.read(5), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        (found,) = detector.detect([image])
        truth = np.array([box for _, box in video.boxes(5)]) * scale
        good = found.keep(found.scores >= 0.4)
        assert (box_iou(good.xyxy, truth).max(0) >= 0.5).sum() >= len(truth) - 1, scale


def test_empty_ground_has_nothing_on_it(detector):
    (found,) = detector.detect([ToyVideo(seed=5, things=()).read(0)])
    assert not (found.scores >= 0.5).any()


def test_classes_that_are_not_the_same_are_told_apart(detector):
    video = ToyVideo(seed=1)
    (found,) = detector.detect([video.read(10)])
    sure = found.keep(found.scores >= 0.5)
    for thing, box in video.boxes(10):
        near = sure.keep(box_iou(sure.xyxy, box[None])[:, 0] > 0.5)
        assert set(near.classes.tolist()) <= {thing.kind}


def test_what_was_saved_finds_the_same_and_does_not_grow(detector):
    image = ToyVideo(seed=2).read(9)
    saved = detector.save()
    again = ExemplarDetector.load(saved)
    assert again.card == detector.card
    (a,), (b,) = detector.detect([image]), again.detect([image])
    np.testing.assert_array_equal(a.xyxy, b.xyxy)
    np.testing.assert_array_equal(a.scores, b.scores)
    many = learned(ToyVideo(seed=1), tuple(range(0, 24, 2)))
    assert len(many.save()) < 4 * len(saved) < 4_000_000


@pytest.mark.parametrize("data", [b"", b"nothing", ExemplarDetector.__doc__.encode()])
def test_other_bytes_are_refused(data):
    with pytest.raises(PromptInvalid, match="no model learned from examples"):
        ExemplarDetector.load(data)


def test_proposed_boxes_are_looked_at(detector):
    """A box that says where a thing is gets a good score, one on the ground does not."""
    video = ToyVideo(seed=2)
    image = video.read(4)
    truth = np.array([box for _, box in video.boxes(4)])
    kinds = [thing.kind for thing, _ in video.boxes(4)]
    scores = detector.score(image, truth)
    assert (scores[np.arange(len(kinds)), kinds] > 0.5).mean() > 0.7
    assert detector.score(image, np.array([[100, 120, 130, 150]], np.float32)).max() < 0.4
    proposed = detector.look(image, truth)
    assert (box_iou(proposed.xyxy, truth).max(0) >= 0.5).all()


def test_nothing_labelled_is_told():
    picture = ExemplarPicture(lambda: ToyVideo().read(0), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    with pytest.raises(PromptInvalid, match="No object is labelled"):
        ExemplarDetector.from_pictures([picture], CLASSES)


def test_boxes_that_are_off_are_put_right(detector):
    """Of things on another ground; what is at the picture's edge is left as it is."""
    learned_from = detector._learned
    video, rng = ToyVideo(seed=2), np.random.default_rng(0)
    assert {one.label for one in learned_from.refiners} == {0, 1}
    before, after = [], []
    for frame in (3, 9):
        things = [(t, box) for t, box in video.boxes(frame, 1.0) if (box[:2] > 3).all()]
        truth = np.array([box for _, box in things])
        off = (truth + rng.normal(0, 2.5, truth.shape)).astype(np.float32)
        labels = np.array([t.kind for t, _ in things])
        put = refining.refined(
            video.read(frame), off, labels, learned_from.refiners, ExemplarSettings(), learned_from.table
        )
        before += np.diag(box_iou(off, truth)).tolist()
        after += np.diag(box_iou(put, truth)).tolist()
    assert np.mean(after) > np.mean(before) + 0.03, (np.mean(before), np.mean(after))
    edge = np.array([[0, 20, 28, 50]], np.float32)
    same = refining.refined(
        video.read(3), edge, np.zeros(1, np.int64), learned_from.refiners, ExemplarSettings(), learned_from.table
    )
    np.testing.assert_array_equal(same, edge)


def test_of_many_objects_only_some_are_learned_from(detector, monkeypatch):
    """Else the table of how alike their looks are would take gigabytes."""
    image, seen = ToyVideo(seed=1).read(0), []
    monkeypatch.setattr(refining, "_fitted", lambda label, looks, *_: seen.append((label, len(looks))))
    monkeypatch.setattr(refining, "_looks", lambda image, boxes, *_: np.zeros((len(boxes), 3), np.float32))
    boxes = np.tile(np.array([[20, 20, 50, 50]], np.float32), (2010, 1))
    labels = np.repeat(np.arange(2), (2000, 10))
    refining.fit([ExemplarPicture(lambda: image, boxes, labels)], 2, ExemplarSettings(), detector._learned.table)
    assert [label for label, _ in seen] == [0, 1] * len(refining._OFF)
    assert 240 < seen[0][1] <= 480 and seen[1][1] == 480, seen


def test_looks_that_say_nothing_refine_nothing():
    rng = np.random.default_rng(0)
    looks, targets = rng.normal(size=(80, 50)), rng.normal(0, 0.1, (80, 4))
    owners = np.repeat(np.arange(4), 20)
    assert refining._fitted(0, looks, targets, owners) is None
    told = refining._fitted(0, looks, looks[:, :4] * 0.1, owners)
    assert told is not None and told.weights.shape == (50, 4)
    assert refining._fitted(0, np.ones((80, 50)), targets, owners) is None, "looks that are all the same"


def test_what_helps_is_told_by_objects_that_were_not_learned_from():
    """As if a map were fitted without each in turn."""
    rng = np.random.default_rng(1)
    looks = rng.normal(size=(60, 20))
    owners = np.repeat(np.arange(3), 20)
    for noise in (0.05, 0.5, 5.0):
        targets = looks[:, :4] + rng.normal(0, noise, (60, 4))
        rows = looks - looks.mean(0)
        kernel = rows @ rows.T
        ridge = refining._RIDGE * np.trace(kernel) / len(kernel)
        left = []
        for name in range(3):
            out = owners == name
            inner = kernel[np.ix_(~out, ~out)] + ridge * np.eye((~out).sum())
            guess = kernel[np.ix_(out, ~out)] @ np.linalg.solve(inner, targets[~out])
            left.append(np.abs(targets[out] - guess).mean() / np.abs(targets[out]).mean())
        assert abs(np.mean(left) - refining._BETTER) > 0.01
        assert (refining._fitted(0, looks, targets, owners) is None) == (np.mean(left) > refining._BETTER)


def test_pictures_that_are_partly_labelled_give_objects_and_no_background():
    video = ToyVideo(seed=1)
    support = video.support((0, 9))
    partial = replace(
        support.picture(1),
        boxes=support.picture(1).boxes[:1],
        classes=support.picture(1).classes[:1],
        masks=(),
        partial=True,
    )
    made = ExemplarDetector.from_pictures([support.picture(0), partial], CLASSES)
    hit, wrong, missed = rates(made, video, range(6, 18, 6))
    assert hit >= 7 and wrong <= 1, (hit, wrong, missed)
    with pytest.raises(PromptInvalid, match="No object is labelled"):
        ExemplarDetector.from_pictures([partial], CLASSES)


def test_held_out_things_are_no_background():
    """A thing that is to be ignored is found all the same; as background it would not be."""
    video = ToyVideo(seed=1)
    support = video.support()
    spared = ExemplarDetector.from_pictures([support.picture(0, held_out=[1, 3])], CLASSES)
    image, (_, hidden) = video.read(0), video.boxes(0)[1]
    assert spared.score(image, hidden[None])[0].max() > 0.5


@pytest.mark.parametrize("check", DETECTOR_CHECKS, ids=lambda check: check.__name__)
def test_contract(check, detector):
    saved = detector.save()
    check(lambda: ExemplarDetector.load(saved))


@pytest.mark.parametrize("shape", [(48, 64, 3), (200, 30, 3), (720, 1280, 3), (9, 9, 3)])
@pytest.mark.parametrize(("low", "high"), [(10.0, 10.0), (20.0, 300.0), (400.0, 500.0)])
def test_sizes_fall_and_are_bounded(shape, low, high):
    settings = ExemplarSettings()
    found = channels.sizes(shape, low, high, settings)
    assert found and len(found) == len(set(found))
    areas = [width * height for width, height in found]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] <= 1.2 * settings.most_pixels
    assert all(width % channels.CELL == 0 and height % channels.CELL == 0 for width, height in found)


@pytest.mark.parametrize(
    "settings", [ExemplarSettings(), ExemplarSettings(shapes=False), ExemplarSettings(colours=False)]
)
@pytest.mark.parametrize("shape", [(64, 64), (16, 40), (4, 8)])
def test_pictures_that_are_worked_on_together_do_not_see_each_other(shape, settings):
    rng = np.random.default_rng(2)
    several = rng.integers(0, 256, (3, *shape, 3), np.uint8)
    table = rng.random((channels.bins(), 2), np.float32)
    together = channels.of_pictures(several, settings, table)
    assert together.shape == (
        3,
        shape[0] // channels.CELL,
        shape[1] // channels.CELL,
        channels.channel_count(settings, 2),
    )
    for one, maps in zip(several, together, strict=True):
        np.testing.assert_array_equal(channels.of_pictures(one[None], settings, table)[0], maps)


def test_samples_are_where_the_boxes_are():
    """The channels of a window around a bright square are bright in the middle."""
    image = np.full((128, 160, 3), 30, np.uint8)
    image[40:72, 60:92] = 220
    settings = ExemplarSettings(shapes=False)
    levels = channels.pyramid(image, 24, 48, settings, np.full((channels.bins(), 1), 0.5, np.float32))
    sampled = channels.sample(levels, np.array([[60, 40, 92, 72]], np.float32), (10, 10), 0.25, 32)
    light = sampled.reshape(10, 10, -1)[..., 0]
    assert light[3:7, 3:7].min() > 0.75 and light[[0, 9]].max() < 0.35
