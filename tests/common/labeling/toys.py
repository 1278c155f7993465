"""Clips that cost nothing to draw: two classes of textured things that move over textured ground, with exact boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from common.errors import FrameUnreadable
from common.geometry.types import Box
from common.labeling.support import Example, Labelled, SupportSet
from common.video.contract import Image, VideoInfo

CLASSES = ("disc", "crate")


def sprite(kind: int, side: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask: a red ringed disc, or a blue chequered crate."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    middle = (side - 1) / 2
    if kind == 0:
        radius = np.hypot(x - middle, y - middle)
        light = 0.6 + 0.4 * np.sin(radius * 1.1)
        return (light[..., None] * (220, 60, 50)).astype(np.uint8), radius <= middle
    light = 0.55 + 0.4 * np.sign(np.sin(x * 0.8) * np.sin(y * 0.8))
    return (light[..., None] * (60, 110, 230)).astype(np.uint8), np.ones((side, side), bool)


@dataclass(frozen=True)
class Thing:
    """key: its name. kind: index of its class. start, pace: pixels at its first frame, pixels per frame. enters: that frame."""

    key: str
    kind: int
    start: tuple[float, float]
    pace: tuple[float, float]
    enters: int = 0

    def corner(self, frame: int) -> tuple[int, int]:
        age = frame - self.enters
        return round(self.start[0] + self.pace[0] * age), round(self.start[1] + self.pace[1] * age)


THINGS = (
    Thing("d1", 0, (20, 20), (1.6, 0.5)),
    Thing("d2", 0, (150, 90), (-1.1, 0.4)),
    Thing("c1", 1, (30, 100), (1.2, -0.4)),
    Thing("c2", 1, (190, 20), (-0.8, 0.9)),
    Thing("d3", 0, (-24, 60), (2.0, 0.2), 8),
)


class ToyVideo:
    """A `FrameSource`."""

    def __init__(self, frames: int = 24, seed: int = 0, things: tuple[Thing, ...] = THINGS, size=(256, 160)) -> None:
        self.things = things
        self.info = VideoInfo(frames, size[0], size[1], 25.0, name=f"toy{seed}")
        rng = np.random.default_rng(seed)
        small = rng.integers(60, 150, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
        self._ground = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
        self.reads = 0

    def read(self, index: int) -> Image:
        if not 0 <= index < self.info.frames:
            raise FrameUnreadable(f"Frame {index} does not exist.", index)
        self.reads += 1
        image = self._ground.copy()
        for thing in self.things:
            if index < thing.enters:
                continue
            picture, mask = sprite(thing.kind)
            x, y = thing.corner(index)
            x1, y1 = max(0, x), max(0, y)
            x2, y2 = min(self.info.width, x + 30), min(self.info.height, y + 30)
            if x2 > x1 and y2 > y1:
                part = (slice(y1 - y, y2 - y), slice(x1 - x, x2 - x))
                image[y1:y2, x1:x2][mask[part]] = picture[part][mask[part]]
        return image

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        for index in range(start, stop, 1 if stop >= start else -1):
            yield self.read(index)

    def close(self) -> None:
        pass

    def boxes(self, frame: int, least: float = 0.5) -> list[tuple[Thing, np.ndarray]]:
        """Of things of which at least that share is in the picture."""
        found = []
        for thing in self.things:
            x, y = thing.corner(frame)
            whole = np.array([x, y, x + 30, y + 30], np.float32)
            cut = np.clip(whole, 0, np.array([self.info.width, self.info.height] * 2, np.float32))
            if frame >= thing.enters and np.prod(np.maximum(cut[2:] - cut[:2], 0)) >= least * 900:
                found.append((thing, cut))
        return found

    def support(self, frames: tuple[int, ...] = (0,)) -> SupportSet:
        examples = [
            Example(
                lambda f=f: self.read(f),
                tuple(Labelled(thing.key, CLASSES[thing.kind], Box(box)) for thing, box in self.boxes(f)),
                f,
                self,
            )
            for f in frames
        ]
        return SupportSet(tuple(examples), CLASSES)
