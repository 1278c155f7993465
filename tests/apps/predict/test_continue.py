"""Appending to a video in which people labelled objects: these go on, untouched and never twice."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from apps.predict import worker as workers
from apps.predict.ledger import Ledger
from apps.predict.worker import VideoTask
from common.prediction.journal import Journal
from common.supervisely_io.writer import FigureWriter
from tests.apps.predict.conftest import FRAMES, SPEED, Predicting, Project
from tests.apps.predict.test_run import draw
from tests.apps.predict.test_upload import Killed, PatchDetector, worker

IN_PLACE = {"upload_to_source_project": True, "tags": ["confidence"]}
HOG = {"mode": "in_process", "model_name": "hog"}


@pytest.fixture(autouse=True)
def _patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "make_detector", lambda settings: PatchDetector())


def run(
    predict: Predicting, folder: Path, video: int, stop_at: tuple[int, ...] = (), **settings: Any
) -> dict[str, Any]:
    """One video through a worker, stopped at those frames and gone on with."""
    told: dict[str, Any] = {}
    for moment in (*stop_at, 10**9):
        stop = threading.Event()

        def report(done: int, whole: int, stop: threading.Event = stop, moment: int = moment) -> None:
            if done >= moment:
                stop.set()

        ready = worker(predict.served, folder, model=HOG, output=IN_PLACE, settings=settings)
        done = ready(VideoTask("job", video, video, False), stop, report)
        assert done.stopped is (moment < 10**9)
        told = dict(done.told)
    return told


def mine(predict: Predicting, project: Project, ident: int) -> list[dict[str, Any]]:
    return [f for f in predict.figures(project.videos[0], project.datasets[0]) if f["objectId"] == ident]


@pytest.mark.parametrize("labelled", [[0, 1, 2], [10, 11, 12, 13], [0, 9, 20], [FRAMES - 1]])
def test_an_object_that_a_person_labelled_goes_on(
    predict: Predicting, project: Project, tmp_path: Path, labelled: list[int]
) -> None:
    video, dataset = project.videos[0], project.datasets[0]
    ident, _ = draw(predict, video, "patch", labelled)  # type: ignore[arg-type]
    before = mine(predict, project, ident)
    told = run(predict, tmp_path, video)
    after = predict.lefts(video, dataset)  # fails when an object has two figures on a frame
    assert [f for f in mine(predict, project, ident) if f["meta"]["frame"] in labelled] == before
    found = sorted(after[ident])
    assert found == list(range(labelled[0], FRAMES)), "from its first label on"
    assert all(abs(left - (8 + SPEED * frame)) < 5 for frame, left in after[ident].items())
    others = {frame for other, frames in after.items() if other != ident for frame in frames}
    assert not others & set(found), "nothing is found a second time"
    assert told["continued"] == (1 if len(found) > len(labelled) else 0)
    tags = predict.served.call("annotation-objects.info", {"id": ident}).json()["tags"]
    assert tags == []


def test_other_classes_and_a_person_s_wish_are_left_alone(
    predict: Predicting, project: Project, tmp_path: Path
) -> None:
    video = project.videos[0]
    thing, _ = draw(predict, video, "thing", range(3, 6))
    patch, _ = draw(predict, video, "patch", range(3, 6))
    before = [mine(predict, project, ident) for ident in (thing, patch)]
    told = run(predict, tmp_path, video, tracking_settings={"continue_labels": False})
    assert [mine(predict, project, ident) for ident in (thing, patch)] == before
    assert (told["continued"], told["objects"]) == (0, 1)


@pytest.mark.parametrize("stop_at", [(8,), (16, 30)])
def test_going_on_after_a_stop_gives_the_same(
    predict: Predicting, project: Project, tmp_path: Path, stop_at: tuple[int, ...]
) -> None:
    api, dataset = predict.served.api, project.datasets[0]
    first = project.videos[0]
    second = api.video.upload_hash(dataset, "same.mp4", api.video.get_info_by_id(first).hash).id
    found = []
    for video, stops in ((first, ()), (second, stop_at)):
        ident, _ = draw(predict, video, "patch", [2, 3, 14])  # type: ignore[arg-type]
        run(predict, tmp_path, video, stops)
        lefts = predict.lefts(video, dataset)
        found.append(sorted((other == ident, sorted(frames.items())) for other, frames in lefts.items()))
    assert found[0] == found[1]


@pytest.mark.parametrize(("owner", "name", "on"), [(Journal, "save", 2), (Ledger, "note", 3), (FigureWriter, "put", 9)])
def test_a_kill_doubles_and_loses_nothing(
    predict: Predicting,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    on: int,
) -> None:
    monkeypatch.setattr("common.prediction.journal.SAVE_EVERY_S", 0.0)
    api, dataset = predict.served.api, project.datasets[0]
    first = project.videos[0]
    second = api.video.upload_hash(dataset, "same.mp4", api.video.get_info_by_id(first).hash).id
    found = []
    for video in (first, second):
        ident, _ = draw(predict, video, "patch", [2, 3, 14])  # type: ignore[arg-type]
        if video == second:
            real, left = getattr(owner, name), [on]

            def dies(*given: Any, real: Any = real, left: list[int] = left, **more: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                return real(*given, **more)

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, dies)
                with pytest.raises(Killed):
                    run(predict, tmp_path, video)
        run(predict, tmp_path, video)
        lefts = predict.lefts(video, dataset)
        found.append(sorted((other == ident, sorted(frames.items())) for other, frames in lefts.items()))
    assert found[0] == found[1]


def test_two_labelled_objects_stay_two(predict: Predicting, project: Project, tmp_path: Path) -> None:
    """Even where repair would take the second for the first one's way on."""
    video, dataset = project.videos[0], project.datasets[0]
    one, _ = draw(predict, video, "patch", range(0, 4))
    other, _ = draw(predict, video, "patch", range(12, 16))
    before = [mine(predict, project, ident) for ident in (one, other)]
    run(predict, tmp_path, video)
    after = predict.lefts(video, dataset)
    assert set(after) == {one, other}
    for ident, old in zip((one, other), before, strict=True):
        kept = {f["id"] for f in old}
        assert [f for f in mine(predict, project, ident) if f["id"] in kept] == old
    assert max(after[one]) < min(after[other])
    assert sorted([*after[one], *after[other]]) == list(range(FRAMES))


def test_a_copy_in_a_new_project_goes_on_too(
    predict: Predicting, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = project.videos[0]
    draw(predict, video, "patch", range(0, 3))
    done = predict.run(input={"video_id": video}, model=HOG, output={"project_name": "copy"})
    target = done["videos"][0]["result_video_id"]
    dataset = predict.served.api.video.get_info_by_id(target).dataset_id
    (lefts,) = predict.lefts(target, dataset).values()
    assert sorted(lefts) == list(range(FRAMES))
    assert len(predict.figures(video, project.datasets[0])) == 3


def test_running_it_twice_adds_nothing(predict: Predicting, project: Project, tmp_path: Path) -> None:
    video, dataset = project.videos[0], project.datasets[0]
    run(predict, tmp_path / "a", video)
    before = predict.figures(video, dataset)
    assert len({f["objectId"] for f in before}) == 1
    run(predict, tmp_path / "b", video)
    assert predict.figures(video, dataset) == before
