"""What a server knows, as values: videos, figures, objects, classes and tags. Unknown keys are dropped, ids stay ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.geometry.meta import ObjectClass

JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class VideoRecord:
    """One video. frames: as the server counts them; width, height: pixels, upright; fps: average, 0.0 when unknown;
    size_bytes: of the file, 0 when unknown; hash: base64 of the file's SHA-256, "" when the server keeps none."""

    id: int
    name: str
    dataset_id: int
    project_id: int
    frames: int
    width: int
    height: int
    fps: float = 0.0
    size_bytes: int = 0
    hash: str = ""
    team_id: int = 0
    workspace_id: int = 0
    updated_at: str = ""

    @classmethod
    def from_json(cls, data: JsonObject) -> VideoRecord:
        """From an entity of `videos.info` or `videos.list`. Time codes are not kept: they grow with the video."""
        file = data.get("fileMeta") or {}
        frames = int(file.get("framesCount") or data.get("framesCount") or 0)
        duration = float(file.get("duration") or 0.0)
        return cls(
            id=int(data["id"]),
            name=str(data.get("name") or data.get("title") or data["id"]),
            dataset_id=int(data["datasetId"]),
            project_id=int(data.get("projectId") or 0),
            frames=frames,
            width=int(file.get("width") or data.get("frameWidth") or 0),
            height=int(file.get("height") or data.get("frameHeight") or 0),
            fps=frames / duration if duration > 0 else 0.0,
            size_bytes=int(file.get("size") or 0),
            hash=str(data.get("hash") or ""),
            team_id=int(data.get("teamId") or 0),
            workspace_id=int(data.get("workspaceId") or 0),
            updated_at=str(data.get("updatedAt") or ""),
        )


@dataclass(frozen=True)
class FigureRecord:
    """One figure on one frame.

    geometry: as JSON, {} when it was read without. meta: as stored, "frame" in it. track_id: of the tracking that wrote
    it, None for a figure that a person drew. updated_at: ISO 8601, UTC; such texts of one server sort by time.
    """

    id: int
    object_id: int
    frame: int
    geometry_type: str
    geometry: JsonObject = field(default_factory=dict, hash=False)
    meta: JsonObject = field(default_factory=dict, hash=False)
    track_id: str | None = None
    nn_created: bool = False
    nn_updated: bool = False
    priority: int | None = None
    custom_data: JsonObject = field(default_factory=dict, hash=False)
    video_id: int = 0
    class_id: int = 0
    created_at: str = ""
    updated_at: str = ""

    @property
    def by_person(self) -> bool:
        """A person drew it (it has no track), or corrected what a tracker wrote (made by a network, changed by none).

        Such figures are key figures: nothing here ever removes or covers them.
        """
        return self.track_id is None or (self.nn_created and not self.nn_updated)

    @property
    def part(self) -> int:
        """Which of several figures of one object on one frame it is, 0 for the only one."""
        part = self.meta.get("part", 0)
        return part if isinstance(part, int) else 0

    @classmethod
    def from_json(cls, data: JsonObject) -> FigureRecord:
        meta = data.get("meta") or {}
        frame = meta.get("frame")
        if frame is None:
            frame = data.get("frameIndex", data.get("startFrame"))
        if frame is None:
            frame = 0
        priority = data.get("priority")
        track = data.get("trackId")
        return cls(
            id=int(data["id"]),
            object_id=int(data["objectId"]),
            frame=int(frame),
            geometry_type=str(data["geometryType"]),
            geometry=data.get("geometry") or {},
            meta=meta,
            track_id=None if track is None else str(track),
            nn_created=bool(data.get("nnCreated")),
            nn_updated=bool(data.get("nnUpdated")),
            priority=None if priority is None else int(priority),
            custom_data=data.get("customData") or {},
            video_id=int(data.get("entityId") or data.get("imageId") or 0),
            class_id=int(data.get("classId") or 0),
            created_at=str(data.get("createdAt") or ""),
            updated_at=str(data.get("updatedAt") or ""),
        )


@dataclass(frozen=True)
class NewFigure:
    """A figure to be written.

    geometry: Supervisely JSON of geometry_type, within the frame. track_id: of the tracking that made it; several figures
    of one object on one frame are told apart by part (0, 1, ...). source_figure_id: the key figure it was tracked from.
    score: 0..1 and visible go to the figure's customData, which the annotation tool does not read; None leaves them out.
    meta: more of it, added to frame, sourceFigureId and part.
    """

    object_id: int
    frame: int
    geometry_type: str
    geometry: JsonObject = field(hash=False)
    track_id: str = ""
    source_figure_id: int | None = None
    part: int = 0
    score: float | None = None
    visible: bool | None = None
    meta: JsonObject = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.track_id:
            raise ValueError("a figure without a track would look as if a person had drawn it")
        if self.frame < 0 or self.part < 0:
            raise ValueError(f"frame and part are 0 or more, got {self.frame} and {self.part}")

    @property
    def place(self) -> Place:
        return Place(self.track_id, self.object_id, self.frame, self.part)


@dataclass(frozen=True)
class Place:
    """What makes two figures the same one sent twice."""

    track_id: str
    object_id: int
    frame: int
    part: int = 0


@dataclass(frozen=True)
class TagRecord:
    """A tag on an object or a video. name: "" when the server gave only tag_id. frames: first and last, both within;
    None = the whole video."""

    id: int
    tag_id: int
    name: str = ""
    frames: tuple[int, int] | None = None
    value: str | float | None = None

    @classmethod
    def from_json(cls, data: JsonObject) -> TagRecord:
        frames = data.get("frameRange")
        return cls(
            id=int(data["id"]),
            tag_id=int(data["tagId"]),
            name=str(data.get("name") or ""),
            frames=None if not frames else (int(frames[0]), int(frames[1])),
            value=data.get("value"),
        )


@dataclass(frozen=True)
class TagDefinition:
    """A tag as the project defines it. value_type: "none", "any_string", "any_number" or "oneof_string"."""

    id: int
    name: str
    value_type: str = "none"

    @classmethod
    def from_json(cls, data: JsonObject) -> TagDefinition:
        return cls(int(data["id"]), str(data["name"]), str(data.get("value_type") or "none"))


@dataclass(frozen=True)
class ClassRecord:
    """A class of the project: its id on the server and what it is (name, shape, skeleton template with bones)."""

    id: int
    object_class: ObjectClass

    @property
    def name(self) -> str:
        return self.object_class.name

    @property
    def shape(self) -> str:
        return self.object_class.shape

    @property
    def bones(self) -> tuple[tuple[str, str], ...]:
        """Pairs of node ids, () for a class that is no skeleton."""
        template = self.object_class.template
        return () if template is None else template.bones

    @classmethod
    def from_json(cls, data: JsonObject) -> ClassRecord:
        """From an entry of `projects.meta`."""
        return cls(int(data["id"]), ObjectClass.from_json(data))


@dataclass(frozen=True)
class ObjectRecord:
    """One object of a video: what its figures on all frames belong to. video_id: None in multi-view projects."""

    id: int
    class_id: int
    video_id: int | None = None
    dataset_id: int = 0
    class_name: str = ""
    tags: tuple[TagRecord, ...] = ()

    def tagged(self, name: str) -> tuple[tuple[int, int] | None, ...]:
        """Frame ranges (first, last; both within) of its tags of that name; None for a tag on the whole object."""
        return tuple(tag.frames for tag in self.tags if tag.name == name)
