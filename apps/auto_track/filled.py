"""Polygons tracked as masks: filled for an engine that takes masks, and traced again from what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from apps.auto_track.engines import Engine, EngineRun, Scene, Start
from common.geometry.raster import contours, fill
from common.geometry.shapes import Polygon, Value
from common.geometry.types import Mask

TOLERANCE = 1.0
"""Pixels between a traced outline and the one that is kept; raising it drops vertices."""
_SPECK = 0.005
"""Parts and holes below this share of the mask are an engine's noise."""
_SPECK_PIXELS = 4


class FilledEngine:
    """An engine for masks that takes polygons. What it sees are masks; `outlines` makes polygons of them when they are
    written, so that two sides of a gap are fused as areas."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def start(self, scene: Scene, start: Start) -> EngineRun:
        return self._engine.start(scene, _filled(start, scene))

    def load(self, scene: Scene, start: Start, snapshot: bytes) -> EngineRun:
        return self._engine.load(scene, _filled(start, scene), snapshot)


def _filled(start: Start, scene: Scene) -> Start:
    def masks(values: Mapping[str, Value]) -> dict[str, Value]:
        width, height = scene.video.width, scene.video.height
        return {key: fill(v, width, height) if isinstance(v, Polygon) else v for key, v in values.items()}

    elsewhere = [(frame, masks(values)) for frame, values in start.elsewhere]
    before = [(frame, masks(values)) for frame, values in start.before]
    return replace(start, values=masks(start.values), elsewhere=elsewhere, before=before)


def outlines(mask: Mask) -> list[Polygon]:
    """The polygons of a mask, largest part first, holes included, specks left out; [] for an empty mask.

    >>> import numpy as np
    >>> ring = np.zeros((40, 40), bool); ring[5:35, 5:35] = True; ring[15:25, 15:25] = False; ring[0, 0] = True
    >>> [(len(part.exterior), len(part.holes)) for part in outlines(Mask.from_array(ring))]
    [(4, 1)]
    """
    return contours(mask, TOLERANCE, max(_SPECK_PIXELS, round(_SPECK * mask.area)))


@dataclass(frozen=True)
class Topology:
    """What an outline is made of."""

    parts: int
    holes: int

    @classmethod
    def of(cls, polygons: list[Polygon]) -> Topology:
        return cls(len(polygons), sum(len(polygon.holes) for polygon in polygons))
