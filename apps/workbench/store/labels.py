"""Labels of images: whole annotations in and out, and single labels as the figure methods see them.

Coordinates are kept as they come. The SDK sends annotations with the edges of pixels as coordinates (a box of one pixel is 1
wide) and reads them back that way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from apps.workbench.store import listing
from apps.workbench.store.database import new_ids, now, portions
from apps.workbench.store.errors import Refused, missing
from apps.workbench.store.geometry_json import bounds, fits_class
from apps.workbench.store.images import get_images, image_tags
from apps.workbench.store.models import Image, Label, ObjectClass, Tag, TagMeta
from apps.workbench.store.objects import check_value, insert_tags, project_tags
from apps.workbench.store.videos import tag_json

MAX_LABELS = 20_000

COLUMNS: listing.Columns = {
    "id": Label.id,
    "entityId": Label.image_id,
    "imageId": Label.image_id,
    "classId": Label.class_id,
    "geometryType": Label.geometry_type,
    "createdAt": Label.created_at,
    "updatedAt": Label.updated_at,
}

_LABEL_PARTS = frozenset(
    [
        "id",
        "classId",
        "classTitle",
        "description",
        "geometryType",
        "shape",
        "tags",
        "labelerLogin",
        "createdAt",
        "updatedAt",
        "nnCreated",
        "nnUpdated",
        "objectId",
        "entityId",
        "imageId",
        "area",
        "projectId",
        "datasetId",
        "geometry",
        "geometryMeta",
        "status",
        "key",
    ]
)
_EXTRAS = frozenset(["instance", "smartToolInput", "customData", "meta", "priority", "trackId"])
_DROPPED_TAG_PARTS = frozenset(
    ["id", "tagId", "name", "value", "figureId", "entityId", "labelerLogin", "createdAt", "updatedAt", "key"]
)


def replace_annotations(session: Session, items: Sequence[Mapping[str, Any]], check_bounds: bool = True) -> None:
    """What images carry from now on, and nothing else; all or none.

    items: {"imageId", "annotation": {"description"?, "tags"?, "objects"?, "customBigData"?}}. Raises `Refused` naming the
    first label that cannot be stored.
    """
    images = get_images(session, [item["imageId"] for item in items])
    idents = [image.id for image in images]
    if len(set(idents)) != len(idents):
        raise Refused("An image comes twice.")
    session.execute(delete(Label).where(Label.image_id.in_(idents)))
    session.execute(delete(Tag).where(Tag.image_id.in_(idents)))
    projects = {image.project_id: _Names(session, image.project_id) for image in images}
    labels: list[_NewLabel] = []
    tags: list[dict[str, Any]] = []
    moment = now()
    for image, item in zip(images, items, strict=True):
        annotation, names = item["annotation"], projects[image.project_id]
        for number, tag in enumerate(annotation.get("tags") or (), 1):
            tags.append(names.tag(tag, f"Tag {number} of image {image.id}", moment) | {"image_id": image.id})
        for number, label in enumerate(annotation.get("objects") or (), 1):
            what = f"Label {number} of image {image.id}"
            geometry = {k: v for k, v in label.items() if k not in _LABEL_PARTS and k not in _EXTRAS}
            labels.append(names.label(label, geometry, image, what, check_bounds, moment))
        image.description = str(annotation.get("description") or "")
        image.custom_data = annotation.get("customBigData") or {}
        image.updated_at = moment
    session.flush()
    _store(session, labels)
    _store_tags(session, tags)


def add_labels(session: Session, items: Sequence[Mapping[str, Any]], check_bounds: bool = True) -> list[int]:
    """Adds labels to what is there, all or none; ids in the order of items.

    items: {"entityId", "classId" or "classTitle", "geometryType", "geometry", ...}. An alpha mask may come without geometry,
    which is sent after it.
    """
    ids = list(dict.fromkeys(item["entityId"] for item in items))
    images = dict(zip(ids, get_images(session, ids), strict=True))
    projects = {image.project_id: _Names(session, image.project_id) for image in images.values()}
    moment = now()
    labels = []
    for number, item in enumerate(items, 1):
        image = images[item["entityId"]]
        what = f"Label {number} of {len(items)}"
        geometry = item.get("geometry") or {}
        labels.append(projects[image.project_id].label(item, geometry, image, what, check_bounds, moment))
    return _store(session, labels)


class _NewLabel:
    def __init__(self, row: dict[str, Any], tags: list[dict[str, Any]]) -> None:
        self.row, self.tags = row, tags


class _Names:
    """A project's classes and tags by name and by id."""

    def __init__(self, session: Session, project_id: int) -> None:
        found = list(session.scalars(select(ObjectClass).where(ObjectClass.project_id == project_id)))
        self._classes = {c.id: c for c in found}
        self._by_title = {c.name: c for c in found}
        self._tags = project_tags(session, project_id)
        self._by_name = {tag.name: tag for tag in self._tags.values()}

    def label(
        self,
        item: Mapping[str, Any],
        geometry: Mapping[str, Any],
        image: Image,
        what: str,
        check_bounds: bool,
        moment: str,
    ) -> _NewLabel:
        # by name first: an annotation may come from another project, where the same class has another id
        title, ident = item.get("classTitle"), item.get("classId")
        chosen = self._by_title.get(title) if title is not None else self._classes.get(ident or 0)
        if chosen is None:
            raise Refused(f"{what}: the project has no class {title if title is not None else ident!r}.")
        kind = item.get("geometryType") or chosen.shape
        if not isinstance(kind, str) or not fits_class(chosen.shape, kind):
            raise Refused(f"{what}: class {chosen.name!r} is of shape {chosen.shape!r}, so it cannot hold a {kind!r}.")
        text, box = _checked(kind, geometry, image, what, check_bounds)
        extra = {key: item[key] for key in _EXTRAS if item.get(key) is not None}
        tags = [self.tag(tag, f"{what}, tag {number}", moment) for number, tag in enumerate(item.get("tags") or (), 1)]
        row = {
            "image_id": image.id,
            "class_id": chosen.id,
            "geometry_type": kind,
            "geometry": text,
            "bbox": box,
            "description": str(item.get("description") or ""),
            "extra": _dump(extra, what),
            "nn_created": bool(item.get("nnCreated")),
            "nn_updated": bool(item.get("nnUpdated")),
            "created_at": moment,
            "updated_at": moment,
        }
        return _NewLabel(row, tags)

    def tag(self, item: Mapping[str, Any], what: str, moment: str) -> dict[str, Any]:
        name, ident = item.get("name"), item.get("tagId")
        meta = self._by_name.get(name) if name is not None else self._tags.get(ident or 0)
        if meta is None:
            raise Refused(f"{what}: the project has no tag {name if name is not None else ident!r}.")
        return tag_row(meta, item, what, moment)


