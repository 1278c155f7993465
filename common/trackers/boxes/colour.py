"""Which colours are the object's: histograms of object and surroundings, and how much of the object's colour is where.

The complement of gradients in Bertinetto et al., "Staple: complementary learners for real-time tracking", CVPR 2016: it
does not care about shape, so it holds on to what bends and turns, and it knows the background inside the box's reach.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes import features
from common.trackers.boxes.patches import Array

BITS = 4
COLOURS = 2 ** (3 * BITS)
"""Bins of a histogram."""

_PRIOR = 1e-4


def count(windows: NDArray[np.uint8], shape: Array) -> Array:
    """Histograms float32 (n, 2, COLOURS) of object and surroundings, each summing to 1.

    windows: uint8 (n, size, size, 3), centred on objects whose width and height in windows are shape (n, 2), 0..1. The
    object is the ellipse of 0.9 of its box; its surroundings lie between 1.1 and 2.2 boxes.
    """
    out = np.zeros((len(windows), 2, COLOURS), np.float32)
    for number, window in enumerate(windows):
        index = features.colour_index(window[::2, ::2], BITS)
        offset = (np.arange(len(index)) + 0.5) / len(index) - 0.5
        x, y = np.abs(offset) / max(float(shape[number, 0]), 0.02), np.abs(offset) / max(float(shape[number, 1]), 0.02)
        inside = x[None, :] ** 2 + y[:, None] ** 2 < (0.5 * 0.9) ** 2
        wide = np.maximum(x[None, :], y[:, None])
        around = (wide > 0.55) & (wide < 1.1)
        for part, mask in enumerate((inside, around)):
            if mask.any():
                out[number, part] = np.bincount(index[mask], minlength=COLOURS) / mask.sum()
    return out


def presence(windows: NDArray[np.uint8], histograms: Array, shape: Array) -> Array:
    """Share of the object's colours in a box about every cell: float32 (n, cells, cells), 0..1.

    histograms: (n, 2, COLOURS). shape: (n, 2) as in `count`.
    """
    cells = windows.shape[1] // features.CELL
    object_, around = histograms[:, 0], histograms[:, 1]
    table = (object_ + 0.5 * _PRIOR) / (object_ + around + _PRIOR)
    out = np.empty((len(windows), cells, cells), np.float32)
    for number, window in enumerate(windows):
        likely = table[number][features.colour_index(window[1::2, 1::2], BITS)]
        coarse = likely.reshape(cells, 2, cells, 2).mean((1, 3))
        box = [int(max(1, round(float(v) * cells))) | 1 for v in shape[number]]
        out[number] = cv2.blur(
            coarse, (min(box[0], cells | 1), min(box[1], cells | 1)), borderType=cv2.BORDER_REPLICATE
        )
    return out
