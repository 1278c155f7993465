"""Trackers small enough to know what they must answer: the brightest pixel is the object's top-left corner."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from common.errors import FrameUnreadable
from common.geometry.types import Box
from common.tracking.contract import Exemplar, Prediction, Prompt, Run, TrackerCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image, VideoInfo


class DotVideo:
    """Frame n shows a dot of brightness 200 at (n % 50, 7). broken: frames that cannot be read."""

    def __init__(self, frames: int, broken: Collection[int] = ()) -> None:
        self.info = VideoInfo(frames, 64, 16, 25.0, name="dots")
        self._broken = broken
        self.served = 0

    def read(self, index: int) -> Image:
        if not 0 <= index < self.info.frames or index in self._broken:
            raise FrameUnreadable(f"frame {index} cannot be read", index)
        self.served += 1
        image = np.zeros((16, 64, 3), np.uint8)
        image[7, index % 50] = 200
        return image

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        for index in range(start, stop, 1 if stop > start else -1):
            yield self.read(index)

    def close(self) -> None: ...


class DotRun:
    def __init__(
        self, keys: list[str], lookahead: int, count: int = 0, held: list[tuple[int, int]] | None = None
    ) -> None:
        self._keys, self._lookahead, self._count, self._held = keys, lookahead, count, held or []

    def push(self, image: Image) -> list[list[Prediction]]:
        y, x = np.unravel_index(int(image[..., 0].argmax()), image.shape[:2])
        self._held.append((int(x), int(y)))
        return self._give(self._lookahead)

    def flush(self) -> list[list[Prediction]]:
        return self._give(0)

    def save(self) -> bytes:
        return pack([self._keys, self._lookahead, self._count, self._held])

    def _give(self, keep: int) -> list[list[Prediction]]:
        out = []
        while len(self._held) > keep:
            x, y = self._held.pop(0)
            self._count += 1
            score = 1 - min(self._count, 90) / 100
            out.append([Prediction(key, Box(np.array([x, y, x + 9, y + 9])), score, True) for key in self._keys])
        return out


class DotTracker:
    """Holds back `lookahead` frames, as a windowed network does. Counts how many exemplars it was given."""

    def __init__(self, lookahead: int = 0) -> None:
        self.card = TrackerCard("dot", "Dot", frozenset({"box"}), "Apache-2.0", "constant", lookahead=lookahead)
        self.exemplars: list[int] = []

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Run:
        self.exemplars.append(len(exemplars))
        return DotRun([p.key for p in prompts], self.card.lookahead)

    def load(self, state: bytes) -> Run:
        return DotRun(*unpack(state))
