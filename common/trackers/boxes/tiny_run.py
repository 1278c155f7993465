"""How the network `tiny` follows boxes: a window four times the object's size about where it was, one pass for all objects.

What the network says per cell becomes one box as in Li et al., "High performance visual tracking with siamese region proposal network",
CVPR 2018: cells whose box has another size or shape than the last, and cells far from the middle, count less; the size
moves slowly. Positions are those of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.networks.tiny.network import OBJECT, STRIDE, TEMPLATE, Memory, TinyMatcher, fused, join
from common.trackers.boxes.patches import Pyramid
from common.trackers.boxes.siamese_contract import Found, Sighting, margins
from common.trackers.boxes.siamese_crop import Array, Bool, clip_all
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

_LEAST = 4.0


@dataclass(frozen=True)
class TinySettings:
    """window: 0..1, how much nearness to the last place counts; raising it changes objects less often and loses fast ones.
    strict: how much a change of size or shape counts against a cell. pace: how fast the size follows the network, 0..1.
    search: side of the search crop, pixels. renew: frames between looks that are remembered beside the first, 0 = none;
    sure: least confidence to remember one.
    """

    window: float = 0.4
    strict: float = 0.1
    pace: float = 0.12
    search: int = 160
    renew: int = 0
    sure: float = 0.9


class TinyEngine:
    """See `Engine`."""

    def __init__(self, options: EngineOptions, settings: TinySettings | None = None) -> None:
        network = TinyMatcher()
        self.device = load(network, "tiny", options)
        self.network = fused(network).to(memory_format=torch.channels_last)
        self.settings = settings or TinySettings()

    def begin(self, image: Image, boxes: Array, angle: Array, others: Sequence[Sighting]) -> TinyProcedure:
        """See `Engine`. Other sightings are not used: the memory is of the first frame, and of later ones by itself."""
        crops = cut(Pyramid(image), boxes, angle, np.full(len(boxes), TEMPLATE / OBJECT), TEMPLATE)
        extent = boxes[:, 2:] / _scale(boxes)[:, None] * OBJECT
        drawn = np.concatenate((TEMPLATE / 2 - extent / 2, TEMPLATE / 2 + extent / 2), 1)
        with torch.inference_mode():
            features = self.network.features(self.send(crops))
            memory = self.network.remember(features, torch.from_numpy(drawn).float().to(self.device), recent=False)
            kernels = self.network.kernels(features)
        tree: dict[str, Any] = {
            "boxes": boxes,
            "angle": angle,
            "margin": margins(boxes, _LEAST),
            "memory": [_keep(t) for t in memory],
            "later": None,
            "kernels": _keep(kernels),
            "age": 0,
        }
        return self.resume(tree)

    def resume(self, tree: dict[str, Any]) -> TinyProcedure:
        """See `Engine`."""
        return TinyProcedure(self, tree)

    def send(self, crops: NDArray[np.uint8]) -> Tensor:
        """Crops (n, side, side, 3) as the network wants them."""
        return torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)


class TinyProcedure:
    """See `Procedure`."""

    def __init__(self, engine: TinyEngine, tree: dict[str, Any]) -> None:
        self._engine = engine
        self.boxes: Array = tree["boxes"]
        self.angle: Array = tree["angle"]
        self._margin: Array = tree["margin"]
        self._memory = self._load(tree["memory"])
        self._later = None if tree["later"] is None else self._load(tree["later"])
        self._kernels = torch.from_numpy(np.array(tree["kernels"])).to(engine.device)
        self._age: int = tree["age"]

    @torch.inference_mode()
    def follow(self, image: Image, widen: Array) -> Found:
        """See `Procedure`. detail["chance"]: float32 (n, h, w) that a cell is the centre."""
        if not len(self.boxes):
            return Found(self.boxes.copy(), np.zeros(0))
        engine, settings = self._engine, self._engine.settings
        side = settings.search
        crops = cut(Pyramid(image), self.boxes, self.angle, side / OBJECT * widen, side)
        features = engine.network.features(engine.send(crops))
        memory = self._memory if self._later is None else join(self._memory, self._later)
        answer = engine.network.find(features, memory, self._kernels)
        chance = torch.sigmoid(answer.centre).cpu().numpy()
        sides = answer.sides.cpu().numpy().astype(np.float64)
        step = _scale(self.boxes) * widen / OBJECT
        picked = pick(chance, sides, self.boxes[:, 2:] / step[:, None], settings)
        height, width = image.shape[:2]
        offset = (picked.middle - side / 2) * step[:, None]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = np.stack((offset[:, 0] * cos - offset[:, 1] * sin, offset[:, 0] * sin + offset[:, 1] * cos), 1)
        middle = self.boxes[:, :2] + self.boxes[:, 2:] / 2 + turned
        size = picked.extent * step[:, None]
        pace = np.where(widen == 1.0, picked.pace, 0.0)[:, None]
        extent = np.exp((1 - pace) * np.log(self.boxes[:, 2:]) + pace * np.log(np.maximum(size, 1.0)))
        found = clip_all(np.concatenate((middle - extent / 2, extent), 1), self.angle, width, height, self._margin)
        detail = {"chance": chance, "features": features, "middle": picked.middle, "drawn": picked.extent, "raw": size}
        return Found(found, confidence(picked.chance), detail)

    def accept(self, image: Image, found: Found, follow: Bool, learn: Bool) -> None:
        """See `Procedure`."""
        self._age += 1
        settings = self._engine.settings
        if settings.renew and self._age % settings.renew == 0 and len(self.boxes):
            self._renew(found, learn & (found.score > settings.sure))
        self.boxes = np.where(follow[:, None], found.boxes, self.boxes)

    @torch.inference_mode()
    def _renew(self, found: Found, learn: Bool) -> None:
        """Remember this look of the objects in learn (n,)."""
        if not learn.any():
            return
        middle, extent = found.detail["middle"], found.detail["drawn"]
        boxes = torch.from_numpy(np.concatenate((middle - extent / 2, middle + extent / 2), 1)).float()
        network = self._engine.network
        seen = network.remember(found.detail["features"], boxes.to(self._engine.device), recent=True)
        before = seen if self._later is None else self._later
        use = torch.from_numpy(learn).to(self._engine.device)
        if self._later is None and not learn.all():
            return
        self._later = Memory(
            *(torch.where(use.reshape(-1, *[1] * (a.dim() - 1)), a, b) for a, b in zip(seen, before, strict=True))
        )

    def to_tree(self) -> dict[str, Any]:
        """See `Procedure`."""
        return {
            "boxes": self.boxes,
            "angle": self.angle,
            "margin": self._margin,
            "memory": [_keep(t) for t in self._memory],
            "later": None if self._later is None else [_keep(t) for t in self._later],
            "kernels": _keep(self._kernels),
            "age": self._age,
        }

    def _load(self, arrays: Sequence[NDArray[np.float32]]) -> Memory:
        return Memory(*(torch.from_numpy(np.array(a)).to(self._engine.device) for a in arrays))


@dataclass(frozen=True)
class Picked:
    """Of n objects: middle, extent (n, 2) of the box in the crop, pixels; chance (n,) 0..1; pace (n,) of the size."""

    middle: Array
    extent: Array
    chance: Array
    pace: Array


def pick(chance: NDArray[np.float32], sides: Array, before: Array, settings: TinySettings) -> Picked:
    """One box per object from the network's answer. chance: (n, h, w). sides: (n, 4, h, w). before: (n, 2) extents now."""
    n, h, w = chance.shape
    extent = np.stack((sides[:, 0] + sides[:, 2], sides[:, 1] + sides[:, 3]), 1)
    padded = np.sqrt((1.5 * extent[:, 0] + 0.5 * extent[:, 1]) * (0.5 * extent[:, 0] + 1.5 * extent[:, 1]))
    b = before[:, :, None, None]
    usual = np.sqrt((1.5 * b[:, 0] + 0.5 * b[:, 1]) * (0.5 * b[:, 0] + 1.5 * b[:, 1]))
    change = np.abs(np.log(padded / usual)) + np.abs(np.log(extent[:, 0] / extent[:, 1] * b[:, 1] / b[:, 0]))
    penalty = np.exp(-settings.strict * (np.exp(change) - 1))
    bell = np.outer(np.hanning(h + 2)[1:-1], np.hanning(w + 2)[1:-1])
    rank = penalty * chance * (1 - settings.window) + bell * settings.window
    best = rank.reshape(n, -1).argmax(1)
    row, column = np.divmod(best, w)
    # The chance-weighted mean of the boxes that the best cell and its neighbours give.
    step = np.arange(-1, 2)
    rows = np.clip(row[:, None, None] + step[:, None], 0, h - 1)
    columns = np.clip(column[:, None, None] + step, 0, w - 1)
    each = np.arange(n)[:, None, None]
    weight = np.maximum(chance[each, rows, columns], 1e-4).astype(np.float64) ** 2
    weight /= weight.sum((1, 2), keepdims=True)
    x, y = columns * STRIDE + STRIDE / 2, rows * STRIDE + STRIDE / 2
    near = [sides[each, k, rows, columns] for k in range(4)]
    low = np.stack([((x - near[0]) * weight).sum((1, 2)), ((y - near[1]) * weight).sum((1, 2))], 1)
    high = np.stack([((x + near[2]) * weight).sum((1, 2)), ((y + near[3]) * weight).sum((1, 2))], 1)
    at = np.arange(n), row, column
    return Picked(
        (low + high) / 2,
        high - low,
        chance[at].astype(np.float64),
        np.clip(penalty[at] * chance[at] * settings.pace, 0, 1),
    )


