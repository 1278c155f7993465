"""What calls of a detector app hold, checked once, under every name that clients write. Unknown keys are ignored."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from common.association.settings import CameraMethod, Settings, Thresholds, Timing
from common.detection.selection import Selection
from common.serving.envelope import FrameNumber, Ident, Name, Read, _names
from common.serving.replies import Rejected

MAX_IMAGES = 100_000

CONFIDENCE = ("confidence_threshold", "conf", "confidence", "threshold")
DEFAULTS: dict[str, Any] = {
    "confidence_threshold": 0.4,
    "per_class_thresholds": {},
    "iou_threshold": None,
    "agnostic_nms": False,
    "max_detections": 300,
}
"""Inference settings as `/get_custom_inference_settings` gives them; `classes` may be added to them."""

TRACKING_DEFAULTS: dict[str, Any] = {
    "track_high_thresh": 0.5,
    "track_low_thresh": 0.1,
    "new_track_thresh": 0.6,
    "track_buffer": 30,
    "match_thresh": 0.8,
    "proximity_thresh": 0.5,
    "appearance_thresh": 0.25,
    "cmc_method": "none",
    "confirm": 2,
    "with_reid": False,
}
"""Settings of the associators under BoT-SORT's names. track_buffer: frames at 30 a second that a lost track waits.
with_reid: what objects look like counts, too (colours, no network; DeepSORT always uses it)."""

_CAMERA: Mapping[str, CameraMethod] = {
    "none": "none", "sparseoptflow": "flow", "flow": "flow", "orb": "orb", "sift": "orb", "ecc": "ecc",
}  # fmt: skip


def _parsed(value: object) -> object:
    """Settings may come as JSON text."""
    if value is None:
        return {}
    return json.loads(value) if isinstance(value, str) and value.strip() else value or {}


Mapped = Annotated[dict[str, Any], BeforeValidator(_parsed)]
Whole = Annotated[int, Field(ge=1, le=2**31)]


class Inference(Read):
    """What every inference call may say."""

    settings: Mapped = Field(default_factory=dict, validation_alias=_names("settings", "inference_settings"))
    classes: list[str] | None = None
    batch_size: Annotated[int, Field(ge=1, le=256)] | None = None
    upload: bool = False
    output_project_id: Ident | None = None

    @field_validator("upload", mode="before")
    @classmethod
    def _null_is_false(cls, value: object) -> object:
        return False if value is None else value

    def selection(self, known: Collection[str]) -> Selection:
        """Which detections are wanted. Raises `Rejected` for values that mean nothing, naming them."""
        said = dict(self.settings)
        threshold = next((said[name] for name in CONFIDENCE if said.get(name) is not None), None)
        own = said.get("per_class_thresholds") or {}
        classes = self.classes if self.classes is not None else said.get("classes")
        if classes is not None and not (isinstance(classes, list | tuple) and all(isinstance(c, str) for c in classes)):
            raise Rejected("`classes` must be a list of class names.")
        unknown = sorted(set(classes or ()) - set(known))
        if unknown:
            raise Rejected(f"The model has no class {', '.join(unknown[:5])}. See /get_model_meta for those it has.")
        overlap = said.get("iou_threshold", said.get("iou"))
        try:
            return Selection(
                DEFAULTS["confidence_threshold"] if threshold is None else float(threshold),
                {str(name): float(value) for name, value in own.items()},
                None if classes is None else tuple(classes),
                None if overlap is None else float(overlap),
                bool(said.get("agnostic_nms") or False),
                int(said.get("max_detections") or DEFAULTS["max_detections"]),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise Rejected(f"The inference settings cannot be used: {error}.") from error


class Stored(Inference):
    """Whether what is found is written onto the server.

    mode: None = it is not. "create": onto pictures in a new project. A project to write into (`output_project_id`) gets
    copies, too. overlap: IoU from which a prediction is a label that is there, for "iou_merge".
    """

    upload_mode: Literal["append", "replace", "iou_merge", "create"] | None = None
    suffix: Annotated[str, Field(max_length=40)] = Field(
        default="_model", validation_alias=_names("model_prediction_suffix")
    )
    iou_merge_threshold: Annotated[float, Field(gt=0, le=1)] | None = None

    @field_validator("suffix", mode="before")
    @classmethod
    def _usual(cls, value: object) -> object:
        return value or "_model"

    @property
    def mode(self) -> Literal["append", "replace", "iou_merge", "create"] | None:
        if self.upload_mode is None and (self.upload or self.output_project_id is not None):
            return "append"
        return self.upload_mode

    @property
    def overlap(self) -> float:
        """Raises `Rejected`."""
        said = self.settings.get("existing_objects_iou_thresh", self.iou_merge_threshold)
        try:
            value = 0.9 if said is None else float(said)
        except (TypeError, ValueError):
            value = 0.0
        if not 0 < value <= 1:
            raise Rejected(f"existing_objects_iou_thresh is above 0 and at most 1, got {said!r}.")
        return value


class Images(Stored):
    """By id."""

    ids: Annotated[list[Ident], Field(min_length=1, max_length=MAX_IMAGES)] = Field(
        validation_alias=_names("batch_ids", "image_ids", "images_ids", "imageIds", "image_id", "imageId")
    )

    @field_validator("ids", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return value if isinstance(value, list) else [value]


class ProjectImages(Stored):
    project_id: Ident = Field(validation_alias=_names("projectId", "project_id"))
    dataset_ids: list[Ident] | None = Field(default=None, validation_alias=_names("dataset_ids", "datasetIds"))


class Sent(Stored):
    """What the server does not have. workspace_id: where the new project of mode "create" goes. server_address,
    api_token: of a form, which has no envelope."""

    workspace_id: Ident | None = Field(default=None, validation_alias=_names("workspace_id", "workspaceId"))
    server_address: str | None = None
    api_token: SecretStr | None = None


class SentImages(Sent):
    """Pictures."""


class ImageAddress(SentImages):
    url: Annotated[str, Field(min_length=1, max_length=4000)] = Field(validation_alias=_names("image_url", "imageUrl"))


class Frames(Stored):
    """Which frames of a video, and whether things get identities.

    start: None = the first frame, or the last one when looking backward. count: so many frames from start on are covered,
    of which every `stride`-th is looked at. end: instead of count, the frame before which it ends (after which, going
    backward). duration: instead of both, in seconds.
    """

    start: FrameNumber | None = Field(
        default=None,
        validation_alias=_names("startFrameIndex", "start_frame_index", "start_frame", "startFrame"),
    )
    count: Whole | None = Field(
        default=None, validation_alias=_names("framesCount", "frames_count", "num_frames", "numFrames")
    )
    end: Annotated[int, Field(ge=-1, le=2**31)] | None = Field(
        default=None, validation_alias=_names("endFrameIndex", "end_frame_index", "end_frame", "endFrame")
    )
    stride: Whole = Field(default=1, validation_alias=_names("stride", "step"))
    duration: Annotated[float, Field(gt=0, le=1e7)] | None = None
    direction: Literal["forward", "backward"] = Field(
        default="forward", validation_alias=_names("direction", "framesDirection", "frames_direction")
    )
    tracker: str | None = None
    tracker_settings: Mapped = Field(default_factory=dict)
    suffix: Annotated[str, Field(max_length=40)] = Field(
        default="_nn", validation_alias=_names("model_prediction_suffix")
    )

    @model_validator(mode="before")
    @classmethod
    def _nulls_say_nothing(cls, value: object) -> object:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value

    @field_validator("direction", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def step(self) -> int:
        return self.stride if self.direction == "forward" else -self.stride

    def frames(self, total: int, fps: float) -> range:
        """The frames to look at, in that order, all within the video's `total`.

        Raises `Rejected` when the first one does not exist.
        """
        way = 1 if self.step > 0 else -1
        start = self.start if self.start is not None else 0 if way > 0 else total - 1
        if not 0 <= start < total:
            raise Rejected(f"Frame {start} does not exist: the video has {total} frames.")
        end = total if way > 0 else -1
        if self.count is not None:
            end = start + way * self.count
        elif self.end is not None:
            end = self.end
        elif self.duration is not None and fps > 0:
            end = start + way * max(1, round(self.duration * fps))
        end = min(end, total) if way > 0 else max(end, -1)
        return range(start, end, self.step)

    @property
    def looks(self) -> bool:
        """Whether what objects look like counts."""
        said = self.tracker_settings.get("with_reid")
        return self.tracker == "deepsort" or bool(TRACKING_DEFAULTS["with_reid"] if said is None else said)

    def association(self, frames: range, fps: float, chosen: Selection, names: Sequence[str]) -> Settings:
        """Settings of the associator. What is below the confidence asked for only continues tracks: it begins none.

        Raises `Rejected` for values that mean nothing.
        """
        said = TRACKING_DEFAULTS | {k: v for k, v in self.tracker_settings.items() if v is not None}
        try:
            high, low, birth = (float(said[k]) for k in ("track_high_thresh", "track_low_thresh", "new_track_thresh"))
            limits = Thresholds(high, low, max(birth, chosen.threshold))
            return Settings(
                thresholds=limits,
                per_class={
                    number: Thresholds(min(high, own), min(low, own), own)
                    for number, name in enumerate(names)
                    if (own := chosen.per_class.get(name)) is not None
                },
                timing=Timing(frames.start, frames.step, max(fps, 0.0)),
                patience_s=max(float(said["track_buffer"]), 0.0) / 30.0,
                match=float(said["match_thresh"]),
                near=float(said["proximity_thresh"]),
                alike=float(said["appearance_thresh"]),
                camera=_CAMERA[str(said["cmc_method"]).lower()],
                confirm=int(said["confirm"]),
            )
        except (TypeError, ValueError, KeyError) as error:
            raise Rejected(f"The tracker settings cannot be used: {error}.") from error


class SentVideo(Frames, Sent):
    """Frames of a video that comes with the request."""


class VideoFrames(Frames):
    """Frames of a video of the server."""

    video_id: Ident = Field(validation_alias=_names("videoId", "video_id"))


class TrackedVideo(VideoFrames):
    """`/tracking_by_detection`: what is found becomes objects of the video. The annotation tool's `frameIndex` and
    `frames` are taken as well."""

    start: FrameNumber | None = Field(
        default=None,
        validation_alias=_names("startFrameIndex", "start_frame_index", "start_frame", "startFrame", "frameIndex"),
    )
    count: Whole | None = Field(
        default=None, validation_alias=_names("framesCount", "frames_count", "num_frames", "numFrames", "frames")
    )
    track_id: Name = Field(validation_alias=_names("trackId", "track_id"))
    session_id: Name | None = Field(default=None, validation_alias=_names("sessionId", "session_id"))
    direct: bool = Field(
        default=False, validation_alias=_names("useDirectProgressMessages", "use_direct_progress_messages")
    )


class Asked(Read):
    uuid: Name = Field(validation_alias=_names("inference_request_uuid", "inferenceRequestUuid", "uuid"))
