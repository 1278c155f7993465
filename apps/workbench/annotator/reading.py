"""What the page asks about a video: its objects, its figures on some frames, and one byte per frame for the timeline."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from apps.workbench.store import projects, videos
from apps.workbench.store.models import AnnotationObject, Dataset, Figure, Project, Tag, TagMeta, Video

NO_OBJECTS = "no-objects"
"""The object tag that marks frames on which the object is absent."""

KEY, UNSURE_UNKNOWN, FIRST_SCORE = 1, 2, 100
"""Codes of a frame: 0 nothing, 1 a person's figure, 2 tracked without a score, 100 + percent tracked with that score."""

MOST_FIGURES = 20_000


def list_videos(session: Session) -> list[dict[str, Any]]:
    """All videos, the newest first, with how much is labelled."""
    rows = session.execute(
        select(Video, Project.name, Dataset.name)
        .join(Project, Video.project_id == Project.id)
        .join(Dataset, Video.dataset_id == Dataset.id)
        .order_by(Video.id.desc())
    ).all()
    counted = select(AnnotationObject.video_id, func.count()).group_by(AnnotationObject.video_id)
    counts = dict(session.execute(counted).all())
    return [
        {**describe(session, row), "project": p, "dataset": d, "objects": counts.get(row.id, 0)} for row, p, d in rows
    ]


def describe(session: Session, video: Video) -> dict[str, Any]:
    blob = videos.get_blob(session, video.hash)
    picture = videos.picture_of(blob)
    times = picture["framesToTimecodes"]
    count = picture["framesCount"]
    span = times[-1] - times[0] if len(times) > 1 else 0
    return {
        "id": video.id,
        "name": video.name,
        "projectId": video.project_id,
        "datasetId": video.dataset_id,
        "frames": count,
        "width": picture["width"],
        "height": picture["height"],
        "fps": round((count - 1) / span, 4) if span > 0 else 25.0,
        "createdAt": video.created_at,
    }


def opened(session: Session, ident: int) -> dict[str, Any]:
    """One video with its classes and objects."""
    video = videos.get_video(session, ident)
    described = describe(session, video)
    return {
        "video": {**described, "project": session.get_one(Project, video.project_id).name},
        "classes": classes(session, video.project_id),
        "objects": objects(session, ident, described["frames"]),
        "timeline": timeline(session, ident),
    }


def classes(session: Session, project_id: int) -> list[dict[str, Any]]:
    return [
        {
            "id": entry["id"],
            "name": entry["title"],
            "shape": entry["shape"],
            "color": entry.get("color") or "#7aa2f7",
            "template": entry.get("geometry_config") or None,
        }
        for entry in projects.meta_json(session, project_id)["classes"]
    ]


def objects(session: Session, video_id: int, frames: int) -> list[dict[str, Any]]:
    """frames: of the video; a tag without a range is on all of them."""
    rows = session.scalars(
        select(AnnotationObject).where(AnnotationObject.video_id == video_id).order_by(AnnotationObject.id)
    ).all()
    absent: dict[int, list[list[int]]] = {}
    tags = session.execute(
        select(Tag.object_id, Tag.first_frame, Tag.last_frame)
        .join(TagMeta)
        .join(AnnotationObject, Tag.object_id == AnnotationObject.id)
        .where(AnnotationObject.video_id == video_id, TagMeta.name == NO_OBJECTS)
        .order_by(Tag.first_frame)
    )
    for object_id, first, end in tags:
        absent.setdefault(object_id, []).append([0, frames - 1] if first is None else [first, end])
    return [{"id": row.id, "classId": row.class_id, "absent": absent.get(row.id, [])} for row in rows]


def figures(session: Session, video_id: int, first: int, last: int) -> dict[str, Any]:
    """Figures on the frames first..last. When they are very many, only those of the first frames: `last` says how far."""
    rows = session.execute(
        select(
            Figure.id, Figure.object_id, Figure.frame, Figure.geometry_type, Figure.geometry, Figure.track_id,
            Figure.nn_created, Figure.nn_updated, Figure.custom_data, Figure.meta,
        )
        .where(Figure.video_id == video_id, Figure.frame.between(first, last))
        .order_by(Figure.frame, Figure.id)
        .limit(MOST_FIGURES)
    ).all()  # fmt: skip
    if len(rows) == MOST_FIGURES and rows[-1].frame > first:
        last = rows[-1].frame - 1
        rows = [row for row in rows if row.frame <= last]
    return {"first": first, "last": last, "figures": [_figure(row) for row in rows]}


def _figure(row: Any) -> dict[str, Any]:
    custom = json.loads(row.custom_data) if row.custom_data else {}
    meta = json.loads(row.meta)
    return {
        "id": row.id,
        "objectId": row.object_id,
        "frame": row.frame,
        "type": row.geometry_type,
        "geometry": json.loads(row.geometry),
        "key": is_key(row.track_id, row.nn_created, row.nn_updated),
        "score": custom.get("score"),
        "visible": custom.get("visible", True),
        **({"smart": meta["smartToolInput"]} if meta.get("smartToolInput") else {}),
    }


def is_key(track_id: str | None, nn_created: bool, nn_updated: bool) -> bool:
    """Whether a person drew or corrected it; the rule of `common.supervisely_io.records`."""
    return track_id is None or (nn_created and not nn_updated)


def timeline(
    session: Session, video_id: int, first: int = 0, last: int | None = None, object_ids: Sequence[int] | None = None
) -> dict[str, dict[str, Any]]:
    """By object: {"first": frame of the first byte, "codes": base64, one byte per frame}; objects without figures left out."""
    query = (
        select(
            Figure.object_id, Figure.frame, Figure.track_id, Figure.nn_created, Figure.nn_updated,
            func.json_extract(Figure.custom_data, "$.score"),
        )
        .where(Figure.video_id == video_id, Figure.frame >= first)
        .order_by(Figure.object_id, Figure.frame)
    )  # fmt: skip
    if last is not None:
        query = query.where(Figure.frame <= last)
    if object_ids is not None:
        query = query.where(Figure.object_id.in_(object_ids))
    found: dict[int, tuple[int, bytearray]] = {}
    for object_id, frame, track_id, created, updated, score in session.execute(query).yield_per(5000):
        start, codes = found.setdefault(object_id, (frame, bytearray()))
        codes.extend(bytes(frame - start + 1 - len(codes)))
        code = KEY
        if not is_key(track_id, created, updated):
            known = isinstance(score, int | float)
            code = FIRST_SCORE + round(100 * min(1.0, max(0.0, score))) if known else UNSURE_UNKNOWN
        old = codes[frame - start]
        # several figures of one object on one frame: a person's counts first, then the least sure
        codes[frame - start] = code if old == 0 else min(old, code)
    return {
        str(ident): {"first": start, "codes": base64.b64encode(codes).decode()}
        for ident, (start, codes) in found.items()
    }
