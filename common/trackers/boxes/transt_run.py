"""TransT's published inference: one template for ever, a window that prefers small motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.networks.transt import TransT, TransTConfig
from common.networks.vision_layers import pieces, to_input
from common.trackers.boxes.siamese_contract import Found, Sighting, margins
from common.trackers.boxes.siamese_crop import Array, Bool, Crops, cut, cut_turned
from common.trackers.boxes.siamese_weights import network_of
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

_LEAST = 10.0
"""Published least width and height of a box, pixels."""
_TEMPLATE_CONTEXT = 1.0
_SEARCH_CONTEXT = 3.0


@dataclass(frozen=True)
class TransTSettings:
    """window_penalty: weight of the cosine window in choosing a token, 0..1. Raising it prefers what moved little."""

    window_penalty: float = 0.49


class TransTProcedure:
    """See `Procedure`. Memory per object: its template's tokens, and its crop in snapshots."""

    def __init__(self, network: TransT, settings: TransTSettings, tree: dict[str, Any], device: torch.device) -> None:
        self._network, self._settings, self._device = network, settings, device
        self._pose: Array = tree["pose"]
        self.angle: Array = tree["angle"]
        self._margin: Array = tree["margin"]
        self._mean: Array = tree["mean"]
        self._first: Crops = tree["first"]
        line = np.hanning(network.config.grid)
        self._window: Array = np.outer(line, line).ravel()
        self._templates = self._encode(self._first)

    @classmethod
    def begin(
        cls,
        network: TransT,
        settings: TransTSettings,
        device: torch.device,
        image: Image,
        boxes: Array,
        angle: Array,
        margin: Array,
    ) -> TransTProcedure:
        """Objects drawn in image: boxes (n, 4) x, y, width, height. margin: (n,) least width and height of a box."""
        pose = _to_pose(boxes)
        mean = image.mean((0, 1), dtype=np.float64)
        first, _ = _crops(image, pose, angle, template_window(pose)[0], network.config.template_size, mean)
        tree = {"pose": pose, "angle": angle, "margin": margin, "mean": mean, "first": first}
        return cls(network, settings, tree, device)

    @property
    def boxes(self) -> Array:
        """See `Procedure`. Kept as centre and size, as published: both forms round differently."""
        return _to_boxes(self._pose)

    @boxes.setter
    def boxes(self, boxes: Array) -> None:
        self._pose = _to_pose(boxes)

    def follow(self, image: Image, widen: Array) -> Found:
        """See `Procedure`. A widened search does without the window. detail: pose found, best token, sides and corners of
        the crops, the crops, the network's logits and boxes.
        """
        size = self._network.config.search_size
        side = context_sides(self._pose, _SEARCH_CONTEXT, widen)
        crops, corner = _crops(image, self._pose, self.angle, side, size, self._mean)
        logits, predicted = self._search(crops)
        score = _first_softmax(logits)
        window = np.where(widen > 1.0, 0.0, self._settings.window_penalty)[:, None]
        best = (score * (1.0 - window) + self._window * window).argmax(1)
        rows = np.arange(len(best))
        pose = self._place(predicted[rows, best].astype(np.float64), side, image)
        detail = {
            "pose": pose,
            "best": best,
            "side": side,
            "corner": corner,
            "crops": crops,
            "logits": logits,
            "predicted": predicted,
        }
        return Found(_to_boxes(pose), score[rows, best].astype(np.float64), detail)

    def accept(self, image: Image, found: Found, follow: Bool, learn: Bool) -> None:
        """See `Procedure`. There is nothing to learn."""
        self._pose = np.where(follow[:, None], found.detail["pose"], self._pose)

    def to_tree(self) -> dict[str, Any]:
        """See `Procedure`."""
        return {
            "pose": self._pose,
            "angle": self.angle,
            "margin": self._margin,
            "mean": self._mean,
            "first": self._first,
        }

    def _place(self, found: Array, side: Array, image: Image) -> Array:
        """Poses (n, 4) in the picture of boxes found (n, 4) in 0..1 of the crops."""
        height, width = image.shape[:2]
        pixels = found * side[:, None]
        centre = pixels[:, :2] + self._pose[:, :2] - side[:, None] / 2
        offset = pixels[:, :2] - side[:, None] / 2
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = self._pose[:, :2] + np.stack(
            (offset[:, 0] * cos - offset[:, 1] * sin, offset[:, 0] * sin + offset[:, 1] * cos), 1
        )
        upright = (self.angle == 0.0)[:, None]
        picture = np.array([width, height], np.float64)
        centre = np.clip(np.where(upright, centre, turned), 0.0, picture)
        most = np.where(upright, picture, np.hypot(width, height))
        extent = np.minimum(np.maximum(pixels[:, 2:], self._margin[:, None]), np.maximum(most, 1.0))
        return np.concatenate((centre, extent), 1)

    @torch.inference_mode()
    def _encode(self, crops: Crops) -> torch.Tensor | None:
        return self._network.encode(self._input(crops)) if len(crops) else None

    @torch.inference_mode()
    def _search(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._templates is None:
            tokens = self._network.config.grid**2
            return np.zeros((0, tokens, 2), np.float32), np.zeros((0, tokens, 4), np.float32)
        found = [
            self._network.search(self._input(crops[part]), self._templates[part])
            for part in pieces(len(crops), self._device)
        ]
        logits, boxes = (torch.cat(each) for each in zip(*found, strict=True))
        return logits.cpu().numpy(), boxes.cpu().numpy()

    def _input(self, crops: Crops) -> torch.Tensor:
        return to_input(crops, self._device, next(self._network.parameters()).dtype)


class TransTEngine:
    """See `Engine`. There is one template: other sightings are of no use."""

    def __init__(self, network: TransT, settings: TransTSettings, device: torch.device) -> None:
        self._network, self._settings, self._device = network, settings, device

    @classmethod
    def open(cls, name: str, options: EngineOptions, config: TransTConfig, settings: TransTSettings) -> TransTEngine:
        """With the weights of that name. Raises `WeightsMissing`, `WeightsInvalid`."""
        network = TransT(config)
        device = load(network, name, options, convert=network_of)
        return cls(network, settings, device)

    def begin(self, image: Image, boxes: Array, angle: Array, others: Sequence[Sighting]) -> TransTProcedure:
        """See `Engine`."""
        least = margins(boxes, _LEAST)
        return TransTProcedure.begin(self._network, self._settings, self._device, image, boxes, angle, least)

    def resume(self, tree: dict[str, Any]) -> TransTProcedure:
        """See `Engine`."""
        return TransTProcedure(self._network, self._settings, tree, self._device)


def context_sides(pose: Array, context: float, widen: Array | float = 1.0) -> Array:
    """Side (n,) in whole pixels of the crops: the object with `context` times its mean side around it."""
    around = context * (pose[:, 2] + pose[:, 3]) / 2
    side: Array = np.ceil(np.sqrt((pose[:, 2] + around) * (pose[:, 3] + around)) * widen)
    return np.maximum(side, 1.0)


def template_window(pose: Array) -> tuple[Array, NDArray[np.int64]]:
    """Sides (n,) and corners (n, 2) of the templates' crops."""
    side = context_sides(pose, _TEMPLATE_CONTEXT)
    return side, _corners(pose, side)


def _corners(pose: Array, side: Array) -> NDArray[np.int64]:
    corner: NDArray[np.int64] = np.floor(pose[:, :2] - ((side + 1) / 2)[:, None] + 0.5).astype(np.int64)
    return corner


def _crops(
    image: Image, pose: Array, angle: Array, side: Array, size: int, mean: Array
) -> tuple[Crops, NDArray[np.int64]]:
    """Crops uint8 (n, size, size, 3) about the poses, the first frame's mean colour outside the picture; their corners."""
    fill = tuple(int(v) for v in mean.astype(np.uint8))
    corner = _corners(pose, side)
    out = np.empty((len(pose), size, size, 3), np.uint8)
    for number, ((x, y), length) in enumerate(zip(corner, side, strict=True)):
        if angle[number] == 0.0:
            out[number] = cut(image, int(x), int(y), int(length), size, fill, keep_last=True)
        else:
            out[number] = cut_turned(image, pose[number, :2], float(length), float(angle[number]), size, fill)
    return out, corner


def _first_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis of two, its first entry (n, tokens)."""
    chance: NDArray[np.float32] = torch.from_numpy(logits).softmax(-1)[..., 0].numpy()
    return chance


def _to_pose(boxes: Array) -> Array:
    return np.concatenate((boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]), 1)


def _to_boxes(pose: Array) -> Array:
    return np.concatenate((pose[:, :2] - pose[:, 2:] / 2, pose[:, 2:]), 1)
