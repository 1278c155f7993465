"""From a few labelled frames to a labelled video: what works best is measured, people's figures stay, nothing is there twice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from apps.labeling_assistant import worker
from apps.labeling_assistant.earlier import Earlier
from apps.labeling_assistant.main import create_app
from apps.predict.store import JobStore
from apps.predict.upload import track_id
from common.geometry.measures import box_iou
from common.geometry.supervisely import to_json
from common.geometry.types import Box
from common.supervisely_io.records import NewFigure
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.supervisely_io.writer import FigureWriter
from tests.apps.auto_track.conftest import AppServer
from tests.apps.labeling_assistant.conftest import FRAMES, LABELLED, TOY, Assisting, Clip, make_service, truth
from tests.apps.predict.conftest import wait_until
from tests.apps.workbench.harness import Served

QUICK = {"candidates": ["exemplar-colour"], "budget_s": 0}


def boxes(assistant: Assisting, clip: Clip) -> dict[int, dict[int, np.ndarray]]:
    """By object and frame; fails when an object has two figures on a frame."""
    found: dict[int, dict[int, np.ndarray]] = {}
    for figure in assistant.figures(clip.video, clip.dataset):
        (x1, y1), (x2, y2) = figure["geometry"]["points"]["exterior"]
        frames = found.setdefault(figure["objectId"], {})
        assert figure["meta"]["frame"] not in frames, "a figure twice"
        frames[figure["meta"]["frame"]] = np.array([x1, y1, x2 + 1, y2 + 1], float)
    return found


def overlap(found: dict[int, np.ndarray], real: dict[int, np.ndarray]) -> float:
    """Share of the frames of the thing on which it is found."""
    hits = [box_iou(found[f][None], real[f][None])[0, 0] > 0.5 for f in real if f in found]
    return sum(hits) / len(real)


def test_from_labelled_frames_to_a_labelled_video(assistant: Assisting, clip: Clip) -> None:
    support = assistant.post("support", video_id=clip.video)
    assert [(one["name"], one["objects"], one["labels"]) for one in support["classes"]] == [
        ("disc", 2, 4),
        ("crate", 2, 4),
    ]
    assert [one["frame"] for one in support["frames"]] == list(LABELLED)
    assert "exemplar" in [one["name"] for one in support["candidates"]]

    selection = assistant.finished(
        "select", video_id=clip.video, candidates=["exemplar", "exemplar-colour"], budget_s=20
    )
    row = selection["videos"][0]
    assert {one["name"] for one in row["table"]} >= {"exemplar", "exemplar-colour"}
    assert all(0 <= one["low"] <= one["f1"] <= one["high"] <= 1 for one in row["table"])
    assert all(one["why"] for one in row["table"])
    assert [one["name"] for one in row["table"] if one["chosen"]] == [row["chosen"]]
    assert row["table"][0]["f1"] > 0.8, row["why"]

    before = assistant.of_people(clip)
    result = assistant.finished("run", selection=selection["job_id"])
    assert assistant.of_people(clip) == before, "what a person drew is as it was"
    told = result["videos"][0]
    assert told["chosen"] == row["chosen"]
    assert told["frames_per_s"] > 0 and told["peak_memory_mib"] > 10
    found = boxes(assistant, clip)
    assert told["figures"] + len(before) == sum(map(len, found.values()))
    for name, ident in clip.objects.items():
        assert overlap(found[ident], truth(name)) > 0.8, f"{name} goes on"
    others = {ident: frames for ident, frames in found.items() if ident not in clip.objects.values()}
    for name in ("d3", "c3"):
        new, frames = max(others.items(), key=lambda one: overlap(one[1], truth(name)))
        assert overlap(frames, truth(name)) > 0.7, f"{name}, which enters later, is found"
        assert min(frames) <= min(truth(name)) + 5
    queue = result["review"]
    assert [one["gain"] for one in queue] == sorted((one["gain"] for one in queue), reverse=True)
    entry = next(one for one in queue if one["kind"] == "new" and one["keys"] == [str(new)])
    assert entry["link"] == f"{assistant.served.settings.address}/#video={clip.video}&frame={entry['frame']}"
    assert str(new) in entry["why"]
    written = [one for one in assistant.figures(clip.video, clip.dataset) if one.get("trackId")]
    assert all(0 < one["customData"]["score"] <= 1 for one in written)


@pytest.mark.parametrize("at", [10, FRAMES + 20], ids=["labeling", "uploading"])
def test_a_restarted_app_goes_on(
    served: Served, clip: Clip, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app ends in the middle; labels that are drawn meanwhile change nothing of what the job began with."""
    if at > FRAMES:
        monkeypatch.setattr("apps.predict.upload._NOTE_EVERY", 4)
        monkeypatch.setattr(worker, "_TELL_EVERY_S", 0.0)
    folder = tmp_path / "assistant"
    reached: list[int] = []

    with AppServer(create_app(service=make_service(served, folder))) as url:
        first = Assisting(url, None, served)  # type: ignore[arg-type]
        before = first.of_people(clip)
        with monkeypatch.context() as patch:
            _pause(patch, at, reached)
            job = first.post("run", video_id=clip.video, **QUICK)["job_id"]
            wait_until(lambda: reached, 120)
    assert first.of_people(clip) == before
    kept = JobStore(folder / "labeling_assistant" / "jobs.sqlite")
    assert kept.job(job).status == "running", "it was ended in the middle"  # type: ignore[union-attr]
    kept.close()
    half = len(first.figures(clip.video, clip.dataset)) - len(before)
    assert (half > 0) == (at > FRAMES)
    with AppServer(create_app(service=make_service(served, folder))) as url:
        second = Assisting(url, None, served)  # type: ignore[arg-type]
        last = second.events(job)[-1]
        assert last["status"] == "finished", last
        found = boxes(second, clip)
        assert second.of_people(clip) == before
        assert [one["name"] for one in last["videos"][0]["table"]] == QUICK["candidates"], "what was measured is kept"
        assert all(overlap(found[ident], truth(name)) > 0.8 for name, ident in clip.objects.items())
        new = [frames for ident, frames in found.items() if ident not in clip.objects.values()]
        assert sum(overlap(frames, truth("d3")) > 0.3 for frames in new) == 1
        whole = sum(map(len, found.values())) - len(before)
        assert half < whole == last["videos"][0]["figures"]


