"""Predict looks at identities from the video's end as well, from what its journal kept; journals without it are told of."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from common.association.contract import Given, Tracks
from common.association.offline.decisions import Repaired
from common.association.offline.repair import RepairSettings
from common.detection.contract import Detections, DetectorCard
from common.errors import Interrupted
from common.prediction import kept, mending
from common.prediction.journal import Journal
from common.prediction.results import Results
from common.prediction.seeds import Seeds
from common.prediction.settings import PredictionSettings
from common.prediction.video import predict_video
from common.video.contract import Image
from tests.common.prediction.toys import NumberedSource, number

FRAMES = 60
SETTINGS = PredictionSettings("toy", looks="none")


class Emerging:
    """A thing that runs, hardly seen before frame 12, and one that stands."""

    card = DetectorCard("emerging", "Emerging", ("thing",), "MIT", "none")

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [self._one(number(image)) for image in images]

    def _one(self, n: int) -> Detections:
        x = 20.0 + 2.0 * n
        boxes = np.array([[x, 30, x + 20, 60], [150, 100, 170, 130]], np.float32)
        scores = np.array([0.9 if n >= 12 else 0.5, 0.8], np.float32)
        return Detections(boxes, scores, np.zeros(2, np.int64))


def run(path: Path, settings: PredictionSettings = SETTINGS, *, keep: bool = True, seeds: Seeds | None = None) -> None:
    with Journal(path, "job") as journal:
        assert predict_video(NumberedSource(FRAMES), Emerging(), settings, journal, keep=keep, seeds=seeds)


def rows(journal: Journal) -> list[tuple[int, int, tuple[float, ...]]]:
    found = Results(journal, SETTINGS, NumberedSource(FRAMES).info).frames()
    return [(frame, one.id, tuple(one.box.xyxy.tolist())) for frame, seen in found for one in seen]


def test_all_detections_of_a_frame_survive_the_disk() -> None:
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(5, 32)).astype(np.float32)
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    looks[2] = 0
    low = rng.uniform(0, 50, (5, 2))
    seen = Detections(
        np.concatenate((low, low + 10), 1),
        rng.random(5),
        np.arange(5) * 300,
        embeddings=looks,
        oriented=rng.random((5, 5)),
    )
    back = kept.decode(kept.encode(seen))
    for name in ("xyxy", "scores", "classes", "oriented"):
        assert np.array_equal(getattr(back, name), getattr(seen, name))
    assert back.embeddings is not None and not back.embeddings[2].any()
    assert np.abs(back.embeddings @ looks.T - looks @ looks.T).max() < 0.01
    nothing = kept.decode(kept.encode(Detections()))
    assert len(nothing) == 0 and nothing.embeddings is None and nothing.oriented is None
    given = Given(np.array([3, 1]), np.array([[0, 1, 2, 3], [4, 5, 6, 7.5]], np.float32), np.array([0, 2]))
    again = kept.decode_people(kept.encode_people(given))
    assert again.ids.tolist() == [3, 1] and np.array_equal(again.xyxy, given.xyxy) and again.classes.tolist() == [0, 2]


def test_what_nobody_followed_is_kept_and_read_from_either_end(tmp_path: Path) -> None:
    run(tmp_path / "j")
    with Journal(tmp_path / "j", "job") as journal:
        forward = list(journal.seen())
        assert [frame for frame, _ in forward] == list(range(FRAMES))
        assert [frame for frame, _ in journal.seen(backward=True)] == list(range(FRAMES))[::-1]
        assert all(len(seen) == 2 for _, seen in forward)
        followed = {(frame, row) for frame, row in zip(journal.tracks().frames, journal.tracks().rows, strict=True)}
        assert len(followed) < 2 * FRAMES  # the weak beginning belongs to nobody
        assert journal.keeps_all


@pytest.mark.parametrize("partly", [False, True])
def test_a_journal_of_an_earlier_version_is_repaired_as_before_and_says_so(tmp_path: Path, partly: bool) -> None:
    run(tmp_path / "new")
    run(tmp_path / "old", keep=False)
    for name in ("new", "old"):
        db = sqlite3.connect(tmp_path / name)
        if name == "old":
            db.executescript("DROP TABLE seen; DROP TABLE people;")
        elif partly:
            db.executescript("DELETE FROM seen WHERE frame < 30;")  # begun by the earlier version, ended by this one
        db.close()
    info = NumberedSource(FRAMES).info
    with Journal(tmp_path / "old", "job") as old, Journal(tmp_path / "new", "job") as new:
        assert old.resumed and old.done and not old.keeps_all
        note = Results(old, SETTINGS, info).note
        assert note is not None and "earlier version" in note
        assert (Results(new, SETTINGS, info).note is None) is not partly
        assert (rows(new) == rows(old)) is partly


def test_what_people_labelled_is_theirs_from_both_ends(tmp_path: Path) -> None:
    """Labelled in the middle only: what is found before and after is one object, the label's."""
    x = 20.0 + 2 * 30
    label = Given(np.array([1]), np.array([[x, 30, x + 20, 60]], np.float32), np.array([0]))
    run(tmp_path / "j", seeds=Seeds(1, lambda n: label if n == 30 else None))
    with Journal(tmp_path / "j", "job") as journal:
        assert journal.most_of_people == 1 and journal.people(29) is None
        repaired = Results(journal, SETTINGS, NumberedSource(FRAMES).info).repaired
        upper = [(frame, ident) for frame, ident, box in rows(journal) if box[1] < 60]
        assert repaired is not None and {ident for _, ident in upper} == {repaired.renamed.get(1, 1)}
        assert {frame for frame, _ in upper} >= set(range(12, FRAMES)) - {30}


def test_repair_is_told_what_is_sure_and_how_long_the_video_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector whose sure finds score 0.3 has sure brief tracks, too; and people's identities are known."""
    told = []

    def repair(tracks: Tracks, settings: RepairSettings, **more: object) -> Repaired:
        told.append((settings.flicker_score, settings.people, more["span"]))
        return Repaired(tracks, (), (), {})

    run(tmp_path / "j", seeds=Seeds(1, lambda _: None))
    monkeypatch.setattr(mending, "repair", repair)
    with Journal(tmp_path / "j", "job") as journal:
        Results(journal, replace(SETTINGS, confidence=0.3), NumberedSource(FRAMES).info)
        assert told == [(pytest.approx(0.35), journal.most_of_people, (0, FRAMES - 1))]


def test_repair_can_be_stopped(tmp_path: Path) -> None:
    run(tmp_path / "j")
    stop = Event()
    stop.set()
    with Journal(tmp_path / "j", "job") as journal, pytest.raises(Interrupted):
        Results(journal, SETTINGS, NumberedSource(FRAMES).info, stop)
