"""What can be asked of the assistant: one schema for what is read, kept and given back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from apps.predict.schema import Ident, Idents, Part
from common.association import registry as associators

FrameNumber = Annotated[int, Field(ge=0, le=2**31)]
Words = Annotated[list[str], Field(max_length=20)]


class Examples(Part):
    """video_id: the video that a person labelled. frames: those on which everything is labelled; None = all that the
    person drew on. text: other words for classes, for open-vocabulary detectors."""

    video_id: Ident
    frames: list[FrameNumber] | None = None
    text: dict[str, Words] = Field(default_factory=dict)

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
    """video_ids: what is labelled; [] = the video of the examples. selection: the job whose choice is used; None = a choice is
    made first, as for `Selection`. every: look on each so-manieth frame, None = measured. masks: None = as the examples."""

    kind: Literal["run"] = "run"
    budget_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 60.0
    candidates: list[str] = Field(default_factory=list)
    video_ids: Idents = Field(default_factory=list)
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
