"""Detectors by name: ours here, other people's through the Python entry point group `video_tracking.detectors`.

An entry is a function without arguments, or a class, that makes a `Detector`. Modules are imported only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from common.detection.contract import Detector, DetectorSettings
from common.detection.learned import LEARNED
from common.errors import EngineUnavailable
from common.weights.options import DEFAULT, EngineOptions

GROUP = "video_tracking.detectors"

_BUILT_IN = {
    "motion": "common.detection.motion:MotionDetector",
    "hog": "common.detection.hog:HogDetector",
}
"""Need no weights, no GPU, no network."""


def names() -> list[str]:
    """All known detectors, ours first."""
    own = [*_BUILT_IN, *LEARNED]
    return [*own, *sorted({e.name for e in entry_points(group=GROUP)} - set(own))]


def make(name: str, options: EngineOptions = DEFAULT, settings: DetectorSettings | None = None) -> Detector:
    """A new detector of that name; options and settings are for those that are networks. Raises `EngineUnavailable` when
    there is none; weights that are missing are told when detection starts. Several names with + between them give one
    detector whose boxes are those of all of them, fused.
    """
    chosen = settings or DetectorSettings()
    if "+" in name and name not in names():
        from common.detection.ensemble import Ensemble

        return Ensemble([make(part.strip(), options, settings) for part in name.split("+")])
    if name in _BUILT_IN:
        built_in: Callable[[], Detector] = _attribute(_BUILT_IN[name])
        return built_in()
    if name in LEARNED:
        learned: Callable[[str, EngineOptions, DetectorSettings], Detector] = _attribute(LEARNED[name])
        return learned(name, options, chosen)
    for entry in entry_points(group=GROUP, name=name):
        made: Detector = entry.load()()
        return made
    raise EngineUnavailable(f"There is no detector named {name!r}. Known detectors: {', '.join(names())}.")


def _attribute(where: str) -> Any:
    module, attribute = where.split(":")
    return getattr(import_module(module), attribute)
