"""MCITrack's published inference: templates from a bank of sure frames, a state that is dropped when in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.networks.mcitrack import Maps, MCITrack, MCITrackConfig
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
from common.trackers.boxes.template_bank import TemplateBank
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

_LEAST = 10.0
"""Published least width and height of a box, pixels."""
TEMPLATES = 5
"""Templates that the network looks at; the first is always the prompt's."""


@dataclass(frozen=True)
class MCITrackSettings:
    """Names and values of the served app.

    template_factor, search_factor: side of the crops over the object's mean side. update_threshold: confidence above which
    a frame enters the bank; lowering it adapts faster and drifts sooner. update_h_t: confidence below which the carried
    state is dropped. update_intervals: frames between new sets of templates. memory_bank: sure frames that templates are
    taken from, at least 5.
    """

    template_factor: float = 2.0
    search_factor: float = 4.0
    update_threshold: float = 0.8
    update_h_t: float = 0.88
    update_intervals: int = 70
    memory_bank: int = 500


class MCITrackProcedure:
    """See `Procedure`. Memory per object: the state (38 MB to 226 MB by variant), and a bank of crops (see there)."""

    def __init__(
        self, network: MCITrack, settings: MCITrackSettings, tree: dict[str, Any], device: torch.device
    ) -> None:
        self._network, self._settings, self._device = network, settings, device
        self.boxes: Array = tree["boxes"]
        self.angle: Array = tree["angle"]
        self._margin: Array = tree["margin"]
        self._counter: int = tree["counter"]
        self._fixed: int = tree["fixed"]
        self._used: Crops = tree["used"]
        self._used_boxes: NDArray[np.float32] = tree["used_boxes"]
        self._bank = TemplateBank.from_tree(tree["bank"])
        self._state = torch.from_numpy(np.array(tree["state"])).to(device)
        side = network.config.search_grid
        line = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, side + 1) / (side + 1)))
        self._window = torch.from_numpy(np.outer(line, line).ravel().astype(np.float32)).to(device)
        self._templates: torch.Tensor | None = None
        self._refresh()

    @classmethod
    def begin(
        cls,
        network: MCITrack,
        settings: MCITrackSettings,
        device: torch.device,
        image: Image,
        boxes: Array,
        angle: Array,
        margin: Array,
        others: Sequence[Sighting] = (),
    ) -> MCITrackProcedure:
        """Objects drawn in image. margin: (n,) least width and height of a box. others: the objects on other frames, at
        most 3, that stay templates for good beside the first.
        """
        size = network.config.template_size
        crops, inner = template_crops(image, boxes, angle, size, settings.template_factor)
        used, used_boxes = np.repeat(crops[:, None], TEMPLATES, 1), np.repeat(inner[:, None], TEMPLATES, 1)
        for number, other in enumerate(others, 1):
            seen, within = template_crops(other.image, other.boxes, other.angle, size, settings.template_factor)
            used[other.known, number], used_boxes[other.known, number] = seen[other.known], within[other.known]
        tree = {
            "boxes": boxes,
            "angle": angle,
            "margin": margin,
            "counter": 0,
            "fixed": 1 + len(others),
            "used": used,
            "used_boxes": used_boxes,
            "bank": TemplateBank.begin(crops, inner, TEMPLATES, settings.memory_bank).to_tree(),
            "state": network.first_state(len(boxes)).cpu().numpy(),
        }
        return cls(network, settings, tree, device)

    def follow(self, image: Image, widen: Array) -> Found:
        """See `Procedure`. A widened search does without the window. detail: windowed confidence, state after the frame,
        sides and corners of the crops, the crops.
        """
        size = self._network.config.search_size
        side = sides(self.boxes, self._settings.search_factor * widen)
        crops = crop_around(image, self.boxes, self.angle, side, size)
        predicted, confidence, score, state = self._search(crops, widen > 1.0)
        boxes = place_back(predicted, self.boxes, self.angle, side, size)
        height, width = image.shape[:2]
        boxes = clip_all(boxes, self.angle, width, height, self._margin)
        detail = {
            "confidence": confidence,
            "state": state,
            "side": side,
            "corner": corners_of(self.boxes, side),
            "crops": crops,
        }
        return Found(boxes, score.astype(np.float64), detail)

    @torch.inference_mode()
    def accept(self, image: Image, found: Found, follow: Bool, learn: Bool) -> None:
        """See `Procedure`."""
        settings, confidence = self._settings, found.detail["confidence"]
        self.boxes = np.where(follow[:, None], found.boxes, self.boxes)
        self._counter += 1
        self._state = found.detail["state"]
        dropped = ~follow | (confidence < settings.update_h_t)
        if dropped.any():
            self._state[torch.from_numpy(np.flatnonzero(dropped)).to(self._device)] = 0.0
        sure = np.flatnonzero(learn & follow & (confidence > settings.update_threshold))
        if len(sure):
            size = self._network.config.template_size
            crops = template_crops(image, self.boxes[sure], self.angle[sure], size, settings.template_factor)
            self._bank.add(sure, *crops)
        if self._counter % settings.update_intervals == 0:
            fixed = self._fixed
            chosen, inner = self._bank.spread(TEMPLATES)
            self._used = np.concatenate((self._used[:, :fixed], chosen[:, fixed - 1 :]), 1)
            self._used_boxes = np.concatenate((self._used_boxes[:, :fixed], inner[:, fixed - 1 :]), 1)
            self._refresh()

    @property
    def bank_length(self) -> NDArray[np.int64]:
        """Sure frames (n,) that templates are taken from now."""
        return self._bank.length

    def to_tree(self) -> dict[str, Any]:
        """See `Procedure`."""
        return {
            "boxes": self.boxes,
            "angle": self.angle,
            "margin": self._margin,
            "counter": self._counter,
            "fixed": self._fixed,
            "used": self._used,
            "used_boxes": self._used_boxes,
            "bank": self._bank.to_tree(),
            "state": self._state.cpu().numpy(),
        }

    @torch.inference_mode()
    def _refresh(self) -> None:
        n, k = self._used.shape[:2]
        if n == 0:
            return
        images = self._input(self._used.reshape(n * k, *self._used.shape[2:]))
        boxes = torch.from_numpy(self._used_boxes.reshape(n * k, 4)).to(self._device)
        tokens = self._network.templates(images, boxes)
        self._templates = tokens.reshape(n, -1, tokens.shape[-1])

    @torch.inference_mode()
    def _search(
        self, crops: Crops, plain: Bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], torch.Tensor]:
        """Boxes (n, 4), windowed confidence and score (n,), state. plain: (n,) choose without the window."""
        if self._templates is None:
            none = np.zeros(0, np.float32)
            return np.zeros((0, 4), np.float32), none, none, self._state
        found, states = zip(
            *(
                self._network.search(self._input(crops[part]), self._templates[part], self._state[part])
                for part in pieces(len(crops), self._device)
            ),
            strict=True,
        )
        maps, state = Maps(*(torch.cat(each) for each in zip(*found, strict=True))), torch.cat(states)
        scores = maps.score.flatten(1)
        weighted = torch.where(torch.from_numpy(plain).to(self._device)[:, None], scores, scores * self._window)
        confidence, index = weighted.max(1)
        score = scores.gather(1, index[:, None])[:, 0]
        return maps.boxes(index).cpu().numpy(), confidence.cpu().numpy(), score.cpu().numpy(), state

    def _input(self, crops: Crops) -> torch.Tensor:
        return to_input(crops, self._device, next(self._network.parameters()).dtype)


