"""Labels of images: read by image, added each once, removed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import PromptInvalid
from common.geometry.image_json import from_edges, to_edges
from common.geometry.shapes import Value
from common.geometry.supervisely import from_json, geometry_type, to_json
from common.supervisely_io.images import ImageRecord
from common.supervisely_io.once import once
from common.supervisely_io.retry import ONCE
from common.supervisely_io.server import Server

_AT_ONCE = 50
_FIGURES = 100
_NEAR = 1.01
"""Pixels by which a server may round what it was sent."""


@dataclass(frozen=True)
class LabelRecord:
    """One label. geometry: as the image keeps it, among the other keys of the label. tags: (id of the tag's definition,
    value)."""

    id: int
    image_id: int
    class_id: int
    class_name: str
    geometry_type: str
    geometry: Mapping[str, Any]
    tags: tuple[tuple[int, Any], ...] = ()

    def value(self, width: int, height: int, bones: Sequence[tuple[str, str]] = ()) -> Value:
        """Raises `PromptInvalid` for shapes that this suite does not know."""
        try:
            return from_json(self.geometry_type, from_edges(self.geometry_type, self.geometry), width, height, bones)
        except (KeyError, TypeError, ValueError) as error:
            raise PromptInvalid(f"Label {self.id} is damaged: {error!r}.") from error


@dataclass(frozen=True)
class NewLabel:
    """tags: (id of the tag's definition, value)."""

    image: ImageRecord
    class_id: int
    value: Value
    tags: tuple[tuple[int, str | float], ...] = ()


def labels(server: Server, dataset_id: int, idents: Sequence[int]) -> dict[int, list[LabelRecord]]:
    """By image, in the order in which they were made."""
    found: dict[int, list[LabelRecord]] = {}
    for start in range(0, len(idents), _AT_ONCE):
        part = list(idents[start : start + _AT_ONCE])
        asked = {"datasetId": dataset_id, "imageIds": part, "integerCoords": False, "forceMetadataForLinks": False}
        for entry in server.call("annotations.bulk.info", asked):
            ident = int(entry["imageId"])
            found[ident] = [_record(ident, label) for label in entry["annotation"].get("objects") or ()]
    return found


def _record(image_id: int, label: Mapping[str, Any]) -> LabelRecord:
    tags = tuple((int(tag["tagId"]), tag.get("value")) for tag in label.get("tags") or () if tag.get("tagId"))
    return LabelRecord(
        int(label["id"]),
        image_id,
        int(label.get("classId") or 0),
        str(label.get("classTitle") or ""),
        str(label.get("geometryType") or ""),
        label,
        tags,
    )


def add_labels(
    server: Server, project_id: int, dataset_id: int, new: Sequence[NewLabel], before: Mapping[int, Collection[int]]
) -> int:
    """Adds labels with their tags to images of one dataset; labels that are there are left as they are. How many.

    before: by image, ids of labels that were there before anything of `new` was sent: what has come since and looks like
    one of `new` is it, sent by an earlier call that was cut off, and is not added again.
    """
    rows = [_Row(label) for label in new]
    idents = list(dict.fromkeys(label.image.id for label in new))

    def look() -> bool | None:
        found = labels(server, dataset_id, idents)
        _match(rows, found, before)
        return None if any(row.id is None for row in rows) else True

    def attempt() -> bool:
        while left := [row for row in rows if row.id is None][:_FIGURES]:
            body = {"datasetId": dataset_id, "figures": [row.body for row in left]}
            made = server.call("figures.bulk.add", body, repeat=False, retry=ONCE)
            for row, entry in zip(left, made, strict=True):
                row.id = int(entry["id"])
        return True

    if rows and look() is None:
        once(attempt, look, server.retry, server.stop)
    _tag(server, project_id, dataset_id, idents, rows)
    return len(rows)


class _Row:
    """One label on its way. tagged: tags that it has already."""

    def __init__(self, new: NewLabel) -> None:
        kind = geometry_type(new.value)
        geometry = to_edges(kind, to_json(new.value, new.image.width or None, new.image.height or None))
        self.new, self.kind = new, kind
        self.id: int | None = None
        self.tagged: frozenset[tuple[int, Any]] = frozenset()
        self.body = {
            "entityId": new.image.id,
            "classId": new.class_id,
            "geometryType": kind,
            "geometry": geometry,
            "nnCreated": True,
            "nnUpdated": True,
        }
        self.mark = _mark(kind, geometry)


def _mark(kind: str, geometry: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Numbers that tell one geometry from another, pixels."""
    if kind == "bitmap":
        bitmap = geometry["bitmap"]
        return np.array([*bitmap["origin"], len(bitmap["data"])], np.float64)
    if kind == "graph":
        return np.array([node["loc"] for node in geometry["nodes"].values()], np.float64).ravel()
    points = geometry["points"] if kind == "oriented_bbox" else geometry["points"]["exterior"]
    return np.array(points, np.float64).ravel()


def _match(
    rows: Sequence[_Row], found: Mapping[int, Sequence[LabelRecord]], before: Mapping[int, Collection[int]]
) -> None:
    taken = {row.id for row in rows}
    for row in rows:
        if row.id is not None:
            continue
        image = row.new.image.id
        known = set(before.get(image, ()))
        for label in found.get(image, ()):
            if label.id in known or label.id in taken or label.geometry_type != row.kind:
                continue
            if label.class_id == row.new.class_id and _alike(row.mark, label):
                row.id, row.tagged = label.id, frozenset(label.tags)
                taken.add(label.id)
                break


def _alike(mark: np.ndarray[Any, Any], label: LabelRecord) -> bool:
    try:
        other = _mark(label.geometry_type, label.geometry)
    except (KeyError, TypeError, ValueError):
        return False
    return mark.shape == other.shape and bool(np.abs(mark - other).max(initial=0) <= _NEAR)


def _tag(server: Server, project_id: int, dataset_id: int, idents: Sequence[int], rows: Sequence[_Row]) -> None:
    def missing() -> list[dict[str, Any]]:
        return [
            {"tagId": tag, "figureId": row.id, "value": value}
            for row in rows
            for tag, value in row.new.tags
            if (tag, value) not in row.tagged
        ]

    def look() -> bool | None:
        by_id = {label.id: label for found in labels(server, dataset_id, idents).values() for label in found}
        for row in rows:
            if row.id in by_id:
                row.tagged = frozenset(by_id[row.id].tags)
        return True if not missing() else None

    def attempt() -> bool:
        server.call("figures.tags.bulk.add", {"projectId": project_id, "tags": missing()}, repeat=False, retry=ONCE)
        return True

    if missing():
        once(attempt, look, server.retry, server.stop)
