"""Detectors by name: ours here, other people's through the Python entry point group `video_tracking.detectors`.

An entry is a function without arguments, or a class, that makes a `Detector`. Modules are imported only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from common.detection.contract import Detector
from common.errors import EngineUnavailable

GROUP = "video_tracking.detectors"

_BUILT_IN = {"motion": "common.detection.motion:MotionDetector"}


def names() -> list[str]:
    """All known detectors, ours first."""
    return [*_BUILT_IN, *sorted({e.name for e in entry_points(group=GROUP)} - set(_BUILT_IN))]


def make(name: str) -> Detector:
    """A new detector of that name. Raises `EngineUnavailable` when there is none."""
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name].split(":")
        factory: Callable[[], Detector] = getattr(import_module(module), attribute)
        return factory()
    for entry in entry_points(group=GROUP, name=name):
        made: Detector = entry.load()()
        return made
    raise EngineUnavailable(f"There is no detector named {name!r}. Known detectors: {', '.join(names())}.")
