"""Find a lost object again by its looks alone: it may come back anywhere, so its place says nothing.

A second classifier, without place, is learned once from the labelled pictures; what it makes of the labelled background
sets the bar that a find has to clear, so that an object which looks like its surroundings stays lost rather than wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Mask
from common.trackers.masks.appearance import CHANNELS, Basis, describe, gather, solve
from common.trackers.masks.windows import Window
from common.video.contract import Image

Float = NDArray[np.float32]

CELLS_ACROSS = 6
"""Cells along an object's side: coarse, because recognising needs less detail than outlining."""

REACH = 55
"""Furthest cells from the last place that are searched, in each direction; bounds the time of a search."""


@dataclass(frozen=True)
class Memory:
    """What is needed to know the object again. weights: float32 (d,). side: of the object, frame pixels.

    bar: least smoothed response that counts as found; above 1 for an object that cannot be told from its surroundings.
    """

    weights: Float
    side: float
    bar: float


class Recovery:
    """Learns and finds. Holds no state of any run."""

    def __init__(self, features: int = 128, kernel_width: float = 3.0, ridge: float = 0.5) -> None:
        self._basis = Basis(CHANNELS, features, kernel_width, seed=1)
        self._ridge = ridge

    def learn(self, image: Image, mask: Mask) -> Memory:
        """Memory of the object labelled in `image`."""
        side = max(1.0, float(mask.area) ** 0.5)
        region = _region(mask, side, float("inf"))
        looks = self._look(image, region)
        share = cv2.resize(region.cut_mask(mask), looks.shape[1::-1], interpolation=cv2.INTER_AREA)
        expanded = self._basis.expand(looks.reshape(-1, CHANNELS))
        weights = solve(gather(expanded, share.ravel(), np.ones(share.size, np.float32)), self._ridge)
        response = _smoothed((expanded @ weights).reshape(share.shape))
        mine = response[share > 0.5].max(initial=-1)
        # The blur spreads the object's own response over its border; what lies further out is background.
        reach = cv2.dilate((share > 0.05).astype(np.uint8), np.ones((2 * CELLS_ACROSS + 1,) * 2, np.uint8))
        other = response[reach == 0].max(initial=-1)
        bar = float(max(0.5 * (mine + other), 0.1)) if mine - other > 0.2 else 2.0
        return Memory(weights, side, bar)

    def find(self, memory: Memory, last: Mask, missing: int, image: Image) -> Mask | None:
        """Rough mask of the object, searched ever further from where it was last seen; None when nothing is like it.

        missing: frames since then.
        """
        if memory.bar > 1:
            return None
        region = _region(last, memory.side, 2 + 0.5 * missing)
        looks = self._look(image, region)
        rows, columns = looks.shape[:2]
        raw = (self._basis.expand(looks.reshape(-1, CHANNELS)) @ memory.weights).reshape(rows, columns)
        response = _smoothed(raw)
        peak = int(response.argmax())
        if response.flat[peak] < memory.bar:
            return None
        y, x = divmod(peak, columns)
        near = np.hypot(np.arange(rows)[:, None] - y, np.arange(columns)[None] - x) < 1.2 * CELLS_ACROSS
        rough = region.paste((np.clip(raw, 0, 1) * near).astype(np.float32)) > 0.25
        if not rough.any():
            return None
        local = Mask.from_array(rough)
        return Mask(last.height, last.width, local.x + region.x0, local.y + region.y0, local.window, local.runs)

    def _look(self, image: Image, region: Window) -> Float:
        return describe(region.cut(image), max(1, region.width // 2), max(1, region.height // 2))


def _region(mask: Mask, side: float, reach: float) -> Window:
    """The frame's part within `reach` object sides of a mask's middle, with two working pixels to a cell."""
    cell = max(1.0, side / CELLS_ACROSS)
    radius = min(REACH * cell, reach * side + 2 * cell)
    x, y = mask.x + mask.window[1] / 2, mask.y + mask.window[0] / 2
    x0, y0 = max(0, int(x - radius)), max(0, int(y - radius))
    x1, y1 = min(mask.width, int(x + radius) + 1), min(mask.height, int(y + radius) + 1)
    return Window(x0, y0, x1, y1, max(8, round(2 * (x1 - x0) / cell)), max(8, round(2 * (y1 - y0) / cell)))


def _smoothed(response: Float) -> Float:
    """Mean response over about an object's size."""
    return np.asarray(cv2.GaussianBlur(np.clip(response, -1, 1), (0, 0), CELLS_ACROSS / 3), np.float32)
