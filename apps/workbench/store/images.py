"""Images: names in datasets that point at files by content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from apps.workbench.store import listing
from apps.workbench.store.database import new_ids, now, portions
from apps.workbench.store.errors import NameTaken, Refused, missing
from apps.workbench.store.models import Blob, Collection, CollectionItem, Dataset, Image, Label, Tag, TagMeta
from apps.workbench.store.names import filename
from apps.workbench.store.projects import TEAM_ID, USER_ID, WORKSPACE_ID, get_dataset, require_kind
from apps.workbench.store.videos import get_blob, tag_json

COLUMNS: listing.Columns = {
    "id": Image.id,
    "name": Image.name,
    "title": Image.name,
    "hash": Image.hash,
    "description": Image.description,
    "width": Image.width,
    "height": Image.height,
    "datasetId": Image.dataset_id,
    "projectId": Image.project_id,
    "createdAt": Image.created_at,
    "updatedAt": Image.updated_at,
}


def get_image(session: Session, ident: int) -> Image:
    image = session.get(Image, ident)
    if image is None:
        raise missing("image", ident)
    return image


def get_images(session: Session, idents: Sequence[int]) -> list[Image]:
    """In the order asked for. Raises `NotFound` for the first that is not there."""
    found: dict[int, Image] = {}
    for part in portions(list(set(idents))):
        found |= {image.id: image for image in session.scalars(select(Image).where(Image.id.in_(part)))}
    for ident in idents:
        if ident not in found:
            raise missing("image", ident)
    return [found[ident] for ident in idents]


def picture_of(blob: Blob) -> dict[str, Any]:
    """Width, height and mime of the file."""
    picture: dict[str, Any] | None = (blob.meta or {}).get("picture")
    if picture is None:
        raise Refused("That file is not an image.")
    return picture


def check_new(session: Session, dataset_id: int, items: Sequence[Mapping[str, Any]]) -> tuple[Dataset, list[str]]:
    """The dataset, and the names that `add_images` gives. Raises what it raises about them, without a look at files."""
    dataset = get_dataset(session, dataset_id)
    require_kind(session, dataset.project_id, "images")
    names = [filename(item["title"], "image") for item in items]
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise Refused(f"The name {twice!r} comes twice.")
    taken = select(Image.name, Image.id).where(Image.dataset_id == dataset_id, Image.name.in_(names))
    known = dict(session.execute(taken).all())
    if known:
        raise NameTaken(f"There is an image named {next(iter(known))!r} in this dataset already.", known)
    return dataset, names


def add_images(session: Session, dataset_id: int, items: Sequence[Mapping[str, Any]]) -> list[Image]:
    """items: {"title", "hash" or "imageId" of an image to copy, "link" that the file came from?, "meta"?}; all or none. Rows
    in the order of items.

    Raises `NameTaken`, `Refused`.
    """
    dataset, names = check_new(session, dataset_id, items)
    moment = now()
    rows = []
    for ident, name, item in zip(new_ids(session, "images", len(items)), names, items, strict=True):
        source = None if item.get("imageId") is None else get_image(session, item["imageId"])
        hash = item.get("hash") or (None if source is None else source.hash)
        if hash is None:
            raise Refused(f"Image {name!r} comes with neither hash nor imageId nor link.")
        picture = picture_of(get_blob(session, hash))
        rows.append(
            Image(
                id=ident,
                project_id=dataset.project_id,
                dataset_id=dataset_id,
                name=name,
                hash=hash,
                width=picture["width"],
                height=picture["height"],
                mime=picture["mime"],
                description="",
                meta=item.get("meta") or {},
                custom_data={},
                created_at=moment,
                updated_at=moment,
                link=item.get("link") or (None if source is None else source.link),
            )
        )
    session.add_all(rows)
    session.flush()
    return rows


def edit_image(session: Session, ident: int, changes: Mapping[str, Any]) -> Image:
    """changes: any of name, description, meta."""
    image = get_image(session, ident)
    name = changes.get("name")
    if name is not None and name != image.name:
        filename(name, "image")
        taken = select(Image.id).where(Image.dataset_id == image.dataset_id, Image.name == name)
        other = session.scalar(taken)
        if other is not None:
            raise NameTaken(f"There is an image named {name!r} in this dataset already.", {name: other})
    for field, value in changes.items():
        if value is not None:
            setattr(image, field, value)
    image.updated_at = now()
    return image


def remove_images(session: Session, idents: Sequence[int]) -> None:
    """With their labels and tags. The files stay until unused ones are cleaned up."""
    for part in portions(idents):
        session.execute(delete(Image).where(Image.id.in_(part)))


# --- lists ------------------------------------------------------------------------------------------------------------

_Rule = Callable[[Session, Mapping[str, Any]], ColumnElement[bool]]


def conditions(session: Session, rules: Sequence[Mapping[str, Any]]) -> list[ColumnElement[bool]]:
    """SQL conditions of the platform's richer filters, each {"type", "data"}. Raises `Refused` for other types."""
    found = []
    for rule in rules:
        make = _RULES.get(str(rule.get("type")))
        if make is None:
            raise Refused(f"Filters of type {rule.get('type')!r} are not known; known are {', '.join(sorted(_RULES))}.")
        data = rule.get("data")
        if not isinstance(data, Mapping):
            raise Refused(f"The filter {rule.get('type')!r} has no data.")
        condition = make(session, data)
        found.append(condition if data.get("include", True) else ~condition)
    return found