def _pause(patch: pytest.MonkeyPatch, at: int, reached: list[int]) -> None:
    """From that much work on, each step takes long enough for the app to be ended within."""
    plain = worker._Meter.labelled

    def labelled(self: Any, done: int) -> None:
        plain(self, done)
        if done >= at:
            reached.append(done)
            time.sleep(0.3)

    patch.setattr(worker._Meter, "labelled", labelled)
    put = FigureWriter.put

    def slow_put(self: Any, frame: int, new: Any) -> None:
        put(self, frame, new)
        if frame + FRAMES >= at > FRAMES:
            reached.append(frame)
            time.sleep(0.3)

    patch.setattr(FigureWriter, "put", slow_put)


def test_stopped_and_taken_up(assistant: Assisting, clip: Clip, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two videos, the second without a label of a person."""
    other = assistant.served.api.video.upload_path(clip.dataset, "other.mp4", str(toys)).id
    reached: list[int] = []
    with monkeypatch.context() as patch:
        _pause(patch, 8, reached)
        job = assistant.post("run", video_id=clip.video, video_ids=[clip.video, other], every=2, **QUICK)["job_id"]
        wait_until(lambda: reached, 120)
        assistant.post("stop", job_id=job)
        assert assistant.events(job)[-1]["status"] == "stopped"
    assert reached[-1] < FRAMES
    assistant.post("run", job_id=job)
    last = assistant.events(job)[-1]
    assert last["status"] == "finished", last
    assert [row["status"] for row in last["videos"]] == ["done", "done"]
    assert overlap(boxes(assistant, clip)[clip.objects["c1"]], truth("c1")) > 0.8
    bare = boxes(assistant, Clip(clip.dataset, other, {}))
    assert all(max(overlap(one, truth(name)) for one in bare.values()) > 0.7 for name in clip.objects)


def test_areas_are_drawn_if_asked(assistant: Assisting, clip: Clip) -> None:
    """The person's classes take boxes alone, so areas are other objects of classes beside them."""
    before = assistant.of_people(clip)
    told = assistant.finished("run", video_id=clip.video, masks=True, every=2, **QUICK)["videos"][0]
    assert assistant.of_people(clip) == before
    annotation = assistant.annotation(clip.video)
    names = {one.obj_class.name for one in annotation.objects}
    assert names == {"disc", "crate", "disc_model", "crate_model"}
    figures = [one for one in assistant.figures(clip.video, clip.dataset) if one.get("trackId")]
    assert {one["geometryType"] for one in figures} == {"bitmap"}
    assert len(figures) == told["figures"] > 3 * FRAMES and told["refused"] == 0
    assert not {one["meta"]["frame"] for one in figures} & set(LABELLED)


def test_a_second_labeling_takes_the_place_of_the_first(assistant: Assisting, clip: Clip) -> None:
    """But for what a person corrected; where they corrected one object, the others are no examples of what is not there."""
    assistant.finished("run", video_id=clip.video, **QUICK)
    first = boxes(assistant, clip)
    new = max(first.keys() - clip.objects.values(), key=lambda ident: overlap(first[ident], truth("d3")))
    wrong = next(
        one
        for one in assistant.figures(clip.video, clip.dataset)
        if (one["objectId"], one["meta"]["frame"]) == (new, 20)
    )
    x1, y1, x2, y2 = np.round(truth("d3")[20]).astype(int).tolist()
    geometry = {"points": {"exterior": [[x1, y1], [x2 - 1, y2 - 1]], "interior": []}}
    edit = {"id": wrong["id"], "geometryType": "rectangle", "geometry": geometry, "nnUpdated": False}
    assert assistant.served.call("figures.editInfo", edit).status_code == 200
    told = assistant.post("support", video_id=clip.video)
    assert [one["frame"] for one in told["frames"]] == list(LABELLED), "frame 20 is not fully labelled by a person"
    assert told["corrected"] == 1, "but learned from"
    told = assistant.finished("run", video_id=clip.video, **QUICK)["videos"][0]
    second = boxes(assistant, clip)
    assert set(second) >= {*clip.objects.values(), new}
    assert len(second) == len(first), "nothing is there twice"
    assert second[new][20].tolist() == [x1, y1, x2, y2], "a correction stays"
    assert overlap(second[new], truth("d3")) > 0.7, "and its object goes on"
    tracks = {one["trackId"] for one in assistant.figures(clip.video, clip.dataset) if one["id"] != wrong["id"]}
    assert wrong["trackId"] not in tracks
    assert told["removed"] == len(set(first) - {*clip.objects.values(), new}) >= 1


def test_only_what_depends_on_a_correction_is_tracked_again(assistant: Assisting, clip: Clip) -> None:
    """Figures as a labeling leaves them, which drift off on a few frames; a person corrects one of those."""
    served, store = assistant.served, JobStore(assistant.service.folder / "jobs.sqlite")  # type: ignore[union-attr]
    job, ident = store.create({"kind": "run"}, ""), clip.objects["d1"]
    with Server(served.settings.address, served.bench.token) as server:
        record = video(server, clip.video)
        Earlier(store, job, clip.video).note(1, 1)
        real, track = truth("d1"), track_id(job, clip.video, 1)
        off = {frame: 25.0 if 14 <= frame <= 18 else 0.0 for frame in range(1, FRAMES) if frame not in LABELLED}
        with FigureWriter(server, record, mode="replace") as writer:
            for frame, shift in off.items():
                box = Box((real[frame] + (shift, 0, shift, 0)).astype(np.float32))
                writer.put(frame, [NewFigure(ident, frame, "rectangle", to_json(box, 256, 160), track)])
            writer.flush()
    store.close()
    before = boxes(assistant, clip)[ident]
    found = next(
        one
        for one in assistant.figures(clip.video, clip.dataset)
        if one["meta"]["frame"] == 15 and one["objectId"] == ident
    )
    x1, y1, x2, y2 = np.round(real[15]).astype(int).tolist()
    geometry = {"points": {"exterior": [[x1, y1], [x2 - 1, y2 - 1]], "interior": []}}
    edit = {"id": found["id"], "geometryType": "rectangle", "geometry": geometry, "nnUpdated": False}
    assert served.call("figures.editInfo", edit).status_code == 200
    result = assistant.finished("mend", video_id=clip.video)["videos"][0]
    after = boxes(assistant, clip)[ident]
    assert all(box_iou(after[f][None], real[f][None])[0, 0] > 0.7 for f in range(1, FRAMES))
    changed = {frame for frame in after if after[frame].tolist() != before[frame].tolist()}
    assert {14, 15, 16, 17, 18} <= changed <= set(range(10, 23)), "the others do not depend on it"
    assert (result["corrected"], result["objects"]) == (1, 1) and result["figures"] == len(changed) - 1


WRONG: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no labels": ("support", {"frames": [20]}, 400, "labelled"),
    "no such frame": ("support", {"frames": [9999]}, 400, "9999"),
    "words for nothing": ("support", {"text": {"cow": ["cattle"]}}, 400, "cow"),
    "unknown key": ("select", {"budget": 3}, 400, "budget"),
    "no such selection": ("run", {"selection": "nothing"}, 404, "no such job"),
    "no such tracker": ("run", {"tracker": "magic"}, 400, "tracker"),
    "examples of two kinds": ("support", {"project_id": 1}, 400, "video_id, or project_id"),
}