class MCITrackEngine:
    """See `Engine`."""

    def __init__(self, network: MCITrack, settings: MCITrackSettings, device: torch.device) -> None:
        self._network, self._settings, self._device = network, settings, device

    @classmethod
    def open(
        cls, name: str, options: EngineOptions, config: MCITrackConfig, settings: MCITrackSettings
    ) -> MCITrackEngine:
        """With the weights of that name. Raises `WeightsMissing`, `WeightsInvalid`."""
        network = MCITrack(config)
        device = load(network, name, options, convert=network_of)
        return cls(network, settings, device)

    def begin(self, image: Image, boxes: Array, angle: Array, others: Sequence[Sighting]) -> MCITrackProcedure:
        """See `Engine`. Other sightings become templates that stay."""
        least = margins(boxes, _LEAST)
        return MCITrackProcedure.begin(self._network, self._settings, self._device, image, boxes, angle, least, others)

    def resume(self, tree: dict[str, Any]) -> MCITrackProcedure:
        """See `Engine`."""
        return MCITrackProcedure(self._network, self._settings, tree, self._device)


def template_crops(
    image: Image, boxes: Array, angle: Array, size: int, factor: float
) -> tuple[Crops, NDArray[np.float32]]:
    """Crops uint8 (n, size, size, 3) around boxes (n, 4), and the boxes in them: float32 (n, 4) x, y, width, height over
    size - 1.
    """
    side = sides(boxes, factor)
    extent = boxes[:, 2:] * (size / side)[:, None]
    inner = np.concatenate(((size - 1) / 2 - extent / 2, extent), 1) / (size - 1)
    return crop_around(image, boxes, angle, side, size), inner.astype(np.float32)
