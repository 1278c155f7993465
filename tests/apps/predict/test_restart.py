"""The app ends in the middle of a job; the next one takes it up."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
import supervisely as sly

from apps.predict.main import create_app
from apps.predict.store import JobStore
from tests.apps.auto_track.conftest import AppServer
from tests.apps.predict.conftest import Predicting, Project, make_service, wait_until, write_video
from tests.apps.workbench.harness import Served

DATA = Path(__file__).parents[4] / "shared" / "data"
FASTESTDET = DATA / "weights" / "FastestDet" / "FastestDet.onnx"
CAMPUS = DATA / "mot" / "MOT15" / "TUD-Campus" / "TUD-Campus.mp4"


def test_a_restarted_app_takes_its_jobs_up(served: Served, project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "predict"
    with AppServer(create_app(service=make_service(served, folder))) as url:
        first = Predicting(url, None, served)  # type: ignore[arg-type]
        job = first.post("run", input={"project_id": project.id}, output={"project_name": "restart"})["job_id"]
        wait_until(lambda: first.get("status", job_id=job)["share"] > 0.02)
    before = JobStore(folder / "predict" / "jobs.sqlite")
    assert before.job(job).status in ("running", "finished")  # type: ignore[union-attr]
    before.close()
    text = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".mp4")
    assert served.bench.token.encode() not in text, "a token was written down"
    with AppServer(create_app(service=make_service(served, folder))) as url:
        second = Predicting(url, None, served)  # type: ignore[arg-type]
        last = second.events(job)[-1]
        assert last["status"] == "finished", last
        projects = [p.name for p in served.api.project.get_list(1) if p.name.startswith("restart")]
        assert projects == ["restart"]
        for row in last["videos"]:
            video = served.api.video.get_info_by_id(row["result_video_id"])
            assert max(map(len, second.lefts(video.id, video.dataset_id).values())) > 16
        assert [j["job_id"] for j in second.get("jobs")] == [job]


def test_only_its_own_server_is_talked_to(predict: Predicting) -> None:
    body = {"state": {"input": {"video_id": 1}}, "server_address": "http://example.com", "api_token": "x"}
    assert requests.post(f"{predict.url}/run", json=body, timeout=10).status_code == 403
    body["server_address"] = predict.served.settings.address
    assert requests.post(f"{predict.url}/run", json=body, timeout=10).status_code in (401, 403)


def test_calls_of_the_platform_are_answered(predict: Predicting) -> None:
    assert predict.post("is_alive")["running"]
    assert predict.post("is_ready")["status"] == "ready"
    assert predict.post("get_session_info")["app_name"] == "Predict"
    assert "motion" in [d["name"] for d in predict.get("models")["detectors"]]
    assert predict.post("load", settings={"tracking": False})["settings"]["tracking"] is False
    assert predict.get("run_parameters")["settings"]["tracking"] is False
    assert predict.get("schema")["properties"].keys() == predict.get("run_parameters").keys()
    assert "Predict" in requests.get(predict.url, timeout=10).text
    assert predict.post("shutdown") == {"success": True}
    assert predict.ended


def test_a_long_video_is_one_job_of_many_batches(predict: Predicting, tmp_path: Path) -> None:
    """Progress goes up and never down, over prediction and upload."""
    api = predict.served.api
    made = api.project.create(1, "long", sly.ProjectType.VIDEOS, change_name_if_conflict=True)
    dataset = api.dataset.create(made.id, "ds")
    video = api.video.upload_path(dataset.id, "long.mp4", str(write_video(tmp_path / "long.mp4", 5, frames=120)))
    job = predict.post("run", input={"dataset_id": dataset.id})["job_id"]
    shares = [event["share"] for event in predict.events(job)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(set(shares)) > 4
    assert predict.get("status")["videos"][0]["video_id"] == video.id


@pytest.mark.slow
@pytest.mark.skipif(
    not (FASTESTDET.exists() and CAMPUS.exists()), reason="no ../shared/data: FastestDet and TUD-Campus"
)
def test_people_are_found_with_a_checkpoint_of_the_teams_files(predict: Predicting) -> None:
    api = predict.served.api
    made = api.project.create(1, "campus", sly.ProjectType.VIDEOS, change_name_if_conflict=True)
    dataset = api.dataset.create(made.id, "ds")
    video = api.video.upload_path(dataset.id, CAMPUS.name, str(CAMPUS))
    api.file.upload(1, str(FASTESTDET), "/models/FastestDet.onnx")
    done = predict.run(
        input={"dataset_id": dataset.id},
        model={"mode": "custom", "model_name": "fastestdet", "checkpoint": "/models/FastestDet.onnx"},
        classes=["person"],
        output={"upload_to_source_project": True},
    )
    assert 5 <= done["videos"][0]["objects"] <= 20
    annotation = predict.annotation(video.id)
    assert {o.obj_class.name for o in annotation.objects} == {"person"}
    assert len(annotation.frames) == 71
