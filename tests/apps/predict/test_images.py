"""Images through the same doors as videos: chosen, looked at, labelled in every way; killed anywhere, once each."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervisely as sly

from apps.predict import pictures
from apps.predict.chosen import Portion, chosen_images
from apps.predict.ledger import Ledger
from apps.predict.main import create_app
from apps.predict.pictures import ImageTask, ImageWorker
from apps.predict.schema import Input, RunParameters
from common.detection.contract import Detections, Detector
from common.serving.access import normalised
from common.supervisely_io import image_labels, image_writer
from common.supervisely_io.server import Server
from common.video.contract import Image
from tests.apps.auto_track.conftest import AppServer
from tests.apps.detector.harness import BrightDetector, picture
from tests.apps.predict.conftest import Predicting, make_service, wait_until
from tests.apps.workbench.harness import Served
from tests.common.prediction.toys import NumberedSource, ToyDetector

MODEL = {"model": {"mode": "in_process", "model_name": "hog"}}
COUNT = 11
LABELLED = 2


@dataclass
class Album:
    """Eleven images in two datasets, one nested; image n shows a car at 20 + 10 n. A person has labelled the first two: the
    car, and something that no detector finds."""

    project: int
    datasets: list[int]
    images: list[int]


def _human(meta: sly.ProjectMeta, shown: np.ndarray) -> sly.Annotation:
    left, top, right, bottom = (round(float(v)) for v in BrightDetector().detect([shown])[0].xyxy[0])
    labels = [
        sly.Label(sly.Rectangle(top, left, bottom - 1, right - 1), meta.get_obj_class("car")),
        sly.Label(sly.Point(3, 4), meta.get_obj_class("tree"), description="mine"),
    ]
    return sly.Annotation(shown.shape[:2], labels, sly.TagCollection([sly.Tag(meta.get_tag_meta("seen"))]))


@pytest.fixture
def album(served: Served, request: pytest.FixtureRequest) -> Album:
    api = served.api
    made = api.project.create(1, request.node.name[:60], change_name_if_conflict=True)
    classes = [sly.ObjClass("car", sly.Rectangle), sly.ObjClass("tree", sly.AnyGeometry)]
    meta = api.project.update_meta(made.id, sly.ProjectMeta(classes, [sly.TagMeta("seen", sly.TagValueType.NONE)]))
    outer = api.dataset.create(made.id, "outer")
    inner = api.dataset.create(made.id, "inner", parent_id=outer.id)
    shown = [picture(20 + 10 * n) for n in range(COUNT)]
    rgb = [cv2.cvtColor(one, cv2.COLOR_RGB2BGR) for one in shown]
    images = api.image.upload_nps(outer.id, [f"{n:02}.png" for n in range(9)], rgb[:9])
    images += api.image.upload_nps(inner.id, ["00.png", "01.png"], rgb[9:])
    api.annotation.upload_anns([i.id for i in images[:2]], [_human(meta, one) for one in shown[:2]])
    return Album(made.id, [outer.id, inner.id], [i.id for i in images])


@pytest.fixture(autouse=True)
def _bright(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "make_detector", lambda settings: BrightDetector())


def content(served: Served, image: int) -> list[tuple[Any, ...]]:
    """What an image carries, without ids and times."""
    annotation = served.api.annotation.download_json(image)
    labels = [
        (
            label["classTitle"],
            label["geometryType"],
            str(label.get("points") or label.get("bitmap") or label.get("nodes")),
            tuple(sorted((tag["name"], tag.get("value")) for tag in label["tags"])),
            label["nnCreated"],
        )
        for label in annotation["objects"]
    ]
    return [*labels, *((tag["name"],) for tag in annotation["tags"])]


def ids(served: Served, image: int) -> list[int]:
    return [label["id"] for label in served.api.annotation.download_json(image)["objects"]]


def test_a_project_is_labelled_into_a_new_one(predict: Predicting, album: Album) -> None:
    api = predict.served.api
    output = {"project_name": "Looked at", "tags": ["confidence", "model"]}
    status = predict.run(input={"project_id": album.project}, output=output, **MODEL)
    assert (status["kind"], status["progress"]) == ("images", {"current": COUNT, "total": COUNT})
    assert [row["images"] for row in status["videos"]] == [9, 2]
    made = api.project.get_info_by_id(status["project_id"])
    assert (made.name, made.type, made.items_count) == ("Looked at", "images", COUNT)
    assert {(*parents, d.name) for parents, d in api.dataset.tree(made.id)} == {("outer",), ("outer", "inner")}
    found = api.image.get_list(project_id=made.id)
    assert [one.labels_count for one in found] == [3, 3] + [1] * 9, "labels of people come along"
    assert sum(one.labels_count for one in api.image.get_list(project_id=album.project)) == 2 * LABELLED
    [label] = api.annotation.download_json(found[4].id)["objects"]
    assert label["classTitle"] == "car" and abs(label["points"]["exterior"][0][0] - 60) <= 3
    tags = {tag["name"]: tag["value"] for tag in label["tags"]}
    assert tags == {"confidence": pytest.approx(0.9), "model": "Bright things"}
    assert [tag["name"] for tag in api.annotation.download_json(found[0].id)["tags"]] == ["seen"]


@pytest.mark.parametrize(
    ("mode", "counts", "kept"), [("append", [3, 3], True), ("replace", [1, 1], False), ("iou_merge", [2, 2], True)]
)
def test_labels_of_people_are_treated_as_asked(
    predict: Predicting, album: Album, mode: str, counts: list[int], kept: bool
) -> None:
    before = [ids(predict.served, image) for image in album.images]
    settings = {"predictions_mode": mode}
    output = {"upload_to_source_project": True}
    status = predict.run(input={"dataset_ids": [album.datasets[0]]}, settings=settings, output=output, **MODEL)
    after = [ids(predict.served, image) for image in album.images]
    assert [len(one) for one in after] == [*counts, *[1] * 9]
    assert all((set(old) <= set(new)) is kept for old, new in zip(before[:2], after[:2], strict=True))
    told = {key: sum(row[key] for row in status["videos"]) for key in ("added", "covered", "removed")}
    expected = {"append": (11, 0, 0), "replace": (11, 0, 4), "iou_merge": (9, 2, 0)}[mode]
    assert tuple(told.values()) == expected
    assert content(predict.served, album.images[0])[-1] == ("seen",), "tags of the image stay"


def test_a_copy_for_replacing_has_only_predictions(predict: Predicting, album: Album) -> None:
    settings, output = {"predictions_mode": "replace"}, {"project_name": "Fresh"}
    status = predict.run(input={"image_ids": album.images[:3]}, settings=settings, output=output, **MODEL)
    made = predict.served.api.image.get_list(project_id=status["project_id"])
    assert [one.labels_count for one in made] == [1, 1, 1]


def test_collections_and_annotated_images(predict: Predicting, album: Album) -> None:
    api = predict.served.api
    collection = api.entities_collection.create(album.project, "some")
    api.entities_collection.add_items(collection.id, [album.images[n] for n in (0, 5, 10)])
    output = {"upload_to_source_project": True, "skip_annotated": True}
    predict.run(input={"collection_ids": [collection.id]}, output=output, **MODEL)
    assert [n for n, image in enumerate(album.images) if len(ids(predict.served, image)) == 1] == [5, 10]
    job = predict.post("run", input={"collection_id": collection.id}, output=output, **MODEL)["job_id"]
    last = predict.events(job)[-1]
    assert last["status"] == "failed" and "annotated already" in last["message"]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("box", "rectangle"), ("mask", "bitmap"), ("oriented_box", "oriented_bbox"), ("keypoints", "graph")],
)
def test_any_geometry(predict: Predicting, monkeypatch: pytest.MonkeyPatch, kind: str, shape: str) -> None:
    monkeypatch.setattr(pictures, "make_detector", lambda settings: ToyDetector(kind))
    api, source = predict.served.api, NumberedSource(20)
    made = api.project.create(1, f"shapes {kind}", change_name_if_conflict=True)
    dataset = api.dataset.create(made.id, "ds")
    shown = [cv2.cvtColor(source.read(n), cv2.COLOR_RGB2BGR) for n in (3, 12)]
    images = api.image.upload_nps(dataset.id, ["3.png", "12.png"], shown)
    predict.run(input={"project_id": made.id}, output={"upload_to_source_project": True}, **MODEL)
    meta = sly.ProjectMeta.from_json(api.project.get_meta(made.id))
    assert {one.name: one.geometry_type.geometry_name() for one in meta.obj_classes} == {"car": shape, "object": shape}
    for image, count, frame in zip(images, (1, 2), (3, 12), strict=True):
        found = sly.Annotation.from_json(api.annotation.download_json(image.id), meta).labels
        assert len(found) == count
        box = next(one for one in found if one.obj_class.name == "car").geometry.to_bbox()
        assert abs(box.center.col - (10 + 2 * frame + 12)) <= 2


# --- stopped, killed, broken ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a process that ends without a word: nothing here catches it."""


