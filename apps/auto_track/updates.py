"""What the annotation tool reports while a track runs, as values; and how its requests are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from apps.auto_track.billing import Account
from common.serving.envelope import FrameNumber, Ident, Name, Read

Direction = Literal["forward", "backward", "both"]


@dataclass(frozen=True)
class TrackMore:
    """Objects are to be tracked: new ones, or ones whose figure on that frame was drawn or edited. figure_ids: figures of
    more objects, for callers that name figures instead."""

    object_ids: tuple[int, ...]
    frame: int
    frames: int
    direction: Direction = "forward"
    figure_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Continue:
    """Everything that reaches `frame` goes on for `frames` more."""

    frame: int
    frames: int
    direction: Direction = "forward"


@dataclass(frozen=True)
class FiguresRemoved:
    """A person removed an object's figures on those frames (first, last; both within)."""

    object_id: int
    frames: tuple[int, int]


@dataclass(frozen=True)
class KeyChanged:
    """The figures of an object on a frame may be others now: look."""

    object_id: int
    frame: int


@dataclass(frozen=True)
class TagsChanged:
    """The no-objects tags of an object may be others now: look."""

    object_id: int


@dataclass(frozen=True)
class MetaChanged:
    """The project's classes and tags may be others now: look."""


@dataclass(frozen=True)
class Switched:
    """The tool's check boxes, as a later request of the same track gives them; None = not mentioned."""

    by_detection: bool | None
    off_screen: bool | None


@dataclass(frozen=True)
class Billed:
    """Who pays from here on."""

    account: Account


Update = Billed | Switched | TrackMore | Continue | FiguresRemoved | KeyChanged | TagsChanged | MetaChanged


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else "forward" if value is None else value


def _given(value: object) -> object:
    return True if value is None else value


Way = Annotated[Direction, BeforeValidator(_lower)]
Switch = Annotated[bool, BeforeValidator(_given)]
Session = Annotated[Name | None, BeforeValidator(lambda value: None if value == "" else value)]


class TrackContext(Read):
    """`/track`, `/tracking_by_detection` and `/continue_track`. frames: how many to go, the first one not counted."""

    track_id: Name = Field(validation_alias=_names("trackId", "track_id"))
    video_id: Ident = Field(validation_alias=_names("videoId", "video_id"))
    object_ids: list[Ident] | None = Field(default=None, validation_alias=_names("objectIds", "object_ids"))
    figure_ids: list[Ident] = Field(default_factory=list, validation_alias=_names("figureIds", "figure_ids"))
    frame_index: FrameNumber = Field(validation_alias=_names("frameIndex", "frame_index"))
    frames: Annotated[int, Field(ge=1, le=2**31)] = Field(validation_alias=_names("frames", "framesCount"))
    session_id: Session = Field(default=None, validation_alias=_names("sessionId", "session_id"))
    direction: Way = "forward"
    by_detection: Switch = Field(
        default=True, validation_alias=_names("trackByDetection", "trackingByDetection", "track_by_detection")
    )
    off_screen: Switch = Field(default=True, validation_alias=_names("detectOffScreen", "detect_off_screen"))
    direct: Annotated[bool, BeforeValidator(lambda value: value is True)] = Field(
        default=False, validation_alias=_names("useDirectProgressMessages", "use_direct_progress_messages")
    )

    def switched(self) -> Switched | None:
        """The check boxes that the request mentions; None when it mentions none."""
        named = self.model_fields_set
        by_detection = self.by_detection if "by_detection" in named else None
        off_screen = self.off_screen if "off_screen" in named else None
        return None if by_detection is None and off_screen is None else Switched(by_detection, off_screen)

    def kept(self) -> dict[str, Any]:
        """For the journal: what a session needs to know again, no token in it."""
        return {
            "trackId": self.track_id,
            "videoId": self.video_id,
            "frameIndex": self.frame_index,
            "frames": self.frames,
            "sessionId": self.session_id,
            "direction": self.direction,
            "trackByDetection": self.by_detection,
            "detectOffScreen": self.off_screen,
            "useDirectProgressMessages": self.direct,
        }


class RemovedFigure(Read):
    object_id: Ident = Field(validation_alias=_names("objectId", "object_id"))
    frames: tuple[FrameNumber, FrameNumber]


class ObjectsRemoved(Read):
    figures: list[RemovedFigure]


class KeyFigureRemoved(Read):
    object_id: Ident = Field(validation_alias=_names("objectId", "object_id"))
    frame: FrameNumber


class ManualObjectsRemoved(Read):
    video_id: Ident = Field(validation_alias=_names("videoId", "video_id"))
    figures: list[KeyFigureRemoved]


class Tag(Read):
    object_id: Ident = Field(validation_alias=_names("objectId", "object_id"))
    video_id: Ident | None = Field(default=None, validation_alias=_names("videoId", "imageId", "video_id"))


class TagRemoved(Read):
    tag: Tag


class NoObjectsChanged(Read):
    video_id: Ident = Field(validation_alias=_names("videoId", "video_id"))
    object_id: Ident = Field(validation_alias=_names("objectId", "object_id"))


class ProjectMetaChanged(Read):
    project_id: Ident = Field(validation_alias=_names("projectId", "project_id"))


class StopTracking(Read):
    track_id: Name = Field(
        validation_alias=_names("trackId", "track_id", "inference_request_uuid", "inferenceRequestUuid")
    )


class Interpolate(Read):
    video_id: Ident = Field(validation_alias=_names("videoId", "video_id"))
    figure_ids: list[Ident] = Field(validation_alias=_names("figureIds", "figure_ids"))
    track_id: Name | None = Field(default=None, validation_alias=_names("trackId", "track_id"))
    session_id: Session = Field(default=None, validation_alias=_names("sessionId", "session_id"))


class Deploy(Read):
    """An app to start. kinds: geometries that it tracks once it is ready. agent_id: None = wherever it can run."""

    module_id: Ident = Field(validation_alias=_names("module_id", "moduleId"))
    agent_id: Ident | None = Field(default=None, validation_alias=_names("agent_id", "agentId"))
    kinds: list[Name] = Field(default_factory=list)


class Restart(Read):
    task_id: Ident = Field(validation_alias=_names("task_id", "taskId"))
