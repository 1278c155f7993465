"""Which tracker takes which geometry in an app; each is made once, when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from common.errors import EngineUnavailable
from common.geometry.shapes import Value
from common.geometry.types import Box, Mask, OrientedBox
from common.trackers import registry
from common.tracking.contract import GeometryKind, Tracker
from common.weights.options import EngineOptions

KINDS: Mapping[str, GeometryKind] = {
    "rectangle": "box",
    "oriented_bbox": "oriented_box",
    "bitmap": "mask",
    "polygon": "points",
    "line": "points",
    "point": "points",
    "graph": "points",
}
"""What trackers call each of Supervisely's geometry types."""


def kind_of(value: Value) -> GeometryKind:
    """The kind of tracker that takes a drawn value."""
    match value:
        case Box():
            return "box"
        case OrientedBox():
            return "oriented_box"
        case Mask():
            return "mask"
    return "points"


class Engines:
    """The trackers of one app. Thread-safe; trackers themselves hold no state of any job.

    names: tracker of each kind that the app serves. make: gives the tracker of a name, and of a name with options.
    """

    def __init__(self, names: Mapping[GeometryKind, str], make: Callable[..., Tracker] = registry.make) -> None:
        self._names, self._make = dict(names), make
        self._made: dict[str, Tracker] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> Mapping[GeometryKind, str]:
        return self._names

    @property
    def ready(self) -> bool:
        """Whether every tracker is made (weights loaded)."""
        return set(self._names.values()) <= self._made.keys()

    def load(self) -> None:
        """Makes every tracker now. Raises `EngineUnavailable`."""
        for kind, name in self._names.items():
            if kind not in self.tracker(name).card.geometries:
                raise EngineUnavailable(f"The tracker {name!r} cannot track a {kind.replace('_', ' ')}.")

    def choose(self, name: str, options: EngineOptions) -> None:
        """From now on that tracker takes the kinds that it can; what is under way ends with the one it began with.

        Raises `EngineUnavailable` when there is none of that name, or it takes nothing that the app serves.
        """
        chosen = self._make(name, options)
        with self._lock:
            kinds = chosen.card.geometries & self._names.keys()
            if not kinds:
                served = " or ".join(sorted(kind.replace("_", " ") for kind in self._names))
                raise EngineUnavailable(f"The tracker {name!r} cannot track a {served}.")
            self._names = {**self._names, **dict.fromkeys(kinds, name)}
            # those that nothing uses any more give their memory back
            self._made = {n: t for n, t in self._made.items() if n in self._names.values()} | {name: chosen}

    def serves(self, value: Value) -> bool:
        return kind_of(value) in self._names

    def name_for(self, value: Value) -> str:
        """Raises `EngineUnavailable` when the app has no tracker for it."""
        kind = kind_of(value)
        if kind not in self._names:
            raise EngineUnavailable(f"This app tracks no {kind.replace('_', ' ')}.")
        return self._names[kind]

    def tracker(self, name: str) -> Tracker:
        """Raises `EngineUnavailable`. Two threads that ask at once wait for one another: weights are loaded once."""
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]
