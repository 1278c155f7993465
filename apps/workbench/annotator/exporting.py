"""A video's labels as a file that other tools read, written row by row: an hour of labels is never held in memory."""

from __future__ import annotations

import json
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from apps.workbench.annotator.reading import is_key
from apps.workbench.bench import Workbench
from apps.workbench.store import projects, videos
from apps.workbench.store.models import AnnotationObject, Figure
from apps.workbench.store.objects import object_tags, objects_json
from common.errors import PromptInvalid
from common.geometry.measures import area, bounds
from common.geometry.shapes import Polygon, Skeleton, Value, to_geometry
from common.geometry.supervisely import from_json
from common.geometry.types import Box, Mask

Format = Literal["supervisely", "mot", "coco", "yolo"]
_KEYS = uuid.UUID("0c6a7c5e-5c3a-4e38-9d43-0b64b3d4a9d2")


@dataclass(frozen=True)
class _Video:
    """What every writer needs to know. classes: by id, in the project's order; objects: class id by object id."""

    id: int
    name: str
    frames: int
    width: int
    height: int
    classes: dict[int, dict[str, Any]]
    objects: dict[int, int]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name

    def bones(self, object_id: int) -> list[tuple[str, str]]:
        template = self.classes[self.objects[object_id]].get("geometry_config") or {}
        return [(str(e["src"]), str(e["dst"])) for e in template.get("edges") or ()]


