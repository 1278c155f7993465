"""Runs over projects of videos through the workbench: right labels in the right place, once, whatever happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.apps.predict.conftest import FRAMES, SPEED, Predicting, Project, wait_until

MOTION = {"model": {"mode": "in_process", "model_name": "motion"}}


def moving(predict: Predicting, video: int, dataset: int) -> dict[int, float]:
    """Left edges of the object that was followed longest; it must be the patch."""
    lefts = max(predict.lefts(video, dataset).values(), key=len)
    frames = sorted(lefts)
    assert len(frames) >= FRAMES - 6
    off = [lefts[f] - (8 + SPEED * f) for f in frames if f > 8]
    assert abs(np.median(off)) < 6
    return lefts


def test_a_project_is_labelled_into_a_new_one(predict: Predicting, project: Project) -> None:
    done = predict.run(
        input={"project_id": project.id}, output={"project_name": "Found", "tags": ["confidence", "model"]}, **MOTION
    )
    assert done["progress"] == {"current": 3, "total": 3}
    assert done["share"] == 1.0
    api = predict.served.api
    info = api.project.get_info_by_id(done["project_id"])
    assert info.name.startswith("Found")
    tree = {d.name: d for d in api.dataset.get_list(info.id, recursive=True)}
    assert set(tree) == {"top", "inner"}
    assert tree["inner"].parent_id == tree["top"].id
    for row in done["videos"]:
        target = api.video.get_info_by_id(row["result_video_id"])
        assert target.name == row["name"]
        moving(predict, target.id, target.dataset_id)
        annotation = predict.annotation(target.id)
        assert {o.obj_class.name for o in annotation.objects} == {"object"}
        tags = {t.name: t.value for t in next(iter(annotation.objects)).tags}
        assert 0 < tags["confidence"] <= 1
        assert tags["model"] == "What moves (no model)"
        figures = predict.figures(target.id, target.dataset_id)
        assert len(figures) == row["figures"]
        assert all(f["trackId"] and f["nnCreated"] for f in figures)
    assert all(not predict.figures(v, api.video.get_info_by_id(v).dataset_id) for v in project.videos)
    result = predict.get("result", job_id=done["job_id"])
    assert result["parameters"]["output"]["project_name"] == "Found"


def test_datasets_bring_what_is_in_them(predict: Predicting, project: Project) -> None:
    inner = predict.run(input={"dataset_ids": [project.datasets[1]]}, **MOTION)
    assert [v["video_id"] for v in inner["videos"]] == [project.videos[2]]
    outer = predict.run(input={"dataset_id": project.datasets[0]}, **MOTION)
    assert {v["video_id"] for v in outer["videos"]} == set(project.videos)


def draw(predict: Predicting, video: int, class_name: str, frames: range, shift: float = 0.0) -> tuple[int, int]:
    """A person's object along the patch: (object, class)."""
    served = predict.served
    info = served.api.video.get_info_by_id(video)
    meta = served.call("projects.meta", {"id": info.project_id}).json()
    if class_name not in [c["title"] for c in meta["classes"]]:
        meta["classes"].append({"title": class_name, "shape": "rectangle", "color": "#FF0000"})
        meta = served.call("projects.meta.update", {"id": info.project_id, "meta": meta}).json()
        meta = served.call("projects.meta", {"id": info.project_id}).json()
    class_id = next(c["id"] for c in meta["classes"] if c["title"] == class_name)
    body = {"datasetId": info.dataset_id, "annotationObjects": [{"classId": class_id, "entityId": video}]}
    ident = served.call("annotation-objects.bulk.add", body).json()[0]["id"]
    figures = []
    for frame in frames:
        left = 8 + SPEED * frame + shift
        exterior = [[int(left), 40], [int(left) + 31, 67]]
        geometry = {"points": {"exterior": exterior, "interior": []}}
        figures.append({"objectId": ident, "geometryType": "rectangle", "geometry": geometry, "meta": {"frame": frame}})
    assert served.call("figures.bulk.add", {"entityId": video, "figures": figures}).status_code == 200
    return ident, class_id


def in_place(mode: str, **settings: Any) -> dict[str, Any]:
    return {
        "output": {"upload_to_source_project": True},
        "settings": {"predictions_mode": mode, **settings},
        **MOTION,
    }


