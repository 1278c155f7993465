"""Supervisely video annotation files: read as key figures, written frame by frame.

The file that is written holds one frame per line. It grows beside its final name (`annotation.json.part`), so whatever was
finished before a crash can be taken up again, and nothing but the objects is held in memory.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from common.errors import OutputUnusable, PromptInvalid
from common.geometry.clip import clip_to_frame
from common.geometry.meta import ProjectMeta
from common.geometry.shapes import Value
from common.geometry.supervisely import from_json, geometry_type, known_type, to_json
from common.geometry.types import Mask

_NAMESPACE = uuid.UUID("6f6d0f5c-9c3e-5a51-8d52-0d1f6f3a7c11")


@dataclass(frozen=True)
class Figure:
    """One geometry of one object in one frame.

    key: the object's. predicted: a tracker wrote it; False = a person drew it (a key figure). score: 0..1, of a predicted
    figure. visible: False when the object is hidden and the geometry a guess. track_id: of the tracking that wrote it.
    """

    key: str
    geometry: Value
    predicted: bool = False
    score: float | None = None
    visible: bool = True
    track_id: str | None = None


@dataclass(frozen=True)
class AnnotatedObject:
    """key: unique in the annotation. tags: as they were read, such as `no-objects` with its frame range."""

    key: str
    class_name: str
    tags: tuple[Mapping[str, Any], ...] = ()

    def tag_ranges(self, name: str, frames: int) -> list[tuple[int, int]]:
        """Inclusive frame ranges of the object's tags of that name; a tag without a range is on all `frames`."""
        ranges = [t.get("frameRange") or (0, frames - 1) for t in self.tags if t.get("name") == name]
        return [(int(min(r)), int(max(r))) for r in ranges]


@dataclass(frozen=True)
class Annotation:
    """What an annotation file says.

    frames: number of frames of the video. objects: by key, in the file's order. figures: by frame index; an object of
    several parts has several figures in one frame. skipped: figures of geometry types that this suite does not know, by type.
    """

    width: int
    height: int
    frames: int
    objects: Mapping[str, AnnotatedObject]
    figures: Mapping[int, Sequence[Figure]]
    tags: tuple[Mapping[str, Any], ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)

    def key_figures(self) -> dict[int, list[Figure]]:
        """Figures that a person drew, by frame in ascending order: what tracking can start from."""
        drawn = {i: [f for f in self.figures[i] if not f.predicted] for i in sorted(self.figures)}
        return {i: figures for i, figures in drawn.items() if figures}


def read_meta(source: str | Path | Mapping[str, Any]) -> ProjectMeta:
    """A project's meta from a file or its JSON. Raises `PromptInvalid`."""
    return ProjectMeta.from_json(_load(source))


def find_meta(annotation: Path) -> Path | None:
    """The `meta.json` of an annotation file: beside it, or at the top of its project (project/dataset/ann/file)."""
    places = [folder / "meta.json" for folder in list(annotation.absolute().parents)[:3]]
    return next((p for p in places if p.is_file()), None)


def read_annotation(source: str | Path | Mapping[str, Any], meta: ProjectMeta | None = None) -> Annotation:
    """Read a video annotation, as the SDK exports it or as the server sends it.

    meta: for the bones of skeletons; when left out, `find_meta` is asked, and without one skeletons have no bones. Raises
    `PromptInvalid` when the file is missing or is no video annotation.
    """
    if meta is None and not isinstance(source, Mapping):
        path = find_meta(Path(source))
        meta = read_meta(path) if path else None
    data = _load(source)
    try:
        return _annotation(data, meta or ProjectMeta())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = "annotation" if isinstance(source, Mapping) else f"annotation {Path(source).name}"
        raise PromptInvalid(f"The {where} is no Supervisely video annotation: {error!r}.") from error