def export(
    session: Session, bench: Workbench, video_id: int, format: Format, with_video: bool
) -> tuple[Path, str, str]:
    """A new file, the name to give it, its MIME type. The caller deletes the file."""
    row, blob = videos.video_blob(session, video_id)
    picture = videos.picture_of(blob)
    meta = projects.meta_json(session, row.project_id)
    found = session.scalars(select(AnnotationObject).where(AnnotationObject.video_id == video_id)).all()
    video = _Video(
        row.id, row.name, picture["framesCount"], picture["width"], picture["height"],
        {entry["id"]: entry for entry in meta["classes"]}, {o.id: o.class_id for o in found},
    )  # fmt: skip
    folder = bench.settings.data / "exports"
    folder.mkdir(exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        path = Path(file.name)
        try:
            match format:
                case "supervisely":
                    source = bench.blobs.path(row.hash) if with_video else None
                    _supervisely(file, session, video, meta, list(found), source)
                case "mot":
                    _lines(file, _mot(session, video))
                case "coco":
                    _lines(file, _coco(session, video))
                case "yolo":
                    _yolo(file, session, video)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    name, mime = {
        "supervisely": (f"{video.stem}_supervisely.zip", "application/zip"),
        "mot": (f"{video.stem}_mot.txt", "text/plain"),
        "coco": (f"{video.stem}_coco.json", "application/json"),
        "yolo": (f"{video.stem}_yolo.zip", "application/zip"),
    }[format]
    return path, name, mime


def _lines(file: IO[bytes], lines: Iterator[str]) -> None:
    for line in lines:
        file.write(line.encode())


def _rows(session: Session, video_id: int) -> Iterator[Row[Any]]:
    columns = (
        Figure.id, Figure.object_id, Figure.frame, Figure.geometry_type, Figure.geometry, Figure.meta, Figure.track_id,
        Figure.nn_created, Figure.nn_updated, Figure.custom_data, Figure.created_at, Figure.updated_at,
    )  # fmt: skip
    query = select(*columns).where(Figure.video_id == video_id).order_by(Figure.frame, Figure.id)
    yield from session.execute(query.execution_options(yield_per=500))


def _values(session: Session, video: _Video) -> Iterator[tuple[Row[Any], Value, Box]]:
    """Every figure that has an inside that we know, with the box around it, cut to the picture."""
    for row in _rows(session, video.id):
        bones = video.bones(row.object_id) if row.geometry_type == "graph" else ()
        try:
            value = from_json(row.geometry_type, json.loads(row.geometry), video.width, video.height, bones)
        except PromptInvalid:  # a type that these formats have no place for
            continue
        box = bounds(to_geometry(value))
        if box is None:
            continue
        xyxy = np.clip(box.xyxy, 0, [video.width, video.height, video.width, video.height])
        if xyxy[2] > xyxy[0] and xyxy[3] > xyxy[1]:
            yield row, value, Box(xyxy)


def _score(row: Row[Any]) -> float:
    score = (json.loads(row.custom_data) if row.custom_data else {}).get("score")
    return 1.0 if score is None or is_key(row.track_id, row.nn_created, row.nn_updated) else float(score)


def _numbers(video: _Video) -> tuple[dict[int, int], dict[int, int]]:
    """Objects and classes numbered from 1."""
    return (
        {ident: number for number, ident in enumerate(sorted(video.objects), 1)},
        {ident: number for number, ident in enumerate(video.classes, 1)},
    )


# --- Supervisely ------------------------------------------------------------------------------------------------------


def _supervisely(
    file: IO[bytes], session: Session, video: _Video, meta: dict[str, Any], found: list[Any], source: Path | None
) -> None:
    """A video project as the SDK writes one: meta.json, key_id_map.json, dataset/ann, dataset/video."""
    plain = {
        **meta,
        "classes": [_without_id(c) for c in meta["classes"]],
        "tags": [_without_id(t) for t in meta["tags"]],
    }
    key_of = {object_id: _key("object", object_id) for object_id in video.objects}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        top = "project"
        archive.writestr(f"{top}/meta.json", json.dumps(plain, indent=1))
        named = {key: ident for ident, key in key_of.items()}
        keys = {"tags": {}, "objects": named, "figures": {}, "videos": {_key("video", video.id): video.id}}
        archive.writestr(f"{top}/key_id_map.json", json.dumps(keys))
        with archive.open(f"{top}/dataset/ann/{video.name}.json", "w", force_zip64=True) as ann:
            for piece in _annotation(session, video, found, key_of):
                ann.write(piece.encode())
        if source is not None:
            archive.write(source, f"{top}/dataset/video/{video.name}", zipfile.ZIP_STORED)


def _annotation(session: Session, video: _Video, found: list[Any], key_of: dict[int, str]) -> Iterator[str]:
    tags = object_tags(session, list(video.objects))
    head = {
        "size": {"height": video.height, "width": video.width},
        "description": "",
        "key": _key("video", video.id),
        "tags": [],
        "objects": [
            {
                "key": key_of[entry["id"]],
                "id": entry["id"],
                "classTitle": video.classes[entry["classId"]]["title"],
                "tags": [_tag(tag) for tag in tags.get(entry["id"], [])],
                "labelerLogin": "admin",
                "createdAt": entry["createdAt"],
                "updatedAt": entry["updatedAt"],
            }
            for entry in objects_json(session, found)
        ],
        "framesCount": video.frames,
    }
    yield json.dumps(head)[:-1] + ', "frames": ['
    frame: int | None = None
    for row in _rows(session, video.id):
        if row.frame != frame:
            yield ("" if frame is None else "]}, ") + f'{{"index": {row.frame}, "figures": ['
            frame = row.frame
        else:
            yield ", "
        record = {
            "key": _key("figure", row.id),
            "id": row.id,
            "objectKey": key_of[row.object_id],
            "geometryType": row.geometry_type,
            "labelerLogin": "admin",
            "createdAt": row.created_at,
            "updatedAt": row.updated_at,
            "nnCreated": row.nn_created,
            "nnUpdated": row.nn_updated,
            "trackId": row.track_id,
        }
        custom = "" if row.custom_data is None else f', "customData": {row.custom_data}'
        yield json.dumps(record)[:-1] + f', "geometry": {row.geometry}, "meta": {row.meta}{custom}}}'
    yield ("" if frame is None else "]}") + "]}"


def _tag(tag: dict[str, Any]) -> dict[str, Any]:
    kept = ("name", "value", "frameRange", "labelerLogin", "createdAt", "updatedAt")
    return {"key": _key("tag", tag["id"]), "id": tag["id"], **{name: tag[name] for name in kept if name in tag}}


def _without_id(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "id"}


def _key(kind: str, ident: int) -> str:
    """The same name for the same thing each time, so that two exports can be compared."""
    return uuid.uuid5(_KEYS, f"{kind} {ident}").hex


# --- MOT, COCO, YOLO ---------------------------------------------------------------------------------------------------


def _mot(session: Session, video: _Video) -> Iterator[str]:
    """frame (from 1), id, x, y, w, h, confidence, class, visible: boxes around every figure."""
    objects, classes = _numbers(video)
    for row, _, box in _values(session, video):
        x1, y1, x2, y2 = (float(v) for v in box.xyxy)
        visible = (json.loads(row.custom_data) if row.custom_data else {}).get("visible", True)
        numbers = f"{x1 + 1:.2f},{y1 + 1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{_score(row):.4f}"
        yield f"{row.frame + 1},{objects[row.object_id]},{numbers},{classes[video.objects[row.object_id]]},{int(visible)}\n"


def _coco(session: Session, video: _Video) -> Iterator[str]:
    """COCO with `track_id`, `video_id` and `frame_index`; masks as uncompressed run lengths, polygons, keypoints."""
    objects, classes = _numbers(video)
    categories = []
    for ident, data in video.classes.items():
        category: dict[str, Any] = {"id": classes[ident], "name": data["title"], "supercategory": ""}
        template = data.get("geometry_config") or {}
        if data["shape"] == "graph" and template.get("nodes"):
            names = list(template["nodes"])
            category["keypoints"] = [str(template["nodes"][n].get("label") or n) for n in names]
            category["skeleton"] = [
                [names.index(str(e["src"])) + 1, names.index(str(e["dst"])) + 1] for e in template.get("edges") or ()
            ]
        categories.append(category)
    about = [{"id": 1, "file_name": video.name, "width": video.width, "height": video.height, "length": video.frames}]
    yield json.dumps({"info": {"description": video.name}, "licenses": [], "videos": about, "categories": categories})[
        :-1
    ]
    frames: list[int] = []
    yield ', "annotations": ['
    for number, (row, value, box) in enumerate(_values(session, video), 1):
        if not frames or frames[-1] != row.frame:
            frames.append(row.frame)
        x1, y1, x2, y2 = (round(float(v), 2) for v in box.xyxy)
        geometry = to_geometry(value)
        entry: dict[str, Any] = {
            "id": number, "image_id": row.frame + 1, "category_id": classes[video.objects[row.object_id]],
            "track_id": objects[row.object_id], "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
            "area": round(area(geometry) or (x2 - x1) * (y2 - y1), 2), "iscrowd": 0, "score": round(_score(row), 4),
        }  # fmt: skip
        if isinstance(value, Mask):
            entry["segmentation"] = _run_lengths(value)
        elif isinstance(value, Polygon):
            entry["segmentation"] = [np.round(value.exterior.ravel().astype(float), 2).tolist()]
        elif isinstance(value, Skeleton):
            points = [
                [round(float(x), 2), round(float(y), 2), 1 if hidden else 2]
                for (x, y), hidden in zip(value.xy, value.disabled, strict=True)
            ]
            entry |= {"keypoints": [v for point in points for v in point], "num_keypoints": len(points)}
        yield ("" if number == 1 else ",") + "\n" + json.dumps(entry)
    yield '], "images": ['
    for position, frame in enumerate(frames):
        image = {
            "id": frame + 1, "file_name": f"{video.stem}/{frame:06d}.jpg", "width": video.width, "height": video.height,
            "video_id": 1, "frame_index": frame,
        }  # fmt: skip
        yield ("" if position == 0 else ",") + json.dumps(image)
    yield "]}"


def _run_lengths(mask: Mask) -> dict[str, Any]:
    """Run lengths down the columns of the whole picture, starting with 0, as COCO counts them."""
    flat = mask.to_array().ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"size": [mask.height, mask.width], "counts": [0, *counts] if flat[0] else counts}


def _yolo(file: IO[bytes], session: Session, video: _Video) -> None:
    """One text per labelled frame: class (from 0), centre x, centre y, width, height, as shares of the picture."""
    _, classes = _numbers(video)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        names = "".join(f"  {n - 1}: {json.dumps(video.classes[ident]['title'])}\n" for ident, n in classes.items())
        archive.writestr("data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}")
        frame, lines = -1, []

        def write(index: int, text: list[str]) -> None:
            archive.writestr(f"labels/{video.stem}_{index:06d}.txt", "".join(text))

        for row, _, box in _values(session, video):
            if row.frame != frame:
                if lines:
                    write(frame, lines)
                frame, lines = row.frame, []
            x1, y1, x2, y2 = (float(v) for v in box.xyxy)
            shares = (
                (x1 + x2) / 2 / video.width,
                (y1 + y2) / 2 / video.height,
                (x2 - x1) / video.width,
                (y2 - y1) / video.height,
            )
            lines.append(f"{classes[video.objects[row.object_id]] - 1} " + " ".join(f"{v:.6f}" for v in shares) + "\n")
        if lines:
            write(frame, lines)
