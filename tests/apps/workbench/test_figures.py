"""Figures, objects, tags and meta."""

from __future__ import annotations

import base64
import copy
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
import requests
import supervisely as sly

from tests.apps.workbench.harness import Labelled, Served, rectangle


def _png(width: int = 5, height: int = 4) -> str:
    done, data = cv2.imencode(".png", np.full((height, width), 255, np.uint8))
    assert done
    return base64.b64encode(zlib.compress(data.tobytes())).decode()


def _figure(
    object_id: int, frame: object = 0, kind: str = "rectangle", geometry: object = None, **rest: object
) -> dict[str, Any]:
    return {
        "objectId": object_id,
        "geometryType": kind,
        "geometry": rectangle() if geometry is None else geometry,
        "meta": {"frame": frame},
        **rest,
    }


def _add(served: Served, labelled: Labelled, *figures: dict[str, Any]) -> Any:
    return served.call("figures.bulk.add", {"entityId": labelled.video.id, "figures": list(figures)})


def _count(served: Served, labelled: Labelled) -> int:
    return int(served.call("figures.list", {"datasetId": labelled.dataset_id}).json()["total"])


def test_ids_come_in_the_order_of_the_request(served: Served, labelled: Labelled) -> None:
    object_id = labelled.add_object(served)
    frames = [7, 3, 11, 0, 5]
    ids = [entry["id"] for entry in _add(served, labelled, *(_figure(object_id, f) for f in frames)).json()]
    assert ids == sorted(ids)
    infos = served.api.video.figure.get_by_ids(labelled.dataset_id, ids)
    assert [info.frame_index for info in infos] == frames


def test_a_figure_keeps_what_a_tracker_says_of_it(served: Served, labelled: Labelled) -> None:
    object_id = labelled.add_object(served)
    figure = _figure(object_id, 4, trackId="t-1", nnCreated=True, nnUpdated=True, customData={"score": 0.5})
    figure["meta"]["sourceFigureId"] = 17
    [entry] = _add(served, labelled, figure).json()
    raw = served.call("figures.info", {"id": entry["id"]}).json()
    assert raw["meta"] == {"frame": 4, "sourceFigureId": 17}
    assert (raw["trackId"], raw["nnCreated"], raw["nnUpdated"], raw["customData"]) == (
        "t-1",
        True,
        True,
        {"score": 0.5},
    )
    info = served.api.video.figure.get_info_by_id(entry["id"])
    assert (info.geometry_type, info.geometry, info.object_id) == ("rectangle", rectangle(), object_id)
    assert (info.bbox.left, info.bbox.top, info.bbox.right, info.bbox.bottom) == (2, 3, 20, 25)
    ann = served.api.video.annotation.download(labelled.video.id)
    [stored] = ann["frames"][0]["figures"]
    assert (stored["trackId"], stored["meta"], stored["customData"]) == ("t-1", raw["meta"], {"score": 0.5})


_RECT = rectangle()
_FAR = rectangle(right=64)


