"""What an app is and how one process of it runs, from its config.json and the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

from common.errors import UserError
from common.geometry.supervisely import known_type
from common.serving.access import Access
from common.serving.engines import KINDS
from common.serving.smart_tool import SmartSegmenter
from common.trackers import registry
from common.tracking.contract import GeometryKind
from common.weights.options import DEFAULT, Device, EngineOptions, Precision

MIB = 1024 * 1024


@dataclass(frozen=True)
class TrackerApp:
    """One kind of app. shapes: geometry types it serves. trackers: which tracker takes each kind of geometry.
    segmenter: of the smart tool; None for an app that has none."""

    title: str
    version: str
    shapes: tuple[str, ...]
    trackers: Mapping[GeometryKind, str] = field(default_factory=lambda: registry.DEFAULTS)
    segmenter: SmartSegmenter | None = None

    @classmethod
    def from_config(
        cls,
        path: Path,
        trackers: Mapping[GeometryKind, str] = registry.DEFAULTS,
        segmenter: SmartSegmenter | None = None,
    ) -> TrackerApp:
        """What its config.json says: name, version, allowed_shapes. Raises `UserError` when it cannot be read."""
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            known = (known_type(shape) for shape in config["allowed_shapes"])
            shapes = tuple(dict.fromkeys(shape for shape in known if shape is not None))
            return cls(str(config["name"]), str(config["version"]), shapes, trackers, segmenter)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path.parent.name}/config.json cannot be read: {error!r}.") from error

    def engines(self, chosen: str = "") -> dict[GeometryKind, str]:
        """Tracker of each kind that the shapes need. chosen: a tracker to use for the kinds it can take."""
        kinds = dict.fromkeys(KINDS[shape] for shape in self.shapes)
        able = registry.make(chosen).card.geometries if chosen else frozenset()
        return {kind: chosen if kind in able else self.trackers[kind] for kind in kinds}


@dataclass(frozen=True)
class ServingSettings:
    """How one process runs.

    data: folder for videos; private to its owner. task_id: number of the app session on the server. tracker: name of the
    tracker to use instead of the app's own, "" for that; options: where and how precisely it runs. workers: tracking jobs at once; batch_workers: `/track-api`
    calls at once. cache_bytes: for video files. memory_bytes: for what trackers remember between batches. max_body_bytes:
    of a JSON request; max_upload_bytes: of a request with files. arrays: give `track_async` results as positional arrays.
    head_start_s: how long the trackers may take to be ready before the app answers that they are not.
    """

    data: Path
    access: Access = field(default_factory=Access)
    task_id: int | None = None
    tracker: str = ""
    options: EngineOptions = DEFAULT
    workers: int = 2
    batch_workers: int = 4
    cache_bytes: int = 20 * 1024 * MIB
    memory_bytes: int = 512 * MIB
    max_body_bytes: int = 64 * MIB
    max_upload_bytes: int = 512 * MIB
    arrays: bool = False
    head_start_s: float = 5.0

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> ServingSettings:
        """SERVER_ADDRESS, API_TOKEN, ALLOWED_SERVER_ADDRESSES, TASK_ID, SLY_APP_DATA_DIR or SMART_CACHE_CONTAINER_DIR,
        TRACKER, DEVICE and PRECISION (or the launch dialog's modal.state.tracker, .device, .precision), TRACKING_WORKERS, BATCH_WORKERS, VIDEO_CACHE_MB,
        TRACKER_MEMORY_MB, MAX_BODY_MB, MAX_UPLOAD_MB, TRACK_ASYNC_FORMAT (object or array).
        Raises `UserError` for a number that is none.
        """
        folder = env.get("SMART_CACHE_CONTAINER_DIR") or env.get("SLY_APP_DATA_DIR")
        home = env.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        task = env.get("TASK_ID", "").strip()
        return cls(
            Path(folder) if folder else Path(home) / "video-labeling-by-tracking",
            Access.from_env(env),
            int(task) if task.isdecimal() else None,
            env.get("TRACKER") or env.get("modal.state.tracker") or env.get("modal.state.modelName") or "",
            EngineOptions(
                device=cast(Device, _one_of(env, "DEVICE", get_args(Device))),
                precision=cast(Precision, _one_of(env, "PRECISION", get_args(Precision))),
            ),
            _whole(env, "TRACKING_WORKERS", 2),
            _whole(env, "BATCH_WORKERS", 4),
            _whole(env, "VIDEO_CACHE_MB", 20 * 1024) * MIB,
            _whole(env, "TRACKER_MEMORY_MB", 512) * MIB,
            _whole(env, "MAX_BODY_MB", 64) * MIB,
            _whole(env, "MAX_UPLOAD_MB", 512) * MIB,
            env.get("TRACK_ASYNC_FORMAT", "object") == "array",
        )


def _one_of(env: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    """The first of those known when nothing is set."""
    text = (env.get(name) or env.get(f"modal.state.{name.lower()}") or known[0]).strip().lower()
    if text not in known:
        raise UserError(f"The environment variable {name} must be one of {', '.join(known)}, not {text!r}.")
    return text


def _whole(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"The environment variable {name} must be a whole number of 1 or more, not {text!r}.")
    return int(text)