def test_append_keeps_what_people_drew(predict: Predicting, project: Project) -> None:
    video, dataset = project.videos[0], project.datasets[0]
    ident, _ = draw(predict, video, "thing", range(10, 14))
    before = [f for f in predict.figures(video, dataset) if f["objectId"] == ident]
    done = predict.run(input={"video_id": video}, **in_place("append"))
    assert done["project_id"] == project.id
    lefts = predict.lefts(video, dataset)
    assert len(lefts) >= 2
    assert [f for f in predict.figures(video, dataset) if f["objectId"] == ident] == before
    del lefts[ident]
    moving(predict, video, dataset)


def test_replace_takes_the_old_ones_away(predict: Predicting, project: Project) -> None:
    video, dataset = project.videos[0], project.datasets[0]
    ident, _ = draw(predict, video, "thing", range(0, 20))
    done = predict.run(input={"video_ids": [video]}, **in_place("Replace existing labels"))
    assert done["videos"][0]["removed"] == 1
    assert ident not in predict.lefts(video, dataset)
    moving(predict, video, dataset)


def test_iou_merge_goes_on_with_a_persons_object(predict: Predicting, project: Project) -> None:
    """Where a person labelled it nothing is added; elsewhere their object gets the figures."""
    video, dataset = project.videos[0], project.datasets[0]
    ident, _ = draw(predict, video, "object", range(10, 14))
    before = [f for f in predict.figures(video, dataset) if f["objectId"] == ident]
    done = predict.run(input={"video_ids": [video]}, **in_place("iou_merge", existing_objects_iou_thresh=0.4))
    row = done["videos"][0]
    assert row["continued"] == 1
    assert row["covered"] >= 4
    lefts = predict.lefts(video, dataset)[ident]
    assert len(lefts) > FRAMES // 2
    after = predict.figures(video, dataset)
    assert [f for f in after if f["id"] in {b["id"] for b in before}] == before
    mine = [f for f in after if f["objectId"] == ident and f["id"] not in {b["id"] for b in before}]
    assert mine
    assert all(f["nnCreated"] for f in mine)


def test_labels_go_with_a_copy_unless_they_are_replaced(predict: Predicting, project: Project) -> None:
    video = project.videos[0]
    draw(predict, video, "thing", range(3, 9))
    for mode, copied in (("append", 6), ("replace", 0)):
        done = predict.run(
            input={"video_ids": [video]}, output={"project_name": mode}, settings={"predictions_mode": mode}, **MOTION
        )
        row = done["videos"][0]
        target = predict.served.api.video.get_info_by_id(row["result_video_id"])
        by_people = [f for f in predict.figures(target.id, target.dataset_id) if not f["trackId"]]
        assert len(by_people) == copied
        assert all(not f["nnCreated"] for f in by_people)


def test_a_class_of_another_shape_gets_a_suffix(predict: Predicting, project: Project) -> None:
    served = predict.served
    meta = served.call("projects.meta", {"id": project.id}).json()
    meta["classes"].append({"title": "object", "shape": "bitmap", "color": "#00FF00"})
    served.call("projects.meta.update", {"id": project.id, "meta": meta})
    predict.run(input={"video_ids": [project.videos[0]]}, **in_place("append", model_prediction_suffix="_auto"))
    annotation = predict.annotation(project.videos[0])
    assert {o.obj_class.name for o in annotation.objects} == {"object_auto"}


def test_annotated_videos_are_left_when_asked(predict: Predicting, project: Project) -> None:
    draw(predict, project.videos[1], "thing", range(2))
    output = {"upload_to_source_project": True, "skip_annotated": True}
    done = predict.run(input={"project_id": project.id}, output=output, **MOTION)
    assert [v["status"] for v in done["videos"]] == ["done", "skipped", "done"]
    assert len(predict.figures(project.videos[1], project.datasets[0])) == 2


def test_without_tracking_there_is_one_object_for_each_class(predict: Predicting, project: Project) -> None:
    video, dataset = project.videos[0], project.datasets[0]
    predict.run(input={"video_ids": [video]}, **in_place("append", tracking=False))
    annotation = predict.annotation(video)
    assert len(annotation.objects) == 1
    assert len({f["meta"]["frame"] for f in predict.figures(video, dataset)}) > FRAMES // 2