def _annotation(data: Mapping[str, Any], meta: ProjectMeta) -> Annotation:
    width, height = int(data["size"]["width"]), int(data["size"]["height"])
    objects: dict[str, AnnotatedObject] = {}
    names: dict[object, str] = {}  # figures name their object by key, by id, or both
    for entry in data["objects"]:
        key = str(entry.get("key") or entry["id"])
        objects[key] = AnnotatedObject(key, str(entry["classTitle"]), tuple(entry.get("tags") or ()))
        names[key] = key
        if "id" in entry:
            names[entry["id"]] = key
    figures: dict[int, list[Figure]] = {}
    skipped: Counter[str] = Counter()
    for frame in data["frames"]:
        index = int(frame["index"])
        for entry in frame.get("figures") or ():
            key = names[entry["objectKey"] if entry.get("objectKey") else entry["objectId"]]
            kind = str(entry["geometryType"])
            if known_type(kind) is None:
                skipped[kind] += 1
                continue
            object_class = meta.classes.get(objects[key].class_name)
            bones = object_class.template.bones if object_class and object_class.template else ()
            value = from_json(kind, entry["geometry"], width, height, bones)
            custom = entry.get("customData") or {}
            track_id = entry.get("trackId")
            figures.setdefault(index, []).append(
                Figure(
                    key,
                    value,
                    predicted=track_id is not None or bool(entry.get("nnCreated", False)),
                    score=None if custom.get("score") is None else float(custom["score"]),
                    visible=bool(custom.get("visible", True)),
                    track_id=track_id,
                )
            )
    tags = tuple(data.get("tags") or ())
    return Annotation(width, height, int(data["framesCount"]), objects, figures, tags, dict(skipped))


