"""Projects of images through the unmodified SDK: up, down, listed, labelled, tagged, and everything that is refused."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervisely as sly
from PIL import Image as Pictures
from requests import HTTPError
from supervisely.geometry.graph import GraphNodes, Node
from supervisely.geometry.oriented_bbox import OrientedBBox

from tests.apps.workbench.harness import Served

WIDTH, HEIGHT = 64, 48
_MASK = np.zeros((HEIGHT, WIDTH), dtype=bool)
_MASK[5:20, 7:30] = True
_MASK[8:12, 10:15] = False
_TEMPLATE = {
    "nodes": {
        "a": {"label": "head", "loc": [10, 10], "color": [255, 0, 0]},
        "b": {"label": "tail", "loc": [30, 30], "color": [0, 255, 0]},
    },
    "edges": [{"src": "a", "dst": "b", "color": [0, 0, 255]}],
}
GEOMETRIES: dict[str, Any] = {
    "rectangle": sly.Rectangle(0, 4, HEIGHT - 1, WIDTH - 1),
    "oriented_bbox": OrientedBBox(3, 2, 25, 40, angle=0.7),
    "bitmap": sly.Bitmap(_MASK),
    "polygon": sly.Polygon(
        [sly.PointLocation(1, 1), sly.PointLocation(1, 40), sly.PointLocation(30, 40), sly.PointLocation(30, 1)],
        [[sly.PointLocation(5, 5), sly.PointLocation(5, 10), sly.PointLocation(10, 10)]],
    ),
    "point": sly.Point(11, 12),
    "line": sly.Polyline([sly.PointLocation(2, 3), sly.PointLocation(20, 30), sly.PointLocation(40, 31)]),
    "graph": GraphNodes({"a": Node(sly.PointLocation(3, 4)), "b": Node(sly.PointLocation(9, 8), disabled=True)}),
    "alpha_mask": sly.AlphaMask(np.where(_MASK, 130, 0).astype(np.uint8)),
}


def encoded(seed: int, kind: str = ".png", width: int = WIDTH, height: int = HEIGHT) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(kind, picture)[1])


def meta() -> sly.ProjectMeta:
    classes = [
        sly.ObjClass(kind, type(geometry), geometry_config=_TEMPLATE if kind == "graph" else None)
        for kind, geometry in GEOMETRIES.items()
    ]
    tags = [
        sly.TagMeta("plain", sly.TagValueType.NONE),
        sly.TagMeta("words", sly.TagValueType.ANY_STRING),
        sly.TagMeta("amount", sly.TagValueType.ANY_NUMBER),
        sly.TagMeta("choice", sly.TagValueType.ONEOF_STRING, possible_values=["left", "right"]),
    ]
    return sly.ProjectMeta([*classes, sly.ObjClass("any", sly.AnyGeometry)], tags, project_type="images")


def annotation(of: sly.ProjectMeta, kinds: Any = tuple(GEOMETRIES)) -> sly.Annotation:
    tag = {one.name: one for one in of.tag_metas}
    label_tags = sly.TagCollection([sly.Tag(tag["amount"], 0.5), sly.Tag(tag["words"], 'ünï " 🎥')])
    labels = [
        sly.Label(GEOMETRIES[kind], of.get_obj_class(kind), label_tags if kind == "polygon" else None, "a label")
        for kind in kinds
    ]
    image_tags = sly.TagCollection([sly.Tag(tag["plain"]), sly.Tag(tag["choice"], "left")])
    return sly.Annotation((HEIGHT, WIDTH), labels, image_tags, "what it is")


@dataclass
class Pictured:
    project: int
    dataset: int
    images: list[Any]
    meta: sly.ProjectMeta


@pytest.fixture
def pictured(served: Served, request: pytest.FixtureRequest) -> Pictured:
    """A project with three images, the first of them labelled."""
    api = served.api
    project = api.project.create(1, request.node.name[:100], change_name_if_conflict=True)
    stored = api.project.update_meta(project.id, meta())
    dataset = api.dataset.create(project.id, "ds")
    pictures = [cv2.imdecode(np.frombuffer(encoded(n), np.uint8), cv2.IMREAD_COLOR) for n in range(3)]
    images = api.image.upload_nps(dataset.id, [f"{n}.png" for n in range(3)], pictures)
    api.annotation.upload_ann(images[0].id, annotation(stored, ("rectangle", "bitmap", "polygon")))
    return Pictured(project.id, dataset.id, images, stored)


# --- whole projects ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, one nested; PNG and JPEG; one image without labels."""
    root = tmp_path_factory.mktemp("projects") / "original"
    project = sly.Project(str(root), sly.OpenMode.CREATE)
    project.set_meta(meta())
    outer = project.create_dataset("first")
    outer.add_item_raw_bytes("a.png", encoded(1), annotation(meta()))
    outer.add_item_raw_bytes("b with spaces é.jpg", encoded(2, ".jpg"), annotation(meta(), ("rectangle",)))
    inner = project.create_dataset("inner", "first/datasets/inner")
    inner.add_item_raw_bytes("a.png", encoded(3), sly.Annotation((HEIGHT, WIDTH)))
    return root


