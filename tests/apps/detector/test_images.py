"""What a detector finds, written onto images of the server: every way, through the SDK's own clients, over lost answers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import supervisely as sly
from supervisely.nn.inference import Session
from supervisely.nn.model.model_api import ModelAPI

from apps.detector.main import CONFIG
from tests.apps.detector.harness import BrightDetector, DetectorRunning, picture
from tests.apps.workbench.harness import Served
from tests.common.serving.stage import Client, wait_until


@dataclass
class Gallery:
    """Five images, in two datasets, one nested; image n shows a car whose left edge is 30 (n + 1). A person has labelled the
    first two: a car that the detector finds as well, and something that it does not."""

    project: int
    datasets: list[int]
    images: list[Any]
    meta: sly.ProjectMeta

    def labels(self, served: Served, number: int, project: int | None = None) -> list[sly.Label]:
        meta = sly.ProjectMeta.from_json(served.api.project.get_meta(project or self.project))
        ann = served.api.annotation.download_json(self.images[number].id)
        return list(sly.Annotation.from_json(ann, meta).labels)


@pytest.fixture
def gallery(served: Served, request: pytest.FixtureRequest) -> Gallery:
    api = served.api
    project = api.project.create(1, request.node.name[:60], change_name_if_conflict=True)
    meta = sly.ProjectMeta([sly.ObjClass("car", sly.Rectangle), sly.ObjClass("tree", sly.AnyGeometry)])
    meta = api.project.update_meta(project.id, meta)
    outer = api.dataset.create(project.id, "outer")
    inner = api.dataset.create(project.id, "inner", parent_id=outer.id)
    shown = [picture(30 * (n + 1)) for n in range(5)]
    images = api.image.upload_nps(outer.id, [f"{n}.png" for n in range(3)], shown[:3])
    images += api.image.upload_nps(inner.id, ["3.png", "4.png"], shown[3:])
    for n in (0, 1):
        found = BrightDetector().detect([shown[n]])[0].xyxy[0]
        left, top, right, bottom = (round(float(v)) for v in found)
        human = [
            sly.Label(sly.Rectangle(top, left, bottom - 1, right - 1), meta.get_obj_class("car")),
            sly.Label(sly.Point(3, 4), meta.get_obj_class("tree")),
        ]
        api.annotation.upload_ann(images[n].id, sly.Annotation(shown[n].shape[:2], human))
    return Gallery(project.id, [outer.id, inner.id], images, meta)


def ids(served: Served, image: Any) -> list[int]:
    return [one["id"] for one in served.api.annotation.download_json(image.id)["objects"]]


@pytest.mark.parametrize(
    ("mode", "counts", "human"),
    [("append", [3, 3, 1, 1, 1], True), ("replace", [1, 1, 1, 1, 1], False), ("iou_merge", [2, 2, 1, 1, 1], True)],
)
def test_the_sdk_uploads_in_every_mode(
    app: Client, served: Served, gallery: Gallery, mode: str, counts: list[int], human: bool
) -> None:
    before = [ids(served, image) for image in gallery.images]
    model = ModelAPI(served.api, url=app.address)
    session = model.predict_detached(image_ids=[i.id for i in gallery.images], upload_mode=mode, batch_size=2)
    assert [p.image_id for p in session] == [i.id for i in gallery.images]
    after = [ids(served, image) for image in gallery.images]
    assert [len(found) for found in after] == counts
    for old, new in zip(before, after, strict=True):
        assert (new[: len(old)] == old) is (human or not old), "labels of people keep their ids"
    car = next(one for one in gallery.labels(served, 2) if one.obj_class.name == "car")
    assert abs(car.geometry.left - 90) <= 3
    assert car.tags.get("confidence").value == pytest.approx(0.9)
    last = served.api.annotation.download_json(gallery.images[2].id)["objects"][0]
    assert last["nnCreated"] and last["nnUpdated"]


def test_a_new_project_gets_copies_and_the_old_one_nothing(app: Client, served: Served, gallery: Gallery) -> None:
    api = served.api
    model = ModelAPI(api, url=app.address)
    list(model.predict_detached(project_id=gallery.project, upload_mode="create"))
    newest = max(api.project.get_list(1), key=lambda p: p.id)
    assert newest.id != gallery.project and newest.name.startswith("Predictions")
    assert (newest.type, newest.items_count) == ("images", 5)
    assert {(*parents, one.name) for parents, one in api.dataset.tree(newest.id)} == {("outer",), ("outer", "inner")}
    made = api.image.get_list(project_id=newest.id)
    assert [i.labels_count for i in made] == [1] * 5
    assert {i.hash for i in made} == {i.hash for i in gallery.images}
    assert [i.labels_count for i in api.image.get_list(project_id=gallery.project)] == [2, 2, 0, 0, 0]
    other = api.project.create(1, "target", change_name_if_conflict=True)
    session = model.predict_detached(image_ids=[gallery.images[3].id], output_project_id=other.id)
    assert len(list(session)) == 1
    assert [i.name for i in api.image.get_list(project_id=other.id)] == ["3.png"]


def test_datasets_of_a_project(app: Client, served: Served, gallery: Gallery) -> None:
    model = ModelAPI(served.api, url=app.address)
    list(model.predict_detached(dataset_ids=[gallery.datasets[1]], upload_mode="append"))
    assert [len(ids(served, image)) for image in gallery.images] == [2, 2, 0, 1, 1]


def test_nothing_is_written_unless_asked_for(app: Client, served: Served, gallery: Gallery) -> None:
    session = Session(served.api, session_url=app.address)
    one = session.inference_image_id(gallery.images[2].id)
    assert len(one.labels) == 1
    assert [len(a.labels) for a in session.inference_image_ids([i.id for i in gallery.images[1:4]])] == [1, 1, 1]
    assert [len(ids(served, image)) for image in gallery.images] == [2, 2, 0, 0, 0]
    reply = app.post("inference_image_id", {}, {"image_id": gallery.images[2].id, "upload": True})
    assert reply.status_code == 200 and len(reply.json()["annotation"]["objects"]) == 1
    assert len(ids(served, gallery.images[2])) == 1


def test_a_class_of_another_shape_is_left_alone(app: Client, served: Served) -> None:
    api = served.api
    project = api.project.create(1, "shapes", change_name_if_conflict=True)
    api.project.update_meta(project.id, sly.ProjectMeta([sly.ObjClass("car", sly.Bitmap)]))
    dataset = api.dataset.create(project.id, "ds")
    image = api.image.upload_np(dataset.id, "a.png", picture(30))
    model = ModelAPI(api, url=app.address)
    list(model.predict_detached(image_ids=[image.id], upload_mode="append", model_prediction_suffix="_found"))
    [label] = api.annotation.download_json(image.id)["objects"]
    meta = sly.ProjectMeta.from_json(api.project.get_meta(project.id))
    assert meta.get_obj_class("car").geometry_type is sly.Bitmap
    assert meta.get_obj_class(label["classTitle"]).geometry_type is sly.Rectangle
    assert label["classTitle"].startswith("car_")


@pytest.mark.parametrize(
    "fault", [{"disconnect": True, "when": "after"}, {"status": 502}, {"status": 503, "when": "after"}]
)
def test_lost_answers_make_no_duplicates(app: Client, served: Served, gallery: Gallery, fault: dict[str, Any]) -> None:
    methods = ("figures.bulk.add", "figures.tags.bulk.add")
    served.own("POST", "faults", json=[{"method": method, **fault} for method in methods])
    try:
        model = ModelAPI(served.api, url=app.address)
        list(model.predict_detached(image_ids=[i.id for i in gallery.images], upload_mode="append"))
    finally:
        served.own("DELETE", "faults")
    assert [len(ids(served, image)) for image in gallery.images] == [3, 3, 1, 1, 1]
    for image in gallery.images:
        label = served.api.annotation.download_json(image.id)["objects"][-1]
        assert [tag["name"] for tag in label["tags"]] == ["confidence"]


def test_a_refusal_is_told(app: Client, served: Served, gallery: Gallery) -> None:
    state = {"images_ids": [gallery.images[2].id], "upload_mode": "append", "output_project_id": 10**6}
    uuid = {"inference_request_uuid": app.post("inference_batch_ids_async", {}, state).json()["inference_request_uuid"]}
    wait_until(lambda: app.post("get_inference_progress", {}, uuid).json()["finished"])
    told = app.post("get_inference_progress", {}, uuid).json()
    assert "1000000" in told["exception"]["message"] or "404" in told["exception"]["message"]
    for wrong in ({"upload_mode": "overwrite"}, {"upload_mode": "iou_merge", "iou_merge_threshold": 2}):
        assert app.post("inference_batch_ids_async", {}, state | wrong).status_code == 400


def test_a_slow_server_holds_the_detector_back(served: Served, gallery: Gallery, tmp_path: Path) -> None:
    detector = BrightDetector()
    served.own("POST", "faults", json=[{"method": "figures.bulk.add", "delay_s": 0.7, "count": 9}])
    try:
        with DetectorRunning(served, tmp_path, CONFIG, lambda _: detector) as client:
            looked = detector.looked
            state = {"images_ids": [i.id for i in gallery.images], "upload_mode": "append", "batch_size": 1}
            started = client.post("inference_batch_ids_async", {}, state).json()
            uuid = {"inference_request_uuid": started["inference_request_uuid"]}
            wait_until(lambda: detector.looked - looked >= 2)
            time.sleep(0.3)
            assert detector.looked - looked <= 3, "it looks at one batch ahead, at most"
            assert client.post("stop_inference", {}, uuid).json()["success"]
            wait_until(lambda: client.post("get_inference_progress", {}, uuid).json()["finished"])
    finally:
        served.own("DELETE", "faults")
    assert sum(len(ids(served, image)) for image in gallery.images) < 4 + 5
