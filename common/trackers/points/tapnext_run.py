"""TAPNext at work. Points and frames are tokens of one state, so all points are declared at its start: exemplars are shown
first, as frames of their own on which their points are asked for, and the video follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.networks.device import resolve_device, resolve_dtype
from common.networks.tapnext.network import Config, Step, TapNext, visible_probability, without_tables
from common.networks.tapnext.streams import Stream
from common.trackers.points.network_run import Engine, Found, Queries
from common.trackers.points.tapnext import SIZES
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

REACH = 16.0
"""How far the grid of support points around a point reaches, in pixels of a picture of 256 (the authors' recipe for VOTS)."""
SIDES = (8, 5, 3)
SUPPORT = 256
"""Support points in all; with many points they support each other."""


def unwrapped(entries: dict[str, Any]) -> Mapping[str, Any]:
    """A published checkpoint's table of tensors."""
    return without_tables(entries.get("state_dict", entries))


def open_backend(name: str, options: EngineOptions) -> TapNextBackend:
    """The network with its weights, which stay in single precision: on a GPU the arithmetic is half where that is safe.
    Raises `WeightsMissing`."""
    network = TapNext(Config())
    load(network, name, EngineOptions(options.weights, options.device, "float32"), convert=unwrapped)
    half = resolve_dtype(options.precision, resolve_device(options.device), half=True) == torch.float16
    return TapNextBackend(network, SIZES[name], half)


class TapNextBackend:
    """See `Backend`. size: side of the network's picture."""

    def __init__(self, network: TapNext, size: int, half: bool = False) -> None:
        self.network, self.size, self.half = network, size, half

    @torch.inference_mode()
    def begin(self, images: Sequence[Image], queries: Queries) -> tuple[Engine, list[Found]]:
        engine = _Frames(self, images[0].shape[:2], len(queries.xy))
        # The exemplars come first, the video's first frame last.
        turn = np.where(queries.picture == 0, len(images) - 1, queries.picture - 1)
        xy = self.inward(queries.xy, np.array([image.shape[1::-1] for image in images])[queries.picture])
        engine.stream.add(torch.from_numpy(xy), torch.from_numpy(turn))
        around = _around(xy[queries.picture == 0], self.network.config.native)
        engine.stream.add(torch.from_numpy(around), torch.full((len(around),), len(images) - 1))
        for image in (*images[1:], images[0]):
            step = engine.stream.push(engine.stream.picture(image))
        return engine, engine.answers(step)

    @torch.inference_mode()
    def resume(self, saved: Any, size: tuple[int, int]) -> Engine:
        engine = _Frames(self, size, saved["queries"])
        engine.stream.restore(saved["stream"])
        return engine

    def inward(self, xy: NDArray[np.float64], size: NDArray[np.int64]) -> NDArray[np.float64]:
        """Positions on pictures of those sizes (width, height), pixel centres at whole numbers, in the network's pixels."""
        return (xy + 0.5) * self.network.config.native / size


def _around(xy: NDArray[np.float64], native: int) -> NDArray[np.float64]:
    """Grids around points (n, 2): as fine as the number of points allows."""
    side = next((side for side in SIDES if len(xy) * side**2 <= SUPPORT), 0)
    steps = np.linspace(-REACH, REACH, side)
    grids = xy[:, None] + np.stack(np.meshgrid(steps, steps), -1).reshape(1, -1, 2)
    return np.clip(grids.reshape(-1, 2), 0.5, native - 0.5)


class _Frames:
    """One video."""

    def __init__(self, backend: TapNextBackend, size: tuple[int, int], queries: int) -> None:
        self._queries = queries
        self._scale = np.array(size[::-1]) / backend.network.config.native
        self.stream = Stream(backend.network, (backend.size, backend.size), backend.half)

    @torch.inference_mode()
    def push(self, image: Image) -> list[Found]:
        return self.answers(self.stream.push(self.stream.picture(image)))

    def flush(self) -> list[Found]:
        return []

    def answers(self, step: Step) -> list[Found]:
        xy = step.xy[: self._queries].cpu().numpy().astype(np.float64) * self._scale - 0.5
        probability = visible_probability(step)[: self._queries].cpu().numpy().astype(np.float64)
        return [Found(xy, probability)]

    def save(self) -> Any:
        return {"queries": self._queries, "stream": self.stream.save()}
