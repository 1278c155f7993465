"""PIPs and PIPs++ over a video of any length, in windows that start where the one before ended.

Every frame is encoded once, and only the features of the last windows are kept. Positions are (x, y) in pixels of the
network's picture. All points start on the first frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from common.networks.pips.correlation import pyramid, read
from common.networks.pips.network import Pips
from common.networks.pips.plusplus import Looks, PipsPlusPlus

EARLIEST = 2
"""Frames that a window moves on at least."""


@dataclass(frozen=True)
class Found:
    """n points in t frames: xy (t, n, 2) pixels, visible (t, n) probabilities."""

    xy: Tensor
    visible: Tensor


def picture(image: NDArray[np.uint8], size: tuple[int, int], device: torch.device) -> Tensor:
    """An image (h, w, 3) uint8, resized to (height, width): (3, height, width) of values 0..255."""
    frame = torch.from_numpy(np.array(image)).to(device).movedim(-1, 0).float()[None]
    if frame.shape[-2:] != size:
        frame = F.interpolate(frame, size, mode="bilinear", align_corners=False)
    return frame[0]


def next_start(visible: Sequence[float], threshold: float = 0.9, step: float = 0.02) -> int:
    """Frames by which a point's window moves on: to the last frame in which it is surely visible; where there is none,
    the threshold is lowered until there is one. visible: probabilities in the window's frames."""
    while threshold > -2 * step:
        for index in range(len(visible) - 1, EARLIEST - 1, -1):
            if visible[index] > threshold:
                return index
        threshold -= step
    return len(visible) - 1  # only for what is no number


class PipsStream:
    """Every point has windows of its own, since a window moves on as far as the point was visible.

    on_window: told of every window: the point, its first frame, by how much it moves on, and the probabilities (8,).
    """

    def __init__(
        self, network: Pips, on_window: Callable[[int, int, int, NDArray[np.float32]], None] | None = None
    ) -> None:
        self.network, self._on_window = network, on_window
        self.device = network.norm.weight.device
        self.looks = torch.zeros(0, network.config.channels, device=self.device)
        self.levels: list[list[Tensor]] = []
        self.first = 0
        """Number of the oldest frame that is kept."""
        self.starts = np.zeros(0, np.int64)
        """Number of the first frame of each point's present window."""
        self.xy = torch.zeros(1, 0, 2, device=self.device)
        self.visible = torch.ones(1, 0, device=self.device)
        self.given = 0
        """Number of the frame that `xy` (t, n, 2), cells, and `visible` (t, n) begin with: the first not given out."""

    @property
    def last(self) -> int:
        return self.first + len(self.levels) - 1

    def encode(self, frame: Tensor) -> Tensor:
        """Features of a picture (3, h, w)."""
        return self.network.encode(frame[None])

    def look(self, features: Tensor, xy: Tensor) -> Tensor:
        """What points at xy (n, 2) of an encoded picture look like, (n, 128)."""
        return read(features, (xy.to(self.device) / self.network.config.stride)[None])[0]

    def add(self, xy: Tensor, looks: Tensor) -> None:
        """Points at xy (n, 2) on the first frame, before it is pushed."""
        cells = xy.to(self.device) / self.network.config.stride
        self.looks = torch.cat([self.looks, looks])
        self.xy = torch.cat([self.xy, cells[None]], 1)
        self.visible = torch.cat([self.visible, self.visible.new_ones(1, len(xy))], 1)
        self.starts = np.concatenate([self.starts, np.zeros(len(xy), np.int64)])

    def push(self, features: Tensor) -> Found | None:
        """The next frame, from `encode`; the frames that became final, if any."""
        window = self.network.config.window
        self.levels.append(pyramid(features))
        if self.last:
            self.xy = torch.cat([self.xy, self.xy[-1:]])
            self.visible = torch.cat([self.visible, self.visible[-1:]])
        if len(self.levels) < window:
            return None
        self._advance(self.first)
        self.levels = self.levels[1:]
        self.first += 1
        return self._give(int(self.starts.min(initial=self.first)))

    def flush(self) -> Found | None:
        """No more frames: those that are left, if any. Windows that reach beyond the end see the last frame again."""
        last = self.last
        while (self.starts <= last).any():
            self._advance(int(self.starts.min()))
        return self._give(last + 1)

    def _advance(self, start: int) -> None:
        """The windows of all points that begin at that frame."""
        rows = np.flatnonzero(self.starts == start)
        if len(rows) == 0:
            return
        window = self.network.config.window
        frames = [self.levels[min(start + i, self.last) - self.first] for i in range(window)]
        levels = [torch.cat([frame[i] for frame in frames]) for i in range(len(frames[0]))]
        index = torch.from_numpy(rows).to(self.device)
        at = start - self.given
        found = self.network.track(levels, self.looks[index], self.xy[at, index])
        probability = found.visible.sigmoid()
        inside = min(window, self.last - start + 1)
        self.xy[at : at + inside, index] = found.xy[:inside]
        self.visible[at : at + inside, index] = probability[:inside]
        # What lies beyond the window is taken to be where the window ends.
        self.xy[at + inside :, index] = found.xy[inside - 1]
        for row, values in zip(rows, probability.T.cpu().numpy(), strict=True):
            skip = next_start(values.tolist())
            self.starts[row] += skip
            if self._on_window is not None:
                self._on_window(int(row), start, skip, values)

    def _give(self, upto: int) -> Found | None:
        count = upto - self.given
        if count <= 0:
            return None
        found = Found(self.xy[:count] * self.network.config.stride, self.visible[:count])
        self.xy, self.visible, self.given = self.xy[count:], self.visible[count:], upto
        return found

    def save(self) -> dict[str, Any]:
        """Everything but the features of the kept frames, which are many times larger than the pictures."""
        return {
            "looks": self.looks.cpu().numpy(),
            "first": self.first,
            "starts": self.starts,
            "xy": self.xy.cpu().numpy(),
            "visible": self.visible.cpu().numpy(),
            "given": self.given,
        }

    def restore(self, saved: dict[str, Any], features: Sequence[Tensor]) -> None:
        """features: of the kept frames, in order, from `encode`."""
        self.looks, self.xy, self.visible = (
            torch.tensor(saved[name], device=self.device) for name in ("looks", "xy", "visible")
        )
        self.levels = [pyramid(values) for values in features]
        self.first, self.given, self.starts = saved["first"], saved["given"], np.array(saved["starts"])