def _load(source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    path = Path(source)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptInvalid(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise PromptInvalid(f"{path.name} is not JSON: {error}.") from error
    if not isinstance(data, Mapping):
        raise PromptInvalid(f"{path.name} is no Supervisely annotation: it holds a {type(data).__name__}.")
    return data


class AnnotationWriter:
    """Writes an annotation that `sly.VideoAnnotation.from_json` reads. Use it as a context manager.

    Frames go in one by one, each index once: every next one lies outside the range of those before (forward, or backward,
    or forward and then backward from where it began). What a figure shows outside of the picture is cut off, figures that
    are wholly outside are left out and counted in `dropped`. Keys are made from names alone, so the same run writes the
    same bytes; ids count from 1, because `KeyIdMap` holds no two entries without one. Leaving the block, also by an exception, closes the file with the frames written so far.

    meta: classes of all objects; it may be given a new one through `meta` when a class turns up later. name: of the video,
    goes into the keys. tags: of the whole video. keep: None starts a new file; a number takes up the file that an earlier
    writer with the same arguments left, finished or not, and keeps its first `keep` frames (objects are added again by the
    caller). Raises `OutputUnusable` when the file cannot be written, or holds something else or fewer frames.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        meta: ProjectMeta,
        *,
        name: str = "",
        description: str = "",
        tags: Iterable[Mapping[str, Any]] = (),
        keep: int | None = None,
    ) -> None:
        self.meta = meta
        self.dropped = 0
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._width, self._height = width, height
        self._video = uuid.uuid5(_NAMESPACE, name)
        self._track_id = str(uuid.uuid5(self._video, "track"))
        self._objects: dict[str, tuple[uuid.UUID, AnnotatedObject]] = {}
        self._first, self._last = 0, -1
        self._frames = self._figures = 0
        head: dict[str, Any] = {
            "size": {"height": height, "width": width},
            "description": description,
            "key": self._video.hex,
            "tags": [{"id": n, **t} for n, t in enumerate(tags, 1)],
        }
        header = _dumps(head)[:-1] + ',"frames":[\n'
        with self._writing():
            self._file = self._open(header.encode(), keep)

    @property
    def frames_written(self) -> int:
        """How many frames the file holds: the `keep` that takes up from here."""
        return self._frames

    def add_object(self, key: str, class_name: str, tags: Iterable[Mapping[str, Any]] = ()) -> None:
        """Announce an object, before its first figure. Again with the same key: replaces class and tags.

        key: unique in this file; a UUID stays what it is. Raises ValueError when meta has no such class.
        """
        if class_name not in self.meta.classes:
            raise ValueError(f"object {key!r} is of class {class_name!r}, which meta does not have")
        try:
            identity = uuid.UUID(key)
        except ValueError:
            identity = uuid.uuid5(self._video, key)
        self._objects[key] = identity, AnnotatedObject(key, class_name, tuple(tags))

    def write(self, index: int, figures: Iterable[Figure]) -> int:
        """Write frame `index` >= 0 and give back the number of figures that its line holds.

        Raises ValueError for an index inside the range already written, for an object that was not announced and for a
        geometry that its class does not take.
        """
        if index < 0 or (self._frames and self._first <= index <= self._last):
            raise ValueError(f"frame {index} comes after frames {self._first}..{self._last}")
        entries: list[dict[str, Any]] = []
        parts: Counter[str] = Counter()
        for figure in figures:
            value = figure.geometry
            if isinstance(value, Mask) and (value.height, value.width) != (self._height, self._width):
                raise ValueError(f"a {value.width}x{value.height} mask in a {self._width}x{self._height} video")
            pieces = clip_to_frame(value, self._width, self._height)
            self.dropped += not pieces
            for piece in pieces:
                entries.append(self._entry(index, figure, piece, parts[figure.key]))
                parts[figure.key] += 1
        line = ("," if self._frames else "") + _dumps({"index": index, "figures": entries}) + "\n"
        with self._writing():
            self._file.write(line.encode())
            self._file.flush()
        self._count(index)
        return len(entries)

    def close(self, frames: int | None = None) -> None:
        """Finish the file and give it its name. frames: of the video; without it, up to the last one written."""
        if self._file.closed:
            return
        objects = [
            {"id": n, "key": identity.hex, "classTitle": entry.class_name, "tags": [dict(t) for t in entry.tags]}
            for n, (identity, entry) in enumerate(self._objects.values(), 1)
        ]
        count = max(self._last + 1, frames or 0)
        with self._writing():
            self._file.write(f'],"framesCount":{count},"objects":{_dumps(objects)}}}\n'.encode())
            self._file.close()
            self._part.replace(self._path)

    def __enter__(self) -> AnnotationWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _entry(self, index: int, figure: Figure, value: Value, part: int) -> dict[str, Any]:
        if figure.key not in self._objects:
            raise ValueError(f"object {figure.key!r} was not announced")
        identity, owner = self._objects[figure.key]
        object_class = self.meta.classes[owner.class_name]
        if not object_class.accepts(value):
            raise ValueError(
                f"object {figure.key!r} of class {object_class.name!r} ({object_class.shape}) "
                f"cannot have this {geometry_type(value)}"
            )
        self._figures += 1
        entry: dict[str, Any] = {
            "id": self._figures,
            "key": uuid.uuid5(identity, f"{index}/{part}").hex,
            "objectKey": identity.hex,
            "geometryType": geometry_type(value),
            "geometry": to_json(value, self._width, self._height),
            "nnCreated": figure.predicted,
            "nnUpdated": figure.predicted,
            "meta": {"frame": index},
        }
        if figure.predicted:
            entry["trackId"] = figure.track_id or self._track_id
        custom: dict[str, Any] = {}
        if figure.score is not None:
            custom["score"] = round(float(figure.score), 4)
        if not figure.visible:
            custom["visible"] = False
        if custom:
            entry["customData"] = custom
        return entry

    def _count(self, index: int) -> None:
        self._first, self._last = (min(self._first, index), max(self._last, index)) if self._frames else (index, index)
        self._frames += 1

    def _take_up(self, header: bytes, keep: int) -> int:
        """Read past the first `keep` frames that an earlier writer left; gives the offset behind them. Changes no file."""
        source = self._part if self._part.exists() else self._path
        if not source.exists():
            raise OutputUnusable(f"{self._path} is not there to be continued; start anew.")
        with source.open("rb") as file:
            if file.readline() != header:
                raise OutputUnusable(f"{self._path} holds another job's results; choose another folder.")
            while self._frames < keep:
                line = file.readline()
                if not line.endswith(b"\n") or not line.startswith((b"{", b",{")):
                    raise OutputUnusable(f"{self._path} holds {self._frames} frames, {keep} were expected; start anew.")
                frame = json.loads(line.lstrip(b","))
                self._count(int(frame["index"]))
                self._figures += len(frame["figures"])
            return file.tell()

    def _open(self, header: bytes, keep: int | None) -> BinaryIO:
        if keep is None:
            file: BinaryIO = self._part.open("wb")
            file.write(header)
            return file
        end = self._take_up(header, keep)
        if not self._part.exists():
            self._path.replace(self._part)
        file = self._part.open("r+b")
        file.truncate(end)
        file.seek(end)
        return file

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputUnusable(f"{self._path} cannot be written: {error.strerror or error}.") from error


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
