"""Classes, tags and objects of projects, made once although answers get lost."""

from __future__ import annotations

import json

import httpx
import pytest

from common.errors import ServerRefused
from common.geometry.meta import ObjectClass, Template
from common.supervisely_io.figures import figure, figures, figures_by_id, remove_figures
from common.supervisely_io.listing import entities
from common.supervisely_io.projects import (
    NO_OBJECTS,
    NewTag,
    add_objects,
    datasets,
    ensure,
    objects,
    project,
    remove_objects,
    tag_objects,
)
from common.supervisely_io.records import FigureRecord, ObjectRecord, TagDefinition, TagRecord, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from tests.apps.workbench.harness import Labelled, Served, rectangle
from tests.common.supervisely_io.conftest import Arm, Wire

BONES = Template(("a", "b", "c"), (("a", "b"), ("b", "c")))


def test_what_is_missing_is_added_and_the_rest_stays(server: Server, labelled: Labelled, wire: Wire) -> None:
    before = project(server, labelled.project_id)
    assert {c.name: c.id for c in before.classes.values()} == labelled.classes
    wanted = [ObjectClass("pose", "graph", template=BONES), ObjectClass("box", "rectangle")]
    after = ensure(server, labelled.project_id, wanted, [TagDefinition(0, NO_OBJECTS)])
    assert {i: c for i, c in after.classes.items() if i in before.classes} == dict(before.classes)
    pose = after.class_named("pose")
    assert pose is not None
    assert (pose.shape, pose.bones) == ("graph", BONES.bones)
    tag = after.tag_named(NO_OBJECTS)
    assert tag is not None
    assert tag.value_type == "none"
    assert ensure(server, labelled.project_id, wanted, [TagDefinition(0, NO_OBJECTS)]) == after
    assert wire.calls["projects.meta.update"] == 1, "what is there already is not sent again"
    assert list(datasets(server, labelled.project_id)) == [(labelled.dataset_id, "ds")]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 429},
        {"status": 503, "when": "after"},
        {"disconnect": True, "when": "after"},
        {"delay_s": 2.6},
    ],
    ids=str,
)
def test_objects_and_tags_are_made_once(
    server: Server, labelled: Labelled, record: VideoRecord, arm: Arm, fault: dict[str, object]
) -> None:
    ensure(server, labelled.project_id, tags=[TagDefinition(0, NO_OBJECTS)])
    names = project(server, labelled.project_id)
    tag = names.tag_named(NO_OBJECTS)
    assert tag is not None
    first = add_objects(server, record, [labelled.classes["mask"]])
    classes = [labelled.classes[name] for name in ("box", "any", "box")]
    arm("annotation-objects.bulk.add", **fault)
    made = add_objects(server, record, classes)
    new = [NewTag(made[0], tag.id, (2, 4)), NewTag(made[0], tag.id, (7, 9)), NewTag(made[1], tag.id)]
    arm("annotation-objects.tags.bulk.add", **fault)
    tag_objects(server, labelled.project_id, record, new)
    tag_objects(server, labelled.project_id, record, new)
    found = list(objects(server, record, names=names))
    assert [(o.id, o.class_id, o.class_name) for o in found] == [
        (first[0], labelled.classes["mask"], "mask"),
        *zip(made, classes, ["box", "any", "box"], strict=True),
    ]
    assert found[1].tagged(NO_OBJECTS) == ((2, 4), (7, 9))
    assert found[2].tagged(NO_OBJECTS) == (None,)
    assert [o.id for o in objects(server, record, [made[2], made[0]])] == [made[0], made[2]]
    remove_objects(server, first)
    assert [o.id for o in objects(server, record)] == made


def test_objects_of_unknown_classes_are_refused(server: Server, record: VideoRecord) -> None:
    with pytest.raises(ServerRefused, match="class"):
        add_objects(server, record, [10**9])


@pytest.mark.parametrize("read", [lambda s: video(s, 10**9), lambda s: figure(s, 10**9), lambda s: project(s, 10**9)])
def test_what_is_not_there_is_refused(server: Server, read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ServerRefused) as caught:
        read(server)
    assert caught.value.status == 404