class PlusPlusStream:
    """Windows of `window` frames, each begun on the last frame of the one before; the last one is moved back, so that it
    ends with the video. A frame is therefore final only when a whole window follows it.

    on_window: told of every window: its first frame and the one after its last.
    """

    def __init__(
        self, network: PipsPlusPlus, window: int = 32, on_window: Callable[[int, int], None] | None = None
    ) -> None:
        self.network, self.window, self._on_window = network, window, on_window
        self.device = network.norm.weight.device
        self.features: list[Tensor] = []
        self.first = 0
        """Number of the oldest frame that is kept, the first not given out."""
        self.start = 0
        """Number of the next window's first frame."""
        self.end = 0
        """Number of the frame after the last window's last."""
        self.looks: Looks | None = None
        self.xy = torch.zeros(1, 0, 2, device=self.device)
        """(t, n, 2) cells, in the kept frames."""

    def encode(self, frame: Tensor) -> Tensor:
        """Features of a picture (3, h, w)."""
        return self.network.encode(frame[None])

    def add(self, xy: Tensor) -> None:
        """Points at xy (n, 2) on the first frame, before it is pushed."""
        self.xy = torch.cat([self.xy, (xy.to(self.device) / self.network.config.stride)[None]], 1)

    def push(self, features: Tensor) -> Tensor | None:
        """The next frame, from `encode`; positions (t, n, 2) in the frames that became final, if any."""
        self.features.append(features)
        if len(self.features) > len(self.xy):
            self.xy = torch.cat([self.xy, self.xy[-1:]])
        if self.first + len(self.features) < self.start + self.window:
            return None
        begin = self.start
        self._look(begin, begin + self.window)
        self.start = begin + self.window - 1
        return self._give(begin + 1)

    def flush(self) -> Tensor | None:
        """No more frames: those that are left, if any."""
        last = self.first + len(self.features)
        if self.end < last:
            self._look(max(last - self.window, 0), last)
        return self._give(last)

    def _look(self, begin: int, end: int) -> None:
        part = slice(begin - self.first, end - self.first)
        levels = pyramid(torch.cat(self.features[part]))
        looks = None if self.looks is None else self.looks.frames(slice(end - begin))
        found = self.network.track(levels, self.xy[part], looks)
        self.xy = torch.cat([self.xy[: part.start], found.xy, found.xy[-1:].expand(len(self.xy) - part.stop, -1, -1)])
        self.looks, self.end = found.looks, end
        if self._on_window is not None:
            self._on_window(begin, end)

    def _give(self, upto: int) -> Tensor | None:
        count = upto - self.first
        if count <= 0:
            return None
        found = self.xy[:count] * self.network.config.stride
        self.xy, self.features, self.first = self.xy[count:], self.features[count:], upto
        return found

    def save(self) -> dict[str, Any]:
        """Everything but the features of the kept frames."""
        looks = self.looks
        return {
            "counters": [self.first, self.start, self.end],
            "xy": self.xy.cpu().numpy(),
            "looks": None if looks is None else [v.cpu().numpy() for v in (looks.first, *looks.lagged)],
        }

    def restore(self, saved: dict[str, Any], features: Sequence[Tensor]) -> None:
        """features: of the kept frames, in order, from `encode`."""
        self.features = list(features)
        self.first, self.start, self.end = saved["counters"]
        self.xy = torch.tensor(saved["xy"], device=self.device)
        if saved["looks"] is not None:
            first, *lagged = (torch.tensor(v, device=self.device) for v in saved["looks"])
            self.looks = Looks(first, tuple(lagged))
