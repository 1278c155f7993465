"""Projects of a server: their classes, tags and objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from common.geometry.meta import ObjectClass
from common.supervisely_io.records import ClassRecord, ObjectRecord, TagDefinition, VideoRecord
from common.supervisely_io.server import Server

NO_OBJECTS = "no-objects"
"""Name of the tag that says on which frames an object is absent."""


class ProjectInfo:
    """classes, tags: by id."""

    classes: Mapping[int, ClassRecord]
    tags: Mapping[int, TagDefinition]


def project(server: Server, project_id: int) -> ProjectInfo:
    raise NotImplementedError


def objects(server: Server, video: VideoRecord, object_ids: Sequence[int] | None = None) -> Iterator[ObjectRecord]:
    """Objects of a video with their tags; class and tag names filled in."""
    raise NotImplementedError


def ensure(
    server: Server, project_id: int, classes: Sequence[ObjectClass] = (), tags: Sequence[TagDefinition] = ()
) -> ProjectInfo:
    """Adds what the project's meta lacks of these, by name."""
    raise NotImplementedError


def add_objects(server: Server, video: VideoRecord, class_ids: Sequence[int]) -> list[int]:
    """New objects, one for each class id; their ids in that order."""
    raise NotImplementedError


def tag_objects(
    server: Server, project_id: int, tags: Sequence[tuple[int, int, tuple[int, int] | None, str | float | None]]
) -> None:
    """tags: (object id, tag id, frames, value)."""
    raise NotImplementedError
