"""Labels out of a file into a video: a Supervisely project or annotation, MOT text, COCO, YOLO; told apart by content.

Everything is checked before anything is written, and what cannot be taken is counted and reported. Imported figures are a
person's: key figures, unless the file says that a tracker made them (then they are left as that).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from apps.workbench.annotator.changes import Touched
from apps.workbench.annotator.reading import describe
from apps.workbench.store import figures, objects, projects
from apps.workbench.store.errors import Refused
from apps.workbench.store.models import Video
from common.errors import PromptInvalid
from common.geometry.annotation import read_annotation, read_meta
from common.geometry.clip import clip_to_frame
from common.geometry.meta import ObjectClass, ProjectMeta
from common.geometry.shapes import Polygon, Value
from common.geometry.supervisely import geometry_type, to_json
from common.geometry.types import Box, Mask

MOST_BYTES = 1 << 30
"""Of text in one file: what is read is held in memory while it is checked."""


@dataclass
class Labels:
    """What a file says. objects: class by key; figures: (key, frame, value, what trackers said of it)."""

    form: str
    classes: dict[str, ObjectClass] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    figures: list[tuple[str, int, Value, dict[str, Any]]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def import_labels(session: Session, video: Video, path: Path, name: str) -> tuple[dict[str, Any], Touched]:
    """What was imported and what was not, and the way back. Raises `Refused` when the file is none of the known forms."""
    about = describe(session, video)
    labels = read_labels(path, name, about["width"], about["height"])
    if not labels.figures:
        raise Refused(f"{name} is read as {labels.form}, but there is no figure in it that can be taken.")
    touched = Touched()
    class_ids = _classes(session, video.project_id, labels)
    with_figures = {figure[0] for figure in labels.figures}
    keys = [key for key in labels.objects if key in with_figures]
    made = objects.add_objects(
        session, video.dataset_id, [{"classId": class_ids[labels.objects[key]], "entityId": video.id} for key in keys]
    )
    touched.made("objects", made)
    idents = dict(zip(keys, made, strict=True))
    rows = list(_rows(labels, idents, video.id, about))
    for start in range(0, len(rows), figures.MAX_BULK):
        touched.made("figures", figures.add_figures(session, rows[start : start + figures.MAX_BULK]))
    report = {
        "format": labels.form,
        "objects": len(keys),
        "figures": len(rows),
        "skipped": [f"{count} x {what}" for what, count in labels.skipped.items()],
    }
    return report, touched


def read_labels(path: Path, name: str, width: int, height: int) -> Labels:
    """Raises `Refused`. name: what the file was called, for messages."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _from_zip(archive, name, width, height)
    if path.stat().st_size > MOST_BYTES:
        raise Refused(f"{name} is larger than {MOST_BYTES >> 20} MiB of labels.")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"{name} is neither a zip nor text; labels come as .zip, .json or .txt.") from error
    return _from_json(text, name, width, height, None) if text.lstrip()[:1] in "{[" else _from_mot(text, name)


# --- zips -------------------------------------------------------------------------------------------------------------


def _from_zip(archive: zipfile.ZipFile, name: str, width: int, height: int) -> Labels:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    texts = [entry for entry in entries if entry.filename.endswith((".json", ".txt", ".yaml", ".names"))]
    if sum(entry.file_size for entry in texts) > MOST_BYTES:
        raise Refused(f"{name} unpacks to more than {MOST_BYTES >> 20} MiB of labels.")
    annotations = [e.filename for e in texts if re.search(r"(^|/)ann/[^/]+\.json$", e.filename)]
    metas = [e.filename for e in texts if e.filename.rsplit("/", 1)[-1] == "meta.json"]
    if annotations:
        if len(annotations) > 1:
            raise Refused(f"{name} holds labels of {len(annotations)} videos; import a project of this one video.")
        meta = read_meta(json.loads(archive.read(metas[0]))) if metas else None
        return _from_json(archive.read(annotations[0]).decode("utf-8-sig"), name, width, height, meta)
    labels = [e.filename for e in texts if re.search(r"\d+\.txt$", e.filename)]
    if labels:
        return _from_yolo(archive, labels, width, height)
    raise Refused(f"{name} is no Supervisely project and holds no YOLO labels.")