@pytest.mark.parametrize(
    ("class_name", "kind", "geometry", "says"),
    [
        ("box", "rectangle", _FAR, "leaves the frame"),
        ("box", "rectangle", rectangle(left=-1), "leaves the frame"),
        ("box", "point", {"points": {"exterior": [[1, 1]], "interior": []}}, "cannot hold"),
        ("mask", "rectangle", _RECT, "cannot hold"),
        ("any", "spiral", {}, "not known"),
        ("any", "rectangle", {}, "no 'points'"),
        ("any", "rectangle", {"points": {"exterior": [[1, 2]], "interior": []}}, "at least 2"),
        ("any", "rectangle", {"points": {"exterior": [[1, 2], [3, 4], [5, 6]], "interior": []}}, "2 point"),
        ("any", "rectangle", {"points": {"exterior": [[1, 2], [3]], "interior": []}}, "[x, y]"),
        ("any", "rectangle", {"points": {"exterior": [[1, 2], [3, "4"]], "interior": []}}, "not a coordinate"),
        ("any", "rectangle", {"points": {"exterior": [[1, 2], [3, True]], "interior": []}}, "not a coordinate"),
        ("any", "rectangle", {"points": {"exterior": [[1, 2], [3, 1e9]], "interior": []}}, "too far"),
        ("any", "polygon", {"points": {"exterior": [[1, 2], [3, 4]], "interior": []}}, "at least 3"),
        ("any", "oriented_bbox", {"points": [[1, 2], [3, 4]]}, "no 'angle'"),
        ("any", "graph", {"nodes": {"a": {}}}, "no 'loc'"),
        ("any", "graph", {"nodes": 3}, "nodes"),
        ("any", "bitmap", {"bitmap": {"origin": [1, 1], "data": "!!!"}}, "base64"),
        ("any", "bitmap", {"bitmap": {"origin": [1, 1], "data": base64.b64encode(b"zz").decode()}}, "base64"),
        (
            "any",
            "bitmap",
            {"bitmap": {"origin": [1, 1], "data": base64.b64encode(zlib.compress(b"x" * 40)).decode()}},
            "PNG",
        ),
        ("any", "bitmap", {"bitmap": {"origin": [60, 1], "data": _png()}}, "leaves the frame"),
    ],
)
def test_broken_figures_are_refused_by_name(
    served: Served, labelled: Labelled, class_name: str, kind: str, geometry: object, says: str
) -> None:
    good = _figure(labelled.add_object(served, "any"))
    bad = _figure(labelled.add_object(served, class_name), 1, kind, geometry)
    reply = _add(served, labelled, good, bad)
    assert reply.status_code == 400
    message = reply.json()["details"]["message"]
    assert message.startswith("Figure 2 of 2 was not stored, nor the others") and says in message
    assert _count(served, labelled) == 0, "all or none"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused(served: Served, labelled: Labelled, number: str) -> None:
    text = (
        f'{{"entityId":{labelled.video.id},"figures":[{{"objectId":{labelled.add_object(served)},"geometryType":"rectangle",'
        f'"meta":{{"frame":0}},"geometry":{{"points":{{"exterior":[[1,2],[3,{number}]],"interior":[]}}}}}}]}}'
    )
    reply = requests.post(
        f"{served.settings.address}/public/api/v3/figures.bulk.add",
        data=text,
        headers={**served.headers, "content-type": "application/json"},
        timeout=30,
    )
    assert reply.status_code == 400
    assert _count(served, labelled) == 0


@pytest.mark.parametrize("frame", [-1, 12, "0", 0.0, None, True])
def test_frames_that_are_not_there_are_refused(served: Served, labelled: Labelled, frame: object) -> None:
    assert _add(served, labelled, _figure(labelled.add_object(served), frame)).status_code == 400


def test_an_object_of_another_video_is_refused(served: Served, labelled: Labelled, clip: Any) -> None:
    other = served.api.video.upload_path(labelled.dataset_id, "other.mp4", str(clip))
    object_id = labelled.add_object(served)
    reply = served.call("figures.bulk.add", {"entityId": other.id, "figures": [_figure(object_id)]})
    assert reply.status_code == 400
    assert _add(served, labelled, _figure(10**9)).status_code == 400
    missing = served.call("figures.bulk.add", {"entityId": 10**9, "figures": [_figure(object_id)]})
    assert missing.status_code == 404


def test_a_thousand_at_once_and_no_more(served: Served, labelled: Labelled) -> None:
    figure = _figure(labelled.add_object(served))
    assert _add(served, labelled, *[figure] * 1001).status_code == 400
    assert len(_add(served, labelled, *[figure] * 1000).json()) == 1000
    assert len(served.api.video.figure.download(labelled.dataset_id)[labelled.video.id]) == 1000, "over two pages"


def test_a_repeated_request_with_keys_adds_nothing(served: Served, labelled: Labelled) -> None:
    first, second = labelled.add_object(served), labelled.add_object(served)
    figures = [_figure(first, frame, key=f"run1:{frame}") for frame in range(4)]
    ids = _add(served, labelled, *figures).json()
    assert _add(served, labelled, *figures).json() == ids
    mixed = _add(served, labelled, _figure(first, 4, key="run1:4"), figures[2], _figure(first, 5)).json()
    assert mixed[1] == ids[2] and _count(served, labelled) == 6
    # another object, other content, and no key at all are other figures
    moved = copy.deepcopy(figures[0]) | {"geometry": rectangle(left=5)}
    new = _add(served, labelled, _figure(second, 0, key="run1:0"), moved, _figure(first, 5)).json()
    assert not {entry["id"] for entry in new} & {entry["id"] for entry in ids + mixed}
    served.call("figures.bulk.remove", {"figureIds": [ids[0]["id"]]})
    assert _add(served, labelled, figures[0]).json() != [ids[0]], "what was removed can be added again"


