"""What a request wants tracked: figures of the server or of the request, read, checked, and turned into prompts."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import EngineUnavailable, PromptInvalid, ServerRefused, UserError
from common.geometry.clip import clip_to_frame
from common.geometry.shapes import Polygon, Polyline, SinglePoint, Skeleton, Value, to_geometry, with_points
from common.geometry.supervisely import from_json, known_type
from common.geometry.types import Geometry, Points
from common.serving.envelope import AsyncContext, GivenFigure, TrackContext
from common.supervisely_io.figures import figures_by_id
from common.supervisely_io.projects import objects, project
from common.supervisely_io.records import FigureRecord, VideoRecord
from common.supervisely_io.server import Server
from common.tracking.contract import Prompt

MAX_BITMAP_BYTES = 64 * 1024 * 1024
"""A bitmap's PNG may not be larger once unpacked; such a small text can hold a picture that fills any memory."""
MAX_BITMAP_SIDE = 32_768

Bones = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Target:
    """One object to track.

    key: unique in the request. value: as drawn; results are given back in its likeness. type_name: as the request wrote it.
    """

    key: str
    value: Value
    type_name: str
    object_id: int = 0
    figure_id: int | None = None

    @property
    def prompt(self) -> Prompt:
        return Prompt(self.key, to_geometry(self.value))

    def like(self, geometry: Geometry) -> Value:
        """A tracker's answer as the geometry type that was drawn."""
        if isinstance(self.value, Polygon | Polyline | SinglePoint | Skeleton):
            if not isinstance(geometry, Points):
                raise TypeError(f"points were given and {type(geometry).__name__} came back")
            return with_points(self.value, geometry)
        if isinstance(geometry, Points):
            raise TypeError("points came back for an area")
        return geometry


def read_value(
    type_name: str,
    data: Mapping[str, Any],
    width: int,
    height: int,
    shapes: Collection[str],
    bones: Bones = (),
) -> Value:
    """A geometry of a request. shapes: what the app serves.

    Raises `PromptInvalid` for damaged JSON, `EngineUnavailable` for a type that the app does not serve.
    """
    name = known_type(type_name)
    if name is None or name not in shapes:
        raise EngineUnavailable(
            f"This app cannot track {type_name!r}. It tracks: {', '.join(sorted(shapes))}. Choose another tracker for it."
        )
    if name == "bitmap":
        _check_bitmap(data)
    return from_json(name, data, width, height, bones)


def in_picture(value: Value, width: int, height: int) -> bool:
    """Whether the picture shows anything of it."""
    return bool(clip_to_frame(value, width, height))


@dataclass(frozen=True)
class Loaded:
    """What can be tracked, and in a sentence each what cannot: one bad figure must not keep the others from it."""

    targets: tuple[Target, ...]
    left_out: tuple[str, ...] = ()


def from_server(context: TrackContext, server: Server, video: VideoRecord, shapes: Collection[str]) -> Loaded:
    """The figures that a `/track` request names. Raises `PromptInvalid`, `EngineUnavailable` when none can be tracked."""
    found = figures_by_id(server, video.dataset_id, context.figure_ids)
    owner = dict(zip(context.figure_ids, context.object_ids, strict=False))
    figures = []
    gone: list[UserError] = []
    for ident in dict.fromkeys(context.figure_ids):
        figure = found.get(ident)
        if figure is None:
            gone.append(PromptInvalid(f"Figure {ident} does not exist any more. Draw the object again."))
        elif figure.video_id not in (0, video.id):
            gone.append(PromptInvalid(f"Figure {ident} is not on video {video.id}."))
        else:
            figures.append((str(ident), figure, owner.get(ident, figure.object_id)))
    return _load(server, video, shapes, figures, gone)


def from_request(context: AsyncContext, server: Server, video: VideoRecord, shapes: Collection[str]) -> Loaded:
    """The figures that a `/track_async` request holds. Raises as `from_server` does."""
    figures = [(str(number), figure, figure.object_id) for number, figure in enumerate(context.figures)]
    return _load(server, video, shapes, figures, [])


def _load(
    server: Server,
    video: VideoRecord,
    shapes: Collection[str],
    figures: Sequence[tuple[str, FigureRecord | GivenFigure, int]],
    known: Sequence[UserError],
) -> Loaded:
    """figures: key, figure, and the object that it is tracked for. known: what is wrong with others."""
    errors = list(known)
    bones = _bones(server, video, [owner for _, figure, owner in figures if figure.geometry_type == "graph"])
    targets = []
    for key, figure, owner in figures:
        try:
            drawn = read_value(
                figure.geometry_type, figure.geometry, video.width, video.height, shapes, bones.get(owner, ())
            )
        except (PromptInvalid, EngineUnavailable) as error:
            errors.append(error)
        else:
            targets.append(Target(key, drawn, figure.geometry_type, owner, figure.id))
    if not targets:
        raise errors[0]
    return Loaded(tuple(targets), tuple(dict.fromkeys(map(str, errors))))


def _bones(server: Server, video: VideoRecord, object_ids: Sequence[int]) -> dict[int, Bones]:
    """Bones of the skeleton classes of those objects. A skeleton whose class is not to be had is tracked without."""
    if not object_ids:
        return {}
    try:
        classes = project(server, video.project_id).classes
        owners = {found.id: found.class_id for found in objects(server, video, object_ids)}
    except ServerRefused as error:
        if error.status in (401, 403):
            raise
        return {}
    return {ident: classes[class_id].bones for ident, class_id in owners.items() if class_id in classes}


def _check_bitmap(data: Mapping[str, Any]) -> None:
    """Raises `PromptInvalid` for a bitmap that would unpack to far more than any mask needs."""
    bitmap = data.get("bitmap")
    text = bitmap.get("data") if isinstance(bitmap, Mapping) else None
    if not isinstance(text, str):
        raise PromptInvalid("A bitmap has no data.")
    try:
        raw = base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise PromptInvalid("A bitmap's data is not base64.") from error
    try:
        png = zlib.decompressobj().decompress(raw, MAX_BITMAP_BYTES + 1)
    except zlib.error:
        png = raw
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    if len(png) > MAX_BITMAP_BYTES or max(width, height) > MAX_BITMAP_SIDE:
        raise PromptInvalid("A bitmap is larger than any picture this app takes.")
