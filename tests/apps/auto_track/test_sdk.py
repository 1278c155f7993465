"""Auto Track as the workbench launches it: with an unmodified tracker app of the SDK as its engine, and killed on its way."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest
import supervisely as sly

from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec, read_spec
from tests.apps.auto_track.conftest import Lab, wait_until
from tests.apps.auto_track.toys import write_clip
from tests.apps.workbench.harness import Running, free_port, rectangle

ROOT = Path(__file__).resolve().parents[3]
COMMAND = "-m uvicorn tests.apps.workbench.sdk_tracker:app --host 127.0.0.1 --port {port}"


@pytest.mark.slow
def test_a_tracker_app_of_the_sdk_is_an_engine(tmp_path: Path, clip: Path) -> None:
    drift = AppSpec("drift", (sys.executable, *COMMAND.split()), ROOT)
    auto = read_spec(ROOT / "apps" / "auto_track", ROOT)
    settings = Settings(tmp_path / "data", port=free_port())
    with Running(settings, (drift, auto), ("drift", "auto_track")) as served:
        api = served.api
        project = api.project.create(1, "tracked", sly.ProjectType.VIDEOS)
        meta = api.project.update_meta(
            project.id, sly.ProjectMeta([sly.ObjClass("car", sly.Rectangle)], project_type="videos")
        )
        dataset = api.dataset.create(project.id, "ds")
        video = api.video.upload_path(dataset.id, "clip.mp4", str(clip))
        item = {"classId": meta.get_obj_class("car").sly_id, "entityId": video.id}
        body = {"datasetId": dataset.id, "annotationObjects": [item]}
        object_id = served.call("annotation-objects.bulk.add", body).json()[0]["id"]
        api.video.figure.create(video.id, object_id, 0, rectangle(), "rectangle")

        def ready() -> bool:
            return all(task["status"] == "started" for task in api.task.get_list(1))

        wait_until(ready, 90, every_s=0.2)
        tasks = {task["meta"]["name"]: task["id"] for task in api.task.get_list(1)}
        choice = {"settings": {"rectangle": {"task_id": tasks["drift"]}}}
        api.task.send_request(tasks["auto_track"], "settings", data=choice)
        context = {"videoId": video.id, "trackId": "t", "objectIds": [object_id], "frameIndex": 0, "frames": 10}
        reply = api.task.send_request(tasks["auto_track"], "track", {}, context=context)
        assert reply == {"message": "Track task started."}

        def told() -> list[dict[str, object]]:
            events = served.own("GET", "notifications", params={"trackId": "t"}).json()
            return [event["body"]["data"].get("progress") for event in events]

        wait_until(lambda: {"current": 10, "total": 10} in told(), 60)
        time.sleep(0.1)
        figures = api.video.figure.download(dataset.id, [video.id])[video.id]
        lefts = {figure.frame_index: figure.geometry["points"]["exterior"][0][0] for figure in figures}
        assert lefts == {frame: 2 + 2 * frame for frame in range(11)}


@pytest.mark.slow
def test_killed_on_its_way_it_goes_on_where_it_was(tmp_path: Path) -> None:
    auto = read_spec(ROOT / "apps" / "auto_track", ROOT)
    settings = Settings(tmp_path / "data", port=free_port())
    frames = 120
    with Running(settings, (auto,), ("auto_track",)) as served:
        api = served.api
        project = api.project.create(1, "long", sly.ProjectType.VIDEOS)
        meta = api.project.update_meta(
            project.id, sly.ProjectMeta([sly.ObjClass("car", sly.Rectangle)], project_type="videos")
        )
        dataset = api.dataset.create(project.id, "ds")
        video = api.video.upload_path(dataset.id, "clip.mp4", str(write_clip(tmp_path / "clip.mp4", frames, step=0)))
        lab = Lab(served, project.id, dataset.id, video.id, {"any": meta.get_obj_class("car").sly_id}, {})
        ident = lab.object()
        lab.box(ident, 0)
        [task] = api.task.get_list(1)
        wait_until(lambda: api.task.get_info_by_id(task["id"])["status"] == "started", 90, every_s=0.2)
        context = {"videoId": video.id, "trackId": "t", "objectIds": [ident], "frameIndex": 0, "frames": frames}
        api.task.send_request(task["id"], "track", {}, context=context)
        wait_until(lambda: len(lab.figures(ident)) > 15, 60)
        [process] = [p for p in psutil.Process().children() if "apps.auto_track.main:app" in " ".join(p.cmdline())]
        process.kill()
        before = len(lab.figures(ident))
        assert before < frames
        wait_until(lambda: "Auto Track was restarted" in lab.warnings("t"), 60, every_s=0.3)
        lab.finished("t", timeout_s=60)
        assert sorted(lab.figures(ident)) == list(range(frames))
        assert set(lab.lefts(ident).values()) <= set(range(17, 24))  # one figure per frame, where the object is
