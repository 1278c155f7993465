"""A tracker whose every answer is known: all objects move two pixels to the right per frame of the video."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.geometry import codec
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.contract import Exemplar, Prediction, Prompt, Run, TrackerCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

SPEED = 2


def moved(geometry: Geometry, dx: float) -> Geometry:
    match geometry:
        case Box():
            return Box(geometry.xyxy + np.array([dx, 0, dx, 0], np.float32))
        case OrientedBox():
            return OrientedBox(geometry.cxcywh + np.array([dx, 0, 0, 0], np.float32), geometry.angle_rad)
        case Points():
            return Points(geometry.xy + np.array([dx, 0], np.float32), geometry.visible, geometry.edges)
        case Mask():
            return Mask.from_array(np.roll(geometry.to_array(), int(dx), 1))


class DriftRun:
    def __init__(self, tracker: Drift, prompts: list[tuple[str, bytes]], count: int, held: int) -> None:
        self._tracker, self._prompts, self._count, self._held = tracker, prompts, count, held

    def push(self, image: Image) -> list[list[Prediction]]:
        self._held += 1
        time.sleep(self._tracker.delay_s)
        with self._tracker.lock:
            self._tracker.pushed += 1
            if self._tracker.fail_at is not None and self._tracker.pushed >= self._tracker.fail_at:
                raise RuntimeError("the tracker exploded")
        return self._give(self._tracker.card.lookahead)

    def flush(self) -> list[list[Prediction]]:
        return self._give(0)

    def save(self) -> bytes:
        return pack([self._prompts, self._count, self._held])

    def _give(self, keep: int) -> list[list[Prediction]]:
        rows = []
        while self._held > keep:
            self._held -= 1
            self._count += 1
            dx = self._tracker.step * SPEED * self._count
            rows.append([Prediction(key, moved(codec.decode(data), dx), 0.9, True) for key, data in self._prompts])
        return rows


class Drift:
    """step: -1 for a tracking backward. delay_s: per frame. fail_at: which image in all raises. starts: how often it began."""

    def __init__(self, delay_s: float = 0.0, step: int = 1, lookahead: int = 0, fail_at: int | None = None) -> None:
        kinds = frozenset({"box", "oriented_box", "mask", "points"})
        self.card = TrackerCard("drift", "Drift", kinds, "Apache-2.0", "constant", lookahead=lookahead)  # type: ignore[arg-type]
        self.delay_s, self.step, self.fail_at = delay_s, step, fail_at
        self.starts = self.pushed = 0
        self.lock = threading.Lock()

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        with self.lock:
            self.starts += 1
        return DriftRun(self, [(prompt.key, codec.encode(prompt.geometry)) for prompt in prompts], 0, 0)

    def load(self, state: bytes) -> Run:
        prompts, count, held = unpack(state)
        return DriftRun(self, [tuple(entry) for entry in prompts], count, held)


__all__ = ["SPEED", "Drift", "moved", "replace"]
