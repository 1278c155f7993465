"""What can be asked of the assistant: one schema for what is read, kept and given back."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from apps.predict.schema import Ident, Idents, Part
from common.association import registry as associators
from common.trackers import registry as trackers

FrameNumber = Annotated[int, Field(ge=0, le=2**31)]
Words = Annotated[list[str], Field(max_length=20)]


class Examples(Part):
    """video_id: the video that a person labelled. frames: those on which everything is labelled; None = all that the
    person drew on. project_id, image_ids: the same for a project of images. text: other words for classes, for
    open-vocabulary detectors."""

    video_id: Ident | None = None
    frames: list[FrameNumber] | None = None
    project_id: Ident | None = None
    image_ids: Idents = Field(default_factory=list)
    text: dict[str, Words] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.video_id is None) == (self.project_id is None):
            raise ValueError("say where the examples are: video_id, or project_id of a project of images")
        return self

    @property
    def complete(self) -> list[int] | None:
        """What the caller says is fully labelled: frames, or images."""
        return self.frames if self.project_id is None else list(self.image_ids) or None

    @field_validator("frames")
    @classmethod
    def _some(cls, value: list[int] | None) -> list[int] | None:
        return sorted(set(value)) or None if value is not None else None


class Selection(Examples):
    """budget_s: seconds for trying candidates. candidates: only these, by name; [] = all that are here."""

    kind: Literal["select"] = "select"
    budget_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 60.0
    candidates: list[str] = Field(default_factory=list)


class Labeling(Examples):
    """video_ids, dataset_ids: what is labelled; [] = the video of the examples, or all images of the project. selection: the job whose choice is used; None = a choice is
    made first, as for `Selection`. every: look on each so-manieth frame, None = measured. masks: None = as the examples."""

    kind: Literal["run"] = "run"
    budget_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 60.0
    candidates: list[str] = Field(default_factory=list)
    video_ids: Idents = Field(default_factory=list)
    dataset_ids: Idents = Field(default_factory=list)
    selection: str | None = None
    every: Annotated[int, Field(ge=1, le=30)] | None = None
    masks: bool | None = None
    tracker: str = "botsort"
    repair: bool = True

    @field_validator("tracker")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in associators.names():
            raise ValueError(f"choose one of {', '.join(associators.names())}")
        return value


class Mending(Part):
    """video_id: whose labels people corrected since the assistant drew them. tracker: follows from the corrections."""

    kind: Literal["mend"] = "mend"
    video_id: Ident
    tracker: str = "correlation"

    @field_validator("tracker")
    @classmethod
    def _of_boxes(cls, value: str) -> str:
        if value not in trackers.names() or "box" not in trackers.make(value).card.geometries:
            raise ValueError("choose a tracker of boxes")
        if trackers.make(value).card.lookahead:
            raise ValueError(f"{value} looks ahead; choose a tracker that gives each frame's box at once")
        return value
