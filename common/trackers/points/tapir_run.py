"""TAPIR at work: frames and points in the network's terms, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.networks.tapir import streams
from common.networks.tapir.network import Config, Maps, Tapir, Vectors, visible_probability
from common.trackers.points.network_run import Engine, Found, Queries
from common.trackers.points.tapir import OVERLAP, WINDOW, Variant
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions


def open_backend(variant: Variant, options: EngineOptions) -> TapirBackend:
    """The network with its weights. Raises `WeightsMissing`."""
    network = Tapir(
        Config(
            causal=variant.causal,
            extra_convs=variant.boots,
            pyramid_level=1 if variant.boots else 0,
            temperature=variant.temperature,
        )
    )
    load(network, variant.weights, options)
    return TapirBackend(network, variant.size)


class TapirBackend:
    """See `Backend`. size: side of the network's picture. window, overlap: of a network that is not causal."""

    def __init__(self, network: Tapir, size: int, window: int = WINDOW, overlap: int = OVERLAP) -> None:
        self.network, self.size, self.window, self.overlap = network, size, window, overlap

    @torch.inference_mode()
    def begin(self, images: Sequence[Image], queries: Queries) -> tuple[Engine, list[Found]]:
        engine: _Causal | _Windowed
        engine = (
            _Causal(self, images[0].shape[:2]) if self.network.config.causal else _Windowed(self, images[0].shape[:2])
        )
        first = engine.encode(engine.picture(images[0]))
        order, parts = [], []
        for number, image in enumerate(images):
            rows = np.flatnonzero(queries.picture == number)
            maps = first if number == 0 else engine.encode(engine.picture(image))
            order.append(rows)
            parts.append(engine.stream.look(maps, engine.inward(queries.xy[rows], image.shape[:2])))
        # Queries come picture by picture, so that what was looked up lies in their order already.
        assert (np.concatenate(order) == np.arange(len(queries.xy))).all()
        engine.stream.add([_joined(levels) for levels in zip(*parts, strict=True)])
        return engine, engine.first(images[0], first, queries)

    @torch.inference_mode()
    def resume(self, saved: Any, size: tuple[int, int]) -> Engine:
        engine: _Causal | _Windowed = _Causal(self, size) if self.network.config.causal else _Windowed(self, size)
        engine.restore(saved)
        return engine


def _joined(levels: Sequence[Vectors]) -> Vectors:
    return Vectors(torch.cat([v.fine for v in levels]), torch.cat([v.coarse for v in levels]))


class _Common:
    """Pictures and positions of one video, into the network's square and back."""

    def __init__(self, backend: TapirBackend, size: tuple[int, int]) -> None:
        self._backend, self._size = backend, size
        self.device = backend.network.torch_pips_mixer.linear.weight.device

    def picture(self, image: Image) -> NDArray[np.uint8]:
        """The image as the square that the network sees; shrunk by area, so that fine texture does not alias."""
        side = self._backend.size
        smaller = image.shape[0] >= side and image.shape[1] >= side
        found: NDArray[np.uint8] = cv2.resize(
            image, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        )
        return found

    def inward(self, xy: NDArray[np.float64], size: tuple[int, int]) -> Tensor:
        """Positions on a picture of that size (height, width), pixel centres at whole numbers, in the network's pixels,
        whose centres lie at half numbers."""
        scale = self._backend.size / np.array(size[::-1])
        return torch.from_numpy((xy + 0.5) * scale).float().to(self.device)

    def outward(self, found: streams.Found) -> list[Found]:
        scale = np.array(self._size[::-1]) / self._backend.size
        xy = found.xy.cpu().numpy().astype(np.float64) * scale - 0.5
        probability = visible_probability(found.occlusion, found.distance).cpu().numpy().astype(np.float64)
        return [Found(*answers) for answers in zip(xy, probability, strict=True)]


class _Causal(_Common):
    """Frame by frame."""

    def __init__(self, backend: TapirBackend, size: tuple[int, int]) -> None:
        super().__init__(backend, size)
        self.stream = streams.CausalStream(backend.network, (backend.size, backend.size))

    def encode(self, picture: NDArray[np.uint8]) -> list[Maps]:
        return self.stream.encode(streams.picture(picture, self.device)[None])

    def first(self, image: Image, maps: list[Maps], queries: Queries) -> list[Found]:
        return self.outward(self.stream.push(maps))

    @torch.inference_mode()
    def push(self, image: Image) -> list[Found]:
        return self.outward(self.stream.push(self.encode(self.picture(image))))

    def flush(self) -> list[Found]:
        return []

    def save(self) -> Any:
        return self.stream.save()

    def restore(self, saved: Any) -> None:
        self.stream.restore(saved)


class _Windowed(_Common):
    """In windows. Snapshots hold the window's pictures, which are small beside their features."""

    def __init__(self, backend: TapirBackend, size: tuple[int, int]) -> None:
        super().__init__(backend, size)
        side = (backend.size, backend.size)
        self.stream = streams.WindowStream(backend.network, side, window=backend.window, overlap=backend.overlap)
        self._pictures: list[NDArray[np.uint8]] = []

    def encode(self, picture: NDArray[np.uint8]) -> list[Maps]:
        return self.stream.encode(streams.picture(picture, self.device)[None])

    def first(self, image: Image, maps: list[Maps], queries: Queries) -> list[Found]:
        xy = self.inward(queries.start, image.shape[:2]).cpu()
        # Looks that come from other pictures are asked for on no frame of the video.
        frame = torch.from_numpy(np.where(queries.picture == 0, 0.0, -9.0)).float()
        self.stream.queries = torch.cat([frame[:, None], xy], 1)
        return self._next(self.picture(image), maps)

    @torch.inference_mode()
    def push(self, image: Image) -> list[Found]:
        picture = self.picture(image)
        return self._next(picture, self.encode(picture))

    @torch.inference_mode()
    def flush(self) -> list[Found]:
        found = self.stream.flush()
        self._pictures = []
        return [] if found is None else self.outward(found)

    def _next(self, picture: NDArray[np.uint8], maps: list[Maps]) -> list[Found]:
        self._pictures.append(picture)
        found = self.stream.push(maps)
        self._pictures = self._pictures[len(self._pictures) - len(self.stream.maps) :]
        return [] if found is None else self.outward(found)

    def save(self) -> Any:
        return {"stream": self.stream.save(), "pictures": self._pictures}

    def restore(self, saved: Any) -> None:
        self._pictures = [np.array(picture) for picture in saved["pictures"]]
        self.stream.restore(saved["stream"], [self.encode(picture) for picture in self._pictures])
