"""The run parameters: one schema that is read, kept and given back, the same over HTTP, on the page and in the database.

Names are those of the platform's Predict App; older spellings of them are read too (`tracking_config`, `video_id`, the modes as
its page shows them).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from common.association import registry as associators
from common.detection import registry as detectors
from common.prediction.results import UNNAMED
from common.prediction.settings import DESCRIPTOR, PredictionSettings
from common.prediction.untracked import UNTRACKED
from common.weights.options import EngineOptions

Ident = Annotated[int, Field(ge=1, le=2**53)]
Mode = Literal["append", "replace", "iou_merge"]
_MODES: dict[str, Mode] = {
    "merge with existing labels": "append",
    "append": "append",
    "replace existing labels": "replace",
    "replace": "replace",
    "merge by iou threshold": "iou_merge",
    "iou_merge": "iou_merge",
    "iou merge": "iou_merge",
}


class Part(BaseModel):
    """Unknown keys are told, not passed over: a misspelt setting would silently do nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)


def _list(value: object) -> object:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


Idents = Annotated[list[Ident], BeforeValidator(_list)]


class Input(Part):
    """What is to be labelled: videos or images by id, collections, datasets (nested ones with them), or a project. The
    narrowest that is given."""

    project_id: Ident | None = None
    dataset_ids: Idents = Field(default_factory=list, validation_alias=AliasChoices("dataset_ids", "dataset_id"))
    video_ids: Idents = Field(default_factory=list, validation_alias=AliasChoices("video_ids", "video_id"))
    image_ids: Idents = Field(default_factory=list, validation_alias=AliasChoices("image_ids", "image_id"))
    collection_ids: Idents = Field(
        default_factory=list, validation_alias=AliasChoices("collection_ids", "collection_id")
    )

    @property
    def given(self) -> bool:
        return bool(self.project_id or self.dataset_ids or self.video_ids or self.image_ids or self.collection_ids)


class Model(Part):
    """Where detections come from.

    in_process, pretrained: a detector of the registry (`model_name`), with its published weights. custom: with the
    weights in `checkpoint`, a file of the team's files. connect: a detector app that runs (`session_id`).
    """

    mode: Literal["in_process", "pretrained", "custom", "connect"] = "in_process"
    model_name: str = Field(default="motion", validation_alias=AliasChoices("model_name", "detector"))
    checkpoint: str | None = None
    session_id: Ident | None = None
    framework: str | None = None
    agent_id: Ident | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.mode == "connect" and self.session_id is None:
            raise ValueError("to connect, say the session_id of a detector that runs")
        if self.mode == "custom" and not self.checkpoint:
            raise ValueError("a custom model needs its checkpoint")
        return self

    @property
    def name(self) -> str:
        """Of the registry: "framework/model" is the platform's way to write it."""
        return self.model_name.rsplit("/", 1)[-1]


class Tracking(Part):
    """tracker: who is who from frame to frame. birth: score that begins an object; None = the inference settings' confidence,
    else 0.6. looks, every, repair: see `PredictionSettings`. continue_labels: when predictions are added to labels
    ("append"), objects of the same class that are labelled go on instead of being found a second time."""

    tracker: str = "botsort"
    birth: Annotated[float, Field(gt=0, le=1)] | None = None
    repair: bool = True
    looks: str = DESCRIPTOR
    every: Annotated[int, Field(ge=1, le=1000)] = 1
    continue_labels: bool = True

    @field_validator("tracker")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in associators.names():
            raise ValueError(f"choose one of {', '.join(associators.names())}")
        return value


