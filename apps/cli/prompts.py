"""What the person drew, from the command line's options or a Supervisely annotation, checked against the video."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from common.errors import PromptInvalid
from common.geometry.annotation import AnnotatedObject, Figure, find_meta, read_annotation, read_meta
from common.geometry.measures import intersects_frame
from common.geometry.meta import ObjectClass, ProjectMeta
from common.geometry.shapes import Shape, SinglePoint, Skeleton, Value, to_geometry, to_points, with_points
from common.geometry.supervisely import geometry_type
from common.geometry.types import Box, Geometry, Mask, Points
from common.tracking.contract import GeometryKind, Prompt
from common.tracking.plan import KeyFigure
from common.video.contract import VideoInfo

Make = tuple[int, tuple[tuple[int, int], ...]]
"""Number of points, and the edges between them."""

_AT = re.compile(r"\s*(?P<value>.*?)\s*(?:@\s*(?P<frame>[\d.+-]*)\s*)?", re.DOTALL)


@dataclass(frozen=True)
class Label:
    """What a tracked object is called, and how its results are given back.

    name: for people. class_name: in the annotation. value: as it was drawn first. annotated: the object of the annotation
    that it belongs to; several tracked objects may share one (parts drawn on one frame). templates: what is written when
    points come back, by number of points and edges: a polygon may have more vertices on one key figure than on another.
    """

    name: str
    class_name: str
    value: Value
    annotated: AnnotatedObject
    templates: dict[Make, Shape] = field(default_factory=dict, compare=False)

    def learn(self, value: Value, frame: int) -> None:
        """Take in a further key figure. Raises `PromptInvalid` when it does not fit the others."""
        if type(value) is not type(self.value):
            raise PromptInvalid(f"{self.name} is drawn as different geometries; use one for each object.")
        if isinstance(value, Shape):
            known = self.templates.setdefault(_make(to_points(value)), value)
            if isinstance(value, Skeleton) and isinstance(known, Skeleton) and value.ids != known.ids:
                raise PromptInvalid(
                    f"{self.name} has other nodes on frame {frame} than before; keep its nodes, disabled where hidden."
                )

    def drawn(self, geometry: Geometry) -> Value:
        """A tracker's geometry as what the person drew."""
        return with_points(self.templates[_make(geometry)], geometry) if isinstance(geometry, Points) else geometry


@dataclass(frozen=True)
class Prompts:
    """Everything that was drawn. labels: by key, in order. meta: the classes of all labels. files: what it was read from.
    skipped: figures of types that cannot be tracked, by type.
    """

    key_figures: Sequence[KeyFigure]
    labels: Mapping[str, Label]
    meta: ProjectMeta
    files: Sequence[Path] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptFlags:
    """The raw values of --box, --mask and --point, each repeatable, each optionally ending in @frame."""

    boxes: Sequence[str] = ()
    masks: Sequence[str] = ()
    points: Sequence[str] = ()


def _make(points: Points) -> Make:
    return len(points.xy), points.edges


def kind_of(geometry: Geometry) -> GeometryKind:
    """The contract's word for a geometry."""
    if isinstance(geometry, Box):
        return "box"
    if isinstance(geometry, Mask):
        return "mask"
    return "points" if isinstance(geometry, Points) else "oriented_box"


def gather(annotation: Path | None, flags: PromptFlags, info: VideoInfo) -> Prompts:
    """From a Supervisely annotation, the options, or both. Keys are "1", "2", ...: first the annotation's objects, then
    boxes, masks, points. Raises `PromptInvalid`.
    """
    figures: list[KeyFigure] = []
    labels: dict[str, Label] = {}
    classes: dict[str, ObjectClass] = {}
    skipped: Mapping[str, int] = {}
    if annotation is not None:
        skipped = _add_annotation(annotation, info, figures, labels, classes)
    for frame, value in _drawn(flags, info):
        key = str(len(labels) + 1)
        name = geometry_type(value) if not isinstance(value, Box | Mask) else kind_of(value)
        object_class = ObjectClass.of(name, value)
        classes.setdefault(name, object_class)
        labels[key] = Label(f"{name} {key}", name, value, AnnotatedObject(key, name))
        labels[key].learn(value, frame)
        figures.append(KeyFigure(frame, Prompt(key, to_geometry(value))))
    check(figures, info)
    return Prompts(figures, labels, ProjectMeta.of(classes.values()), _files(annotation, flags, info), skipped)


