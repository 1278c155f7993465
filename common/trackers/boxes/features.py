"""What the correlation filter sees of a window: oriented gradients and colour names, on a grid of 4-pixel cells.

Gradients: after Felzenszwalb et al., "Object detection with discriminatively trained part-based models",
TPAMI 2010,
with one contrast normalisation instead of four. Colours: soft membership in a few named colours, the idea of Danelljan et al., "Adaptive color attributes for
real-time visual tracking", CVPR 2014, with prototypes of our own in CIE Lab.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes.patches import Array

CELL = 4
"""Pixels of a window per cell, each way."""

_BINS = 18
_CLIP = 0.2
_FLOOR = 25.0
_PROTOTYPES_RGB = (
    (0, 0, 0), (128, 128, 128), (255, 255, 255), (200, 30, 30), (235, 130, 30), (110, 70, 40),
    (230, 220, 60), (40, 140, 50), (40, 70, 190), (120, 50, 140), (235, 150, 180),
)  # fmt: skip
_COLOUR_BITS = 4
CHANNELS = 28 + 1 + len(_PROTOTYPES_RGB)
"""Channels of `describe`."""


def describe(windows: NDArray[np.uint8], colour_weight: float = 0.4) -> Array:
    """Features of a batch of windows.

    windows: uint8 (n, size, size, 3), size divisible by 4. Returns float32 (n, CHANNELS, size / 4, size / 4). Raising
    colour_weight lets colour count for more beside the gradients.
    """
    count, size = windows.shape[:2]
    cells = size // CELL
    out = np.empty((count, CHANNELS, cells, cells), np.float32)
    out[:, :28] = oriented_gradients(windows)
    for number, window in enumerate(windows):
        grey = cv2.resize(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY), (cells, cells), interpolation=cv2.INTER_AREA)
        out[number, 28] = grey * np.float32(1 / 255) - np.float32(0.5)
    names = _colour_table()[colour_index(windows[:, 1::2, 1::2], _COLOUR_BITS)]
    names = names.reshape(count, cells, 2, cells, 2, names.shape[-1]).mean((2, 4))
    out[:, 29:] = np.moveaxis(names, -1, 1) * colour_weight
    return out


def oriented_gradients(windows: NDArray[np.uint8]) -> Array:
    """The gradient channels: 18 directed, 9 undirected, 1 of gradient energy. float32 (n, 28, cells, cells)."""
    count, size = windows.shape[:2]
    cells = size // CELL
    power = np.empty((count, size, size), np.int32)
    index = np.empty((count, size, size), np.int32)
    for number, window in enumerate(windows):
        dx, dy, power[number] = _gradient(window)
        index[number] = _directions()[dx + 255, dy + 255]
    magnitude = np.sqrt(power, dtype=np.float32)
    index *= cells * cells
    # Votes are collected in half cells and then spread: the same tent-shaped weights as voting into the four nearest
    # cells, with one pass over the pixels instead of four. The four halves lie in planes of their own.
    place = np.arange(size, dtype=np.int32)
    cell, half = place // CELL, place % CELL // (CELL // 2)
    each = _BINS * cells * cells
    index += (half[:, None] * 2 + half[None, :]) * each + cell[:, None] * cells + cell[None, :]
    index += (np.arange(count, dtype=np.int32) * (4 * each))[:, None, None]
    votes = np.bincount(index.ravel(), magnitude.ravel(), count * 4 * each).astype(np.float32)
    return _normalised(_spread(votes.reshape(count, 2, 2, _BINS, cells, cells)))


def _gradient(window: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int32]]:
    """Differences (-255..255) and squared strength of the steepest colour channel at every pixel.

    In whole numbers: OpenCV's floating-point magnitude rounds differently with the array's address in memory.
    """
    steepest: tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int32]] | None = None
    for channel in cv2.split(window):
        dx = cv2.Sobel(channel, cv2.CV_16S, 1, 0, ksize=1).astype(np.int16, copy=False)
        dy = cv2.Sobel(channel, cv2.CV_16S, 0, 1, ksize=1).astype(np.int16, copy=False)
        power = np.multiply(dx, dx, dtype=np.int32)
        power += np.multiply(dy, dy, dtype=np.int32)
        if steepest is None:
            steepest = dx, dy, power
            continue
        more = power > steepest[2]
        np.copyto(steepest[0], dx, where=more)
        np.copyto(steepest[1], dy, where=more)
        np.copyto(steepest[2], power, where=more)
    assert steepest is not None
    return steepest


@cache
def _directions() -> NDArray[np.int32]:
    """Direction bin 0..17 of every pair of differences: int32 (511, 511), indexed by dx + 255, dy + 255."""
    step = np.arange(-255, 256)
    angle = np.arctan2(step[None, :], step[:, None]) % (2 * np.pi)
    table: NDArray[np.int32] = (np.floor(angle * (_BINS / (2 * np.pi)) + 0.5).astype(np.int32)) % _BINS
    table.setflags(write=False)
    return table


def _spread(votes: Array) -> Array:
    """Half-cell votes (n, 2, 2, k, c, c) -> (n, k, c, c) cells with weights 1 3 3 1 (quarters) in both axes."""
    upper, lower = votes[:, 0], votes[:, 1]
    rows = 0.75 * (upper + lower)
    rows[..., 1:, :] += 0.25 * lower[..., :-1, :]
    rows[..., :-1, :] += 0.25 * upper[..., 1:, :]
    left, right = rows[:, 0], rows[:, 1]
    cells = 0.75 * (left + right)
    cells[..., 1:] += 0.25 * right[..., :-1]
    cells[..., :-1] += 0.25 * left[..., 1:]
    spread: Array = np.asarray(cells, np.float32)
    return spread


def _normalised(cells: Array) -> Array:
    undirected = cells[:, :9] + cells[:, 9:]
    energy = np.einsum("nkhw,nkhw->nhw", undirected, undirected)
    blurred = [cv2.boxFilter(plane, -1, (3, 3)) for plane in energy]
    block = np.array(blurred, np.float32).reshape(energy.shape)
    norm = (1 / np.sqrt(block * 4 + _FLOOR))[:, None]
    out = np.empty((len(cells), 28, *cells.shape[2:]), np.float32)
    directed = out[:, :18]
    np.minimum(cells * norm, _CLIP, out=directed)
    out[:, 27] = 0.4714 * directed.sum(1)
    np.minimum(undirected * norm, _CLIP, out=out[:, 18:27])
    out[:, :27] *= 2
    return out


def colour_index(pixels: NDArray[np.uint8], bits: int) -> NDArray[np.int32]:
    """Number of the colour bin of RGB pixels (..., 3), `bits` per channel. int32 (...)."""
    coarse = (pixels >> (8 - bits)).astype(np.int32)
    index: NDArray[np.int32] = (coarse[..., 0] << (2 * bits)) | (coarse[..., 1] << bits) | coarse[..., 2]
    return index


@cache
def _colour_table() -> Array:
    """Membership of every coarse colour in the named colours, centred: float32 (2 ** (3 * bits), names)."""
    levels = (np.arange(2**_COLOUR_BITS, dtype=np.float32) + 0.5) / 2**_COLOUR_BITS
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 3)
    lab = cv2.cvtColor(grid.astype(np.float32), cv2.COLOR_RGB2Lab)[0]
    names = cv2.cvtColor(np.array([_PROTOTYPES_RGB], np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    weight = np.array([0.6, 1.0, 1.0], np.float32)
    distance = (((lab[:, None] - names[None]) * weight) ** 2).sum(-1)
    member = np.exp(-(distance - distance.min(1, keepdims=True)) / (2 * 15.0**2))
    member /= member.sum(1, keepdims=True)
    table: Array = (member - 1 / len(names)).astype(np.float32)
    table.setflags(write=False)
    return table