def test_figures_by_page_while_others_go(
    server: Server, served: Served, labelled: Labelled, record: VideoRecord, wire: Wire
) -> None:
    """Rows that go while pages are read must not make the reader skip others."""
    owner = labelled.add_object(served)
    body = [
        {"objectId": owner, "geometryType": "rectangle", "geometry": rectangle(), "meta": {"frame": n % 12}}
        for n in range(30)
    ]
    ids = [e["id"] for e in served.call("figures.bulk.add", {"entityId": record.id, "figures": body}).json()]
    asked = {"datasetId": record.dataset_id, "fields": ["id"]}
    seen = []
    for entity in entities(server, "figures.list", asked, per_page=10):
        seen.append(entity["id"])
        if len(seen) == 10:
            remove_figures(server, ids[:10])
    assert seen == ids
    assert wire.calls["figures.list"] == 3
    assert [f.id for f in figures(server, record, [owner], (3, 4))] == [
        i for i, n in zip(ids, range(30), strict=True) if n >= 10 and n % 12 in (3, 4)
    ]
    assert list(figures(server, record, [])) == []
    without = next(figures(server, record, geometry=False))
    assert (without.geometry, without.by_person) == ({}, True)
    assert list(figures_by_id(server, record.dataset_id, ids)) == ids[10:]


def without_id_condition(method: str, request: httpx.Request) -> httpx.Request:
    """As if the server did not know the condition on ids and passed over it."""
    data = json.loads(request.content)
    if method != "figures.list":
        return request
    data["filter"] = [entry for entry in data["filter"] if entry["field"] != "id"]
    headers = {k: v for k, v in request.headers.items() if k.lower() != "content-length"}
    return httpx.Request(request.method, request.url, headers=headers, json=data, extensions=request.extensions)


@pytest.mark.parametrize("how", ["ignores", "refuses", "no total"])
@pytest.mark.parametrize("count", [10, 11, 20])
def test_lists_of_servers_that_page_only_by_number(
    server: Server, served: Served, labelled: Labelled, record: VideoRecord, wire: Wire, arm: Arm, how: str, count: int
) -> None:
    owner = labelled.add_object(served)
    body = [
        {"objectId": owner, "geometryType": "rectangle", "geometry": rectangle(), "meta": {"frame": n % 12}}
        for n in range(count)
    ]
    ids = [e["id"] for e in served.call("figures.bulk.add", {"entityId": record.id, "figures": body}).json()]
    if how == "ignores":
        wire.before = without_id_condition
    elif how == "refuses":
        arm("figures.list", status=400, skip=1)
    else:
        wire.edit = lambda data: {k: v for k, v in data.items() if k != "total"}
    asked = {"datasetId": record.dataset_id, "fields": ["id"]}
    assert [entity["id"] for entity in entities(server, "figures.list", asked, per_page=10)] == ids


@pytest.mark.parametrize(
    ("data", "frame", "by_person"),
    [
        ({"meta": {"frame": 3}}, 3, True),
        ({"meta": {"frame": 0}, "frameIndex": 9, "trackId": "t"}, 0, False),
        ({"meta": None, "frameIndex": 9, "trackId": "t", "nnCreated": True, "nnUpdated": True}, 9, False),
        ({"startFrame": 2, "trackId": 7, "nnCreated": True, "nnUpdated": False}, 2, True),
    ],
)
def test_figure_records(data: dict[str, object], frame: int, by_person: bool) -> None:
    found = FigureRecord.from_json({"id": "5", "objectId": 6, "geometryType": "point", **data})
    assert (found.id, found.frame, found.by_person) == (5, frame, by_person)


def test_records_of_a_sparse_server() -> None:
    data = {"id": 1, "datasetId": 2, "framesCount": 60, "frameWidth": 320, "frameHeight": 240, "title": "clip.mp4"}
    found = VideoRecord.from_json(data | {"fileMeta": {"duration": 2.4, "size": "31315"}})
    assert (found.frames, found.width, found.fps, found.size_bytes, found.name) == (60, 320, 25.0, 31315, "clip.mp4")
    assert VideoRecord.from_json({"id": 1, "datasetId": 2}).fps == 0.0
    assert TagRecord.from_json({"id": 1, "tagId": 2, "frameRange": [3, 4]}).frames == (3, 4)
    assert ObjectRecord(1, 2).tagged(NO_OBJECTS) == ()