def _named(_: Session, data: Mapping[str, Any]) -> ColumnElement[bool]:
    return Image.name.contains(str(data.get("value", "")), autoescape=True)


def _tagged(_: Session, data: Mapping[str, Any]) -> ColumnElement[bool]:
    chosen = select(Tag.image_id).where(Tag.image_id.is_not(None))
    return Image.id.in_(_with_tag(chosen, data))


def _labelled(_: Session, data: Mapping[str, Any]) -> ColumnElement[bool]:
    ident = data.get("classId")
    chosen = select(Label.image_id).group_by(Label.image_id)
    if ident is not None:
        chosen = chosen.where(Label.class_id == int(ident))
    return Image.id.in_(chosen.having(func.count().between(*_span(data))))


def _label_tagged(_: Session, data: Mapping[str, Any]) -> ColumnElement[bool]:
    chosen = select(Label.image_id).join(Tag, Tag.label_id == Label.id).group_by(Label.image_id)
    return Image.id.in_(_with_tag(chosen, data).having(func.count().between(*_span(data))))


def _collected(session: Session, data: Mapping[str, Any]) -> ColumnElement[bool]:
    ident = int(data.get("collectionId") or 0)
    if session.get(Collection, ident) is None:
        raise missing("collection", ident)
    return Image.id.in_(select(CollectionItem.image_id).where(CollectionItem.collection_id == ident))


def _with_tag(chosen: Any, data: Mapping[str, Any]) -> Any:
    if data.get("tagId") is not None:
        chosen = chosen.where(Tag.tag_meta_id == int(data["tagId"]))
    if data.get("value") is not None:
        chosen = chosen.where(Tag.value == data["value"])
    return chosen


def _span(data: Mapping[str, Any]) -> tuple[int, int]:
    return int(data.get("from") or 1), int(data.get("to") or 2**31)


_RULES: Mapping[str, _Rule] = {
    "images_filename": _named,
    "images_tag": _tagged,
    "objects_class": _labelled,
    "objects_tag": _label_tagged,
    "entities_collection": _collected,
}


def within(session: Session, dataset_id: int) -> list[int]:
    """A dataset and all that are nested in it."""
    found, level = [dataset_id], [dataset_id]
    while level:
        level = list(session.scalars(select(Dataset.id).where(Dataset.parent_id.in_(level))))
        found += level
    return found


def images_json(session: Session, images: Sequence[Image]) -> list[dict[str, Any]]:
    idents = [image.id for image in images]
    sizes = dict(
        session.execute(select(Blob.hash, Blob.size).where(Blob.hash.in_({image.hash for image in images}))).all()
    )
    counted = select(Label.image_id, func.count()).where(Label.image_id.in_(idents)).group_by(Label.image_id)
    labels = dict(session.execute(counted).all())
    tags = image_tags(session, idents)
    return [
        {
            "id": image.id,
            "name": image.name,
            "title": image.name,
            "description": image.description,
            "link": image.link,
            "hash": image.hash,
            "mime": image.mime,
            "size": sizes[image.hash],
            "width": image.width,
            "height": image.height,
            "labelsCount": labels.get(image.id, 0),
            "objectsCount": labels.get(image.id, 0),
            "teamId": TEAM_ID,
            "workspaceId": WORKSPACE_ID,
            "projectId": image.project_id,
            "datasetId": image.dataset_id,
            "createdAt": image.created_at,
            "updatedAt": image.updated_at,
            "createdBy": USER_ID,
            "meta": image.meta,
            "customData": image.custom_data,
            "pathOriginal": f"/workbench/images/{image.id}/file",
            "fullStorageUrl": f"/workbench/images/{image.id}/file",
            "tags": tags.get(image.id, []),
            "parentId": None,
        }
        for image in images
    ]


def image_tags(session: Session, idents: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Tags by image."""
    found: dict[int, list[dict[str, Any]]] = {}
    for part in portions(idents):
        rows = session.execute(select(Tag, TagMeta.name).join(TagMeta).where(Tag.image_id.in_(part)).order_by(Tag.id))
        for tag, name in rows:
            assert tag.image_id is not None
            found.setdefault(tag.image_id, []).append({**tag_json(tag, name), "entityId": tag.image_id})
    return found
