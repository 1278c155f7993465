"""The network `tiny_points` on pictures of any size: what points look like, and where they are now.

A pyramid of pictures: the coarsest one is small enough to go through the network as a whole, and every point reads its
window from that; on the finer ones, up to the picture itself, a window about each point goes through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.networks.tiny.network import fused
from common.networks.tiny_points.network import AROUND, STRIDE, PointMatcher, place
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

SIDE = 64
"""Of a window, pixels of its level."""
CELLS = SIDE // STRIDE
COARSE = 224
"""Longest side of the coarsest picture, pixels."""
FINER = 4.5
"""Most that one level is finer than the one before."""
FAR = 12.0
"""Pixels beside the expected place from which on what the level before found is looked at by itself."""
_AT_ONCE = 64


@dataclass(frozen=True)
class Sight:
    """Of m points. xy: (m, 2) pixels. seen, exact: (m,) chance that the point is seen, and that xy is it within a few pixels."""

    xy: F64
    seen: F64
    exact: F64


def factors(size: tuple[int, int]) -> list[float]:
    """By what a picture of that size (width, height) is shrunk on each level, coarsest first; the last is 1.

    >>> [round(f, 2) for f in factors((854, 480))], factors((200, 100)), len(factors((3840, 2160)))
    ([3.81, 1.0], [1.0], 3)
    """
    whole = max(1.0, max(size) / COARSE)
    levels = max(0, int(np.ceil(np.log(whole) / np.log(FINER) - 1e-9)))
    return [float(whole ** (1 - level / levels)) if levels else 1.0 for level in range(levels)] + [1.0]


class Pyramid:
    """The levels of one picture, made when asked for. factors: of every level."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.size = image.shape[1], image.shape[0]
        self.factors = factors(self.size)
        self._made: dict[int, Image] = {}

    def level(self, number: int) -> Image:
        """uint8 RGB."""
        if self.factors[number] == 1.0:
            return self.image
        if number not in self._made:
            width, height = (max(1, round(side / self.factors[number])) for side in self.size)
            made = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
            self._made[number] = np.asarray(made, np.uint8)
        return self._made[number]

    def scale(self, number: int) -> F64:
        """(2,) pixels of the level per pixel of the picture."""
        level = self.level(number)
        scale: F64 = np.array([level.shape[1], level.shape[0]]) / np.array(self.size)
        return scale

    @cached_property
    def mean(self) -> NDArray[np.uint8]:
        """(3,) the mean colour, which is what lies outside of the picture, as in training."""
        mean: NDArray[np.uint8] = np.rint(self.level(0).reshape(-1, 3).mean(0)).astype(np.uint8)
        return mean