def _from_yolo(archive: zipfile.ZipFile, files: list[str], width: int, height: int) -> Labels:
    """The last number in a file's name is its frame. YOLO knows no objects: one per class and place in the file."""
    labels = Labels("YOLO")
    names = _yolo_names(archive)
    for file in files:
        found = re.search(r"(\d+)\.txt$", file)
        assert found is not None
        frame, places = int(found[1]), Counter[int]()
        for line in archive.read(file).decode("utf-8-sig", "replace").splitlines():
            parts = line.split()
            try:
                number, cx, cy, w, h = int(parts[0]), *map(float, parts[1:5])
                box = Box(
                    np.array([(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height])
                )
            except (ValueError, IndexError):
                labels.skipped["line that is no YOLO box"] += 1
                continue
            places[number] += 1
            title = names.get(number, f"class {number}")
            key = f"{title} {places[number]}"
            _add(labels, key, title, "rectangle")
            labels.figures.append((key, frame, box, {}))
    return labels


def _yolo_names(archive: zipfile.ZipFile) -> dict[int, str]:
    """From data.yaml (names as a list or by number) or classes.txt / *.names."""
    for file in archive.namelist():
        text = ""
        if file.endswith((".yaml", "classes.txt", ".names")):
            text = archive.read(file).decode("utf-8-sig", "replace")
        if file.endswith(("classes.txt", ".names")):
            return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
        if file.endswith(".yaml"):
            block = re.search(r"^names:\s*\[(.*?)\]", text, re.M | re.S)
            if block:
                return dict(enumerate(part.strip().strip("'\"") for part in block[1].split(",")))
            numbered = re.findall(r"^\s+(\d+):\s*(.+?)\s*$", text, re.M)
            return {int(number): title.strip("'\"") for number, title in numbered}
    return {}


# --- JSON -------------------------------------------------------------------------------------------------------------


def _from_json(text: str, name: str, width: int, height: int, meta: ProjectMeta | None) -> Labels:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Refused(f"{name} is damaged JSON: {error}.") from error
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if not isinstance(data, dict):
        raise Refused(f"{name} is JSON, but neither a Supervisely video annotation nor COCO.")
    if "annotations" in data and "categories" in data:
        return _from_coco(data, name)
    if "frames" not in data or "objects" not in data:
        raise Refused(f"{name} is JSON, but neither a Supervisely video annotation nor COCO.")
    return _from_supervisely(data, width, height, meta)


def _from_supervisely(data: Mapping[str, Any], width: int, height: int, meta: ProjectMeta | None) -> Labels:
    size = data.get("size") or {}
    if (size.get("width"), size.get("height")) != (width, height):
        raise Refused(
            f"The labels are for a video of {size.get('width')} x {size.get('height')}, this one is {width} x {height}."
        )
    labels = Labels("Supervisely")
    annotation = read_annotation(data, meta)
    labels.skipped.update({f"figure of type {kind}": count for kind, count in annotation.skipped.items()})
    for key, found in annotation.objects.items():
        labels.objects[key] = found.class_name
        if meta is not None and found.class_name in meta.classes:
            labels.classes[found.class_name] = meta.classes[found.class_name]
    kinds: dict[str, set[str]] = {}
    for frame, drawn in annotation.figures.items():
        for figure in drawn:
            about: dict[str, Any] = {}
            if figure.predicted:
                about = {"trackId": figure.track_id or "import", "nnCreated": True, "nnUpdated": True}
                custom = {"visible": figure.visible, **({} if figure.score is None else {"score": figure.score})}
                about["customData"] = custom
            labels.figures.append((figure.key, frame, figure.geometry, about))
            title = labels.objects[figure.key]
            kinds.setdefault(title, set()).add(geometry_type(figure.geometry))
            if title not in labels.classes:
                labels.classes[title] = ObjectClass.of(title, figure.geometry)
    for title, shapes in kinds.items():
        if len(shapes) > 1 and labels.classes[title].shape != "any":
            labels.classes[title] = ObjectClass(title, "any")
    return labels


def _from_coco(data: Mapping[str, Any], name: str) -> Labels:
    labels = Labels("COCO")
    try:
        names = {entry["id"]: str(entry["name"]) for entry in data["categories"]}
        frames = {entry["id"]: _coco_frame(entry) for entry in data.get("images") or ()}
        for number, entry in enumerate(data["annotations"]):
            title = names[entry["category_id"]]
            track = entry.get("track_id", entry.get("instance_id"))
            value = _coco_value(entry)
            if value is None:
                labels.skipped["annotation without a box or outline"] += 1
                continue
            key = f"{title} {number}" if track is None else f"{title} #{track}"
            kind = geometry_type(value)
            _add(labels, key, title, kind)
            if labels.classes[title].shape != kind:
                labels.classes[title] = ObjectClass(title, "any")
            labels.figures.append((key, frames[entry["image_id"]], value, {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"{name} is damaged COCO: {error!r}.") from error
    return labels


def _coco_frame(image: Mapping[str, Any]) -> int:
    for field_name in ("frame_index", "frame_id"):
        if field_name in image:
            return int(image[field_name])
    found = re.search(r"(\d+)\.\w+$", str(image.get("file_name", "")))
    if found is None:
        raise ValueError("an image names no frame")
    return int(found[1])


def _coco_value(entry: Mapping[str, Any]) -> Value | None:
    outline = entry.get("segmentation")
    if isinstance(outline, dict) and isinstance(outline.get("counts"), list):
        height, width = outline["size"]
        counts = np.array(outline["counts"], np.int64)
        bits = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return Mask.from_array(bits.reshape((height, width), order="F"))
    if isinstance(outline, list) and outline and len(outline[0]) >= 6:
        return Polygon(np.array(outline[0], np.float32).reshape(-1, 2))
    if entry.get("bbox"):
        x, y, w, h = map(float, entry["bbox"])
        return Box(np.array([x, y, x + w, y + h])) if w > 0 and h > 0 else None
    return None


# --- MOT --------------------------------------------------------------------------------------------------------------


def _from_mot(text: str, name: str) -> Labels:
    """frame (from 1), id, x, y, w, h, confidence, class, visible. Pixels count from 1, as MOTChallenge does."""
    labels = Labels("MOT")
    for row in csv.reader(io.StringIO(text)):
        if not row:
            continue
        try:
            frame, ident = int(float(row[0])) - 1, int(float(row[1]))
            x, y, w, h = (float(v) for v in row[2:6])
            if not all(map(math.isfinite, (x, y, w, h))) or w <= 0 or h <= 0 or frame < 0:
                raise ValueError("no box")
        except (ValueError, IndexError):
            labels.skipped["line that is no MOT box"] += 1
            continue
        number = row[7] if len(row) > 7 and row[7].strip().isdigit() else "1"
        title = f"class {int(number)}"
        key = f"{title} #{ident}"
        _add(labels, key, title, "rectangle")
        labels.figures.append((key, frame, Box(np.array([x - 1, y - 1, x - 1 + w, y - 1 + h])), {}))
    if not labels.figures:
        raise Refused(f"{name} is text, but no line of it is a MOT box (frame, id, x, y, w, h, ...).")
    return labels


# --- into the database ------------------------------------------------------------------------------------------------


def _add(labels: Labels, key: str, title: str, shape: str) -> None:
    labels.objects.setdefault(key, title)
    if title not in labels.classes:
        labels.classes[title] = ObjectClass(title, shape)


def _classes(session: Session, project_id: int, labels: Labels) -> dict[str, int]:
    """Ids by name; classes that the project lacks are added, and one whose shape does not fit gets a name of its own."""
    known = {entry["title"]: entry for entry in projects.meta_json(session, project_id)["classes"]}
    needed: dict[str, set[str]] = {}
    for key, _, value, _ in labels.figures:
        needed.setdefault(labels.objects[key], set()).add(geometry_type(value))
    renamed: dict[str, str] = {}
    for title, shapes in needed.items():
        new = title
        while new in known and not all(figures.fits_class(known[new]["shape"], shape) for shape in shapes):
            new += " (imported)"
        renamed[title] = new
        if new not in known:
            wanted = labels.classes[title]
            data = ObjectClass(new, wanted.shape, wanted.color, wanted.template).to_json()
            projects.update_meta(session, project_id, {"classes": [data]})
    now_known = {entry["title"]: entry["id"] for entry in projects.meta_json(session, project_id)["classes"]}
    return {title: now_known[new] for title, new in renamed.items()}


def _rows(
    labels: Labels, idents: Mapping[str, int], video_id: int, about: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    width, height, frames = about["width"], about["height"], about["frames"]
    for key, frame, value, extra in labels.figures:
        if not 0 <= frame < frames:
            labels.skipped["figure beyond the end of the video"] += 1
            continue
        try:
            pieces = clip_to_frame(value, width, height)
            geometries = [(geometry_type(piece), to_json(piece, width, height)) for piece in pieces]
        except (ValueError, PromptInvalid):
            labels.skipped["figure that does not fit the picture"] += 1
            continue
        if not geometries:
            labels.skipped["figure outside the picture"] += 1
        for kind, geometry in geometries:
            yield {
                "entityId": video_id,
                "objectId": idents[key],
                "geometryType": kind,
                "geometry": geometry,
                "meta": {"frame": frame},
                **extra,
            }
