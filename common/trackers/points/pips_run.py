"""PIPs and PIPs++ at work. Snapshots hold the kept frames' pictures, which are small beside their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from common.networks.pips import network, plusplus, streams
from common.networks.pips.correlation import read
from common.trackers.points.network_run import UNANSWERED, Engine, Found, Queries
from common.trackers.points.pips import WINDOW
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

Size = tuple[int, int]
Picture = NDArray[np.uint8]


def unwrapped(entries: dict[str, Any]) -> Mapping[str, Any]:
    """A published checkpoint's table of tensors, which lies beside the optimiser's state."""
    return network.without_wrapper(entries.get("model_state_dict", entries))


def open_pips(name: str, size: Size, options: EngineOptions) -> PipsBackend:
    """PIPs with its weights. Raises `WeightsMissing`."""
    net = network.Pips(network.Config())
    load(net, name, options, convert=unwrapped)
    return PipsBackend(net, size)


def open_plus_plus(name: str, size: Size, options: EngineOptions) -> PlusPlusBackend:
    """PIPs++ with its weights. Raises `WeightsMissing`."""
    net = plusplus.PipsPlusPlus(plusplus.Config())
    load(net, name, options, convert=unwrapped)
    return PlusPlusBackend(net, size)


class _Geometry:
    """Pictures and positions of a video of one size, into the network's and back."""

    def __init__(self, size: Size, network_size: Size) -> None:
        self._network_size = network_size
        self._scale = np.array(network_size[::-1]) / np.array(size[::-1])

    def picture(self, image: Image) -> Picture:
        """Resized; shrunk by area, so that fine texture does not alias."""
        height, width = self._network_size
        smaller = image.shape[0] >= height and image.shape[1] >= width
        found: Picture = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        )
        return found

    def inward(self, xy: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy((xy + 0.5) * self._scale - 0.5).float()

    def outward(self, xy: Tensor) -> NDArray[np.float64]:
        pixels: NDArray[np.float64] = (xy.cpu().numpy().astype(np.float64) + 0.5) / self._scale - 0.5
        return pixels


class PipsBackend:
    """See `Backend`. size: height and width of the network's picture."""

    def __init__(self, net: network.Pips, size: Size) -> None:
        self.network, self.size = net, size

    @torch.inference_mode()
    def begin(self, images: Sequence[Image], queries: Queries) -> tuple[Engine, list[Found]]:
        engine = _Pips(self, images[0].shape[:2])
        picture = engine.geometry.picture(images[0])
        features = engine.encode(picture)
        for number, image in enumerate(images):
            rows = queries.picture == number
            there = _Geometry(image.shape[:2], self.size)
            seen = features if number == 0 else engine.encode(there.picture(image))
            looks = engine.stream.look(seen, there.inward(queries.xy[rows]))
            engine.stream.add(engine.geometry.inward(queries.start[rows]), looks)
        return engine, engine.next(picture, features)

    @torch.inference_mode()
    def resume(self, saved: Any, size: Size) -> Engine:
        engine = _Pips(self, size)
        engine.restore(saved)
        return engine


class _Pips:
    """One video."""

    def __init__(self, backend: PipsBackend, size: Size) -> None:
        self.geometry = _Geometry(size, backend.size)
        self.stream = streams.PipsStream(backend.network)
        self._size = backend.size
        self._pictures: list[Picture] = []

    def encode(self, picture: Picture) -> Tensor:
        return self.stream.encode(streams.picture(picture, self._size, self.stream.device))

    @torch.inference_mode()
    def push(self, image: Image) -> list[Found]:
        picture = self.geometry.picture(image)
        return self.next(picture, self.encode(picture))

    def next(self, picture: Picture, features: Tensor) -> list[Found]:
        self._pictures.append(picture)
        found = self.stream.push(features)
        self._pictures = self._pictures[len(self._pictures) - len(self.stream.levels) :]
        return self._answers(found)

    @torch.inference_mode()
    def flush(self) -> list[Found]:
        return self._answers(self.stream.flush())

    def _answers(self, found: streams.Found | None) -> list[Found]:
        if found is None:
            return []
        xy, visible = self.geometry.outward(found.xy), found.visible.cpu().numpy().astype(np.float64)
        return [Found(*answers) for answers in zip(xy, visible, strict=True)]

    def save(self) -> Any:
        return {"pictures": self._pictures, "stream": self.stream.save()}

    def restore(self, saved: Any) -> None:
        self._pictures = [np.array(picture) for picture in saved["pictures"]]
        self.stream.restore(saved["stream"], [self.encode(picture) for picture in self._pictures])


class PlusPlusBackend:
    """See `Backend`. size: height and width of the network's picture. The network has no use for exemplars."""

    def __init__(self, net: plusplus.PipsPlusPlus, size: Size, window: int = WINDOW) -> None:
        self.network, self.size, self.window = net, size, window

    @torch.inference_mode()
    def begin(self, images: Sequence[Image], queries: Queries) -> tuple[Engine, list[Found]]:
        own = queries.picture == 0
        engine = _PlusPlus(self, images[0].shape[:2], own)
        picture = engine.geometry.picture(images[0])
        features = engine.encode(picture)
        xy = engine.geometry.inward(queries.xy[own])
        engine.stream.add(xy)
        engine.look(features, xy)
        return engine, engine.next(picture, features)

    @torch.inference_mode()
    def resume(self, saved: Any, size: Size) -> Engine:
        engine = _PlusPlus(self, size, np.array(saved["own"]))
        engine.restore(saved)
        return engine


class _PlusPlus:
    """One video. Since the network does not say whether a point is visible, we ask how much it looks like at first: the
    cosine of the angle between its features then and now."""

    def __init__(self, backend: PlusPlusBackend, size: Size, own: NDArray[np.bool_]) -> None:
        """own: (m,) queries on the first frame, the only ones that this network can answer."""
        self.geometry = _Geometry(size, backend.size)
        self.stream = streams.PlusPlusStream(backend.network, backend.window)
        self._size, self._stride, self._own = backend.size, backend.network.config.stride, own
        self._pictures: list[Picture] = []
        self._looks = torch.zeros(0)

    def encode(self, picture: Picture) -> Tensor:
        return self.stream.encode(streams.picture(picture, self._size, self.stream.device))

    def look(self, features: Tensor, xy: Tensor) -> None:
        self._looks = read(features, (xy.to(features.device) / self._stride)[None])

    @torch.inference_mode()
    def push(self, image: Image) -> list[Found]:
        picture = self.geometry.picture(image)
        return self.next(picture, self.encode(picture))

    def next(self, picture: Picture, features: Tensor) -> list[Found]:
        self._pictures.append(picture)
        kept = [*self.stream.features, features]
        found = self.stream.push(features)
        self._pictures = self._pictures[len(self._pictures) - len(self.stream.features) :]
        return self._answers(found, kept)

    @torch.inference_mode()
    def flush(self) -> list[Found]:
        kept = list(self.stream.features)
        return self._answers(self.stream.flush(), kept)

    def _answers(self, found: Tensor | None, features: Sequence[Tensor]) -> list[Found]:
        if found is None:
            return []
        answers = []
        for xy, here in zip(found, features, strict=False):
            likeness = F.cosine_similarity(read(here, (xy / self._stride)[None]), self._looks, -1)[0]
            everywhere, probability = np.zeros((len(self._own), 2)), np.full(len(self._own), UNANSWERED)
            everywhere[self._own] = self.geometry.outward(xy)
            probability[self._own] = likeness.clamp(0, 1).cpu().numpy()
            answers.append(Found(everywhere, probability))
        return answers

    def save(self) -> Any:
        return {
            "pictures": self._pictures,
            "stream": self.stream.save(),
            "own": self._own,
            "looks": self._looks.cpu().numpy(),
        }

    def restore(self, saved: Any) -> None:
        self._pictures = [np.array(picture) for picture in saved["pictures"]]
        self.stream.restore(saved["stream"], [self.encode(picture) for picture in self._pictures])
        self._looks = torch.tensor(saved["looks"], device=self.stream.device)
