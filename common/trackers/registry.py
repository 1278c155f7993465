"""Trackers by name: ours here, other people's through the Python entry point group `video_tracking.trackers`.

An entry is a function without arguments, or a class, that makes a `Tracker`. Modules are imported only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from common.errors import EngineUnavailable
from common.trackers.boxes.learned import LEARNED as BOXES
from common.trackers.masks.learned import LEARNED as MASKS
from common.trackers.points.learned import LEARNED as POINTS
from common.tracking.contract import GeometryKind, Tracker
from common.weights.options import DEFAULT, EngineOptions

GROUP = "video_tracking.trackers"

Factory = Callable[[str], Tracker]
"""Gives the tracker of a name."""

_BUILT_IN = {
    "correlation": "common.trackers.boxes.correlation:CorrelationTracker",
    "flow": "common.trackers.masks.flow:FlowTracker",
    "lucas-kanade": "common.trackers.points.lucas_kanade:LucasKanadeTracker",
}

_LEARNED = {**BOXES, **MASKS, **POINTS}

DEFAULTS: dict[GeometryKind, str] = {
    "box": "correlation",
    "oriented_box": "correlation",
    "mask": "flow",
    "points": "lucas-kanade",
}
"""The tracker of each geometry when the person names none: needs no weights, no GPU, no network."""


def names() -> list[str]:
    """All known trackers, ours first."""
    own = [*_BUILT_IN, *_LEARNED]
    return [*own, *sorted({e.name for e in entry_points(group=GROUP)} - set(own))]


def make(name: str, options: EngineOptions = DEFAULT) -> Tracker:
    """The tracker of that name; the options are for those that are networks. Raises `EngineUnavailable` when there is
    none; weights that are missing are told when tracking starts.
    """
    if name in _BUILT_IN:
        factory: Callable[[], Tracker] = _attribute(_BUILT_IN[name])
        return factory()
    if name in _LEARNED:
        learned: Callable[[str, EngineOptions], Tracker] = _attribute(_LEARNED[name])
        return learned(name, options)
    for entry in entry_points(group=GROUP, name=name):
        made: Tracker = entry.load()()
        return made
    raise EngineUnavailable(f"There is no tracker named {name!r}. Known trackers: {', '.join(names())}.")


@lru_cache(maxsize=16)
def shared(name: str, options: EngineOptions = DEFAULT) -> Tracker:
    """As `make`, but one for the whole process: trackers are stateless, and weights are read once."""
    return make(name, options)


def _attribute(where: str) -> Any:
    module, attribute = where.split(":")
    return getattr(import_module(module), attribute)
