"""Looking now and then, carrying between, going on after a stop, people's own figures, what to review."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.detection.contract import Detections
from common.errors import PromptInvalid
from common.geometry.measures import box_iou
from common.geometry.types import Box
from common.labeling.candidates import Candidate
from common.labeling.chosen import MIDDLE, Rule
from common.labeling.plan import Plan, labelled_boxes, make_plan
from common.labeling.propagation import Carrier
from common.labeling.queue import review_queue
from common.labeling.run import Found, LabelledVideo, fingerprint, label_video
from common.labeling.segmenter import Segmenter
from common.labeling.selection import Choice
from common.labeling.support import SupportSet
from common.prediction.journal import Journal
from common.prediction.results import Results
from common.video.contract import VideoInfo
from tests.common.labeling.toys import CLASSES, ToyVideo
from tests.contract.detectors import DETECTOR_CHECKS

VIDEO = ToyVideo(24, seed=1)


@pytest.fixture(scope="module")
def support() -> SupportSet:
    return VIDEO.support((0,))


@pytest.fixture(scope="module")
def plan(support: SupportSet) -> Plan:
    exemplar = Candidate("exemplar", "exemplar", "Like the examples")
    rules = tuple(Rule(label, (0,), (0.5,)) for label in range(2))
    choice = Choice(CLASSES, (exemplar,), ((0, 1),), rules, (), "chosen by hand")
    return make_plan(support, choice, every=2)


def run(plan: Plan, support: SupportSet | None, path: Path, stop_at: int | None = None) -> Journal:
    """The journal after the run; stop_at: it is interrupted once so many frames are through, and gone on with."""
    with Journal(path, "job") as journal:
        if stop_at is not None:
            stop = threading.Event()

            def told(done: int) -> None:
                if done >= stop_at:
                    stop.set()

            assert not label_video(VIDEO, plan, support, journal, stop=stop, on_frame=told)
            assert 0 < journal.next_frame < VIDEO.info.frames
    journal = Journal(path, "job")
    assert label_video(VIDEO, plan, support, journal)
    return journal


@pytest.fixture(scope="module")
def labelled(plan: Plan, support: SupportSet, tmp_path_factory: pytest.TempPathFactory) -> LabelledVideo:
    journal = run(plan, support, tmp_path_factory.mktemp("run") / "job.sqlite")
    return LabelledVideo(Results(journal, plan.settings(), VIDEO.info), support.frames(VIDEO))


def test_things_are_found_new_ones_within_five_frames_and_keep_their_identity(labelled):
    keys: dict[str, set[str]] = {}
    missed = total = 0
    first: dict[str, int] = {}
    for frame, found in labelled.frames():
        boxes = np.array([one.box.xyxy for one in found])
        for thing, box in VIDEO.boxes(frame, 0.8):
            total += 1
            overlaps = box_iou(box[None], boxes)[0]
            best = int(overlaps.argmax())
            if overlaps[best] < 0.5:
                missed += 1
                continue
            assert found[best].class_name == CLASSES[thing.kind]
            keys.setdefault(thing.key, set()).add(found[best].key)
            first.setdefault(thing.key, frame)
    assert missed <= 0.1 * total
    entered = next(f for f in range(24) if any(t.key == "d3" for t, _ in VIDEO.boxes(f, 0.8)))
    assert first["d3"] <= entered + 5
    assert all(len(own) == 1 for own in keys.values()), keys
    assert keys["d1"] == {"d1"}  # the person's object goes on


def test_people_s_figures_are_untouched(labelled, support):
    _, found = next(iter(labelled.frames()))
    assert all(one.labelled for one in found)
    drawn = {label.key: label.box for label in support.examples[0].labels}
    assert {one.key: one.box for one in found} == drawn


def test_the_results_that_it_is_made_from_stay_as_they_are(support, labelled, monkeypatch):
    """Though figures are added and taken away where objects come in."""
    given = labelled.results
    assert given.repaired is not None
    before, spans = given.repaired.tracks, dict(given.identities)
    monkeypatch.setattr("common.labeling.run.continued", lambda tracks, *_: tracks.keep(tracks.frames > 0))
    other = LabelledVideo(given, support.frames(VIDEO), info=VIDEO.info)
    assert other.results.repaired is not None
    assert len(other.results.repaired.tracks) < len(before)
    assert {one.first for one in other.results.identities.values()} >= {1}
    assert given.repaired.tracks is before and given.identities == spans != other.results.identities


@pytest.mark.parametrize("stop_at", [4, 12])
def test_stopped_and_gone_on_with_gives_the_same(plan, support, labelled, tmp_path, stop_at):
    journal = run(plan, support, tmp_path / "job.sqlite", stop_at)
    again = LabelledVideo(Results(journal, plan.settings(), VIDEO.info), support.frames(VIDEO))
    assert list(again.frames()) == list(labelled.frames())


def test_a_plan_is_bytes_that_give_the_same_detector(plan, support):
    again = Plan.load(plan.save())
    assert again.save() == plan.save() and again.choice == plan.choice
    image = VIDEO.read(7)
    (a,), (b,) = plan.pictures().detect([image]), again.pictures().detect([image])
    np.testing.assert_array_equal(a.xyxy, b.xyxy)
    assert fingerprint(b"v", plan, support, VIDEO) == fingerprint(b"v", again, support, VIDEO)
    assert fingerprint(b"v", plan, support, VIDEO) != fingerprint(b"v", plan, VIDEO.support((0, 5)), VIDEO)
    with pytest.raises(PromptInvalid, match="no plan"):
        Plan.load(b"nothing")


@pytest.mark.parametrize(
    "check", [c for c in DETECTOR_CHECKS if c.__name__ != "is_made_at_once"], ids=lambda check: check.__name__
)
def test_the_detector_for_video_keeps_the_contract(check, plan):
    check(lambda: plan.video())


def test_labels_are_given_as_they_are_on_their_frames(plan, support):
    detector = plan.video(labelled_boxes(support, VIDEO))
    found = detector.detect_frames([0, 1], [VIDEO.read(0), VIDEO.read(1)])
    np.testing.assert_array_equal(found[0].xyxy, support.picture(0).boxes)
    assert (found[0].scores == 1).all()


def test_boxes_are_carried_with_what_is_in_them():
    start = VIDEO.boxes(0)
    carrier = Carrier(np.array([box for _, box in start]))
    for frame in range(9):
        carrier.follow(VIDEO.read(frame))
        if frame == 4:
            carrier = Carrier(carrier.boxes, carrier.grey)
    now = {thing.key: box for thing, box in VIDEO.boxes(8)}
    overlaps = [box_iou(carrier.boxes[n][None], now[thing.key][None])[0, 0] for n, (thing, _) in enumerate(start)]
    assert min(overlaps) > 0.6 and carrier.trust.min() > 0.3


def test_areas_fit_the_things():
    from tests.common.labeling.toys import sprite

    found = Segmenter().outlined(VIDEO.read(0), Detections([VIDEO.boxes(0)[0][1]], [0.9], [0]))
    assert found.masks is not None
    mask = found.masks[0].to_array()
    x, y = VIDEO.things[0].corner(0)
    true = np.zeros_like(mask)
    true[y : y + 30, x : x + 30] = sprite(0)[1]
    assert (mask & true).sum() / (mask | true).sum() > 0.8


# -- review --------------------------------------------------------------------------------------------------------------

INFO = VideoInfo(100, 200, 100, 25.0)


def stretch(key, first, last, score, x=80, labelled=False):
    box = Box(np.array([x, 40, x + 20, 60]))
    return {frame: Found(key, "car", box, box, score, labelled) for frame in range(first, last + 1)}


def queue(*stretches):
    frames = {}
    for one in stretches:
        for frame, found in one.items():
            frames.setdefault(frame, []).append(found)
    return review_queue(sorted(frames.items()), INFO)


def test_what_mends_more_comes_first():
    items = queue(stretch("a1", 0, 99, 0.9), stretch("a2", 10, 70, 0.45), stretch("a3", 80, 84, 0.45))
    assert items[0].keys == ("a2",)
    place = {item.keys: number for number, item in reversed(list(enumerate(items)))}
    assert place[("a2",)] < place.get(("a3",), 99)
    assert [item.gain for item in items] == sorted((item.gain for item in items), reverse=True)


def test_sure_and_labelled_objects_need_no_review():
    assert queue(stretch("p", 0, 99, 1.0, labelled=True)) == []


def test_an_end_in_the_middle_of_the_picture_is_asked_about():
    assert any(item.kind == "ended" for item in queue(stretch("a1", 0, 50, 0.95)))
    assert not any(item.kind == "ended" for item in queue(stretch("a1", 0, 50, 0.95, x=178)))


def test_finds_of_stills_need_the_chosen_threshold_and_objects_of_videos_a_surer_beginning(plan: Plan) -> None:
    assert replace(plan, still=True).settings().thresholds.birth == MIDDLE
    assert plan.settings().thresholds.birth > MIDDLE
    assert plan.settings().thresholds.high == pytest.approx(MIDDLE), "known ones go on with every find"
