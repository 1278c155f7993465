"""TAPIR over a video of any length in memory that does not grow: frame by frame (causal) or in overlapping windows.

Frames are pictures (3, s, s) in -1..1, all of one square size; positions are (x, y) in pixels of that size, corner origin.
Points may be taken from any picture, not only from frames of the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.networks.tapir.mixer import Context
from common.networks.tapir.network import Guess, Maps, Size, Tapir, Vectors, refinement_sizes

Arrays = list[NDArray[np.float32]]


def picture(image: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(h, w, 3) uint8 RGB -> (3, h, w) in -1..1."""
    return torch.from_numpy(np.array(image)).to(device).movedim(-1, 0).float() / 255 * 2 - 1


@dataclass(frozen=True)
class Found:
    """n points in t frames: xy (t, n, 2) pixels of the frames, logits (t, n). matched: the same before refinement.
    levels: positions and logits after the last iteration at each resolution, in pixels of the initial size."""

    xy: Tensor
    occlusion: Tensor
    distance: Tensor
    matched: Tensor
    levels: tuple[Guess, ...]


class _Stream:
    """What both ways have in common: the points' looks, at each resolution."""

    def __init__(self, network: Tapir, size: Size, sizes: Sequence[Size] | None = None) -> None:
        """size: of the frames. sizes: refinement sizes, by default the published choice for that size."""
        self.network, self.size = network, size
        initial = network.config.initial
        self.sizes = list(sizes) if sizes is not None else refinement_sizes(size, initial)
        self._scale = torch.tensor(
            [size[1] / initial[1], size[0] / initial[0]], device=network.torch_pips_mixer.linear.weight.device
        )
        self.vectors: list[Vectors] = []

    @property
    def points(self) -> int:
        return len(self.vectors[0].fine) if self.vectors else 0

    def encode(self, frames: Tensor) -> list[Maps]:
        """Frames (t, 3, h, w) as the network sees them: what `look` and `push` want."""
        return self.network.maps(frames, self.sizes)

    def look(self, maps: Sequence[Maps], xy: Tensor) -> list[Vectors]:
        """What points at xy (n, 2) of one encoded frame look like."""
        return self.network.vectors(maps, torch.cat([xy.new_zeros(len(xy), 1), xy], 1), self.size)

    def add(self, vectors: Sequence[Vectors]) -> None:
        """More points, behind those there are."""
        old = self.vectors
        self.vectors = [
            Vectors(torch.cat([o.fine, v.fine]), torch.cat([o.coarse, v.coarse]))
            for o, v in zip(old or [v.rows(slice(0, 0)) for v in vectors], vectors, strict=True)
        ]

    def _found(self, guesses: list[list[Guess]], mean: bool) -> Found:
        """mean: over the resolutions, as the whole-clip network does; otherwise the last one."""
        levels = tuple(steps[-1] for steps in guesses[1:])
        used = levels if mean else levels[-1:]

        def joined(name: str) -> Tensor:
            return torch.stack([getattr(g, name) for g in used]).mean(0).movedim(1, 0)

        return Found(
            joined("xy") * self._scale,
            joined("occlusion"),
            joined("distance"),
            guesses[0][0].xy.movedim(1, 0) * self._scale,
            levels,
        )

    def _save(self) -> Arrays:
        return [a.cpu().numpy() for v in self.vectors for a in (v.fine, v.coarse)]

    def _restore(self, arrays: Arrays) -> None:
        device = self._scale.device
        tensors = [torch.from_numpy(a).to(device) for a in arrays]
        self.vectors = [Vectors(fine, coarse) for fine, coarse in zip(tensors[::2], tensors[1::2], strict=True)]