def test_the_same_key_twice_in_one_request_is_one_figure(served: Served, labelled: Labelled) -> None:
    figure = _figure(labelled.add_object(served), key="k")
    first, second = _add(served, labelled, figure, figure).json()
    assert first == second and _count(served, labelled) == 1


def test_lists_by_what_a_router_asks(served: Served, labelled: Labelled) -> None:
    first, second = labelled.add_object(served), labelled.add_object(served)
    _add(
        served,
        labelled,
        *(
            _figure(owner, frame, trackId="t" if frame % 2 else None)
            for owner in (first, second)
            for frame in range(12)
        ),
    )

    def frames(*filters: tuple[str, str, object]) -> list[int]:
        body = {
            "datasetId": labelled.dataset_id,
            "filter": [{"field": f, "operator": o, "value": v} for f, o, v in filters],
        }
        return [entity["meta"]["frame"] for entity in served.call("figures.list", body).json()["entities"]]

    in_range = (("startFrame", ">=", 3), ("endFrame", "<=", 6))
    assert frames(("objectId", "=", first), *in_range) == [3, 4, 5, 6]
    assert len(frames(("objectId", "in", [first, second]), ("entityId", "=", labelled.video.id), *in_range)) == 8
    assert frames(("objectId", "=", first), ("trackId", "=", None)) == [0, 2, 4, 6, 8, 10]
    plain = served.call("figures.list", {"datasetId": labelled.dataset_id, "fields": ["id", "meta"]}).json()
    assert "geometry" not in plain["entities"][0]


def test_change_and_remove(served: Served, labelled: Labelled) -> None:
    object_id = labelled.add_object(served)
    ids = [
        entry["id"]
        for entry in _add(served, labelled, _figure(object_id, 1, trackId="t"), _figure(object_id, 2)).json()
    ]
    served.api.video.figure.update(ids[0], sly.Rectangle(1, 2, 3, 4))
    info = served.api.video.figure.get_info_by_id(ids[0])
    assert info.geometry["points"]["exterior"] == [[2, 1], [4, 3]]
    assert served.call("figures.editInfo", {"id": ids[0], "geometry": _FAR}).status_code == 400
    assert served.call("figures.editInfo", {"id": ids[0], "trackId": None}).json()["trackId"] is None
    served.api.video.figure.remove_batch(ids)
    served.api.video.figure.remove_batch(ids)
    assert _count(served, labelled) == 0
    assert served.api.video.figure.get_info_by_id(ids[0]) is None


def test_geometries_apart_from_figures(served: Served, labelled: Labelled) -> None:
    object_id = labelled.add_object(served, "mask")
    mask = {"bitmap": {"origin": [3, 4], "data": _png()}}
    ids = [
        entry["id"]
        for entry in _add(served, labelled, *(_figure(object_id, f, "bitmap", mask) for f in range(3))).json()
    ]
    moved = {"bitmap": {"origin": [5, 6], "data": _png(7, 3)}}
    served.api.video.figure.upload_geometries_batch(ids[:2], [moved, moved])
    assert served.api.video.figure.download_geometries_batch(ids[::-1]) == [mask, moved, moved]


def test_removing_an_object_takes_its_figures_and_tags(served: Served, labelled: Labelled) -> None:
    gone, stays = labelled.add_object(served), labelled.add_object(served)
    _add(served, labelled, _figure(gone), _figure(stays))
    tag = {"tagId": labelled.tags["none"], "objectId": gone}
    served.call("annotation-objects.tags.bulk.add", {"projectId": labelled.project_id, "tags": [tag]})
    served.api.video.object.remove_batch([gone])
    ann = served.api.video.annotation.download(labelled.video.id)
    assert [o["id"] for o in ann["objects"]] == [stays]
    assert [f["objectId"] for frame in ann["frames"] for f in frame["figures"]] == [stays]


@pytest.mark.parametrize(
    ("name", "value", "frame_range", "good"),
    [
        ("none", None, None, True),
        ("none", "x", None, False),
        ("text", "x", [0, 11], True),
        ("text", 3, None, False),
        ("number", 3.5, [4, 4], True),
        ("number", "3", None, False),
        ("number", True, None, False),
        ("one", "a", None, True),
        ("one", "c", None, False),
        ("none", None, [0, 12], False),
        ("none", None, [5, 4], False),
        ("none", None, [-1, 4], False),
        ("none", None, [1], False),
    ],
)
def test_tags_must_fit_their_meta(
    served: Served, labelled: Labelled, name: str, value: object, frame_range: object, good: bool
) -> None:
    tag: dict[str, object] = {"tagId": labelled.tags[name]}
    tag |= {} if value is None else {"value": value}
    tag |= {} if frame_range is None else {"frameRange": frame_range}
    on_video = served.call("videos.tags.bulk.add", {"videoId": labelled.video.id, "tags": [tag]})
    on_object = served.call(
        "annotation-objects.tags.bulk.add",
        {"projectId": labelled.project_id, "tags": [tag | {"objectId": labelled.add_object(served)}]},
    )
    assert (on_video.status_code, on_object.status_code) == ((200, 200) if good else (400, 400))