def tag_row(meta: TagMeta, item: Mapping[str, Any], what: str, moment: str) -> dict[str, Any]:
    value = item.get("value")
    try:
        check_value(meta, value, 1)
    except Refused as error:
        raise Refused(f"{what}: {str(error).removeprefix('Tag 1: ')}") from error
    return {
        "tag_meta_id": meta.id,
        "image_id": None,
        "label_id": None,
        "value": value,
        "extra": {key: part for key, part in item.items() if key not in _DROPPED_TAG_PARTS},
        "created_at": moment,
        "updated_at": moment,
    }


def _checked(
    kind: str, geometry: Mapping[str, Any], image: Image, what: str, check_bounds: bool
) -> tuple[str, str | None]:
    if kind == "alpha_mask":
        if not geometry:
            return "{}", None
        inner = geometry.get("bitmap", geometry)
        box = _bounds(kind, {"bitmap": inner}, what)
        geometry = inner
    elif kind == "multipolygon":
        box = None
        for part in geometry.get("parts") or ():
            _bounds("polygon", {"points": part}, what)
    else:
        box = _bounds(kind, geometry, what)
    if check_bounds and box is not None:
        top, left, bottom, right = box
        if kind == "oriented_bbox":  # only its centre must be inside
            top = bottom = (top + bottom) / 2
            left = right = (left + right) / 2
        if left < 0 or top < 0 or right > image.width or bottom > image.height:
            raise Refused(f"{what} leaves the image, which is {image.width} x {image.height}; crop it first.")
    return _dump(geometry, what), None if box is None else _dump(box, what)


def _bounds(kind: str, geometry: Mapping[str, Any], what: str) -> tuple[float, float, float, float] | None:
    try:
        return bounds(kind, geometry)
    except Refused as error:
        raise Refused(f"{what}: its {kind} geometry is broken: {error}.") from error


def _dump(value: Any, what: str) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise Refused(f"{what} holds NaN or Infinity, which JSON has no number for.") from error


def _store(session: Session, labels: Sequence[_NewLabel]) -> list[int]:
    if len(labels) > MAX_LABELS:
        raise Refused(f"{len(labels)} labels at once are too many; send at most {MAX_LABELS}.")
    idents = list(new_ids(session, "labels", len(labels)))
    if labels:
        rows = [label.row | {"id": ident} for ident, label in zip(idents, labels, strict=True)]
        session.execute(insert(Label), rows)
    _store_tags(
        session,
        [tag | {"label_id": ident} for ident, label in zip(idents, labels, strict=True) for tag in label.tags],
    )
    return idents


def _store_tags(session: Session, rows: list[dict[str, Any]]) -> list[int]:
    return insert_tags(session, rows)


# --- reading ----------------------------------------------------------------------------------------------------------


