"""CoTracker over a video of any length: overlapping windows, each started from where the one before ended.

What is kept is a window of encoded frames, the points' patches and their last positions. Every frame is encoded once.
Positions are (x, y) in pixels of the given frames, (0, 0) the centre of the top-left pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from common.networks.cotracker.network import CoTracker, Tracks

UNKNOWN = -1
"""As a query frame: the point's looks were given, not taken from a frame of the video."""


@dataclass(frozen=True)
class Frame:
    """One frame as the network sees it: picture (3, h', w') of values 0..255, and its features per level."""

    picture: Tensor
    pyramid: list[Tensor]


class Stream:
    """Windows of `window` frames, `step` apart.

    pad: whether a window that is not full is filled up with its last frame, as the online network wants it; otherwise
    it is looked at as it is. Points may be asked for at later frames, but all of them before the first frame is pushed.
    """

    def __init__(
        self, network: CoTracker, size: tuple[int, int], window: int = 16, step: int = 8, pad: bool = True
    ) -> None:
        """size: (height, width) of the frames."""
        self.network, self.size, self.window, self.step, self.pad = network, size, window, step, pad
        config = network.config
        self.device = network.time_emb.device
        self._scale = _scale(network, size, self.device)
        side = (2 * config.radius + 1) ** 2
        self.asked = torch.zeros(0, dtype=torch.long)
        self.start = torch.zeros(0, 2, device=self.device)
        self.support = torch.zeros(0, config.levels, side, config.channels, device=self.device)
        self.frames: list[Frame] = []
        self.first = 0
        """Number of the window's first frame."""
        self.fresh = 0
        """Frames of the window that no window before has looked at."""
        self.before: Tracks | None = None
        """Where the points were in the frames that this window shares with the one before."""

    def encode(self, image: NDArray[np.uint8]) -> Frame:
        """An image (h, w, 3) uint8, resized and encoded."""
        frame = torch.from_numpy(np.array(image)).to(self.device).movedim(-1, 0).float()
        picture = F.interpolate(frame[None], self.network.config.resolution, mode="bilinear", align_corners=True)
        return Frame(picture[0], self.network.encode(picture))

    def cells(self, xy: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Positions (n, 2) on pictures of that size, by default that of the frames, in cells."""
        scale = self._scale if size is None else _scale(self.network, size, self.device)
        return xy.to(self.device) * scale / self.network.config.stride

    def add(self, xy: Tensor, frames: Tensor | None = None) -> None:
        """Points at xy (n, 2) on the frames of those numbers, (n,), by default on the first."""
        self._join(self.cells(xy), torch.zeros(len(xy), dtype=torch.long) if frames is None else frames.long())

    def add_looks(self, xy: Tensor, support: Tensor) -> None:
        """Points at xy (n, 2) on the first frame that look as on another picture: support from `CoTracker.support`."""
        self._join(self.cells(xy), torch.full((len(xy),), UNKNOWN))
        self.support[len(self.support) - len(xy) :] = support

    def add_grid(self, pixels: Tensor, frame: int = 0) -> None:
        """Support points at positions on the network's picture, on the frame of that number."""
        self._join(pixels.to(self.device) / self.network.config.stride, torch.full((len(pixels),), frame))

    def _join(self, cells: Tensor, frames: Tensor) -> None:
        self.start = torch.cat([self.start, cells])
        self.asked = torch.cat([self.asked, frames])
        self.support = torch.cat([self.support, self.support.new_zeros(len(cells), *self.support.shape[1:])])

    def push(self, frame: Frame) -> Tracks | None:
        """The next frame, from `encode`; the frames that became final, if any."""
        rows = torch.nonzero(self.asked == self.first + len(self.frames))[:, 0].to(self.device)
        if len(rows):
            self.support[rows] = self.network.support(frame.pyramid, self.start[rows])
        self.frames.append(frame)
        self.fresh += 1
        if len(self.frames) < self.window:
            return None
        found = self._look()
        out = _frames(found, slice(self.step))
        self.before = _frames(found, slice(self.step, None))
        self.frames = self.frames[self.step :]
        self.first += self.step
        self.fresh = 0
        return self._pixels(out)

    def flush(self) -> Tracks | None:
        """No more frames: those that are left, if any."""
        if not self.frames:
            return None
        seen = None if self.fresh else self.before
        found = seen or _frames(self._look(), slice(len(self.frames)))
        self.frames, self.before = [], None
        return self._pixels(found)

    def _look(self) -> Tracks:
        """The points in the present window, filled up or not."""
        frames = self.frames
        if self.pad:
            frames = frames + [frames[-1]] * (self.window - len(frames))
        pyramid = [torch.cat([frame.pyramid[i] for frame in frames]) for i in range(self.network.config.levels)]
        return self.network.refine(pyramid, self.support, self._guess(len(frames)))

    def _guess(self, t: int) -> Tracks:
        """A point is first taken to be where it was asked for, then where it was last."""
        xy = self.start.expand(t, -1, -1)
        nothing = xy.new_zeros(xy.shape[:2])
        if self.before is None:
            return Tracks(xy, nothing, nothing)
        known = (self.asked < self.first + self.window - self.step).to(self.device)
        xy, visibility, confidence = (
            torch.cat([old, old[-1:].expand(t - len(old), *old.shape[1:])])
            for old in (self.before.xy, self.before.visibility, self.before.confidence)
        )
        return Tracks(
            torch.where(known[:, None], xy, self.start),
            torch.where(known, visibility, nothing),
            torch.where(known, confidence, nothing),
        )

    def _pixels(self, tracks: Tracks) -> Tracks:
        return Tracks(tracks.xy * self.network.config.stride / self._scale, tracks.visibility, tracks.confidence)

    def save(self) -> dict[str, Any]:
        """Everything as plain arrays; pictures are kept instead of features, which are twenty times as large."""
        before = self.before
        return {
            "asked": self.asked.numpy(),
            "start": self.start.cpu().numpy(),
            "support": self.support.cpu().numpy(),
            "pictures": [frame.picture.cpu().numpy() for frame in self.frames],
            "counters": [self.first, self.fresh],
            "before": None
            if before is None
            else [v.cpu().numpy() for v in (before.xy, before.visibility, before.confidence)],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.asked = torch.from_numpy(saved["asked"])
        self.start, self.support = (torch.from_numpy(saved[k]).to(self.device) for k in ("start", "support"))
        pictures = [torch.from_numpy(p).to(self.device) for p in saved["pictures"]]
        self.frames = [Frame(p, self.network.encode(p[None])) for p in pictures]
        self.first, self.fresh = saved["counters"]
        before: Sequence[NDArray[np.float32]] | None = saved["before"]
        self.before = None if before is None else Tracks(*(torch.from_numpy(v).to(self.device) for v in before))


def _scale(network: CoTracker, size: tuple[int, int], device: torch.device) -> Tensor:
    """Of x and y, from pictures of that size to the network's; their corner pixels' centres lie on each other."""
    (height, width), (to_height, to_width) = size, network.config.resolution
    return torch.tensor([(to_width - 1) / max(width - 1, 1), (to_height - 1) / max(height - 1, 1)], device=device)


def _frames(tracks: Tracks, part: slice) -> Tracks:
    return Tracks(tracks.xy[part], tracks.visibility[part], tracks.confidence[part])
