"""A video through detection, association and repair: right rows, the same whatever interrupts it, in flat memory."""

from __future__ import annotations

import threading
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from common.errors import EngineUnavailable, OutputUnusable
from common.geometry.types import Box, Mask, OrientedBox, Points
from common.prediction.journal import Journal
from common.prediction.looks import make_looks
from common.prediction.results import Results
from common.prediction.settings import PredictionSettings
from common.prediction.video import predict_video
from common.weights.options import DEFAULT, EngineOptions
from tests.common.prediction.toys import NumberedSource, RememberingDetector, ToyDetector

PLAIN = PredictionSettings("toy", repair=False)
FRAMES = 40


class Killed(Exception):
    """Stands for a process that ends without a word."""


def finished(
    folder: Path,
    settings: PredictionSettings = PLAIN,
    source: NumberedSource | None = None,
    kind: str = "box",
    temporal: bool = False,
    interrupt: str = "",
    at: tuple[int, ...] = (),
) -> list[object]:
    """Everything that the results say, after interruptions "stop" or "kill" at those frames."""
    source = source or NumberedSource(FRAMES)
    looks = make_looks(settings.looks, DEFAULT)
    path = folder / "journal.sqlite"
    for moment in at:
        stop = threading.Event()

        def on_frame(done: int, moment: int = moment, stop: threading.Event = stop) -> None:
            if done >= moment:
                if interrupt == "kill":
                    raise Killed
                stop.set()

        with Journal(path, "job") as journal:
            try:
                detector = ToyDetector(kind, temporal=temporal)
                assert not predict_video(
                    source, detector, settings, journal, looks=looks, stop=stop, on_frame=on_frame, keep=True
                )
            except Killed:
                continue
            assert 0 < journal.next_frame < FRAMES
    with Journal(path, "job") as journal:
        assert predict_video(source, ToyDetector(kind, temporal=temporal), settings, journal, looks=looks, keep=True)
        assert journal.keeps_all is settings.repair
        results = Results(journal, settings, source.info)
        found: list[object] = [results.identities, journal.damage, journal.looks().keys()]
        for frame, seen in results.frames():
            found.append((frame, [(s.id, s.box, s.geometry, s.score, s.filled) for s in seen]))
        return found


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(
    ("kind", "geometry"), [("box", Box), ("mask", Mask), ("keypoints", Points), ("oriented_box", OrientedBox)]
)
def test_every_object_has_one_identity_from_its_first_frame(
    tmp_path: Path, kind: str, geometry: type, repair: bool
) -> None:
    settings = PredictionSettings("toy", repair=repair)
    identities, damage, _, *frames = finished(tmp_path, settings, kind=kind)
    assert [(i.class_name, i.first, i.last, i.boxes) for i in identities.values()] == [
        ("car", 0, FRAMES - 1, FRAMES),
        ("object", 9, FRAMES - 1, FRAMES - 9),
    ]
    assert damage is None
    for frame, seen in frames:
        assert all(isinstance(drawn, geometry) for _, _, drawn, _, _ in seen)
        left = next(box for identity, box, *_ in seen if identity == 1).xyxy[0]
        assert abs(left - (10 + 2 * frame)) < 3


@pytest.mark.parametrize(
    ("tracker", "interrupt", "temporal", "kind"),
    [
        ("botsort", "stop", False, "mask"),
        ("botsort", "kill", False, "box"),
        ("botsort", "kill", True, "box"),
        ("deepsort", "kill", False, "mask"),
        ("bytetrack", "stop", True, "mask"),
    ],
)
def test_interrupted_runs_end_in_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str, interrupt: str, temporal: bool, kind: str
) -> None:
    monkeypatch.setattr("common.prediction.journal.SAVE_EVERY_S", 0.0)
    settings = PredictionSettings("toy", tracker=tracker, repair=kind == "box", batch=4)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = finished(tmp_path / "a", settings, kind=kind, temporal=temporal)
    parts = finished(tmp_path / "b", settings, kind=kind, temporal=temporal, interrupt=interrupt, at=(5, 13, 30))
    assert len(whole) > FRAMES // 2
    assert parts == whole


