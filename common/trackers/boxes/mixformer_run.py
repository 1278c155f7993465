"""MixFormer's published inference: crops, online templates, score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.networks.mixformer import CONSTANTS, UNUSED, MixFormer, MixFormerConfig, Templates
from common.networks.vision_layers import pieces, to_input
from common.trackers.boxes.siamese_contract import Found, Sighting, margins
from common.trackers.boxes.siamese_crop import (
    Array,
    Bool,
    Crops,
    clip_all,
    corners_of,
    crop_around,
    place_back,
    sides,
)
from common.trackers.boxes.siamese_weights import network_of
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

_LEAST = 10.0
"""Published least width and height of a box, pixels."""


@dataclass(frozen=True)
class MixFormerSettings:
    """Names and values of the authors' configuration (VOT2020 preset).

    template_factor, search_factor: side of the crops over the object's mean side. Raising search_factor follows faster
    objects and resolves small ones less. update_interval: frames between new online templates; lowering it adapts faster
    and drifts sooner. online_size: online templates kept. max_score_decay: factor per frame on the best score of the
    pending template; below 1 it prefers later ones.
    """

    template_factor: float = 2.0
    search_factor: float = 4.5
    update_interval: int = 10
    online_size: int = 5
    max_score_decay: float = 1.0


class MixFormerProcedure:
    """See `Procedure`. Memory per object: the crops of its templates, and keys and values of each block for them."""

    def __init__(
        self, network: MixFormer, settings: MixFormerSettings, tree: dict[str, Any], device: torch.device
    ) -> None:
        self._network, self._settings, self._device = network, settings, device
        self.boxes: Array = tree["boxes"]
        self.angle: Array = tree["angle"]
        self._margin: Array = tree["margin"]
        self._first: Crops = tree["first"]
        self._extra: Crops = tree["extra"]
        self._online: Crops = tree["online"]
        self._pending: Crops = tree["pending"]
        self._best: Array = tree["best"]
        self._counter: int = tree["counter"]
        self._forget: int = tree["forget"]
        self._templates: Templates | None = None
        self._refresh()

    @classmethod
    def begin(
        cls,
        network: MixFormer,
        settings: MixFormerSettings,
        device: torch.device,
        image: Image,
        boxes: Array,
        angle: Array,
        margin: Array,
        extra: Crops | None = None,
    ) -> MixFormerProcedure:
        """Objects drawn in image. margin: (n,) least width and height of a box. extra: (n, k, size, size, 3) more
        templates that are never replaced, k small.
        """
        size = network.config.template_size
        first = crop_around(image, boxes, angle, sides(boxes, settings.template_factor), size)
        none = np.empty((len(boxes), 0, size, size, 3), np.uint8)
        tree = {
            "boxes": boxes,
            "angle": angle,
            "margin": margin,
            "first": first,
            "extra": none if extra is None else extra,
            "online": first[:, None].copy(),
            "pending": first.copy(),
            "best": np.full(len(boxes), -1.0),
            "counter": 0,
            "forget": 0,
        }
        return cls(network, settings, tree, device)

    def follow(self, image: Image, widen: Array) -> Found:
        """See `Procedure`. detail: network's boxes and logits, sides and corners of the crops, the crops."""
        side = sides(self.boxes, self._settings.search_factor * widen)
        crops = crop_around(image, self.boxes, self.angle, side, self._network.config.search_size)
        predicted, logits = self._search(crops)
        boxes = place_back(predicted, self.boxes, self.angle, side, self._network.config.search_size)
        height, width = image.shape[:2]
        boxes = clip_all(boxes, self.angle, width, height, self._margin)
        detail = {
            "predicted": predicted,
            "logits": logits,
            "side": side,
            "corner": corners_of(self.boxes, side),
            "crops": crops,
        }
        return Found(boxes, _sigmoid(logits.astype(np.float64)), detail)

    def accept(self, image: Image, found: Found, follow: Bool, learn: Bool) -> None:
        """See `Procedure`. Notes in detail whose pending template was replaced, bool (n,)."""
        settings = self._settings
        self.boxes = np.where(follow[:, None], found.boxes, self.boxes)
        self._counter += 1
        self._best = self._best * settings.max_score_decay
        better: Bool = learn & (found.score > 0.5) & (found.score > self._best)
        found.detail["replaced"] = better
        if better.any():
            chosen = self.boxes[better]
            side = sides(chosen, settings.template_factor)
            self._pending[better] = crop_around(image, chosen, self.angle[better], side, self._pending.shape[1])
            self._best = np.where(better, found.score, self._best)
        if self._counter % settings.update_interval == 0:
            self._renew()

    def to_tree(self) -> dict[str, Any]:
        """See `Procedure`."""
        return {
            "boxes": self.boxes,
            "angle": self.angle,
            "margin": self._margin,
            "first": self._first,
            "extra": self._extra,
            "online": self._online,
            "pending": self._pending,
            "best": self._best,
            "counter": self._counter,
            "forget": self._forget,
        }

    def _renew(self) -> None:
        """The pending templates become online ones; without a sure frame since the last time they are the first again."""
        most = self._settings.online_size
        if most == 1:
            self._online = self._pending[:, None].copy()
        elif self._online.shape[1] < most:
            self._online = np.concatenate((self._online, self._pending[:, None]), 1)
        else:
            self._online[:, self._forget] = self._pending
            self._forget = (self._forget + 1) % most
        self._best = np.full(len(self.boxes), -1.0)
        self._pending = self._first.copy()
        self._refresh()

    @torch.inference_mode()
    def _refresh(self) -> None:
        if not len(self.boxes):
            return
        crops = np.concatenate((self._first[:, None], self._extra, self._online), 1)
        n, k = crops.shape[:2]
        images = self._input(crops.reshape(n * k, *crops.shape[2:]))
        self._templates = None  # let go of the old ones before the new ones are made
        self._templates = self._network.templates(images.view(n, k, *images.shape[1:]))

    @torch.inference_mode()
    def _search(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self._templates is None:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        found = [
            self._network.search(self._input(crops[part]), self._templates.part(part))
            for part in pieces(len(crops), self._device)
        ]
        boxes, logits = (torch.cat(each) for each in zip(*found, strict=True))
        return boxes.cpu().numpy(), logits.cpu().numpy()

    def _input(self, crops: Crops) -> torch.Tensor:
        dtype = next(self._network.parameters()).dtype
        return to_input(crops, self._device, dtype)


class MixFormerEngine:
    """See `Engine`."""

    def __init__(self, network: MixFormer, settings: MixFormerSettings, device: torch.device) -> None:
        self._network, self._settings, self._device = network, settings, device

    @classmethod
    def open(
        cls, name: str, options: EngineOptions, config: MixFormerConfig, settings: MixFormerSettings
    ) -> MixFormerEngine:
        """With the weights of that name. Raises `WeightsMissing`, `WeightsInvalid`."""
        network = MixFormer(config)
        device = load(network, name, options, convert=lambda entries: network_of(entries, UNUSED), constants=CONSTANTS)
        return cls(network, settings, device)

    def begin(self, image: Image, boxes: Array, angle: Array, others: Sequence[Sighting]) -> MixFormerProcedure:
        """See `Engine`. Other sightings become templates that stay; who is not in one has the prompt's there."""
        size, factor = self._network.config.template_size, self._settings.template_factor
        extra = np.empty((len(boxes), len(others), size, size, 3), np.uint8)
        for number, other in enumerate(others):
            seen = crop_around(other.image, other.boxes, other.angle, sides(other.boxes, factor), size)
            here = crop_around(image, boxes, angle, sides(boxes, factor), size)
            extra[:, number] = np.where(other.known[:, None, None, None], seen, here)
        least = margins(boxes, _LEAST)
        return MixFormerProcedure.begin(self._network, self._settings, self._device, image, boxes, angle, least, extra)

    def resume(self, tree: dict[str, Any]) -> MixFormerProcedure:
        """See `Engine`."""
        return MixFormerProcedure(self._network, self._settings, tree, self._device)


def _sigmoid(logits: Array) -> Array:
    score: Array = 1.0 / (1.0 + np.exp(-np.clip(logits, -60.0, 60.0)))
    return score