def test_tags_are_changed_and_removed(served: Served, labelled: Labelled) -> None:
    api = served.api
    tag_id = api.video.tag.add_tag(labelled.tags["text"], labelled.video.id, "before", [0, 3])["id"]
    api.video.tag.update_value(tag_id, "after")
    api.video.tag.update_frame_range(tag_id, [2, 5])
    [tag] = api.video.get_info_by_id(labelled.video.id).tags
    assert (tag["value"], tag["frameRange"], tag["name"]) == ("after", [2, 5], "text")
    object_tag = api.video.object.tag.add(labelled.tags["number"], labelled.add_object(served), 1)
    api.video.object.tag.update_value(object_tag, 2)
    assert served.call("videos.tags.remove", {"id": object_tag}).status_code == 404, "it is an object's tag"
    api.video.tag.remove_from_video(tag_id)
    api.video.object.tag.remove(object_tag)
    assert api.video.get_info_by_id(labelled.video.id).tags == []


def test_meta_updates_merge(served: Served, labelled: Labelled) -> None:
    """Two apps that add a class each, from the same old meta, end with both classes and nothing lost."""
    object_id = labelled.add_object(served)
    _add(served, labelled, _figure(object_id))
    old = sly.ProjectMeta.from_json(served.api.project.get_meta(labelled.project_id))
    for name in ("first", "second"):
        served.api.project.update_meta(labelled.project_id, old.add_obj_class(sly.ObjClass(name, sly.Polygon)))
    new = sly.ProjectMeta.from_json(served.api.project.get_meta(labelled.project_id))
    assert {"first", "second"} < {entry.name for entry in new.obj_classes}
    assert new.get_obj_class("box").sly_id == labelled.classes["box"]
    assert _count(served, labelled) == 1
    foreign = {"classes": [{"id": 1, "title": "box", "shape": "rectangle", "color": "#010203"}], "tags": []}
    reply = served.call("projects.meta.update", {"id": labelled.project_id, "meta": foreign}).json()
    [box] = [entry for entry in reply["classes"] if entry["title"] == "box"]
    assert (box["id"], box["color"]) == (labelled.classes["box"], "#010203")
    shape = {"classes": [{"title": "box", "shape": "polygon"}], "tags": []}
    assert served.call("projects.meta.update", {"id": labelled.project_id, "meta": shape}).status_code == 400
    served.api.project.remove_class(labelled.project_id, labelled.classes["box"])
    assert _count(served, labelled) == 0


def test_a_class_of_another_project_is_refused(served: Served, labelled: Labelled) -> None:
    for item in ({"classId": 10**6}, {"classId": labelled.classes["box"], "entityId": 10**6}):
        body = {"datasetId": labelled.dataset_id, "annotationObjects": [item]}
        assert served.call("annotation-objects.bulk.add", body).status_code == 400


def test_names_are_unique_where_the_platform_wants_it(served: Served, labelled: Labelled) -> None:
    name = served.api.project.get_info_by_id(labelled.project_id).name
    assert served.call("projects.add", {"name": name, "workspaceId": 1, "type": "videos"}).status_code == 400
    assert served.call("datasets.add", {"projectId": labelled.project_id, "name": "ds"}).status_code == 400
    assert served.call("datasets.add", {"projectId": labelled.project_id, "name": "../x"}).status_code == 400
    assert served.call("projects.add", {"name": "pictures", "workspaceId": 1, "type": "volumes"}).status_code == 400
    free = served.api.dataset.create(labelled.project_id, "ds", change_name_if_conflict=True)
    assert free.name != "ds"


def test_a_removed_project_takes_everything(served: Served, labelled: Labelled) -> None:
    _add(served, labelled, _figure(labelled.add_object(served)))
    served.api.project.remove(labelled.project_id)
    assert served.api.project.get_info_by_id(labelled.project_id) is None
    assert served.api.video.get_info_by_id(labelled.video.id) is None