def test_a_stopped_job_goes_on_where_it_was(predict: Predicting, project: Project) -> None:
    """What it ends in is what it would have been without the stop."""
    whole = predict.run(input={"project_id": project.id}, output={"project_name": "whole"}, **MOTION)
    job = predict.post("run", input={"project_id": project.id}, output={"project_name": "parts"}, **MOTION)["job_id"]
    wait_until(lambda: predict.get("status", job_id=job)["share"] > 0.05)
    assert predict.post("stop", job_id=job)["status"] in ("stopping", "stopped")
    stopped = predict.events(job)[-1]
    assert stopped["status"] == "stopped"
    assert stopped["share"] < 1
    assert predict.post("run", job_id=job)["job_id"] == job
    parts = predict.events(job)[-1]
    assert parts["status"] == "finished", parts
    for one, other in zip(whole["videos"], parts["videos"], strict=True):
        a, b = (
            sorted(
                (f["meta"]["frame"], str(f["geometry"]))
                for f in predict.figures(
                    r["result_video_id"], predict.served.api.video.get_info_by_id(r["result_video_id"]).dataset_id
                )
            )
            for r in (one, other)
        )
        assert a == b


def test_what_cannot_be_done_is_told(predict: Predicting, project: Project) -> None:
    assert "what is to be labelled" in predict.post("run", status=400, **MOTION)["message"]
    assert (
        "no detector named"
        in predict.post("run", status=400, input={"video_id": 1}, model={"mode": "pretrained", "model_name": "x"})[
            "message"
        ]
    )
    assert (
        "extra" in predict.post("run", status=400, input={"video_id": 1}, settings={"tracker": "x"})["message"].lower()
    )
    assert "videos failed" in _fails(
        predict, input={"video_ids": [project.videos[0]]}, model={"mode": "pretrained", "model_name": "fastestdet"}
    )
    job = predict.post("run", input={"video_ids": [987654]})["job_id"]
    assert predict.events(job)[-1]["status"] == "failed"
    assert predict.get("status", status=404, job_id="none")


def _fails(predict: Predicting, **state: Any) -> str:
    events = predict.events(predict.post("run", **state)["job_id"])
    assert events[-1]["status"] == "failed"
    return str(events[-1]["message"])


@pytest.mark.parametrize("wish", [True, False])
def test_it_ends_itself_when_asked_to(predict: Predicting, project: Project, wish: bool) -> None:
    predict.run(input={"video_ids": [project.videos[0]]}, stop_after_run=wish, **MOTION)
    if wish:
        wait_until(lambda: predict.ended)
    assert len(predict.ended) == wish


def test_a_preview_is_a_clip_and_writes_nothing(predict: Predicting, project: Project) -> None:
    reply = predict.post("preview", input={"video_ids": [project.videos[0]]}, seconds=0.6, **MOTION)
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.content[4:8] == b"ftyp"
    assert reply.headers["x-frames"] == "15"
    assert not predict.figures(project.videos[0], project.datasets[0])


@pytest.mark.slow
def test_a_cluster_does_the_same(predict: Predicting, project: Project) -> None:
    pytest.importorskip("ray", reason="ray is not installed; see dev_requirements.txt")
    where = {"input": {"video_ids": project.videos[:2]}, "output": {"project_name": "cluster"}, **MOTION}
    done = predict.run(settings={"executor": "ray"}, **where)
    api = predict.served.api
    for row in done["videos"]:
        moving(predict, row["result_video_id"], api.video.get_info_by_id(row["result_video_id"]).dataset_id)


def test_a_collection_of_videos(predict: Predicting, project: Project) -> None:
    api = predict.served.api
    collection = api.entities_collection.create(project.id, "chosen")
    api.entities_collection.add_items(collection.id, [project.videos[2], project.videos[0]])
    done = predict.run(input={"collection_ids": [collection.id]}, **MOTION)
    assert done["kind"] == "videos"
    assert [row["video_id"] for row in done["videos"]] == [project.videos[0], project.videos[2]]