def test_calls_of_the_platform_are_answered_and_wrong_ones_told(assistant: Assisting, clip: Clip) -> None:
    for endpoint, state, status, says in WRONG.values():
        body = {"state": {"video_id": clip.video, **state}, "server_address": assistant.served.settings.address}
        body["api_token"] = assistant.served.bench.token
        reply = requests.post(f"{assistant.url}/{endpoint}", json=body, timeout=30)
        assert (reply.status_code, says in reply.text) == (status, True), reply.text
        body["server_address"] = "http://example.com"
        assert requests.post(f"{assistant.url}/{endpoint}", json=body, timeout=30).status_code == 403, endpoint
    job = assistant.post("select", video_id=clip.video, candidates=["magic"])["job_id"]
    last = assistant.events(job)[-1]
    assert last["status"] == "failed" and "magic" in last["message"] and "exemplar" in last["message"]
    assert assistant.post("is_alive")["running"]
    assert assistant.post("is_ready")["status"] == "ready"
    assert assistant.post("get_session_info")["app_name"] == "Labeling Assistant"
    assert TOY.info.frames == FRAMES
    projects = assistant.post("choices")
    assert {one["type"] for one in projects} <= {"videos", "images"}
    assert "Labeling assistant" in requests.get(assistant.url, timeout=10).text
    style = requests.get(f"{assistant.url}/jobs.css", timeout=10)
    assert style.headers["content-type"].startswith("text/css") and "ol.steps" in style.text
