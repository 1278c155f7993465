"""Projects of a server: datasets, classes, tags, and the objects of videos."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.errors import ServerUnreachable
from common.geometry.meta import ObjectClass, ProjectMeta
from common.supervisely_io.listing import entities, where
from common.supervisely_io.once import once
from common.supervisely_io.records import ClassRecord, ObjectRecord, TagDefinition, TagRecord, VideoRecord
from common.supervisely_io.retry import ONCE
from common.supervisely_io.server import Server

NO_OBJECTS = "no-objects"
"""Name of the object tag that says on which frames an object is absent."""

_AT_ONCE = 500


@dataclass(frozen=True)
class ProjectRecord:
    """A project's classes and tags by id, and the meta as it came."""

    id: int
    classes: Mapping[int, ClassRecord] = field(default_factory=dict, hash=False)
    tags: Mapping[int, TagDefinition] = field(default_factory=dict, hash=False)
    meta: ProjectMeta = field(default_factory=ProjectMeta, hash=False)

    def class_named(self, name: str) -> ClassRecord | None:
        return next((found for found in self.classes.values() if found.name == name), None)

    def tag_named(self, name: str) -> TagDefinition | None:
        return next((found for found in self.tags.values() if found.name == name), None)


def project(server: Server, project_id: int) -> ProjectRecord:
    """Raises `ServerRefused` (404) when there is no such project, `PromptInvalid` when its meta is damaged."""
    return _project(project_id, server.call("projects.meta", {"id": project_id}))


def ensure(
    server: Server, project_id: int, classes: Sequence[ObjectClass] = (), tags: Sequence[TagDefinition] = ()
) -> ProjectRecord:
    """The project with what its meta lacked of these, by name; what it has already stays as it is (ids of `tags` count
    for nothing). The whole meta is sent back, so two apps that do this at one moment could undo each other: the result is
    read again, and added again, up to three times."""
    found = project(server, project_id)
    for _ in range(3):
        data = found.meta.to_json()
        new_classes = [c for c in classes if found.class_named(c.name) is None]
        new_tags = [t for t in tags if found.tag_named(t.name) is None]
        if not new_classes and not new_tags:
            return found
        data["classes"] += [c.to_json() for c in new_classes]
        data["tags"] += [{"name": t.name, "value_type": t.value_type, "color": "#8A8A8A"} for t in new_tags]
        server.call("projects.meta.update", {"id": project_id, "meta": data})
        found = project(server, project_id)
    missing = [c.name for c in classes if found.class_named(c.name) is None]
    missing += [t.name for t in tags if found.tag_named(t.name) is None]
    if missing:
        raise ServerUnreachable(f"The project did not keep these classes or tags: {', '.join(missing)}.", True)
    return found


def datasets(server: Server, project_id: int) -> Iterator[tuple[int, str]]:
    """(id, name) of all datasets of a project, nested ones too."""
    for data in entities(server, "datasets.list", {"projectId": project_id, "recursive": True}):
        yield int(data["id"]), str(data["name"])


def objects(
    server: Server,
    video: VideoRecord,
    object_ids: Sequence[int] | None = None,
    names: ProjectRecord | None = None,
) -> Iterator[ObjectRecord]:
    """Objects of a video with their tags, by rising id.

    object_ids: only these, wherever they belong (objects of multi-view projects belong to no single video). names: fills
    in class names, and tag names where the server leaves them out.
    """
    if object_ids is None:
        groups = [[where("entityId", "=", video.id)]]
    else:
        idents = sorted(set(object_ids))
        groups = [[where("id", "in", idents[i : i + _AT_ONCE])] for i in range(0, len(idents), _AT_ONCE)]
    for conditions in groups:
        for data in entities(server, "annotation-objects.list", {"datasetId": video.dataset_id}, conditions):
            yield _object(data, names, video.id)


def add_objects(server: Server, video: VideoRecord, class_ids: Sequence[int]) -> list[int]:
    """New objects of a video, one for each class id; their ids in that order.

    Each call makes new ones, but a repeated request does not: after a failure that leaves open whether they were made,
    the server is asked for objects with this call's mark, or, where it keeps no marks, for exactly these classes among
    the newest objects.
    """
    found: list[int] = []
    for start in range(0, len(class_ids), _AT_ONCE):
        found += _add_objects(server, video, list(class_ids[start : start + _AT_ONCE]))
    return found


