"""Engines and clips whose right answers are known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from common.geometry.codec import decode, encode
from common.geometry.measures import place
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.contract import Exemplar, Prediction, Prompt, Run, TrackerCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

STEP = 2


def write_clip(
    path: Path, frames: int = 30, width: int = 160, height: int = 120, seed: int = 0, step: int = STEP
) -> Path:
    """Textured ground, and a textured 28 x 24 patch whose left edge is at 20 + step n on frame n."""
    random = np.random.default_rng(seed)

    def texture(w: int, h: int, low: int, high: int) -> np.ndarray:
        small = random.integers(low, high, (h // 4 + 1, w // 4 + 1, 3), dtype=np.uint8)
        return cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)

    ground, patch = texture(width, height, 60, 130), texture(28, 24, 120, 255)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        for index in range(frames):
            image = ground.copy()
            left = 20 + step * index
            image[40:64, left : left + 28] = patch[:, : max(0, width - left)]
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


class Rail:
    """What the toy trackers do and have done. gate: cleared = pushes wait. fail_on: number of the push that raises.
    shift: pixels per frame. away: pushes (from 1) on which the object is lost; hidden: not seen,
    but guessed at."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.fail_on: set[int] = set()
        self.away: Callable[[int], bool] = lambda count: False
        self.hidden: Callable[[int], bool] = lambda count: False
        self.shift = float(STEP)
        self.starts: list[tuple[int, int]] = []  # objects, exemplars
        self.exemplar_lefts: list[float] = []
        self.pushes = 0
        self.delay_s = 0.0


def moved(geometry: Geometry, dx: float) -> Geometry:
    match geometry:
        case Box():
            return Box(geometry.xyxy + np.array([dx, 0, dx, 0], np.float32))
        case OrientedBox():
            return OrientedBox(geometry.cxcywh + np.array([dx, 0, 0, 0], np.float32), geometry.angle_rad)
        case Mask():
            return place(geometry.crop(), geometry.x + round(dx), geometry.y, geometry.width, geometry.height)
        case Points():
            return Points(geometry.xy + np.array([dx, 0], np.float32), geometry.visible, geometry.edges)


class RailRun:
    def __init__(self, rail: Rail, keys: list[str], geometries: list[Geometry], count: int = 0) -> None:
        self._rail, self._keys, self._geometries, self._count = rail, keys, geometries, count

    def push(self, image: Image) -> list[list[Prediction]]:
        rail = self._rail
        self._count += 1
        rail.pushes += 1
        rail.entered.set()
        rail.gate.wait(20)
        if rail.delay_s:
            threading.Event().wait(rail.delay_s)
        if self._count in rail.fail_on:
            raise RuntimeError("the toy broke")
        self._geometries = [moved(g, rail.shift) for g in self._geometries]
        lost, hidden = rail.away(self._count), rail.hidden(self._count)
        pairs = zip(self._keys, self._geometries, strict=True)
        score = 0.0 if lost else 0.2 if hidden else 0.9
        return [[Prediction(k, None if lost else g, score, not (lost or hidden)) for k, g in pairs]]

    def flush(self) -> list[list[Prediction]]:
        return []

    def save(self) -> bytes:
        return pack([self._keys, [encode(g) for g in self._geometries], self._count])


class RailTracker:
    """Moves everything by `rail.shift` pixels to the right per push, whatever the pictures show."""

    def __init__(self, rail: Rail) -> None:
        self.rail = rail
        kinds = frozenset({"box", "oriented_box", "mask", "points"})
        self.card = TrackerCard("rail", "Rail", kinds, "Apache-2.0", "constant")  # type: ignore[arg-type]

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        self.rail.starts.append((len(prompts), len(exemplars)))
        shown = [p.geometry for e in exemplars for p in e.prompts]
        self.rail.exemplar_lefts += [float(g.xyxy[0]) for g in shown if isinstance(g, Box)]
        return RailRun(self.rail, [p.key for p in prompts], [p.geometry for p in prompts])

    def load(self, state: bytes) -> Run:
        keys, geometries, count = unpack(state)
        return RailRun(self.rail, keys, [decode(g) for g in geometries], count)
