"""Figures: written in bulk, listed by filter, and read as whole annotations without building them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, or_, select
from sqlalchemy.orm import Session

from apps.workbench.store import listing
from apps.workbench.store.database import new_ids, now, portions
from apps.workbench.store.errors import Refused, missing
from apps.workbench.store.geometry_json import bounds, fits_class, inside
from apps.workbench.store.models import AnnotationObject, Blob, Figure, ObjectClass, Tag, TagMeta, Video
from apps.workbench.store.objects import object_tags
from apps.workbench.store.videos import get_blob, get_video, picture_of, tag_json

MAX_BULK = 1000

COLUMNS: listing.Columns = {
    "id": Figure.id,
    "objectId": Figure.object_id,
    "entityId": Figure.video_id,
    "imageId": Figure.video_id,
    "frame": Figure.frame,
    "frameIndex": Figure.frame,
    # A figure covers exactly one frame, so it starts and ends there.
    "startFrame": Figure.frame,
    "endFrame": Figure.frame,
    "geometryType": Figure.geometry_type,
    "trackId": Figure.track_id,
    "createdAt": Figure.created_at,
    "updatedAt": Figure.updated_at,
}


@dataclass(frozen=True)
class _Owner:
    """What must be known of an object before it takes a figure."""

    dataset_id: int
    video_id: int | None
    class_name: str
    shape: str


def add_figures(session: Session, items: Sequence[Mapping[str, Any]]) -> list[int]:
    """Stores figures, all or none; ids in the order of items.

    items: {"entityId", "objectId", "geometryType", "geometry", "meta": {"frame", ...}, "trackId"?, "nnCreated"?,
    "nnUpdated"?, "key"?, "priority"?, "customData"?}. An item whose key its object has already on the same frame with
    the same geometry is the same figure sent again: its id comes back and nothing is added.
    Raises `Refused` naming the first item that cannot be stored.
    """
    if len(items) > MAX_BULK:
        raise Refused(f"{len(items)} figures at once are too many; send at most {MAX_BULK}.")
    owners = _owners(session, {item["objectId"] for item in items})
    canvases = {ident: _canvas(session, ident) for ident in {item["entityId"] for item in items}}
    moment = now()
    rows = []
    for number, item in enumerate(items, 1):
        try:
            rows.append(_row(item, owners, canvases, moment))
        except Refused as error:
            raise Refused(f"Figure {number} of {len(items)} was not stored, nor the others: {error}.") from error
    return _insert_new(session, rows)


def _owners(session: Session, objects: set[int]) -> dict[int, _Owner]:
    rows = session.execute(
        select(
            AnnotationObject.id,
            AnnotationObject.dataset_id,
            AnnotationObject.video_id,
            ObjectClass.name,
            ObjectClass.shape,
        )
        .join(ObjectClass)
        .where(AnnotationObject.id.in_(objects))
    )
    return {ident: _Owner(dataset, video, name, shape) for ident, dataset, video, name, shape in rows}


@dataclass(frozen=True)
class _Canvas:
    """What of a video limits where and when figures can be."""

    video_id: int
    dataset_id: int
    frames: int
    width: int
    height: int


def _canvas(session: Session, video_id: int) -> _Canvas:
    video = get_video(session, video_id)
    picture = picture_of(get_blob(session, video.hash))
    return _Canvas(video.id, video.dataset_id, picture["framesCount"], picture["width"], picture["height"])


def _row(
    item: Mapping[str, Any], owners: Mapping[int, _Owner], canvases: Mapping[int, _Canvas], moment: str
) -> dict[str, Any]:
    canvas = canvases[item["entityId"]]
    owner = owners.get(item["objectId"])
    if owner is None or owner.video_id not in (None, canvas.video_id) or owner.dataset_id != canvas.dataset_id:
        raise Refused(f"video {canvas.video_id} has no object {item['objectId']}")
    kind = item["geometryType"]
    if not fits_class(owner.shape, kind):
        raise Refused(f"class {owner.class_name!r} is of shape {owner.shape!r}, so it cannot hold a {kind!r}")
    meta = item.get("meta") or {}
    frame = _checked_frame(meta, canvas)
    geometry, bbox = _checked_geometry(kind, item["geometry"], canvas)
    custom = item.get("customData")
    return {
        "video_id": canvas.video_id,
        "object_id": item["objectId"],
        "frame": frame,
        "geometry_type": kind,
        "geometry": geometry,
        "bbox": bbox,
        "meta": _dump(meta),
        "track_id": None if item.get("trackId") is None else str(item["trackId"]),
        "nn_created": bool(item.get("nnCreated")),
        "nn_updated": bool(item.get("nnUpdated")),
        "priority": item.get("priority"),
        "custom_data": None if custom is None else _dump(custom),
        "key": item.get("key"),
        "created_at": moment,
        "updated_at": moment,
    }


def _checked_frame(meta: Mapping[str, Any], canvas: _Canvas) -> int:
    frame = meta.get("frame")
    if type(frame) is not int or not 0 <= frame < canvas.frames:
        raise Refused(f"frame {str(frame)[:40]} is not in the video, which has frames 0 to {canvas.frames - 1}")
    return frame


def _checked_geometry(kind: str, geometry: Any, canvas: _Canvas) -> tuple[str, str | None]:
    """The geometry and its box as JSON text."""
    try:
        box = bounds(kind, geometry)
    except Refused as error:
        raise Refused(f"its {kind} geometry is broken: {error}") from error
    if box is not None and not inside(kind, box, canvas.width, canvas.height):
        raise Refused(f"it leaves the frame, which is {canvas.width} x {canvas.height}; crop it first")
    return _dump(geometry), None if box is None else _dump(box)


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise Refused("it holds NaN or Infinity, which JSON has no number for") from error


_IDENTITY = ("object_id", "key", "frame", "geometry_type", "geometry", "track_id")


def _insert_new(session: Session, rows: list[dict[str, Any]]) -> list[int]:
    keys = [row["key"] for row in rows if row["key"] is not None]
    known: dict[tuple[Any, ...], int] = {}
    if keys:
        objects = {row["object_id"] for row in rows}
        columns = [getattr(Figure, name) for name in _IDENTITY]
        found = session.execute(
            select(Figure.id, *columns).where(Figure.object_id.in_(objects), Figure.key.in_(keys)).order_by(Figure.id)
        )
        for ident, *parts in found:
            known.setdefault(tuple(parts), ident)
    fresh: list[dict[str, Any]] = []
    idents: list[int] = []
    start = new_ids(session, "figures", 1)[0]
    for row in rows:
        identity = tuple(row[name] for name in _IDENTITY)
        same = known.get(identity) if row["key"] is not None else None
        ident = start + len(fresh) if same is None else same
        if same is None:
            fresh.append(row | {"id": ident})
            if row["key"] is not None:
                known[identity] = ident
        idents.append(ident)
    if fresh:
        session.execute(insert(Figure), fresh)
    return idents


def edit_figure(session: Session, ident: int, changes: Mapping[str, Any]) -> None:
    """changes: any of "geometry", "meta" (merged; its frame may move the figure), "nnCreated", "nnUpdated", "trackId",
    "priority", "customData"."""
    figure = get_figure(session, ident)
    canvas = _canvas(session, figure.video_id)
    try:
        if "geometry" in changes:
            figure.geometry, figure.bbox = _checked_geometry(figure.geometry_type, changes["geometry"], canvas)
        if "meta" in changes:
            meta = json.loads(figure.meta) | (changes["meta"] or {})
            figure.frame, figure.meta = _checked_frame(meta, canvas), _dump(meta)
    except Refused as error:
        raise Refused(f"Figure {ident} was not changed: {error}.") from error
    for field, column in (("nnCreated", "nn_created"), ("nnUpdated", "nn_updated"), ("priority", "priority")):
        if field in changes:
            setattr(figure, column, changes[field])
    if "trackId" in changes:
        figure.track_id = changes["trackId"]
    if "customData" in changes:
        figure.custom_data = None if changes["customData"] is None else _dump(changes["customData"])
    figure.updated_at = now()


def get_figure(session: Session, ident: int) -> Figure:
    figure = session.get(Figure, ident)
    if figure is None:
        raise missing("figure", ident)
    return figure


def remove_figures(session: Session, idents: Sequence[int]) -> None:
    """Ids that are gone already are no error: a repeated request must end as the first did."""
    for part in portions(idents):
        session.execute(delete(Figure).where(Figure.id.in_(part)))


def geometries(session: Session, idents: Sequence[int]) -> list[tuple[int, str]]:
    """Geometry JSON text by figure, in the order asked for. Raises `NotFound` for the first id that is not there."""
    found = dict(session.execute(select(Figure.id, Figure.geometry).where(Figure.id.in_(idents))).all())
    for ident in idents:
        if ident not in found:
            raise missing("figure", ident)
    return [(ident, found[ident]) for ident in idents]


def figures_json(session: Session, figures: Sequence[Figure], skip_geometry: bool = False) -> list[dict[str, Any]]:
    classes = _column_by_id(session, AnnotationObject.id, AnnotationObject.class_id, {f.object_id for f in figures})
    videos = {v.id: v for v in session.scalars(select(Video).where(Video.id.in_({f.video_id for f in figures})))}
    return [
        {
            "id": figure.id,
            "classId": classes[figure.object_id],
            "updatedAt": figure.updated_at,
            "createdAt": figure.created_at,
            "entityId": figure.video_id,
            "objectId": figure.object_id,
            "projectId": videos[figure.video_id].project_id,
            "datasetId": videos[figure.video_id].dataset_id,
            "frameIndex": figure.frame,
            "startFrame": figure.frame,
            "endFrame": figure.frame,
            "geometryType": figure.geometry_type,
            "geometryMeta": None if figure.bbox is None else {"bbox": json.loads(figure.bbox)},
            "tags": [],
            "meta": json.loads(figure.meta),
            "area": "0",
            "priority": figure.priority,
            "customData": None if figure.custom_data is None else json.loads(figure.custom_data),
            "nnCreated": figure.nn_created,
            "nnUpdated": figure.nn_updated,
            "trackId": figure.track_id,
        }
        | ({} if skip_geometry else {"geometry": json.loads(figure.geometry)})
        for figure in figures
    ]


def _column_by_id(session: Session, key: Any, column: Any, idents: set[int]) -> dict[int, Any]:
    result: dict[int, Any] = {}
    ordered = sorted(idents)
    for start in range(0, len(ordered), 10_000):
        result |= dict(session.execute(select(key, column).where(key.in_(ordered[start : start + 10_000]))).all())
    return result


# --- whole annotations ------------------------------------------------------------------------------------------------


def annotation_text(session: Session, video_ids: Sequence[int]) -> Iterator[str]:
    """The JSON list of the videos' annotations, piece by piece: an hour of video has more figures than memory should hold.

    Asks for every video before it gives out the first piece, so `NotFound` comes before the reply has begun.
    """
    videos = [get_video(session, ident) for ident in video_ids]
    heads = [_head(session, video, get_blob(session, video.hash)) for video in videos]

    def pieces() -> Iterator[str]:
        yield "["
        for number, (video, head) in enumerate(zip(videos, heads, strict=True)):
            yield ("," if number else "") + json.dumps(head)[:-1] + ',"frames":['
            yield from _frames_text(session, video.id)
            yield "]}"
        yield "]"

    return pieces()


def _head(session: Session, video: Video, blob: Blob) -> dict[str, Any]:
    """Everything of an annotation but its frames."""
    stream = next(stream for stream in (blob.meta or {})["streams"] if stream["codecType"] == "video")
    tags = session.execute(
        select(Tag, TagMeta.name)
        .join(TagMeta)
        .where(Tag.video_id == video.id, Tag.object_id.is_(None))
        .order_by(Tag.id)
    )
    here: ColumnElement[bool] = or_(
        AnnotationObject.video_id == video.id,
        AnnotationObject.id.in_(
            # multi-view objects belong to a dataset; they are in the videos where they have figures or tags
            select(Figure.object_id)
            .where(Figure.video_id == video.id)
            .union(select(Tag.object_id).where(Tag.video_id == video.id, Tag.object_id.is_not(None)))
        ),
    )
    objects = session.execute(
        select(AnnotationObject, ObjectClass.name).join(ObjectClass).where(here).order_by(AnnotationObject.id)
    ).all()
    tags_of = object_tags(session, [found.id for found, _ in objects])
    return {
        "videoId": video.id,
        "videoName": video.name,
        "createdAt": video.created_at,
        "updatedAt": video.updated_at,
        "description": "",
        "tags": [tag_json(tag, name) for tag, name in tags],
        "objects": [
            {
                "id": found.id,
                "classId": found.class_id,
                "classTitle": class_name,
                "entityId": video.id,
                "datasetId": found.dataset_id,
                "tags": [t for t in tags_of.get(found.id, []) if t.get("entityId") in (None, video.id)],
                "labelerLogin": "admin",
                "createdAt": found.created_at,
                "updatedAt": found.updated_at,
            }
            for found, class_name in objects
        ],
        "size": {"height": stream["height"], "width": stream["width"]},
        "framesCount": stream["framesCount"],
    }


def _frames_text(session: Session, video_id: int) -> Iterator[str]:
    rows = session.execute(
        select(
            Figure.frame,
            Figure.id,
            Figure.object_id,
            Figure.geometry_type,
            Figure.geometry,
            Figure.meta,
            Figure.created_at,
            Figure.updated_at,
            Figure.nn_created,
            Figure.nn_updated,
            Figure.track_id,
            Figure.priority,
            Figure.custom_data,
        )
        .where(Figure.video_id == video_id)
        .order_by(Figure.frame, Figure.id)
        .execution_options(yield_per=500)
    )
    current: int | None = None
    parts: list[str] = []
    for (
        frame,
        ident,
        object_id,
        kind,
        geometry,
        meta,
        created,
        updated,
        nn_created,
        nn_updated,
        track,
        priority,
        custom,
    ) in rows:
        if frame != current:
            parts.append(("" if current is None else "]},") + f'{{"index":{frame},"figures":[')
            current = frame
        else:
            parts.append(",")
        record = {
            "id": ident,
            "objectId": object_id,
            "geometryType": kind,
            "labelerLogin": "admin",
            "createdAt": created,
            "updatedAt": updated,
            "nnCreated": nn_created,
            "nnUpdated": nn_updated,
            "trackId": track,
            "priority": priority,
            "tags": [],
        }
        # geometry and meta are JSON text already; parsing them only to write them again would double the work
        text = json.dumps(record)[:-1] + f',"geometry":{geometry},"meta":{meta}'
        parts.append(text + ("}" if custom is None else f',"customData":{custom}}}'))
        if len(parts) >= 200:
            yield "".join(parts)
            parts.clear()
    if current is not None:
        parts.append("]}")
    yield "".join(parts)