class CausalStream(_Stream):
    """Frame by frame; what is kept is a fixed number of values per point. Points may join and be replaced at any time."""

    def __init__(self, network: Tapir, size: Size, sizes: Sequence[Size] | None = None) -> None:
        super().__init__(network, size, sizes)
        self.contexts: list[Context] = []

    def add(self, vectors: Sequence[Vectors]) -> None:
        super().add(vectors)
        empty = self.network.torch_pips_mixer.empty(len(vectors[0].fine))
        count = len(self.sizes) * self.network.config.iterations
        old = self.contexts or [(empty[0][:0], empty[1][:0])] * count
        self.contexts = [(torch.cat([a, empty[0]]), torch.cat([b, empty[1]])) for a, b in old]

    def replace(self, rows: Sequence[int], vectors: Sequence[Vectors]) -> None:
        """Those points are others from now on, without a past."""
        index = torch.tensor(list(rows), device=self._scale.device)
        for old, new in zip(self.vectors, vectors, strict=True):
            old.fine[index], old.coarse[index] = new.fine, new.coarse
        for a, b in self.contexts:
            a[index], b[index] = 0, 0

    def push(self, maps: Sequence[Maps]) -> Found:
        """The points in the next encoded frames. One at a time or several at once: the same result."""
        guesses, self.contexts = self.network.track(maps, self.vectors, self.contexts)
        return self._found(guesses, mean=False)

    def save(self) -> list[Arrays]:
        return [self._save(), [a.cpu().numpy() for context in self.contexts for a in context]]

    def restore(self, saved: list[Arrays]) -> None:
        self._restore(saved[0])
        tensors = [torch.from_numpy(a).to(self._scale.device) for a in saved[1]]
        self.contexts = list(zip(tensors[::2], tensors[1::2], strict=True))


class WindowStream(_Stream):
    """Windows of frames, each looked at as a whole. Every frame is encoded once; a window's frames are kept.

    No state goes from window to window, as every frame is matched on its own: only the refinement sees less far near a
    window's ends, so frames are taken from the window in which they lie further inside.
    """

    def __init__(
        self, network: Tapir, size: Size, sizes: Sequence[Size] | None = None, window: int = 64, overlap: int = 16
    ) -> None:
        super().__init__(network, size, sizes)
        self.window, self.overlap = window, overlap
        self.maps: list[Sequence[Maps]] = []
        self.queries = torch.zeros(0, 3)
        self.given = 0
        """Frames of the present window that were given out already."""

    def push(self, maps: Sequence[Maps]) -> Found | None:
        """The next frame, encoded by itself; the frames that became final, if any."""
        self.maps.append(maps)
        if len(self.maps) < self.window:
            return None
        upto = self.window - self.overlap // 2
        found = self._look_at(upto)
        gone = self.window - self.overlap
        self.maps, self.given = self.maps[gone:], upto - gone
        self.queries = torch.zeros(0, 3)
        return found

    def flush(self) -> Found | None:
        """No more frames: what is left, if anything."""
        found = self._look_at(len(self.maps)) if len(self.maps) > self.given else None
        self.maps, self.given = [], 0
        return found

    def _look_at(self, upto: int) -> Found:
        sizes = [m.size for m in self.maps[0]]
        window = [
            Maps(torch.cat([m[i].fine for m in self.maps]), torch.cat([m[i].coarse for m in self.maps]), size)
            for i, size in enumerate(sizes)
        ]
        known = None
        if len(self.queries):
            scale = torch.cat([self._scale.new_ones(1), 1 / self._scale])
            known = self.queries.to(self._scale.device) * scale
        guesses, _ = self.network.track(window, self.vectors, queries=known)
        found = self._found(guesses, mean=True)
        part = slice(self.given, upto)
        return Found(found.xy[part], found.occlusion[part], found.distance[part], found.matched[part], found.levels)

    def save(self) -> dict[str, Any]:
        """Everything but the features of the kept frames, which are many times larger than the pictures."""
        return {"vectors": self._save(), "queries": self.queries.cpu().numpy(), "given": self.given}

    def restore(self, saved: dict[str, Any], maps: Sequence[Sequence[Maps]]) -> None:
        """maps: of the kept frames, in order, from `encode`."""
        self._restore(saved["vectors"])
        self.maps = list(maps)
        self.queries = torch.from_numpy(saved["queries"])
        self.given = saved["given"]
