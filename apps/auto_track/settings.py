"""Which engine tracks which geometry, and how: set by a file, by API and by the page; validated once."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.errors import UserError
from common.tracking.presence import PresenceSettings

GEOMETRIES = ("rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "graph")
KEYS = (*GEOMETRIES, "smarttool", "detector")


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class EngineChoice(_Read):
    """At most one of: engine (name of a tracker in this process, "default" for the default one), task_id, url,
    interpolation (constant velocity, no model). None of them: the geometry is not tracked.

    inference_settings, extra_params: sent along to detectors; extra_params of the detector: enabled, threshold (IoU from
    which a detection is an object that is known already), confidence, every (frames between two looks), class_name.

    as_masks: for polygons: filled, tracked by an engine for masks, and traced again. The outline then follows a shape that
    changes, holes and parts included; its vertices are no longer those that were drawn.
    """

    engine: str | None = None
    task_id: Annotated[int, Field(ge=1)] | None = None
    url: str | None = None
    interpolation: bool = False
    as_masks: bool = False
    inference_settings: dict[str, Any] = Field(default_factory=dict)
    extra_params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum((bool(self.engine), self.task_id is not None, bool(self.url), self.interpolation)) > 1:
            raise ValueError("choose one of engine, task_id, url and interpolation")
        if self.as_masks and not self.model_backed:
            raise ValueError("as_masks needs an engine for masks: name one by engine, task_id or url")
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
                raise ValueError("an engine's url looks like http://host:port")
        return self

    @property
    def chosen(self) -> bool:
        return bool(self.engine or self.task_id is not None or self.url or self.interpolation)

    @property
    def model_backed(self) -> bool:
        return self.chosen and not self.interpolation


class Disappear(_Read):
    """When an object counts as hidden or gone. Seconds, so that they mean the same at any frame rate.

    low, high: scores 0..1 below which a frame speaks against the object, and which a hidden one needs to come back.
    shrunk: share of its usual area below which it counts as vanishing; 0 = off.
    """

    enabled: bool = True
    low: Annotated[float, Field(ge=0, le=1)] = 0.2
    high: Annotated[float, Field(ge=0, le=1)] = 0.4
    shrunk: Annotated[float, Field(ge=0, lt=1)] = 0.2
    hide_after_s: Annotated[float, Field(gt=0, le=60)] = 0.12
    return_after_s: Annotated[float, Field(gt=0, le=60)] = 0.08

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is not above high")
        return self

    def presence(self, fps: float) -> PresenceSettings:
        """For engines of other apps. An object that left may come back, so it is never given up."""
        timed = PresenceSettings.for_fps(fps, hide_after_s=self.hide_after_s, return_after_s=self.return_after_s)
        return PresenceSettings(
            low=self.low,
            high=self.high,
            shrunk=self.shrunk,
            hide_after=timed.hide_after,
            return_after=timed.return_after,
            leave_after=2**62,
            usual_over=timed.usual_over,
        )


def _defaults() -> dict[str, EngineChoice]:
    chosen = {kind: EngineChoice(engine="default") for kind in (*GEOMETRIES, "smarttool")}
    return {**chosen, "detector": EngineChoice(extra_params={"enabled": False})}


class Settings(_Read):
    """engines: by geometry. two_sided: between two key figures, track from both and fuse."""

    engines: dict[Literal[*KEYS], EngineChoice] = Field(default_factory=_defaults)  # type: ignore[valid-type]
    disappear: Disappear = Field(default_factory=Disappear)
    two_sided: bool = True

    @model_validator(mode="after")
    def _masks(self) -> Self:
        odd = [kind for kind, choice in self.engines.items() if choice.as_masks and kind != "polygon"]
        if odd:
            raise ValueError(f"as_masks is for polygons, not for {odd[0]}")
        return self

    def engine(self, kind: str) -> EngineChoice:
        return self.engines.get(kind) or EngineChoice()

    def smart_usable(self) -> bool:
        """Smart Tool objects are followed by their box and their clicks, which need models of their own."""
        return all(self.engine(kind).model_backed for kind in ("smarttool", "rectangle", "point"))

    def usable(self, kind: str) -> bool:
        return self.smart_usable() if kind == "smarttool" else self.engine(kind).chosen

    def available(self) -> list[str]:
        """What `/available_geometries` answers."""
        found = [kind for kind in KEYS if self.engine(kind).chosen]
        return [*found, "smarttool-track"] if self.smart_usable() else found

    def merged(self, changes: dict[str, Any]) -> Settings:
        """With some of it changed; engines by geometry. The old flat form ({"rectangle": {...}}) is read too."""
        flat = {key: value for key, value in changes.items() if key in KEYS}
        engines = {**flat, **(changes.get("engines") or {})}
        data = self.model_dump()
        data["engines"].update({kind: {} if choice is None else choice for kind, choice in engines.items()})
        if "disappear" in changes:
            data["disappear"] = {**data["disappear"], **(changes["disappear"] or {})}
        if "two_sided" in changes:
            data["two_sided"] = changes["two_sided"]
        return Settings.model_validate(data)


class SettingsStore:
    """Settings by annotation-tool session, on top of those that hold for everybody; kept in a file. Thread-safe."""

    MOST_SESSIONS = 256

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._lock = path, threading.Lock()
        self._shared = Settings()
        self._sessions: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            try:
                self._shared = Settings.model_validate_json(path.read_bytes())
            except ValueError as error:
                raise UserError(f"{path.name} does not hold valid Auto Track settings: {error}") from error

    def get(self, session: str | None = None) -> Settings:
        with self._lock:
            changes = self._sessions.get(session or "")
            return self._shared if not changes else self._shared.merged(changes)

    def set(self, changes: dict[str, Any], session: str | None = None) -> Settings:
        """Raises pydantic's ValidationError. session: change them for that session only."""
        with self._lock:
            if session:
                own = self._sessions.pop(session, {})
                engines = {**own.get("engines", {}), **changes.get("engines", {})}
                merged = {**own, **changes, **({"engines": engines} if engines else {})}
                result = self._shared.merged(merged)
                self._sessions[session] = merged
                while len(self._sessions) > self.MOST_SESSIONS:
                    del self._sessions[next(iter(self._sessions))]
                return result
            self._shared = self._shared.merged(changes)
            if self._path is not None:
                part = self._path.with_suffix(".part")
                part.write_text(json.dumps(self._shared.model_dump(), indent=1))
                part.replace(self._path)
            return self._shared