def worker(served: Served, folder: Path, **parameters: Any) -> ImageWorker:
    whole = RunParameters().merged({**MODEL, **parameters}).model_dump(mode="json")
    return ImageWorker(whole, None, normalised(served.settings.address), served.bench.token, str(folder))


def _dies(real: Any, on: int, after: bool) -> Any:
    left = [on]

    def dying(*given: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Killed
        made = real(*given, **more)
        if left[0] == 0:
            raise Killed
        return made

    return dying


AFTER_LABELS = (image_writer, "add_labels", 1, True)
BEFORE_TAGS = (image_labels, "_tag", 1, False)
SECOND_BATCH = (image_writer, "add_labels", 2, True)
BEFORE_NOTE = (Ledger, "note", 2, False)
WHILE_REMOVING = (image_writer, "remove_figures", 1, False)
AFTER_REMOVING = (image_writer, "remove_figures", 1, True)
AFTER_COPYING = (pictures, "_copy_annotations", 1, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "fresh", "kills"),
    [
        ("append", False, [AFTER_LABELS, BEFORE_TAGS, SECOND_BATCH, BEFORE_NOTE]),
        ("iou_merge", False, [AFTER_LABELS, SECOND_BATCH]),
        ("replace", False, [AFTER_LABELS, WHILE_REMOVING, AFTER_REMOVING]),
        ("append", True, [AFTER_COPYING, AFTER_LABELS]),
    ],
)
def test_a_kill_doubles_and_loses_nothing(
    served: Served,
    album: Album,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    fresh: bool,
    kills: list[tuple[Any, str, int, bool]],
) -> None:
    api = served.api
    settings, output = {"predictions_mode": mode}, {"upload_to_source_project": True, "tags": ["confidence"]}
    expected: list[Any] = []
    for number, kill in enumerate([None, *kills]):
        dataset = api.dataset.create(album.project, f"kill {number}").id
        source = album.images[:9]
        if not fresh:
            source = [one.id for one in api.image.upload_ids(dataset, [f"{n}.png" for n in range(9)], source)]
            api.annotation.copy_batch(album.images[:2], source[:2])
        task = ImageTask(f"job {number}", tuple(source), album.project, dataset)

        def attempt(task: ImageTask = task) -> bool:
            ready = worker(served, tmp_path, settings=settings, output=output)
            return not ready(task, threading.Event(), lambda done, whole: None).stopped

        if kill is not None:
            owner, name, on, after = kill
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, _dies(getattr(owner, name), on, after))
                with pytest.raises(Killed):
                    attempt()
        assert attempt()
        found = [sorted(content(served, one.id), key=str) for one in api.image.get_list(dataset, sort="name")]
        expected = expected or found
        assert [len(one) for one in found[2:]] == [1] * 7
        assert found == expected, kill