def _files(annotation: Path | None, flags: PromptFlags, info: VideoInfo) -> list[Path]:
    masks = [Path(_split(text, "--mask", info)[0]) for text in flags.masks]
    return masks if annotation is None else [*filter(None, [annotation, find_meta(annotation)]), *masks]


def _drawn(flags: PromptFlags, info: VideoInfo) -> Iterator[tuple[int, Value]]:
    for text in flags.boxes:
        value, frame = _split(text, "--box", info)
        yield frame, _box(value, text)
    for text in flags.masks:
        value, frame = _split(text, "--mask", info)
        for mask in _masks(Path(value), info):
            yield frame, mask
    for text in flags.points:
        value, frame = _split(text, "--point", info)
        yield frame, SinglePoint(np.array(_numbers(value, 2, "--point", "x,y", text), np.float32))


def _add_annotation(
    path: Path,
    info: VideoInfo,
    figures: list[KeyFigure],
    labels: dict[str, Label],
    classes: dict[str, ObjectClass],
) -> Mapping[str, int]:
    """Gives the figures that were left out, by type."""
    if not path.is_file():
        raise PromptInvalid(f"--prompts {path}: there is no such file.")
    annotation = read_annotation(path)
    if (annotation.width, annotation.height) != (info.width, info.height):
        raise PromptInvalid(
            f"{path.name} was drawn on {annotation.width} x {annotation.height} pixels, the video is "
            f"{info.width} x {info.height}."
        )
    meta_path = find_meta(path)
    meta = read_meta(meta_path) if meta_path else ProjectMeta()
    keys: dict[tuple[str, int], str] = {}  # (annotated object, part of it) -> key of what is tracked
    for frame, drawn in annotation.key_figures().items():
        parts: Counter[str] = Counter()
        for object_key, value in _joined(drawn):
            part = object_key, parts[object_key]
            parts[object_key] += 1
            annotated = annotation.objects[object_key]
            key = keys.setdefault(part, str(len(labels) + 1))
            if key not in labels:
                labels[key] = Label(f"{annotated.class_name} {key}", annotated.class_name, value, annotated)
                known = meta.classes.get(annotated.class_name)
                classes.setdefault(annotated.class_name, known or ObjectClass.of(annotated.class_name, value))
            labels[key].learn(value, frame)
            figures.append(KeyFigure(frame, Prompt(key, to_geometry(value))))
    if not figures:
        what = (
            f", only {' and '.join(annotation.skipped)} figures, which cannot be tracked" if annotation.skipped else ""
        )
        raise PromptInvalid(f"{path.name} has no figures drawn by a person{what}; draw at least one to track from.")
    return annotation.skipped


def _joined(figures: Sequence[Figure]) -> Iterator[tuple[str, Value]]:
    """Figures of one frame by object; the masks of one object become one mask."""
    masks: dict[str, list[Mask]] = defaultdict(list)
    for figure in figures:
        if isinstance(figure.geometry, Mask):
            masks[figure.key].append(figure.geometry)
        else:
            yield figure.key, figure.geometry
    for key, parts in masks.items():
        yield key, parts[0] if len(parts) == 1 else Mask.from_array(np.any([part.to_array() for part in parts], 0))