def annotations_json(session: Session, images: Sequence[Image], custom_data: bool = False) -> list[dict[str, Any]]:
    """What images carry, as the SDK reads it."""
    idents = [image.id for image in images]
    rows = session.execute(
        select(Label, ObjectClass.name).join(ObjectClass).where(Label.image_id.in_(idents)).order_by(Label.id)
    ).all()
    tags = _label_tags(session, [label.id for label, _ in rows])
    objects: dict[int, list[dict[str, Any]]] = {}
    for label, title in rows:
        objects.setdefault(label.image_id, []).append(_label_json(label, title, tags.get(label.id, [])))
    own_tags = image_tags(session, idents)
    found = []
    for image in images:
        annotation: dict[str, Any] = {
            "description": image.description,
            "tags": own_tags.get(image.id, []),
            "size": {"height": image.height, "width": image.width},
            "objects": objects.get(image.id, []),
        }
        if custom_data:
            annotation["customBigData"] = image.custom_data
        about = {"imageId": image.id, "imageName": image.name, "datasetId": image.dataset_id}
        times = {"createdAt": image.created_at, "updatedAt": image.updated_at}
        found.append({**about, "annotation": annotation, **times})
    return found


def _label_json(label: Label, title: str, tags: list[dict[str, Any]]) -> dict[str, Any]:
    inline = {} if label.geometry_type == "alpha_mask" else json.loads(label.geometry)
    return {
        "id": label.id,
        "classId": label.class_id,
        "classTitle": title,
        "description": label.description,
        "geometryType": label.geometry_type,
        "labelerLogin": "admin",
        "createdAt": label.created_at,
        "updatedAt": label.updated_at,
        "nnCreated": label.nn_created,
        "nnUpdated": label.nn_updated,
        "tags": tags,
        **json.loads(label.extra),
        **inline,
    }


def _label_tags(session: Session, idents: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for part in portions(idents):
        rows = session.execute(select(Tag, TagMeta.name).join(TagMeta).where(Tag.label_id.in_(part)).order_by(Tag.id))
        for tag, name in rows:
            assert tag.label_id is not None
            found.setdefault(tag.label_id, []).append(tag_json(tag, name))
    return found


def labels_json(session: Session, labels: Sequence[Label], skip_geometry: bool = False) -> list[dict[str, Any]]:
    """Labels as the figure methods give them."""
    images = {i.id: i for i in session.scalars(select(Image).where(Image.id.in_({label.image_id for label in labels})))}
    tags = _label_tags(session, [label.id for label in labels])
    return [
        {
            "id": label.id,
            "classId": label.class_id,
            "createdAt": label.created_at,
            "updatedAt": label.updated_at,
            "entityId": label.image_id,
            "imageId": label.image_id,
            "objectId": None,
            "projectId": images[label.image_id].project_id,
            "datasetId": images[label.image_id].dataset_id,
            "geometryType": label.geometry_type,
            "geometryMeta": None if label.bbox is None else {"bbox": json.loads(label.bbox)},
            "tags": tags.get(label.id, []),
            "meta": {},
            "area": "0",
            "priority": None,
            "customData": None,
            "trackId": None,
            "nnCreated": label.nn_created,
            "nnUpdated": label.nn_updated,
            "description": label.description,
            **json.loads(label.extra),
        }
        | ({} if skip_geometry else {"geometry": json.loads(label.geometry)})
        for label in labels
    ]


# --- single labels ----------------------------------------------------------------------------------------------------


def get_label(session: Session, ident: int) -> Label:
    label = session.get(Label, ident)
    if label is None:
        raise missing("figure", ident)
    return label


def edit_label(session: Session, ident: int, changes: Mapping[str, Any]) -> None:
    """changes: any of "geometry", "nnCreated", "nnUpdated", "tags" (all of them), and what is kept beside them."""
    label = get_label(session, ident)
    (image,) = get_images(session, [label.image_id])
    what = f"Figure {ident}"
    if "geometry" in changes:
        label.geometry, label.bbox = _checked(label.geometry_type, changes["geometry"], image, what, True)
    for field, column in (("nnCreated", "nn_created"), ("nnUpdated", "nn_updated")):
        if changes.get(field) is not None:
            setattr(label, column, bool(changes[field]))
    extra = json.loads(label.extra) | {key: changes[key] for key in _EXTRAS if key in changes}
    label.extra = _dump({key: value for key, value in extra.items() if value is not None}, what)
    moment = now()
    if changes.get("tags") is not None:
        names = _Names(session, image.project_id)
        session.execute(delete(Tag).where(Tag.label_id == ident))
        _store_tags(session, [names.tag(tag, what, moment) | {"label_id": ident} for tag in changes["tags"]])
    label.updated_at = moment


def remove_labels(session: Session, idents: Sequence[int]) -> None:
    """Ids that are gone already are no error: a repeated request must end as the first did."""
    for part in portions(idents):
        session.execute(delete(Label).where(Label.id.in_(part)))


def geometries(session: Session, idents: Iterable[int]) -> dict[int, str]:
    """Geometry JSON text of those ids that are labels."""
    return dict(session.execute(select(Label.id, Label.geometry).where(Label.id.in_(list(idents)))).all())
