"""CoTracker at work: support points around the objects, windows of frames, positions back in the video's pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.networks.cotracker.network import Config, CoTracker, Tracks, grid
from common.networks.cotracker.streams import Stream
from common.trackers.points.cotracker import VARIANTS, Variant
from common.trackers.points.network_run import Engine, Found, Queries
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

GLOBAL = 6
"""Side of the grid of support points over the whole picture, as in the published predictor."""
LOCAL, EXTENT = 5, 50.0
"""Side of the grid around an object, and how far it reaches at least, in the network's pixels."""
ENOUGH = 25
"""Points of one object that need no grid around them."""
OBJECTS = 12
"""Objects that get a grid of their own; with more of them, they support each other."""
ONLINE_THRESHOLD, OFFLINE_THRESHOLD = 0.6, 0.9
"""Published limits from which a point counts as visible: of visibility times confidence, and of visibility."""


def unwrapped(entries: dict[str, Any]) -> Mapping[str, Any]:
    """A published checkpoint is a flat table, or has it under "model"."""
    model: Mapping[str, Any] = entries.get("model", entries)
    return model


def open_backend(name: str, variant: Variant, options: EngineOptions) -> CoTrackerBackend:
    """The network with its weights. Raises `WeightsMissing`."""
    network = CoTracker(Config(window=variant.window))
    load(network, name, options, convert=unwrapped, constants=("time_emb",))
    return CoTrackerBackend(network, variant)


class CoTrackerBackend:
    """See `Backend`."""

    def __init__(self, network: CoTracker, variant: Variant = VARIANTS["cotracker3-online"]) -> None:
        self.network, self.variant = network, variant

    @torch.inference_mode()
    def begin(self, images: Sequence[Image], queries: Queries) -> tuple[Engine, list[Found]]:
        engine = _Windows(self, images[0].shape[:2], len(queries.xy))
        stream = engine.stream
        first = stream.encode(images[0])
        own = queries.picture == 0
        stream.add(torch.from_numpy(queries.xy[own]).float())
        for number, image in enumerate(images[1:], 1):
            rows = queries.picture == number
            frame = stream.encode(image)
            cells = stream.cells(torch.from_numpy(queries.xy[rows]).float(), image.shape[:2])
            stream.add_looks(torch.from_numpy(queries.start[rows]).float(), self.network.support(frame.pyramid, cells))
        for pixels in self._support(stream, queries):
            stream.add_grid(pixels)
        return engine, engine.answers(stream.push(first))

    @torch.inference_mode()
    def resume(self, saved: Any, size: tuple[int, int]) -> Engine:
        engine = _Windows(self, size, saved["queries"])
        engine.stream.restore(saved["stream"])
        return engine

    def _support(self, stream: Stream, queries: Queries) -> list[Tensor]:
        """Points that are tracked along and not given out: a grid over the picture, and one around each object."""
        resolution = self.network.config.resolution
        grids = [grid(GLOBAL, resolution)]
        groups = np.unique(queries.group)
        if len(groups) > OBJECTS:
            return grids
        pixels = stream.cells(torch.from_numpy(queries.start).float()).cpu().numpy() * self.network.config.stride
        for group in groups:
            mine = pixels[queries.group == group]
            if len(mine) < ENOUGH:
                grids.append(_around(mine, resolution))
        return grids


def _around(points: NDArray[np.floating[Any]], resolution: tuple[int, int]) -> Tensor:
    """A grid over the box around points (n, 2), at least `EXTENT` wide, within the picture."""
    middle = (points.min(0) + points.max(0)) / 2
    half = np.maximum(np.ptp(points, axis=0), EXTENT) / 2
    low = np.clip(middle - half, 0, np.array(resolution[::-1]) - 1)
    high = np.clip(middle + half, 0, np.array(resolution[::-1]) - 1)
    x, y = (np.linspace(a, b, LOCAL) for a, b in zip(low, high, strict=True))
    return torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).float()


def rescaled(value: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Probabilities, stretched so that the threshold becomes 0.5."""
    return np.where(value < threshold, value / (2 * threshold), 1 - (1 - value) / (2 * (1 - threshold)))


class _Windows:
    """One video."""

    def __init__(self, backend: CoTrackerBackend, size: tuple[int, int], queries: int) -> None:
        self._queries, self._online = queries, backend.variant.online
        variant = backend.variant
        self.stream = Stream(backend.network, size, variant.window, variant.step, pad=variant.online)

    @torch.inference_mode()
    def push(self, image: Image) -> list[Found]:
        return self.answers(self.stream.push(self.stream.encode(image)))

    @torch.inference_mode()
    def flush(self) -> list[Found]:
        return self.answers(self.stream.flush())

    def answers(self, tracks: Tracks | None) -> list[Found]:
        if tracks is None:
            return []
        mine = slice(self._queries)
        xy = tracks.xy[:, mine].cpu().numpy().astype(np.float64)
        visible = tracks.visibility[:, mine].sigmoid().cpu().numpy().astype(np.float64)
        if self._online:
            sure = tracks.confidence[:, mine].sigmoid().cpu().numpy().astype(np.float64)
            probability = rescaled(visible * sure, ONLINE_THRESHOLD)
        else:
            probability = rescaled(visible, OFFLINE_THRESHOLD)
        return [Found(*answers) for answers in zip(xy, probability, strict=True)]

    def save(self) -> Any:
        return {"queries": self._queries, "stream": self.stream.save()}