def _add_objects(server: Server, video: VideoRecord, class_ids: list[int]) -> list[int]:
    mark = uuid.uuid4().hex
    before = _newest(server, video)
    items = [{"classId": ident, "entityId": video.id, "meta": {"requestKey": mark}} for ident in class_ids]
    payload = {"datasetId": video.dataset_id, "annotationObjects": items}
    return once(
        lambda: [int(e["id"]) for e in server.call("annotation-objects.bulk.add", payload, repeat=False, retry=ONCE)],
        lambda: _made(server, video, before, class_ids, mark),
        server.retry,
        server.stop,
    )


def _newest(server: Server, video: VideoRecord) -> int:
    asked = {
        "datasetId": video.dataset_id,
        "filter": [where("entityId", "=", video.id)],
        "sort": "id",
        "sort_order": "desc",
        "per_page": 1,
    }
    found = server.call("annotation-objects.list", asked)["entities"]
    return max((int(entity["id"]) for entity in found), default=0)


def _made(server: Server, video: VideoRecord, before: int, class_ids: list[int], mark: str) -> list[int] | None:
    conditions = [where("entityId", "=", video.id), where("id", ">", before)]
    new = list(entities(server, "annotation-objects.list", {"datasetId": video.dataset_id}, conditions))
    marked = [entity for entity in new if (entity.get("meta") or {}).get("requestKey") == mark]
    unmarked = [entity for entity in new if not (entity.get("meta") or {}).get("requestKey")]
    for candidates in (marked, unmarked):
        if candidates and [int(entity["classId"]) for entity in candidates] == class_ids:
            return [int(entity["id"]) for entity in candidates]
    return None


def remove_objects(server: Server, idents: Sequence[int]) -> None:
    """Removes objects with their figures and tags."""
    if idents:
        server.call("annotation-objects.bulk.remove", list(idents))


@dataclass(frozen=True)
class NewTag:
    """A tag to be put on an object. frames: first and last, both within; None = on the whole object."""

    object_id: int
    tag_id: int
    frames: tuple[int, int] | None = None
    value: str | float | None = None


def tag_objects(server: Server, project_id: int, video: VideoRecord, tags: Sequence[NewTag]) -> None:
    """Puts tags on objects; those that are there already (same tag, frames and value) are not put on twice."""
    for start in range(0, len(tags), _AT_ONCE):
        _tag_objects(server, project_id, video, list(tags[start : start + _AT_ONCE]))


def _tag_objects(server: Server, project_id: int, video: VideoRecord, rest: list[NewTag]) -> None:
    def look() -> bool | None:
        present = {
            (found.id, tag.tag_id, tag.frames, tag.value)
            for found in objects(server, video, [tag.object_id for tag in rest])
            for tag in found.tags
        }
        rest[:] = [tag for tag in rest if (tag.object_id, tag.tag_id, tag.frames, tag.value) not in present]
        return None if rest else True

    def attempt() -> bool:
        payload = {"projectId": project_id, "tags": [_tag_json(tag) for tag in rest]}
        server.call("annotation-objects.tags.bulk.add", payload, repeat=False, retry=ONCE)
        return True

    if look() is None:
        once(attempt, look, server.retry, server.stop)


def _tag_json(tag: NewTag) -> dict[str, Any]:
    data: dict[str, Any] = {"tagId": tag.tag_id, "objectId": tag.object_id}
    if tag.frames is not None:
        data["frameRange"] = list(tag.frames)
    if tag.value is not None:
        data["value"] = tag.value
    return data


def _project(project_id: int, data: Mapping[str, Any]) -> ProjectRecord:
    meta = ProjectMeta.from_json(data)
    classes = [ClassRecord(int(c.extra["id"]), c) for c in meta.classes.values()]
    tags = [TagDefinition.from_json(tag) for tag in meta.tags]
    return ProjectRecord(project_id, {c.id: c for c in classes}, {tag.id: tag for tag in tags}, meta)


def _object(data: Mapping[str, Any], names: ProjectRecord | None, video_id: int) -> ObjectRecord:
    class_id = int(data["classId"])
    owner = data.get("entityId")
    class_name = ""
    # in multi-view projects an object has tags on each of its videos; those of other videos say nothing here
    tags = [TagRecord.from_json(tag) for tag in data.get("tags") or () if tag.get("entityId") in (None, video_id)]
    if names is not None:
        known = names.classes.get(class_id)
        class_name = "" if known is None else known.name
        tags = [t if t.name or t.tag_id not in names.tags else replace(t, name=names.tags[t.tag_id].name) for t in tags]
    return ObjectRecord(
        id=int(data["id"]),
        class_id=class_id,
        video_id=None if owner is None else int(owner),
        dataset_id=int(data.get("datasetId") or 0),
        class_name=class_name,
        tags=tuple(tags),
    )
