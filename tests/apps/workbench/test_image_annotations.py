"""Labels, tags and collections of images through the unmodified SDK, and everything about them that is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervisely as sly

from tests.apps.workbench.harness import Served
from tests.apps.workbench.image_projects import GEOMETRIES, HEIGHT, MASK, WIDTH, Pictured, annotation, meta, pictured

__all__ = ["pictured"]


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
    assert np.array_equal(found["bitmap"].geometry.get_mask((HEIGHT, WIDTH)), MASK)
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