def check(figures: Sequence[KeyFigure], info: VideoInfo) -> None:
    """Raises `PromptInvalid` for a frame that does not exist, an empty mask, or a geometry outside the picture."""
    if not figures:
        raise PromptInvalid("Nothing to track: draw at least one object with --box, --mask, --point or --prompts.")
    for figure in figures:
        _check_frame(figure.frame, info)
        geometry = figure.prompt.geometry
        name = f"Object {figure.prompt.key} on frame {figure.frame}"
        if isinstance(geometry, Mask) and not geometry.area:
            raise PromptInvalid(f"{name}: the mask is empty. Draw at least one pixel.")
        if isinstance(geometry, Box) and (geometry.xyxy[0] == geometry.xyxy[2] or geometry.xyxy[1] == geometry.xyxy[3]):
            raise PromptInvalid(f"{name}: the box has no area. Its corners are x1,y1,x2,y2 with x1 < x2 and y1 < y2.")
        if not intersects_frame(geometry, info.width, info.height):
            raise PromptInvalid(
                f"{name} lies outside the picture, which is {info.width} x {info.height} pixels. Draw it inside."
            )


def _split(text: str, flag: str, info: VideoInfo) -> tuple[str, int]:
    match = _AT.fullmatch(text)
    assert match is not None
    if match["frame"] is not None and not match["frame"].isdecimal():
        raise PromptInvalid(f"{flag} {text}: after the @ comes the number of a frame, such as @25.")
    frame = int(match["frame"] or 0)
    _check_frame(frame, info)
    if not match["value"]:
        raise PromptInvalid(f"{flag} {text}: nothing before the @.")
    return match["value"], frame


def _check_frame(frame: int, info: VideoInfo) -> None:
    if not 0 <= frame < info.frames:
        raise PromptInvalid(
            f"Frame {frame} does not exist: {info.name} has {info.frames} frames, numbered 0 to {info.frames - 1}."
        )


def _numbers(value: str, count: int, flag: str, form: str, text: str) -> list[float]:
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e6:
        raise PromptInvalid(f"{flag} {text}: expected {form} in pixels, {count} numbers with commas between them.")
    return numbers


def _box(value: str, text: str) -> Box:
    x1, y1, x2, y2 = _numbers(value, 4, "--box", "x1,y1,x2,y2", text)
    if x1 >= x2 or y1 >= y2:
        raise PromptInvalid(f"--box {text}: the corners are x1,y1,x2,y2 with x1 < x2 and y1 < y2.")
    return Box(np.array([x1, y1, x2, y2], np.float32))


def _masks(path: Path, info: VideoInfo) -> list[Mask]:
    """One mask per file; a palette picture (one colour index per object, 0 = background) gives one per index."""
    if not path.is_file():
        raise PromptInvalid(f"--mask {path}: there is no such file.")
    encoded = np.fromfile(path, np.uint8)
    if encoded.size == 0:
        raise PromptInvalid(f"--mask {path}: the file is empty.")
    labels = _palette_indices(path)
    if labels is None:
        grey = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if grey is None:
            raise PromptInvalid(f"--mask {path}: not a picture that can be read. A PNG is expected.")
        if grey.ndim == 3:
            grey = (
                grey[..., 3]
                if grey.shape[2] == 4 and (grey[..., 3] < grey[..., 3].max()).any()
                else grey[..., :3].max(2)
            )
        top = int(grey.max())
        labels = (grey > (top // 2 if top > 1 else 0)).astype(np.uint8)
    if labels.shape != (info.height, info.width):
        raise PromptInvalid(
            f"--mask {path}: the mask is {labels.shape[1]} x {labels.shape[0]} pixels, the video {info.width} x {info.height}."
        )
    masks = [Mask.from_array(labels == index) for index in np.unique(labels) if index]
    if not masks:
        raise PromptInvalid(f"--mask {path}: the mask is empty. Draw at least one pixel.")
    return masks


def _palette_indices(path: Path) -> np.ndarray | None:
    """Colour indices of a palette picture, None for any other."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        with Pillow.open(path) as picture:
            return np.array(picture) if picture.mode == "P" else None
    except (UnidentifiedImageError, OSError):
        return None
