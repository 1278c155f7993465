"""The choice follows the measurement, keeps to its time, and can be read again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from common.detection.contract import Detections
from common.errors import UserError
from common.labeling import selection, trials
from common.labeling.candidates import Candidate, available
from common.labeling.chosen import MIDDLE, ChosenDetector, Rule, calibrated, fused, together
from common.labeling.counting import Truth
from common.labeling.scoring import Score, measured_mapping
from common.labeling.selection import Choice, select
from common.weights.store import Store
from tests.common.labeling.toys import CLASSES, ToyVideo

EXEMPLAR = Candidate("exemplar", "exemplar", "Like the examples")
HOG = Candidate("hog", "detector", "People", "hog")
MISSING = Candidate("yolo11n", "detector", "YOLO", "yolo11n")


@pytest.fixture(scope="module")
def choice() -> Choice:
    told: list[Score] = []
    made = select(ToyVideo(seed=1).support(), [EXEMPLAR, HOG], budget_s=600, on_score=told.append)
    assert [score.name for score in told] == ["exemplar", "hog"]
    return made


def test_what_finds_the_things_is_chosen_for_every_class(choice):
    assert [candidate.name for candidate in choice.candidates] == ["exemplar"]
    assert [rule.label for rule in choice.rules] == [0, 1]
    scores = {score.name: score for score in choice.scores}
    assert scores["exemplar"].f1 > 0.8 > 0.3 > scores["hog"].f1
    assert choice.scores[0].name == "exemplar"
    assert scores["exemplar"].low <= scores["exemplar"].f1 <= scores["exemplar"].high
    assert set(scores["exemplar"].classes) == set(CLASSES)
    assert "labelled objects" in scores["exemplar"].why and "exemplar" not in scores["hog"].why
    assert "disc by Like the examples" in choice.text


def test_rows_of_older_plans_are_read(choice):
    row = json.loads(json.dumps(choice.scores[0].to_json()))
    for rates in row["classes"].values():
        del rates["distinct"], rates["reach"]
    for rates in Score.from_json(row).classes.values():
        assert (rates.distinct, rates.reach) == (rates.wanted, rates.f1)


def test_a_choice_is_plain_values(choice):
    assert Choice.from_json(json.loads(json.dumps(choice.to_json()))) == choice


def test_without_time_only_the_first_is_tried():
    made = select(ToyVideo(seed=1).support(), [EXEMPLAR, HOG], budget_s=0)
    states = {score.name: score.state for score in made.scores}
    assert states == {"exemplar": "tried", "hog": "not tried"}


def test_what_cannot_work_is_told_and_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    made = select(ToyVideo(seed=1).support(), [MISSING, EXEMPLAR], budget_s=600, near=False)
    failed = next(score for score in made.scores if score.name == "yolo11n")
    assert failed.state == "failed" and "models download" in failed.why
    assert made.names == "exemplar"
    with pytest.raises(UserError, match="models download"):
        select(ToyVideo(seed=1).support(), [MISSING], budget_s=600)


def test_only_detectors_whose_weights_are_here_are_candidates(tmp_path):
    support = ToyVideo().support()
    names = [candidate.name for candidate in available(support, Store(tmp_path))]
    assert names[:2] == ["exemplar", "exemplar-shape"] and {"motion", "hog"} <= set(names)
    assert not [name for name in names if "yolo" in name or "dino" in name]
    assert "motion" not in [c.name for c in available(support, Store(tmp_path), video=False)]
    for candidate in available(support, Store(tmp_path)):
        assert Candidate.from_json(json.loads(json.dumps(candidate.to_json()))) == candidate


def test_open_vocabulary_is_told_the_names_and_other_words(tmp_path):
    from common.weights.entries import catalogue

    entry = catalogue().find("grounding-dino-tiny")
    for file in entry.files:
        (tmp_path / entry.name).mkdir(exist_ok=True)
        (tmp_path / entry.name / file.name).touch()
    support = ToyVideo().support()
    support.text["disc"] = ("frisbee", "red plate")
    made = {c.name: c for c in available(support, Store(tmp_path))}
    assert made["grounding-dino-tiny:names"].prompts == ("disc", "crate")
    assert made["grounding-dino-tiny:text"].prompts == ("frisbee", "red plate")
    assert made["grounding-dino-tiny:text"].owners == (0, 0)


# -- trials --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 7])
def test_no_picture_is_tried_on_a_detector_that_learned_from_it(count):
    video = ToyVideo(24)
    support = video.support(tuple(range(0, 3 * count, 3)))
    found = trials.folds(support)
    tested = [test.frame for fold in found for test in fold.tests]
    assert sorted(tested) == list(range(0, 3 * count, 3))
    assert len(found) == min(count, trials.FOLDS)
    for fold in found:
        assert len(fold.train) == count - len(fold.tests)


def test_one_picture_gives_its_surroundings_and_its_own_halves():
    video = ToyVideo(24)
    found = trials.folds(video.support((8,)))
    around = found[0]
    assert sorted(test.frame for test in around.tests) == [3, 13, 19]  # frame -3 does not exist
    for test in around.tests:  # labels carried by flow lie on the things
        truth = np.array([box for _, box in video.boxes(test.frame)])
        from common.geometry.measures import box_iou

        assert (box_iou(test.truth.boxes, truth).max(1) > 0.5).mean() > 0.7
    halves = [fold for fold in found if fold.learners]
    assert len(halves) == 2
    # which things these are is known, however often they are shown
    count = len(video.support((8,)).examples[0].labels)
    for test in around.tests:
        assert (
            len(test.truth.objects) == len(test.truth.boxes) and len(test.truth.lost) + len(test.truth.boxes) <= count
        )
    assert sorted(n for fold in halves for n in fold.tests[0].truth.objects) == list(range(count))
    (itself,) = found[-1].tests
    assert itself.truth.objects.tolist() == list(range(count))
    learned = [len(fold.train[0].boxes) for fold in halves]
    assert sum(len(fold.tests[0].truth.boxes) for fold in halves) + 0 == sum(learned)
    for fold in halves:
        assert len(fold.train[0].ignore) == len(fold.tests[0].truth.boxes)


def test_things_of_a_still_are_each_shown_once():
    found = trials.folds(ToyVideo(24).support((8,)), near=False)
    assert len(found) == 3 and all(test.truth.objects is None for fold in found for test in fold.tests)


class Noise:
    """The labelled frame of a video; all others show noise."""

    def __init__(self, video: ToyVideo, frame: int) -> None:
        self._video, self._frame, self.info = video, frame, video.info

    def read(self, index: int) -> np.ndarray:
        image = self._video.read(index)
        return image if index == self._frame else np.random.default_rng(index).integers(0, 256, image.shape, np.uint8)


def test_what_flow_loses_is_somewhere():
    video = ToyVideo(24)
    support = video.support((8,))
    example = replace(support.examples[0], source=Noise(video, 8))
    (around, *_) = trials.folds(replace(support, examples=(example,)))
    classes = sorted(support.picture(0).classes)
    for test in around.tests:
        assert sorted([*test.truth.classes, *test.truth.lost]) == classes
        assert 0 < len(test.truth.lost) <= len(test.truth.ignore)


def test_corrected_frames_are_measured_on_and_never_alone():
    video = ToyVideo(24)
    complete, corrected = video.support((8,)), video.support((3, 15))
    partial = tuple(replace(e, labels=e.labels[:1], partial=True) for e in corrected.examples)
    support = replace(complete, examples=(*complete.examples, *partial))
    found = trials.folds(support)
    tests = [test for test in found[0].tests if test.about == "corrected"]
    assert [test.frame for test in tests] == [3, 15] and all(t.truth.partial and len(t.truth.boxes) == 1 for t in tests)
    assert sum(test.about == "corrected" for fold in found for test in fold.tests) == 2
    assert not any(picture.partial for fold in found for picture in fold.train)
    assert list(support.frames(video)) == [8]
    with pytest.raises(UserError, match="No object"):
        replace(complete, examples=partial)


def test_a_measurement_on_the_same_few_things_again_and_again_is_no_surer():
    """Of two that differ by less than one thing is worth, the likely one is taken."""
    few = selection._likely([0.90, 0.97], 6)
    many = selection._likely([0.90, 0.97], 60)
    assert (few, many) == (0, 1)


# -- mapping, scale, fusion ----------------------------------------------------------------------------------------------


def test_foreign_classes_are_mapped_to_what_they_find():
    boxes = np.array([[0, 0, 10, 10], [30, 0, 40, 10], [60, 0, 70, 10]], np.float32)
    truth = Truth(boxes, np.array([0, 1, 1]), np.zeros((0, 4), np.float32))
    seen = Detections(np.concatenate((boxes, boxes[:1] + 100)), [0.9, 0.8, 0.7, 0.6], [2, 0, 0, 1])
    assert measured_mapping([seen], [truth], 4, 2).tolist() == [1, -1, 0, -1]


def test_every_threshold_becomes_the_middle():
    scores = np.linspace(0, 1, 21).astype(np.float32)
    for threshold in (0.05, 0.3, 0.5, 0.9):
        raised = calibrated(scores, threshold)
        assert (np.diff(raised) > 0).all() and raised[0] == 0 and raised[-1] == pytest.approx(1)
        assert calibrated(np.array([threshold], np.float32), threshold)[0] == pytest.approx(MIDDLE)


def test_two_detectors_that_see_the_same_are_surer_than_one():
    box = np.array([[10, 10, 30, 30]], np.float32)
    a, b = Detections(box, [0.6], [0]), Detections(box + 2, [0.4], [0])
    rule = Rule(0, (0, 1), (0.5, 0.3))
    both, alone = fused([a, b], rule), fused([a, Detections()], rule)
    assert len(both) == len(alone) == 1 and both.scores[0] > alone.scores[0]


def test_one_thing_has_one_class():
    a = Detections([[10, 10, 30, 30]], [0.6], [0])
    b = Detections([[11, 10, 30, 30], [60, 60, 80, 80]], [0.8, 0.5], [1, 1])
    joined = together([a, b])
    assert sorted(joined.classes.tolist()) == [1, 1]


def test_a_class_without_a_rule_is_not_given():
    class Both:
        from common.detection.contract import DetectorCard

        card = DetectorCard("both", "Both", ("x", "y"), "MIT", "none", paper="none")

        def detect(self, images):
            return [Detections([[0, 0, 9, 9], [20, 0, 29, 9]], [0.9, 0.9], [0, 1]) for _ in images]

    made = ChosenDetector([(Both(), np.array([0, 1]))], [Rule(1, (0,), (0.5,))], ("x", "y"))
    (found,) = made.detect([np.zeros((40, 40, 3), np.uint8)])
    assert found.classes.tolist() == [1]


def test_about_equal_candidates_are_taken_in_their_order():
    assert selection._likely([0.80, 0.82, 0.3], 10) == 0
    assert selection._likely([0.80, 0.95, 0.96], 10) == 1
    assert selection._likely([0.80, 0.82, 0.3], 1000) == 1