def test_batches_are_the_same_after_a_stop(tmp_path: Path) -> None:
    source, settings = NumberedSource(21), PredictionSettings("toy", batch=4, every=2)
    stop, first, second = threading.Event(), ToyDetector(), ToyDetector()
    with Journal(tmp_path / "j", "job") as journal:
        predict_video(source, first, settings, journal, stop=stop, on_frame=lambda done: stop.set())
        predict_video(source, second, settings, journal)
    assert first.batches + second.batches == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20]]


def test_a_detector_that_remembers_is_not_shown_the_video_again(tmp_path: Path) -> None:
    source = NumberedSource(24)

    def scores(folder: Path, detectors: list[RememberingDetector], at: list[int]) -> list[float]:
        for detector, moment in zip(detectors, [*at, 99], strict=True):
            stop = threading.Event()
            with Journal(folder / "j", "job") as journal:
                predict_video(
                    source, detector, PLAIN, journal, stop=stop, on_frame=lambda n, m=moment, s=stop: n >= m and s.set()
                )
        with Journal(folder / "j", "job") as journal:
            assert journal.done
            return journal.tracks().scores.tolist()

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    parts = [RememberingDetector() for _ in range(3)]
    whole = scores(tmp_path / "whole", [RememberingDetector()], [])
    assert scores(tmp_path / "parts", parts, [8, 16]) == whole
    assert [one.batches for one in parts] == [[list(range(n, n + 8))] for n in (0, 8, 16)]


def test_frames_that_cannot_be_read_are_counted_once_and_passed_over(tmp_path: Path) -> None:
    source = NumberedSource(FRAMES, missing=(12, 13, 30))
    _, damage, _, *frames = finished(tmp_path, source=source, interrupt="stop", at=(16, 32))
    assert damage == "Frame 12 is gone. Frames that could not be read: 3."
    assert [frame for frame, _ in frames] == [n for n in range(FRAMES) if n not in (12, 13, 30)]


def test_repair_fills_frames_that_were_left_out(tmp_path: Path) -> None:
    _, _, _, *frames = finished(tmp_path, PredictionSettings("toy", every=3, repair=True))
    assert {frame % 3 for frame, _ in frames} == {0}  # its step is the detector's: nothing is missing in between


def test_another_job_starts_anew(tmp_path: Path) -> None:
    path, source = tmp_path / "j", NumberedSource(12)
    with Journal(path, "one") as journal:
        predict_video(source, ToyDetector(), PLAIN, journal)
    with Journal(path, "one") as journal:
        assert journal.resumed
        assert journal.done
    with Journal(path, "two") as journal:
        assert not journal.resumed
        assert not journal.done
        assert len(journal.tracks()) == 0


def test_two_runs_of_one_job_do_not_write_through_each_other(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "one"), pytest.raises(OutputUnusable, match="another run"):
        Journal(tmp_path / "j", "one")


def test_a_damaged_journal_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"no database at all" * 100)
    with Journal(tmp_path / "j", "one") as journal:
        assert predict_video(NumberedSource(9), ToyDetector(), PLAIN, journal)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        with Journal(tmp_path / str(frames), "job") as journal:
            tracemalloc.start()
            predict_video(NumberedSource(frames), ToyDetector("mask"), PLAIN, journal)
            count = Counter(
                seen.id
                for _, all_seen in Results(journal, PLAIN, NumberedSource(frames).info).frames()
                for seen in all_seen
            )
            top = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert count[1] > 50
        return top

    peak(70)
    assert peak(500) < 1.2 * peak(150)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tracker": "nosort"}, EngineUnavailable),
        ({"confidence": 0.0}, ValueError),
        ({"every": 0}, ValueError),
        ({"classes": ()}, ValueError),
    ],
)
def test_settings_are_checked(change: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        PredictionSettings("toy", **change)  # type: ignore[arg-type]


def test_settings_survive_json() -> None:
    settings = PredictionSettings(
        "onnx", EngineOptions("file.onnx", "cpu"), "deepsort", False, "none", ("a", "b"), 0.4, 2
    )
    assert PredictionSettings.from_json(settings.to_json()) == settings
    assert np.isclose(settings.thresholds.birth, 0.4)