class InferenceSettings(BaseModel):
    """confidence: least score of what is labelled. More keys go to a connected detector as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    confidence: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, validation_alias=AliasChoices("confidence", "conf", "confidence_threshold")
    )


class Settings(Part):
    """existing_objects_iou_thresh: overlap from which a prediction is a label that is there (`iou_merge`)."""

    inference_mode: Literal["Full Image"] = "Full Image"
    model_prediction_suffix: Annotated[str, Field(max_length=40)] = "_model"
    predictions_mode: Mode = "append"
    inference_settings: InferenceSettings = Field(default_factory=InferenceSettings)
    tracking_settings: Tracking = Field(
        default_factory=Tracking, validation_alias=AliasChoices("tracking_settings", "tracking_config")
    )
    tracking: bool = True
    existing_objects_iou_thresh: Annotated[float, Field(gt=0, le=1)] = 0.9
    executor: Literal["local", "ray"] = "local"

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = dict(data)
            inference = data.get("inference_settings")
            if isinstance(inference, dict) and "existing_objects_iou_thresh" in inference:
                inference = dict(inference)
                data.setdefault("existing_objects_iou_thresh", inference.pop("existing_objects_iou_thresh"))
                data["inference_settings"] = inference
        return data

    @field_validator("predictions_mode", mode="before")
    @classmethod
    def _as_shown(cls, value: object) -> object:
        return _MODES.get(value.strip().lower(), value) if isinstance(value, str) else value


class Output(Part):
    """A new project (`project_name`), or the one that the videos or images are in. skip_annotated: leave those that have
    labels. tags: put on every object: "confidence" (its mean score), "model" (who found it)."""

    project_name: Annotated[str, Field(min_length=1, max_length=250)] | None = None
    upload_to_source_project: bool = False
    skip_annotated: bool = False
    skip_project_versioning: bool = False
    tags: list[Literal["confidence", "model"]] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        if isinstance(data, dict) and "mode" in data:
            data = dict(data)
            mode = str(data.pop("mode"))
            if mode in ("update", "source", "upload_to_source_project"):
                data.setdefault("upload_to_source_project", True)
        return data

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.upload_to_source_project == (self.project_name is not None):
            raise ValueError("say project_name for a new project, or upload_to_source_project, one of the two")
        return self


class RunParameters(Part):
    """All of a run. classes: names, [] = all that the model knows."""

    input: Input = Field(default_factory=Input)
    model: Model = Field(default_factory=Model)
    classes: list[str] = Field(default_factory=list)
    settings: Settings = Field(default_factory=Settings)
    output: Output = Field(default_factory=lambda: Output(project_name="Predictions"))

    def merged(self, changes: dict[str, Any]) -> RunParameters:
        """With some parts changed; of input, model and output whole parts, of settings single ones."""
        data = self.model_dump(mode="json")
        for name, value in changes.items():
            if name == "settings" and isinstance(value, dict):
                data["settings"] = {**data["settings"], **_renamed(value)}
            else:
                data[name] = value
        return RunParameters.model_validate(data)

    def prediction(self, checkpoint: str | None = None) -> PredictionSettings:
        """What one video is predicted with. checkpoint: the file on this machine. Raises `EngineUnavailable`."""
        model, tracking = self.model, self.settings.tracking_settings
        if model.mode != "connect":
            detectors.make(model.name)
        confidence = self.settings.inference_settings.confidence
        return PredictionSettings(
            detector="connected" if model.mode == "connect" else model.name,
            options=EngineOptions(checkpoint, model.device),
            tracker=tracking.tracker if self.settings.tracking else UNTRACKED,
            repair=tracking.repair and self.settings.tracking,
            looks=tracking.looks if self.settings.tracking else "none",
            classes=_with_unnamed(self.classes) or None,
            confidence=tracking.birth if tracking.birth is not None else confidence,
            every=tracking.every,
        )


def _with_unnamed(classes: list[str]) -> tuple[str, ...]:
    """What a detector finds without knowing what it is has no name there, and one here."""
    return (*classes, "") if UNNAMED in classes else tuple(classes)


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    """`tracking_config` is `tracking_settings`; given together with the old value it must not stand beside it."""
    out = dict(settings)
    if "tracking_config" in out:
        out["tracking_settings"] = out.pop("tracking_config")
    return out
