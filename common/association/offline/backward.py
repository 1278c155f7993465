"""The same detections once more, from the last frame to the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from common.association import registry
from common.association.contract import Affine, Given, Tracks
from common.association.settings import Settings, Timing
from common.geometry.detections import Detections


def run_backward(
    name: str,
    settings: Settings,
    seen: Iterable[tuple[int, Detections]],
    motions: Mapping[int, Affine] | None = None,
    people: Callable[[int], Given | None] | None = None,
) -> Tracks:
    """Tracks of an associator that begins at the end. settings: of the run forward. seen: frames and their detections, from
    the last one down. motions: the camera's by frame, from the frame before that was looked at. people: what people labelled
    on a frame; their identities are below the settings' first one."""
    motions = motions or {}
    engine = None
    found: list[Tracks] = []
    after: int | None = None
    for frame, detections in seen:
        if engine is None:
            timing = Timing(frame, -abs(settings.timing.step), settings.timing.fps)
            engine = registry.make(name, replace(settings, timing=timing, camera="none"))
        camera = None
        if after is not None and after in motions:
            camera = np.linalg.inv(np.vstack((motions[after], (0, 0, 1))))[:2]
        given = None if people is None else people(frame)
        found.append(engine.update(detections, frame=frame, camera=camera, given=given))
        after = frame
    return Tracks() if engine is None else Tracks.joined([*found, engine.flush()])