def test_a_stopped_job_goes_on_where_it_was(predict: Predicting, album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [BrightDetector(pause_s=0.12), BrightDetector()]
    monkeypatch.setattr(pictures, "make_detector", lambda settings: slow.pop(0))
    output = {"upload_to_source_project": True}
    job = predict.post("run", input={"project_id": album.project}, output=output, **MODEL)["job_id"]
    wait_until(lambda: predict.get("status", job_id=job)["share"] > 0.1)
    predict.post("stop", job_id=job)
    assert predict.events(job)[-1]["status"] == "stopped"
    predict.post("run", job_id=job)
    last = predict.events(job)[-1]
    assert last["status"] == "finished", last
    assert [len(ids(predict.served, image)) for image in album.images] == [3, 3] + [1] * 9


def test_a_restarted_app_takes_its_job_up(
    served: Served, album: Album, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "make_detector", lambda settings: BrightDetector(pause_s=0.15))
    output = {"project_name": "Taken up", "tags": ["model"]}
    with AppServer(create_app(service=make_service(served, tmp_path))) as url:
        first = Predicting(url, None, served)  # type: ignore[arg-type]
        job = first.post("run", input={"project_id": album.project}, output=output, **MODEL)["job_id"]
        wait_until(lambda: first.get("status", job_id=job)["share"] > 0.1)
    with AppServer(create_app(service=make_service(served, tmp_path))) as url:
        last = Predicting(url, None, served).events(job)[-1]  # type: ignore[arg-type]
    assert last["status"] == "finished", last
    assert [p.name for p in served.api.project.get_list(1) if p.name.startswith("Taken up")] == ["Taken up"]
    made = served.api.image.get_list(project_id=last["project_id"])
    assert [one.labels_count for one in made] == [3, 3] + [1] * 9
    assert sum(row["added"] for row in last["videos"]) == COUNT


def _spoilt(served: Served, album: Album) -> int:
    """An image whose file is damaged on the server's disk."""
    shown = np.random.default_rng(5).integers(0, 90, (40, 40, 3), dtype=np.uint8)
    info = served.api.image.upload_np(album.datasets[0], "spoilt.png", shown)
    path = served.bench.blobs.path(info.hash)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:60])
    return int(info.id)


