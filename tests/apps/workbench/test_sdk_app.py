"""An unmodified SDK tracker app runs in the workbench and tracks in it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import supervisely as sly

from apps.workbench.settings import Settings
from apps.workbench.specs import AppSpec
from tests.apps.workbench.harness import Running, free_port, rectangle

ROOT = Path(__file__).resolve().parents[3]
COMMAND = "-m uvicorn tests.apps.workbench.sdk_tracker:app --host 127.0.0.1 --port {port}"


@pytest.mark.slow
def test_an_app_of_the_sdk_tracks(tmp_path: Path, clip: Path) -> None:
    spec = AppSpec("drift", (sys.executable, *COMMAND.split()), ROOT)
    with Running(Settings(tmp_path / "data", port=free_port()), (spec,), ("drift",)) as served:
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
        figure_id = api.video.figure.create(video.id, object_id, 0, rectangle(), "rectangle")
        [task] = api.task.get_list(1)
        log = served.settings.data / "logs" / f"drift-{task['id']}.log"
        deadline = time.monotonic() + 90
        while api.task.get_info_by_id(task["id"])["status"] != "started":
            status = api.task.get_info_by_id(task["id"])["status"]
            assert status != "error" and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        assert api.task.is_ready(task["id"])
        assert sly.nn.inference.Session(api, task["id"]).get_session_info()["task type"] == "tracking"
        context = {"videoId": video.id, "trackId": "t", "objectIds": [object_id], "figureIds": [figure_id]}
        context |= {"frameIndex": 0, "frames": 10, "direction": "forward"}
        assert api.task.send_request(task["id"], "track", {}, context=context) == {"message": "Track task started."}
        progress: list[dict[str, object]] = []
        while {"current": 10, "total": 10} not in progress:
            assert time.monotonic() < deadline, f"tracking did not finish: {progress}"
            time.sleep(0.1)
            events = served.own("GET", "notifications", params={"trackId": "t"}).json()
            progress = [event["body"]["data"].get("progress") for event in events]
        figures = api.video.figure.download(dataset.id, [video.id])[video.id]
        lefts = {figure.frame_index: figure.geometry["points"]["exterior"][0][0] for figure in figures}
        assert lefts == {frame: 2 + 2 * frame for frame in range(11)}
        sly.download_video_project(api, project.id, str(tmp_path / "copy"), log_progress=False)
        assert (tmp_path / "copy" / "ds" / "video" / "clip.mp4").read_bytes() == clip.read_bytes()
