"""How the network of `tiny_mask` is asked: every window is brought to about the size that it was trained at."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.geometry.types import Mask
from common.networks.tiny.network import fused
from common.networks.tiny_masks.network import CLUES, MULTIPLE, Known, MaskConfig, MaskJudge
from common.trackers.masks.settings import FlowSettings
from common.trackers.masks.target import Clues
from common.trackers.masks.windows import window_around
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

Float = NDArray[np.float32]

PIXELS = 144 * 144
"""Of a window as the network sees it, about."""

_STEEPEST = 8.0
"""Largest log odds that count."""


class TinyJudge:
    """See `common.trackers.masks.target.Judge`. Holds the network alone."""

    def __init__(self, options: EngineOptions) -> None:
        network = MaskJudge(MaskConfig())
        self._device = load(network, "tiny_mask", options)
        self._network = fused(network.eval())

    @torch.inference_mode()
    def keep(self, image: Image, mask: Mask) -> Float:
        """Values and keys of the labelled picture's cells, float32 (values + keys, rows, columns)."""
        rows, columns = mask.window
        settings = FlowSettings()
        box = (mask.x, mask.y, mask.x + columns, mask.y + rows)
        window = window_around(box, (mask.height, mask.width), settings.margin, settings.margin_px, PIXELS)
        size = seen_size(window.width, window.height)
        picture = cv2.resize(window.cut(image), size, interpolation=cv2.INTER_AREA)
        known = self._known(self._picture(picture), window.cut_mask(mask), size)
        return np.asarray(torch.cat((known.values, known.keys), 1)[0].reshape(-1, *known.shape).cpu(), np.float32)

    @torch.inference_mode()
    def judge(self, shown: Float, before: Image, share: Float, picture: Image, clues: Clues, odds: Float) -> Float:
        """See `Judge`."""
        height, width = odds.shape
        size = seen_size(width, height)
        now, last = (self._picture(cv2.resize(p, size, interpolation=cv2.INTER_AREA)) for p in (picture, before))
        values = 1 + self._network.config.read
        kept = self._send(shown.reshape(1, len(shown), -1))
        first = Known(kept[:, values:], kept[:, :values], (shown.shape[1], shown.shape[2]))
        features = self._network.features(now)
        told = self._send(planes(clues, odds, size)[None])
        answer = self._network(now, features, told, first, self._known(last, share, size))
        cells = np.clip(answer[0].float().cpu().numpy(), -_STEEPEST, _STEEPEST)
        found = np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        return held_back(found, odds, clues.prior)

    def _known(self, picture: Tensor, share: Float, size: tuple[int, int]) -> Known:
        """What to remember of a picture that shows the object where share (h, w) says."""
        covered = np.asarray(cv2.resize(share, size, interpolation=cv2.INTER_AREA), np.float32)
        return self._network.remember(self._network.features(picture)[1], self._send(covered[None]))

    def _picture(self, image: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(self._device)

    def _send(self, values: Float) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)


def held_back(found: Float, odds: Float, prior: Float) -> Float:
    """The network's log odds, but the tracker's own where they are lower and the last mask has not moved to.

    A network that learned from single steps adds a little of every like thing that the object touches; step by step that
    becomes the whole thing.
    """
    risen = np.maximum(found - odds, 0) * np.clip(1 - 2 * prior, 0, 1)
    return np.asarray(found - risen, np.float32)


def seen_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which a window of that size is shown to the network.

    >>> seen_size(300, 300), seen_size(600, 100), seen_size(24, 24)
    ((144, 144), (352, 56), (144, 144))
    """
    factor = (PIXELS / (width * height)) ** 0.5
    across, down = (max(2, round(side * factor / MULTIPLE)) * MULTIPLE for side in (width, height))
    return across, down


def planes(clues: Clues, odds: Float, size: tuple[int, int]) -> Float:
    """What the network is told besides the picture: float32 (CLUES, height, width) for a size (width, height)."""
    told = np.empty((CLUES, size[1], size[0]), np.float32)
    given = (
        2 * clues.prior - 1,
        clues.certainty * 3,
        np.clip(clues.moves, -2.5, 2.5),
        clues.spread(clues.looks),
        clues.spread(clues.known),
        np.clip(odds, -_STEEPEST, _STEEPEST) / 4,
    )
    for plane, values in zip(told, given, strict=True):
        plane[:] = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return told