@pytest.mark.parametrize("where", ["here", "connected"])
def test_an_image_that_cannot_be_read_is_counted(
    predict: Predicting, album: Album, where: str, request: pytest.FixtureRequest
) -> None:
    model: dict[str, Any] = MODEL
    if where == "connected":
        model = {"model": {"mode": "connect", "session_id": request.getfixturevalue("connected")}}
    chosen = [album.images[3], _spoilt(predict.served, album), album.images[5]]
    status = predict.run(input={"image_ids": chosen}, output={"upload_to_source_project": True}, **model)
    assert "1 images could not be read" in status["videos"][0]["damage"]
    assert [len(ids(predict.served, image)) for image in chosen] == [1, 0, 1]


def test_what_cannot_be_done_is_told(predict: Predicting, album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.predict.worker import make_detector

    monkeypatch.setattr(pictures, "make_detector", make_detector)

    def fails(**state: Any) -> str:
        last = predict.events(predict.post("run", **{**MODEL, **state})["job_id"])[-1]
        assert last["status"] == "failed"
        return str(last["message"])

    motion = {"mode": "in_process", "model_name": "motion"}
    assert "frames of a video" in fails(input={"image_ids": album.images[:1]}, model=motion)
    assert "404" in fails(input={"image_ids": [10**7]})
    assert "not both" in fails(input={"image_ids": album.images[:1], "video_ids": [1]})


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_choices_and_preview(predict: Predicting, album: Album) -> None:
    project = next(one for one in predict.post("choices") if one["id"] == album.project)
    assert project["type"] == "images"
    rows = predict.post("choices", project_id=album.project)
    assert [(row["name"], row["images"]) for row in rows] == [("outer", 9), ("inner", 2)]
    reply = predict.post("preview", input={"image_ids": album.images[:1]}, **MODEL)
    assert reply.headers["content-type"] == "image/jpeg"
    shown = cv2.imdecode(np.frombuffer(reply.content, np.uint8), cv2.IMREAD_COLOR)
    height, width = picture().shape[:2]
    assert shown.shape[0] == height and shown.shape[1] > 2 * width
    assert reply.headers["x-objects"] == "1"
    assert len(ids(predict.served, album.images[0])) == LABELLED


def test_portions_are_of_one_dataset(served: Served, album: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.predict.chosen.PORTION", 4)
    with Server(served.settings.address, served.bench.token) as server:
        found = chosen_images(server, Input(image_ids=[album.images[10], *album.images[:6]]))
    assert found == [
        Portion("01.png", (album.images[10],)),
        Portion("00.png … 03.png", tuple(album.images[:4])),
        Portion("04.png … 05.png", tuple(album.images[4:6])),
    ]


class _Patches:
    """A detector app's detector, so that what it answers is known."""

    card = BrightDetector.card

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return BrightDetector().detect(images)


@pytest.fixture
def connected(served: Served, tmp_path: Path) -> Iterator[int]:
    """Task number of a detector app that listens."""
    from common.serving.access import Access
    from common.serving.detection_app import create_detector_app
    from common.serving.detection_model import Setup
    from common.serving.settings import ServingSettings

    def make(setup: Setup) -> Detector:
        return _Patches()

    access = Access(normalised(served.settings.address), served.bench.token)
    config = Path(__file__).parents[3] / "apps/detector/config.json"
    app = create_detector_app(config, Setup("patch"), ServingSettings(tmp_path / "detector", access), make)
    with AppServer(app) as url:
        about = {"session_tags": ["deployed_nn"]}
        reply = served.own("POST", "apps/register", json={"name": "Bright", "url": url, "config": about})
        yield int(reply.json()["id"])


def test_a_connected_detector(predict: Predicting, album: Album, connected: int) -> None:
    model = {"mode": "connect", "session_id": connected}
    output = {"upload_to_source_project": True}
    predict.run(input={"project_id": album.project}, model=model, output=output)
    assert [len(ids(predict.served, image)) for image in album.images] == [3, 3] + [1] * 9
    assert {one[0] for one in content(predict.served, album.images[5])} == {"car"}
