"""What requests hold, checked once: the envelope that every call shares, and the context of each kind of call.

Field names are accepted as the annotation tool, the SDK and the apps of the ecosystem write them. Unknown keys are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from common.tracking.plan import Direction

MAX_OBJECTS = 1000
"""Most objects that one request may track."""

JsonObject = dict[str, Any]


def _names(*names: str) -> AliasChoices:
    return AliasChoices(*names)


def _nothing_is_empty(value: object) -> object:
    return {} if value is None else value


Ident = Annotated[int, Field(ge=1, le=2**53)]
FrameNumber = Annotated[int, Field(ge=0, le=2**31)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Read(BaseModel):
    """Base of everything that is read from a request. Numbers are taken as names, and digits as numbers."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, coerce_numbers_to_str=True, populate_by_name=True, hide_input_in_errors=True
    )


class Envelope(Read):
    """Body of every JSON call."""

    state: Annotated[JsonObject, BeforeValidator(_nothing_is_empty)] = Field(default_factory=dict)
    context: Annotated[JsonObject, BeforeValidator(_nothing_is_empty)] = Field(default_factory=dict)
    server_address: str | None = None
    api_token: SecretStr | None = None

    @property
    def token(self) -> str | None:
        """The body's own token, else the context's."""
        if self.api_token is not None and self.api_token.get_secret_value():
            return self.api_token.get_secret_value()
        other = self.context.get("apiToken")
        return other if isinstance(other, str) and other else None


class Movement(Read):
    """Which frames. frames: how many to predict, the annotated one not counted."""

    frame_index: FrameNumber = Field(validation_alias=_names("frameIndex", "frame_index"))
    frames: Annotated[int, Field(ge=1, le=2**31)] = Field(
        validation_alias=_names("frames", "framesCount", "frames_count")
    )
    direction: Literal["forward", "backward"] = "forward"

    @field_validator("direction", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else "forward" if value is None else value

    @property
    def step(self) -> int:
        return 1 if self.direction == "forward" else -1

    @property
    def way(self) -> Direction:
        return Direction(self.direction)


class Session(Movement):
    """What `/track` and `/track_async` share."""

    video_id: Ident = Field(validation_alias=_names("videoId", "video_id"))
    session_id: Name | None = Field(default=None, validation_alias=_names("sessionId", "session_id"))
    direct: bool = Field(
        default=False, validation_alias=_names("useDirectProgressMessages", "use_direct_progress_messages")
    )

    @field_validator("session_id", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("direct", mode="before")
    @classmethod
    def _null_is_false(cls, value: object) -> object:
        return False if value is None else value


class TrackContext(Session):
    """`/track`: figures of the server are tracked, and figures are written to it. Figures and objects are parallel."""

    track_id: Name = Field(validation_alias=_names("trackId", "track_id"))
    figure_ids: Annotated[list[Ident], Field(min_length=1, max_length=MAX_OBJECTS)] = Field(
        validation_alias=_names("figureIds", "figure_ids")
    )
    object_ids: list[Ident] = Field(default_factory=list, validation_alias=_names("objectIds", "object_ids"))

    @field_validator("object_ids")
    @classmethod
    def _parallel(cls, value: list[int], info: Any) -> list[int]:
        figures = info.data.get("figure_ids")
        if value and figures is not None and len(value) != len(figures):
            raise ValueError(f"{len(value)} objects for {len(figures)} figures; there must be one object per figure")
        return value


class GivenFigure(Read):
    """A figure in a `/track_async` request."""

    id: Ident | None = None
    object_id: Ident = Field(validation_alias=_names("objectId", "object_id"))
    class_id: Ident | None = Field(default=None, validation_alias=_names("classId", "class_id"))
    geometry_type: str = Field(validation_alias=_names("geometryType", "geometry_type"))
    geometry: JsonObject


class AsyncContext(Session):
    """`/track_async`: the figures are in the request and the results are fetched by the caller."""

    track_id: Name | None = Field(default=None, validation_alias=_names("trackId", "track_id"))
    figures: Annotated[list[GivenFigure], Field(min_length=1, max_length=MAX_OBJECTS)]
    result_format: Literal["object", "array"] | None = Field(
        default=None, validation_alias=_names("resultFormat", "result_format")
    )


class Column(Read):
    """One object of a `/track-api` request. key: names it across batches; its place in the list when left out.
    data: None for an object that is lost and that only the session remembers. bones: of a graph, pairs of node ids."""

    type: str = Field(validation_alias=_names("type", "geometryType"))
    data: JsonObject | None = Field(default=None, validation_alias=_names("data", "geometry"))
    key: Name | None = None
    bones: list[tuple[str, str]] = Field(default_factory=list)


class BatchContext(Movement):
    """What `/track-api` and `/track-api-files` share. session: any text, the same for all batches of one tracking."""

    input_geometries: Annotated[list[Column], Field(min_length=1, max_length=MAX_OBJECTS)] = Field(
        validation_alias=_names("input_geometries", "inputGeometries")
    )
    session: Name | None = Field(default=None, validation_alias=_names("session", "sessionHandle", "session_handle"))


class ApiContext(BatchContext):
    video_id: Ident = Field(validation_alias=_names("videoId", "video_id"))


class FilesSettings(BatchContext):
    """The `settings` part of `/track-api-files`. frames: None = as many as files came, less the annotated one."""

    frame_index: FrameNumber = Field(default=0, validation_alias=_names("frame_index", "frameIndex"))
    frames: Annotated[int, Field(ge=1, le=2**31)] = Field(
        default=2**31, validation_alias=_names("frames", "framesCount", "frames_count")
    )


class JobContext(Read):
    """Which job: by the uuid that its start answered, or by the track it belongs to."""

    uuid: Name | None = Field(
        default=None, validation_alias=_names("inference_request_uuid", "inferenceRequestUuid", "uuid")
    )
    track_id: Name | None = Field(default=None, validation_alias=_names("trackId", "track_id"))


class PopContext(JobContext):
    frame_range: tuple[int, int] | None = Field(
        default=None, validation_alias=_names("frameRange", "frame_range", "frames")
    )
    result_format: Literal["object", "array"] | None = Field(
        default=None, validation_alias=_names("resultFormat", "result_format")
    )

    @field_validator("frame_range", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == [] else value


class CacheState(Read):
    """`/smart_cache`. Without ranges and indexes the whole video is meant."""

    video_id: Ident | None = Field(default=None, validation_alias=_names("video_id", "videoId"))
    frame_ranges: list[tuple[FrameNumber, FrameNumber]] = Field(
        default_factory=list, max_length=10_000, validation_alias=_names("frame_ranges", "frameRanges")
    )
    frame_indexes: list[FrameNumber] = Field(
        default_factory=list, max_length=100_000, validation_alias=_names("frame_indexes", "frameIndexes")
    )
    image_ids: list[Ident] = Field(default_factory=list, max_length=100_000)
    image_hashes: list[str] = Field(default_factory=list, max_length=100_000)
    server_address: str | None = None
    api_token: SecretStr | None = None

    @property
    def token(self) -> str | None:
        return self.api_token.get_secret_value() if self.api_token is not None else None