def confidence(chance: Array) -> Array:
    """Chance (n,) that the box meets the object, from what the network says of its surest cell.

    On generated clips nine in ten cells on the object are above 0.6, and nine in ten of those elsewhere below 0.57.
    """
    sure: Array = 1 / (1 + np.exp(-(chance - 0.54) / 0.04))
    return sure


def cut(pyramid: Pyramid, boxes: Array, angle: Array, share: Array, size: int) -> NDArray[np.uint8]:
    """Crops uint8 (n, size, size, 3) about boxes (n, 4), turned with them; side: share (n,) times the box's mean side.

    The mean colour of the picture lies outside of it, as in training.
    """
    out = np.empty((len(boxes), size, size, 3), np.uint8)
    width, height = pyramid.size
    fill = cv2.mean(pyramid.level(2))[:3]
    for number, (box, side, turn) in enumerate(zip(boxes, _scale(boxes) * share, angle, strict=True)):
        step = side / size
        source = pyramid.level(max(0, int(np.floor(np.log2(max(step, 1.0)) + 0.25))))
        zoom = np.array([source.shape[1] / width, source.shape[0] / height])
        linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * step
        origin = box[:2] + box[2:] / 2 + linear @ np.full(2, 0.5 - size / 2)
        matrix = np.concatenate((linear * zoom[:, None], (origin * zoom - 0.5)[:, None]), 1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        out[number] = cv2.warpAffine(source, matrix, (size, size), flags=flags, borderValue=fill)
    return out


def _scale(boxes: Array) -> Array:
    scale: Array = np.sqrt(np.maximum(boxes[:, 2:].prod(1), 1.0))
    return scale


def _keep(tensor: Tensor) -> NDArray[np.float32]:
    kept: NDArray[np.float32] = tensor.float().cpu().numpy()
    return kept
