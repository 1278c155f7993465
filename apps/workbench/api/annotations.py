"""Annotations of images: whole ones written and read, and the tags of single labels."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select

from apps.workbench.api.bodies import SUCCESS, Body, Ident, JsonObject, ListBody, methods
from apps.workbench.bench import Bench
from apps.workbench.store import image_tags, images, labels, listing
from apps.workbench.store.errors import Refused
from apps.workbench.store.models import Image
from apps.workbench.store.projects import get_dataset

router = methods()


class NewAnnotation(Body):
    image_id: Ident
    annotation: JsonObject


class NewAnnotations(Body):
    dataset_id: Ident | None = None
    annotations: Annotated[list[NewAnnotation], Field(max_length=1000)]
    skip_bounds_validation: bool = False


class OneAnnotation(Body):
    image_id: Ident
    with_custom_big_data: bool = False


class ManyAnnotations(Body):
    dataset_id: Ident | None = None
    image_ids: Annotated[list[Ident], Field(max_length=1000)]
    with_custom_big_data: bool = False


class AnnotationList(ListBody):
    dataset_id: Ident


class CopyAnnotations(Body):
    src_image_ids: Annotated[list[Ident], Field(max_length=1000, alias="srcImageIds")]
    dest_image_ids: Annotated[list[Ident], Field(max_length=1000, alias="destImageIds")]


class LabelTag(Body):
    tag_id: Ident
    figure_id: Ident
    value: Any = None
    id: Ident | None = None


class LabelTags(Body):
    project_id: Ident | None = None
    tags: Annotated[list[LabelTag], Field(max_length=10_000)]


@router.post("/annotations.bulk.add")
def add(body: NewAnnotations, bench: Bench) -> dict[str, bool]:
    """An image carries what is sent, and nothing else."""
    items = [{"imageId": item.image_id, "annotation": item.annotation} for item in body.annotations]
    with bench.database.write() as session:
        if body.dataset_id is not None:
            for image in images.get_images(session, [item["imageId"] for item in items]):
                if image.dataset_id != body.dataset_id:
                    raise Refused(f"Image {image.id} is not in dataset {body.dataset_id}.")
        try:
            labels.replace_annotations(session, items, not body.skip_bounds_validation)
        except (AttributeError, TypeError) as error:
            raise Refused("An annotation does not have the form of one.") from error
    return SUCCESS


@router.post("/annotations.info")
def info(body: OneAnnotation, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        return labels.annotations_json(session, [images.get_image(session, body.image_id)], body.with_custom_big_data)[
            0
        ]


@router.post("/annotations.bulk.info")
def bulk_info(body: ManyAnnotations, bench: Bench) -> list[dict[str, Any]]:
    with bench.database.read() as session:
        found = images.get_images(session, body.image_ids)
        return labels.annotations_json(session, found, body.with_custom_big_data)


@router.post("/annotations.list")
def list_annotations(body: AnnotationList, bench: Bench) -> dict[str, Any]:
    with bench.database.read() as session:
        get_dataset(session, body.dataset_id)
        return listing.page(
            session,
            select(Image).where(Image.dataset_id == body.dataset_id),
            images.COLUMNS,
            body.query(),
            lambda rows: [{**one, "id": one["imageId"]} for one in labels.annotations_json(session, rows)],
        )


@router.post("/figures.tags.bulk.add")
def tag_labels(body: LabelTags, bench: Bench) -> list[dict[str, int]]:
    items = [tag.model_dump(by_alias=True) for tag in body.tags]
    with bench.database.write() as session:
        return [{"id": ident} for ident in image_tags.tag_labels(session, items)]


@router.post("/object-tags.add-to-object")
def tag_label(body: LabelTag, bench: Bench) -> dict[str, int]:
    with bench.database.write() as session:
        [ident] = image_tags.tag_labels(session, [body.model_dump(by_alias=True)])
        return {"id": ident}


@router.post("/object-tags.remove-from-figure")
def untag_label(body: LabelTag, bench: Bench) -> dict[str, bool]:
    with bench.database.write() as session:
        image_tags.untag_label(session, body.figure_id, body.tag_id, body.id)
    return SUCCESS
