"""Trackers by name: ours here, other people's through the Python entry point group `video_tracking.trackers`.

An entry is a function without arguments, or a class, that makes a `Tracker`. Modules are imported only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from common.errors import EngineUnavailable
from common.tracking.contract import GeometryKind, Tracker

GROUP = "video_tracking.trackers"

Factory = Callable[[str], Tracker]
"""Gives the tracker of a name."""

_BUILT_IN = {
    "correlation": "common.trackers.boxes.correlation:CorrelationTracker",
    "flow": "common.trackers.masks.flow:FlowTracker",
    "lucas-kanade": "common.trackers.points.lucas_kanade:LucasKanadeTracker",
}

DEFAULTS: dict[GeometryKind, str] = {
    "box": "correlation",
    "oriented_box": "correlation",
    "mask": "flow",
    "points": "lucas-kanade",
}
"""The tracker of each geometry when the person names none: needs no weights, no GPU, no network."""


def names() -> list[str]:
    """All known trackers, ours first."""
    return [*_BUILT_IN, *sorted({e.name for e in entry_points(group=GROUP)} - set(_BUILT_IN))]


def make(name: str) -> Tracker:
    """The tracker of that name. Raises `EngineUnavailable` when there is none."""
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name].split(":")
        factory: Callable[[], Tracker] = getattr(import_module(module), attribute)
        return factory()
    for entry in entry_points(group=GROUP, name=name):
        made: Tracker = entry.load()()
        return made
    raise EngineUnavailable(f"There is no tracker named {name!r}. Known trackers: {', '.join(names())}.")