def _plain(value: object) -> object:
    """Without what a server makes up."""
    dropped = {"id", "classId", "tagId", "labelerLogin", "createdAt", "updatedAt", "entityId", "imageId", "shape"}
    dropped |= {"customBigData", "isFinished"}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in dropped}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _items(root: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    for dataset in sly.Project(str(root), sly.OpenMode.READ).datasets:
        for name in sorted(dataset):
            image, ann = dataset.get_item_paths(name)
            yield f"{dataset.name}/{name}", Path(image), json.loads(Path(ann).read_text())


def _assert_same(original: Path, copy: Path) -> None:
    before, after = list(_items(original)), list(_items(copy))
    assert len(before) == 3
    assert [name for name, *_ in before] == [name for name, *_ in after]
    for (name, image, ann), (_, image_back, ann_back) in zip(before, after, strict=True):
        assert image.read_bytes() == image_back.read_bytes(), f"{name}: the picture changed"
        by_class = sorted(_plain(ann)["objects"], key=lambda o: o["classTitle"])  # type: ignore[index]
        back = sorted(_plain(ann_back)["objects"], key=lambda o: o["classTitle"])  # type: ignore[index]
        assert by_class == back, name
        for part in ("tags", "size", "description"):
            assert _plain(ann[part]) == _plain(ann_back[part]), name
    read = [sly.ProjectMeta.from_json(json.loads((root / "meta.json").read_text())) for root in (original, copy)]
    assert read[0] == read[1]


@pytest.fixture(scope="module")
def uploaded(served: Served, project_dir: Path) -> int:
    project_id, _ = sly.upload_project(str(project_dir), served.api, 1, "pictures", log_progress=False)
    return int(project_id)


def test_upload_and_download_give_back_the_same_project(
    served: Served, uploaded: int, project_dir: Path, tmp_path: Path
) -> None:
    sly.download_project(served.api, uploaded, str(tmp_path / "copy"), log_progress=False)
    _assert_same(project_dir, tmp_path / "copy")


def test_the_fast_download_gives_the_same(served: Served, uploaded: int, project_dir: Path, tmp_path: Path) -> None:
    asyncio.run(sly.Project.download_async(served.api, uploaded, str(tmp_path / "copy")))
    _assert_same(project_dir, tmp_path / "copy")


def test_what_came_down_goes_up_again(served: Served, uploaded: int, project_dir: Path, tmp_path: Path) -> None:
    sly.download_project(served.api, uploaded, str(tmp_path / "once"), log_progress=False)
    again, name = sly.upload_project(str(tmp_path / "once"), served.api, 1, "pictures", log_progress=False)
    assert name != "pictures"
    sly.download_project(served.api, again, str(tmp_path / "twice"), log_progress=False)
    _assert_same(project_dir, tmp_path / "twice")
    info = served.api.project.get_info_by_id(again)
    assert (info.type, info.items_count, info.datasets_count) == ("images", 3, 2)
    assert int(info.size) == sum(path.stat().st_size for _, path, _ in _items(project_dir))


# --- images -----------------------------------------------------------------------------------------------------------


def test_every_way_to_download_gives_the_bytes_that_came(served: Served, pictured: Pictured, tmp_path: Path) -> None:
    api, ids = served.api, [image.id for image in pictured.images]
    api.image.upload_path(pictured.dataset, "x.jpg", _file(tmp_path / "x.jpg", encoded(9, ".jpg")))
    last = api.image.get_info_by_name(pictured.dataset, "x.jpg")
    assert (last.width, last.height, last.mime, last.ext) == (WIDTH, HEIGHT, "image/jpeg", "jpeg")
    assert last.size == len(encoded(9, ".jpg"))
    api.image.download_path(last.id, str(tmp_path / "back.jpg"))
    assert (tmp_path / "back.jpg").read_bytes() == encoded(9, ".jpg")
    whole = api.image.download_bytes(pictured.dataset, [last.id, ids[1]])
    assert whole[0] == encoded(9, ".jpg")
    many = api.image.download_nps(pictured.dataset, ids)
    expected = cv2.imdecode(np.frombuffer(encoded(1), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(many[1], expected)
    api.image.download_paths_by_hashes([last.hash], [str(tmp_path / "hash.jpg")])
    assert (tmp_path / "hash.jpg").read_bytes() == encoded(9, ".jpg")
    part = served.call("images.download", {"id": last.id}).content
    assert part == encoded(9, ".jpg")


def _file(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_content_is_known_by_its_hash_and_copied_without_upload(served: Served, pictured: Pictured) -> None:
    api = served.api
    first = pictured.images[0]
    assert api.image.check_image_uploaded(first.hash)
    assert not api.image.check_image_uploaded("A" * 43 + "=")
    other = api.dataset.create(pictured.project, "other")
    [by_hash] = api.image.upload_hashes(other.id, ["h.png"], [first.hash])
    [by_id] = api.image.upload_ids(other.id, ["i.png"], [first.id])
    [copied] = api.image.copy_batch(other.id, [first.id], with_annotations=True)
    assert {by_hash.hash, by_id.hash, copied.hash} == {first.hash}
    assert copied.name == first.name
    assert api.image.get_info_by_id(copied.id).labels_count == 3


def test_lists_filter_sort_and_page(served: Served, pictured: Pictured) -> None:
    api, ids = served.api, [image.id for image in pictured.images]
    names = lambda found: [one.name for one in found]  # noqa: E731
    assert names(api.image.get_list(pictured.dataset, sort="name", sort_order="desc")) == ["2.png", "1.png", "0.png"]
    conditions = [{"field": "name", "operator": "=", "value": "1.png"}]
    assert names(api.image.get_list(pictured.dataset, conditions)) == ["1.png"]
    assert names(api.image.get_list(project_id=pictured.project, only_labelled=True)) == ["0.png"]
    assert [one.labels_count for one in api.image.get_info_by_id_batch(ids[::-1])] == [0, 0, 3]
    batches = list(api.image.get_list_generator(pictured.dataset, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 1]
    by_name = [{"type": "images_filename", "data": {"value": "2"}}]
    assert names(api.image.get_filtered_list(pictured.dataset, by_name)) == ["2.png"]
    tag = pictured.meta.get_tag_meta("plain").sly_id
    tagged = [{"type": "images_tag", "data": {"tagId": tag, "include": True}}]
    assert names(api.image.get_filtered_list(pictured.dataset, tagged)) == ["0.png"]
    untagged = [{"type": "images_tag", "data": {"tagId": tag, "include": False}}]
    assert names(api.image.get_filtered_list(pictured.dataset, untagged)) == ["1.png", "2.png"]
    label_tag = {"tagId": pictured.meta.get_tag_meta("amount").sly_id, "include": True}
    assert names(api.image.get_filtered_list(pictured.dataset, [{"type": "objects_tag", "data": label_tag}])) == [
        "0.png"
    ]
    nested = api.dataset.create(pictured.project, "nested", parent_id=pictured.dataset)
    api.image.upload_ids(nested.id, ["n.png"], [ids[0]])
    assert len(api.image.get_list(pictured.dataset)) == 3
    assert len(api.image.get_list(pictured.dataset, recursive=True)) == 4
    pages = served.call("images.list", {"datasetId": pictured.dataset, "per_page": 2, "page": 2}).json()
    assert (pages["total"], pages["pagesCount"], len(pages["entities"])) == (3, 2, 1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"datasetId": 1},
        {"datasetId": "DATASET", "filter": [{"field": "secret", "operator": "=", "value": 1}]},
        {"datasetId": "DATASET", "filters": [{"type": "job", "data": {}}]},
        {"datasetId": "DATASET", "filters": [{"type": "images_tag"}]},
        {"datasetId": "DATASET", "sort": "hash; DROP TABLE images"},
    ],
)
def test_lists_that_mean_nothing_are_refused(served: Served, pictured: Pictured, body: dict[str, Any]) -> None:
    body = {key: pictured.dataset if value == "DATASET" else value for key, value in body.items()}
    assert served.call("images.list", body).status_code in (400, 404)


def test_names_conflict_as_the_sdk_resolves(served: Served, pictured: Pictured) -> None:
    api = served.api
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(HTTPError):
        api.image.upload_np(pictured.dataset, "0.png", picture)
    [renamed] = api.image.upload_nps(pictured.dataset, ["0.png"], [picture], conflict_resolution="rename")
    assert renamed.name.startswith("0_")
    [replaced] = api.image.upload_nps(pictured.dataset, ["0.png"], [picture], conflict_resolution="replace")
    assert replaced.id != pictured.images[0].id
    assert api.image.get_info_by_id(pictured.images[0].id) is None


def test_change_and_remove(served: Served, pictured: Pictured) -> None:
    api, image = served.api, pictured.images[1]
    assert api.image.rename(image.id, "new.png").name == "new.png"
    assert api.image.edit(image.id, description="words", meta={"a": 1}).meta == {"a": 1}
    assert api.image.get_info_by_id(image.id).description == "words"
    api.image.remove_batch([image.id])
    assert api.image.get_info_by_id(image.id) is None
    assert api.dataset.get_info_by_id(pictured.dataset).items_count == 2


def test_clean_up_keeps_what_is_in_use(served: Served, pictured: Pictured) -> None:
    kept = pictured.images[0]
    gone = served.api.image.upload_np(pictured.dataset, "gone.png", np.full((9, 7, 3), 77, np.uint8))
    served.api.image.remove(gone.id)
    assert served.call("instance.data.cleanup-unused").status_code == 200
    assert served.api.image.check_image_uploaded(kept.hash)
    assert not served.api.image.check_image_uploaded(gone.hash)


# --- annotations ------------------------------------------------------------------------------------------------------


def read(served: Served, pictured: Pictured, ident: int) -> sly.Annotation:
    return sly.Annotation.from_json(served.api.annotation.download_json(ident), pictured.meta)


def test_every_geometry_comes_back_as_it_went(served: Served, pictured: Pictured) -> None:
    image = pictured.images[1]
    served.api.annotation.upload_ann(image.id, annotation(pictured.meta))
    found = {label.obj_class.name: label for label in read(served, pictured, image.id).labels}
    assert set(found) == set(GEOMETRIES)
    for kind, geometry in GEOMETRIES.items():
        back = found[kind].geometry.to_json()
        assert {key: back[key] for key in geometry.to_json()} == geometry.to_json()
    assert np.array_equal(found["bitmap"].geometry.get_mask((HEIGHT, WIDTH)), _MASK)
    assert found["polygon"].tags.get("amount").value == 0.5
    figures = served.api.image.figure.download(pictured.dataset, [image.id])
    assert {figure.geometry_type for figure in figures[image.id]} == set(GEOMETRIES)


def test_an_upload_replaces_and_appending_adds(served: Served, pictured: Pictured) -> None:
    api, image = served.api, pictured.images[0]
    before = api.annotation.download(image.id).annotation["objects"]
    more = sly.Label(sly.Point(1, 1), pictured.meta.get_obj_class("point"))
    api.annotation.append_labels(image.id, [more])
    after = api.annotation.download(image.id).annotation["objects"]
    assert after[:3] == before, "labels that are there keep their ids and everything else"
    assert len(after) == 4
    api.annotation.upload_ann(image.id, annotation(pictured.meta, ("point",)))
    assert [label.obj_class.name for label in read(served, pictured, image.id).labels] == ["point"]
    both = api.annotation.download_batch(pictured.dataset, [pictured.images[2].id, image.id])
    assert [one.image_id for one in both] == [pictured.images[2].id, image.id]
    assert [len(one.annotation["objects"]) for one in both] == [0, 1]
    api.annotation.upload_anns_fast([image.id], [annotation(pictured.meta, ("polygon", "alpha_mask"))])
    assert len(read(served, pictured, image.id).labels) == 3


def test_an_annotation_of_another_project_is_understood_by_names(served: Served, pictured: Pictured) -> None:
    api = served.api
    other = api.project.create(1, "elsewhere", change_name_if_conflict=True)
    api.project.update_meta(other.id, meta())
    dataset = api.dataset.create(other.id, "ds")
    [image] = api.image.upload_ids(dataset.id, ["a.png"], [pictured.images[0].id])
    api.annotation.copy_batch([pictured.images[0].id], [image.id])
    copied = api.annotation.download_json(image.id)["objects"]
    own = {one.sly_id for one in sly.ProjectMeta.from_json(api.project.get_meta(other.id)).obj_classes}
    assert len(copied) == 3
    assert {label["classId"] for label in copied} <= own


def _box(x2: float = 9, **more: Any) -> dict[str, Any]:
    box = {"points": {"exterior": [[1, 1], [x2, 9]], "interior": []}, "geometryType": "rectangle"}
    return {"classTitle": "rectangle", **box, **more}


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        ({"objects": [_box(classTitle="none")]}, "no class 'none'"),
        ({"objects": [_box(), _box(WIDTH + 0.5)]}, "Label 2 of image"),
        ({"objects": [_box(geometryType="bitmap")]}, "cannot hold"),
        ({"objects": [_box(points=[])]}, "broken"),
        ({"objects": [_box(tags=[{"name": "amount", "value": "x"}])]}, "not a value"),
        ({"tags": [{"name": "nobody"}]}, "no tag 'nobody'"),
        ({"objects": [7]}, "form"),
    ],
)
def test_broken_annotations_are_refused_and_change_nothing(
    served: Served, pictured: Pictured, annotation: dict[str, Any], says: str
) -> None:
    image = pictured.images[0].id
    before = served.api.annotation.download_json(image)
    body = {"datasetId": pictured.dataset, "annotations": [{"imageId": image, "annotation": annotation}]}
    reply = served.call("annotations.bulk.add", body)
    assert reply.status_code == 400
    assert says in reply.json()["message"]
    assert served.api.annotation.download_json(image) == before


@pytest.mark.parametrize(
    "figure",
    [
        {"classId": 1},
        {"classId": None, "classTitle": ["rectangle"]},
        {"tags": [7]},
        {"tags": "words"},
        {"geometry": {"points": {"exterior": [[0, 0], ["a", 1]]}}},
        {"geometry": {"points": {"exterior": [[0, 0], [10**9, 1]]}}},
        {"geometryType": "sphere"},
        {"geometryType": "bitmap"},
        {"geometry": None},
        {"entityId": 5},
        {"objectId": 5},
    ],
)
def test_broken_figures_are_refused_whole(served: Served, pictured: Pictured, figure: dict[str, Any]) -> None:
    image = pictured.images[1].id
    good = {
        "entityId": image,
        "classId": pictured.meta.get_obj_class("rectangle").sly_id,
        "geometryType": "rectangle",
        "geometry": {"points": {"exterior": [[0, 0], [WIDTH, HEIGHT]], "interior": []}},
    }
    body = {"datasetId": pictured.dataset, "figures": [good, good | figure]}
    assert served.call("figures.bulk.add", body).status_code in (400, 404)
    assert served.api.annotation.download_json(image)["objects"] == []
    assert served.call("figures.bulk.add", {"figures": [good]}).status_code == 200


def test_single_labels_are_changed_and_removed(served: Served, pictured: Pictured) -> None:
    api, image = served.api, pictured.images[0]
    label = api.annotation.download_json(image.id)["objects"][0]
    new = sly.Label(sly.Rectangle(1, 1, 5, 6), pictured.meta.get_obj_class("rectangle"))
    api.annotation.update_label(label["id"], new)
    info = api.image.figure.get_info_by_id(label["id"])
    assert info.geometry["points"]["exterior"] == [[1, 1], [6, 5]]
    tag = pictured.meta.get_tag_meta("amount").sly_id
    api.advanced.add_tag_to_object(tag, label["id"], 0.25)
    [put] = api.annotation.download_json(image.id)["objects"][0]["tags"]
    assert (put["name"], put["value"]) == ("amount", 0.25)
    api.advanced.remove_tag_from_object(tag, label["id"], put["id"])
    assert api.annotation.download_json(image.id)["objects"][0]["tags"] == []
    served.call("figures.bulk.remove", {"figureIds": [label["id"]]})
    assert label["id"] not in [one["id"] for one in api.annotation.download_json(image.id)["objects"]]


def test_tags_of_images(served: Served, pictured: Pictured) -> None:
    api, ids = served.api, [image.id for image in pictured.images]
    words, plain = (pictured.meta.get_tag_meta(name).sly_id for name in ("words", "plain"))
    api.image.add_tag_batch(ids[1:], words, value="hello")
    tag = api.image.get_info_by_id(ids[2]).tags[0]
    assert (tag["tagId"], tag["value"]) == (words, "hello")
    api.image.update_tag_value(tag["id"], "other")
    assert api.image.get_info_by_id(ids[2]).tags[0]["value"] == "other"
    api.advanced.remove_tag_from_image(words, ids[2], tag["id"])
    assert api.image.get_info_by_id(ids[2]).tags == []
    api.advanced.remove_tags_from_images([words, plain], ids)
    assert [api.image.get_info_by_id(ident).tags[:1] for ident in ids[1:]] == [[], []]
    assert served.call("image-tags.bulk.add-to-image", {"tagId": 1, "ids": ids}).status_code == 400


def test_collections(served: Served, pictured: Pictured) -> None:
    api, ids = served.api, [image.id for image in pictured.images]
    made = api.entities_collection.create(pictured.project, "chosen", "why")
    added = api.entities_collection.add_items(made.id, ids[:2])
    assert [one["entityId"] for one in added] == ids[:2]
    api.entities_collection.add_items(made.id, ids[1:])
    assert [i.id for i in api.image.get_list(project_id=pictured.project, entities_collection_id=made.id)] == ids
    api.entities_collection.remove_items(made.id, [ids[0]])
    kind = sly.api.entities_collection_api.CollectionTypeFilter.DEFAULT
    assert [i.id for i in api.entities_collection.get_items(made.id, kind)] == ids[1:]
    with pytest.raises(RuntimeError, match="Failed to add"):
        api.entities_collection.add_items(made.id, [10**9])
    assert [c.name for c in api.entities_collection.get_list(pictured.project)] == ["chosen"]
    api.image.remove(ids[1])
    assert [i.id for i in api.entities_collection.get_items(made.id, kind)] == ids[2:]
    api.entities_collection.remove(made.id)
    assert api.entities_collection.get_info_by_id(made.id) is None


def test_videos_and_images_do_not_mix(served: Served, pictured: Pictured, clip: Path) -> None:
    api = served.api
    reply = served.call("videos.bulk.add", {"datasetId": pictured.dataset, "videos": [{"title": "a", "hash": "x"}]})
    assert reply.status_code == 400
    assert "holds images" in reply.json()["message"]
    project = api.project.create(1, "moving", sly.ProjectType.VIDEOS, change_name_if_conflict=True)
    dataset = api.dataset.create(project.id, "ds")
    body = {"datasetId": dataset.id, "images": [{"title": "a.png", "hash": pictured.images[0].hash}]}
    assert served.call("images.bulk.add", body).status_code == 400
    video = api.video.upload_path(dataset.id, "clip.mp4", str(clip))
    body = {"datasetId": pictured.dataset, "images": [{"title": "a.png", "hash": video.hash}]}
    assert "not an image" in served.call("images.bulk.add", body).json()["message"]
    assert served.call("projects.add", {"name": "x", "workspaceId": 1, "type": "volumes"}).status_code == 400


# --- hostile files ----------------------------------------------------------------------------------------------------


def _bomb() -> bytes:
    """The head of a PNG of 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def _post_file(served: Served, content: bytes, name: str = "0") -> Any:
    import requests

    address = f"{served.settings.address}/public/api/v3/images.bulk.upload"
    files = {"0-file": (name, io.BytesIO(content), "image/*")}
    return requests.post(address, files=files, headers=served.headers, timeout=20)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"no picture at all", 400),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", 400),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400),
        (encoded(1)[:60], 400),
        (encoded(1)[:200] + b"\0" * 50 + encoded(1)[250:], 400),
        (_bomb(), 413),
    ],
)
def test_what_is_no_picture_is_refused_and_not_kept(served: Served, content: bytes, status: int) -> None:
    reply = _post_file(served, content)
    assert reply.status_code == status, reply.text
    assert str(served.settings.data) not in reply.text
    assert not list((served.settings.data / "files" / "incoming").iterdir())


def test_an_upload_above_the_limit_is_refused(served: Served) -> None:
    limit = served.settings.max_upload_bytes
    reply = _post_file(served, b"\0" * (limit + 1))
    assert reply.status_code == 413
    assert not list((served.settings.data / "files" / "incoming").iterdir())


def test_many_ids_at_once(served: Served, pictured: Pictured) -> None:
    """More than one statement takes."""
    idents = list(range(2 * 10**9, 2 * 10**9 + 40_000))
    assert served.call("figures.bulk.remove", {"figureIds": idents}).status_code == 200
    assert served.call("images.bulk.remove", {"imageIds": [*idents, pictured.images[2].id]}).status_code == 200
    assert served.api.image.get_info_by_id(pictured.images[2].id) is None
    reply = served.call("image-tags.bulk.add-to-image", {"tagId": 1, "ids": idents})
    assert reply.status_code == 404


@pytest.mark.parametrize("title", ["../a.png", "a/b.png", "..", "", "a\nb.png", "x" * 300])
def test_titles_that_would_be_paths_for_others_are_refused(served: Served, pictured: Pictured, title: str) -> None:
    body = {"datasetId": pictured.dataset, "images": [{"title": title, "hash": pictured.images[0].hash}]}
    assert served.call("images.bulk.add", body).status_code == 400


def test_a_picture_on_its_side_has_its_upright_size(served: Served, pictured: Pictured) -> None:
    file, turned = io.BytesIO(), Pictures.Exif()
    turned[0x0112] = 6
    Pictures.new("RGB", (30, 20), (200, 0, 0)).save(file, "JPEG", exif=turned)
    reply = _post_file(served, file.getvalue()).json()
    [image] = served.api.image.upload_hashes(pictured.dataset, ["side.jpg"], [reply[0]["hash"]])
    assert (image.width, image.height) == (20, 30)
    assert served.api.image.download_np(image.id).shape == (30, 20, 3)
