"""Tags put on images and on their labels one by one or in bulk, beside those that come with whole annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from apps.workbench.store.database import now, portions
from apps.workbench.store.errors import Refused, missing
from apps.workbench.store.images import get_images
from apps.workbench.store.labels import get_label, tag_row
from apps.workbench.store.models import Image, Label, Tag, TagMeta
from apps.workbench.store.objects import check_value, insert_tags
from apps.workbench.store.videos import tag_json


def _meta(session: Session, ident: int, project_id: int, what: str) -> TagMeta:
    meta = session.get(TagMeta, ident)
    if meta is None or meta.project_id != project_id:
        raise Refused(f"{what}: the project has no tag {ident}.")
    return meta


def tag_images(session: Session, items: Sequence[Mapping[str, Any]]) -> list[int]:
    """items: {"tagId", "entityId", "value"?}; all or none. Ids in the order of items."""
    idents = list(dict.fromkeys(item["entityId"] for item in items))
    images = dict(zip(idents, get_images(session, idents), strict=True))
    moment = now()
    rows = []
    for number, item in enumerate(items, 1):
        image, what = images[item["entityId"]], f"Tag {number}"
        meta = _meta(session, item["tagId"], image.project_id, what)
        rows.append(tag_row(meta, item, what, moment) | {"image_id": image.id})
    return insert_tags(session, rows)


def tag_labels(session: Session, items: Sequence[Mapping[str, Any]]) -> list[int]:
    """items: {"tagId", "figureId", "value"?}; all or none. Ids in the order of items."""
    wanted = {item["figureId"] for item in items}
    owners = dict(
        session.execute(
            select(Label.id, Image.project_id).join(Image, Image.id == Label.image_id).where(Label.id.in_(wanted))
        ).all()
    )
    moment = now()
    rows = []
    for number, item in enumerate(items, 1):
        what = f"Tag {number}"
        if item["figureId"] not in owners:
            raise Refused(f"{what}: there is no label {item['figureId']}.")
        meta = _meta(session, item["tagId"], owners[item["figureId"]], what)
        rows.append(tag_row(meta, item, what, moment) | {"label_id": item["figureId"]})
    return insert_tags(session, rows)


def set_value(session: Session, ident: int, value: Any) -> dict[str, Any]:
    tag = session.get(Tag, ident)
    if tag is None or tag.image_id is None:
        raise missing("tag on an image", ident)
    meta = session.get_one(TagMeta, tag.tag_meta_id)
    check_value(meta, value, 1)
    tag.value, tag.updated_at = value, now()
    return tag_json(tag, meta.name)


def untag_images(session: Session, image_ids: Sequence[int], tag_ids: Sequence[int], ident: int | None = None) -> None:
    """ident: only this one of them."""
    for part in portions(image_ids):
        chosen = delete(Tag).where(Tag.image_id.in_(part), Tag.tag_meta_id.in_(tag_ids))
        session.execute(chosen if ident is None else chosen.where(Tag.id == ident))


def untag_label(session: Session, label_id: int, tag_id: int, ident: int | None = None) -> None:
    get_label(session, label_id)
    chosen = delete(Tag).where(Tag.label_id == label_id, Tag.tag_meta_id == tag_id)
    session.execute(chosen if ident is None else chosen.where(Tag.id == ident))