def windows(image: Image, corner: I64, fill: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Windows (m, SIDE, SIDE, 3) from corners (m, 2) x, y; what lies outside of the picture has the colour fill (3,)."""
    height, width = image.shape[:2]
    x, y = corner[:, :1] + np.arange(SIDE), corner[:, 1:] + np.arange(SIDE)
    cut: NDArray[np.uint8] = image[y.clip(0, height - 1)[:, :, None], x.clip(0, width - 1)[:, None, :]]
    outside = ((x < 0) | (x >= width))[:, None, :] | ((y < 0) | (y >= height))[:, :, None]
    cut[outside] = fill
    return cut


class Eye:
    """The network with its weights; stateless."""

    def __init__(self, options: EngineOptions) -> None:
        network = PointMatcher()
        self.device = load(network, "tiny_points", options)
        self.network = fused(network).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def learn(self, image: Image, xy: F64) -> F32:
        """What points (m, 2) look like: float32 (m, levels, channels, AROUND, AROUND)."""
        pyramid = Pyramid(image)
        channels, levels = self.network.config.channels, len(pyramid.factors)
        looks = np.zeros((len(xy), levels, channels, AROUND, AROUND), np.float32)
        for first in range(0, len(xy), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            for number in range(levels):
                cut, inner = self._cut(pyramid, number, xy[part])
                picture = torch.arange(len(inner), device=self.device)
                looks[part, number] = self.network.describe(self._features(cut), picture, inner).float().cpu().numpy()
        return looks

    @torch.inference_mode()
    def find(self, pyramid: Pyramid, looks: F32, expected: F64, doubt: F64) -> Sight:
        """Points with these looks, about where they are expected (m, 2), give or take doubt (m,) pixels."""
        m = len(expected)
        best = Sight(expected.copy(), np.zeros(m), np.zeros(m))
        whole = None
        if len(pyramid.factors) > 1 and m:
            whole = self._features(_padded(pyramid.level(0), pyramid.mean)[None])
        for first in range(0, m, _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            found = self._descend(pyramid, whole, looks[part], expected[part], doubt[part])
            best.xy[part], best.seen[part], best.exact[part] = found.xy, found.seen, found.exact
        return best

    def _descend(self, pyramid: Pyramid, whole: Tensor | None, looks: F32, expected: F64, doubt: F64) -> Sight:
        """From the coarsest level to the picture itself."""
        rows = np.arange(len(expected))
        at, spread = expected, doubt
        found = None
        for number in range(len(pyramid.factors)):
            if found is not None:
                # Where it is expected, and where the coarser level saw it, if that is elsewhere.
                away = np.hypot(*(found.xy - expected).T)
                other = np.flatnonzero((away > FAR) & (found.seen > 0.3))
                rows = np.concatenate((np.arange(len(expected)), other))
                at = np.concatenate((expected, found.xy[other]))
                spread = np.concatenate((doubt, np.full(len(other), 2.0 * pyramid.factors[number - 1])))
            sight = self._look(pyramid, number, None if number else whole, looks[rows, number], at, spread)
            if found is None:
                found = sight
                continue
            extra = rows[len(expected) :]
            better = sight.exact[len(expected) :] > sight.exact[: len(expected)][extra] + 0.1
            take = np.arange(len(expected))
            take[extra[better]] = len(expected) + np.flatnonzero(better)
            found = Sight(sight.xy[take], sight.seen[take], sight.exact[take])
        assert found is not None
        return found

    def _look(
        self, pyramid: Pyramid, number: int, whole: Tensor | None, looks: F32, expected: F64, doubt: F64
    ) -> Sight:
        """On one level."""
        scale = pyramid.scale(number)
        centre = (expected + 0.5) * scale
        if whole is not None:
            corner = np.rint(centre / STRIDE - CELLS / 2).astype(np.int64)
            features, corner = _cells(whole, corner), corner * STRIDE
        else:
            corner = _corner(centre)
            features = self._features(windows(pyramid.level(number), corner, pyramid.mean))
        inner = torch.from_numpy(centre - corner).to(features)
        spread = torch.from_numpy(np.clip(doubt * scale.mean(), 1.0, 24.0)).to(features)
        answer = self.network.find(features, torch.from_numpy(looks).to(features), inner, spread)
        xy = (place(answer).double().cpu().numpy() + corner) / scale - 0.5
        seen, exact = (torch.sigmoid(t).double().cpu().numpy() for t in (answer.seen, answer.exact))
        return Sight(xy, seen, exact)

    def _cut(self, pyramid: Pyramid, number: int, xy: F64) -> tuple[NDArray[np.uint8], Tensor]:
        """Windows about points on a level, and where in these they are."""
        centre = (xy + 0.5) * pyramid.scale(number)
        corner = _corner(centre)
        inner = torch.from_numpy(centre - corner).float().to(self.device)
        return windows(pyramid.level(number), corner, pyramid.mean), inner

    def _features(self, pictures: NDArray[np.uint8]) -> Tensor:
        return self.network.features(torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2))


def _corner(centre: F64) -> I64:
    """Of the window about a place (m, 2)."""
    limited = np.clip(np.nan_to_num(centre), -1e6, 1e6)
    return np.floor(limited).astype(np.int64) - SIDE // 2


def _padded(image: Image, fill: NDArray[np.uint8]) -> Image:
    """With sides that are multiples of the stride."""
    height, width = image.shape[:2]
    made = np.empty((-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE, 3), np.uint8)
    made[:] = fill
    made[:height, :width] = image
    return made


def _cells(whole: Tensor, corner: I64) -> Tensor:
    """Windows (m, channels, CELLS, CELLS) of features (1, channels, h, w) from corners (m, 2) in cells; zero outside."""
    _, _, h, w = whole.shape
    step = np.arange(CELLS)
    x, y = corner[:, :1] + step, corner[:, 1:] + step
    inside = ((x >= 0) & (x < w))[:, None, :] & ((y >= 0) & (y < h))[:, :, None]
    rows = torch.from_numpy(y.clip(0, h - 1)[:, :, None]).to(whole.device)
    columns = torch.from_numpy(x.clip(0, w - 1)[:, None, :]).to(whole.device)
    found = whole[0][:, rows, columns].transpose(0, 1)
    return found * torch.from_numpy(inside[:, None]).to(found)
