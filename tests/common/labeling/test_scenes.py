"""Scenes are told apart by how pictures look, and each is labelled by what is best there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from common.detection.contract import Detections, DetectorCard
from common.labeling import selection
from common.labeling.candidates import Candidate
from common.labeling.chosen import ChosenDetector, Rule
from common.labeling.counting import Truth
from common.labeling.scenes import APART, distance, groups, look
from common.labeling.scoring import Score, Tried, rated
from common.labeling.selection import Choice
from common.labeling.trials import TestPicture
from tests.common.labeling.toys import ToyVideo

VIDEO = ToyVideo(24, seed=1)
NIGHT = [(0.25 * VIDEO.read(frame)).astype(np.uint8) for frame in (0, 12)]
DAY = [VIDEO.read(frame) for frame in (0, 12)]
RED = (DAY[0] * (1.0, 0.4, 0.4)).astype(np.uint8)


def test_looks_tell_scenes_apart_and_no_frames_of_one():
    light = np.clip(1.08 * DAY[0].astype(np.float32), 0, 255).astype(np.uint8)
    assert distance(look(DAY[0]), look(DAY[1])) < APART > distance(look(DAY[0]), look(light))
    assert distance(look(DAY[0]), look(NIGHT[0])) > APART < distance(look(DAY[0]), look(RED))
    assert groups([look(one) for one in (DAY[0], NIGHT[0], DAY[1], NIGHT[1])]) == [0, 1, 0, 1]
    assert groups([]) == [] and groups([look(DAY[0])]) == [0]


BOXES = np.array([[10, 10, 30, 30], [50, 10, 70, 30], [90, 10, 110, 30], [130, 10, 150, 30]], np.float32)


def tried(name: str, good: tuple[bool, ...], tests: tuple[TestPicture, ...]) -> Tried:
    """A candidate that finds everything on pictures where it is good, else something beside it."""
    found = tuple(
        Detections(BOXES if fine else BOXES + 100, np.full(4, 0.8, np.float32), np.zeros(4, np.int64)) for fine in good
    )
    row = Score(name, name, "tried", ms=10, pictures=len(tests))
    return Tried(
        Candidate(name, "exemplar", name), tests, found, np.zeros(1, np.int64), rated(row, found, tests, ["disc"])
    )


def pictures(images: list[np.ndarray], about: str = "left out", video: bool = True) -> tuple[TestPicture, ...]:
    truth = Truth(BOXES, np.zeros(4, np.int64), np.zeros((0, 4), np.float32))
    place = [(n, VIDEO) if video else (None, None) for n in range(len(images))]
    return tuple(TestPicture(lambda i=i: i, truth, about, *at) for i, at in zip(images, place, strict=True))


@pytest.mark.parametrize(
    ("images", "apart"),
    [([*DAY, DAY[0], *NIGHT], True), ([*DAY, DAY[0], *DAY], False)],
    ids=["two scenes", "one scene"],
)
def test_each_scene_has_what_is_best_there(images: list[np.ndarray], apart: bool) -> None:
    tests = pictures(images)
    by_day = tried("day", (True, True, True, False, False), tests)
    by_night = tried("night", (False, False, False, True, True), tests)
    rows = [by_day.score, by_night.score]
    choice = selection._choose(("disc",), [by_day, by_night], rows, None)
    assert choice == Choice.from_json(json.loads(json.dumps(choice.to_json())))
    usual, *special = choice.rules
    assert (usual.scene, choice.candidates[usual.members[0]].name) == (-1, "day")
    assert len(choice.scenes) == (2 if apart else 0)
    if apart:
        (rule,) = special
        assert choice.candidates[rule.members[0]].name == "night" and "on pictures like frame 3" in choice.text
        assert np.argmax(np.array(choice.scenes) @ look(NIGHT[1])) == rule.scene
    else:
        assert not special


@pytest.mark.parametrize("about", ["left out", "a changed copy", "the labelled picture itself"])
def test_pictures_of_their_own_have_scenes_and_copies_of_one_have_none(about: str) -> None:
    tests = pictures([*DAY, DAY[0], *NIGHT], about, video=False)
    good = (True, True, True, False, False)
    both = [tried("day", good, tests), tried("night", tuple(not one for one in good), tests)]
    choice = selection._choose(("disc",), both, [one.score for one in both], None)
    assert len(choice.scenes) == (2 if about == "left out" else 0)
    assert ("on pictures like 2 of the 5 labelled ones, disc by night" in choice.text) == (about == "left out")
    assert "None" not in choice.text


class Counting:
    """Finds one thing, and counts the pictures that it was shown."""

    card = DetectorCard("counting", "Counting", ("thing",), "Apache-2.0", "nothing")

    def __init__(self, at: float) -> None:
        self.at, self.seen = at, 0

    def detect(self, images):
        self.seen += len(images)
        return [Detections([[self.at, 0, self.at + 10, 10]], [0.9], [0]) for _ in images]


def test_the_detector_of_the_picture_s_scene_looks_and_no_other():
    a, b = Counting(0), Counting(50)
    rules = [Rule(0, (0,), (0.5,)), Rule(0, (1,), (0.5,), scene=1)]
    table = np.zeros(1, np.int64)
    made = ChosenDetector([(a, table), (b, table)], rules, ("thing",), [look(DAY[0]), look(NIGHT[0])])
    found = made.detect([DAY[1], NIGHT[1], NIGHT[0]])
    assert [one.xyxy[0, 0] for one in found] == [0, 50, 50]
    assert (a.seen, b.seen) == (1, 2)
    assert made.look(NIGHT[1], np.zeros((0, 4), np.float32)).xyxy[0, 0] == 50
    everywhere = ChosenDetector([(a, table), (b, table)], rules[:1], ("thing",))
    assert everywhere.detect([NIGHT[0]])[0].xyxy[0, 0] == 0
