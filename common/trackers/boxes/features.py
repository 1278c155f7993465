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
_BIN, _CHANNEL, _POWER = 31, 5, 7
"""Within a number that holds strength and direction: mask of the direction, first bits of channel and strength."""
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
    # One window after the other: what is worked on then stays in the processor's cache.
    for window, channels in zip(windows, out, strict=True):
        _gradient_channels(window, channels[:28])
        grey = cv2.resize(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY), (cells, cells), interpolation=cv2.INTER_AREA)
        channels[28] = grey * np.float32(1 / 255) - np.float32(0.5)
        index = colour_index(window[1::2, 1::2], _COLOUR_BITS).reshape(cells, 2, cells, 2)
        names = _colour_table().take(index.transpose(1, 3, 0, 2).reshape(4, -1), axis=0).sum(0)
        np.multiply(names.T.reshape(-1, cells, cells), np.float32(colour_weight / 4), out=channels[29:])
    return out


def oriented_gradients(windows: NDArray[np.uint8]) -> Array:
    """The gradient channels: 18 directed, 9 undirected, 1 of gradient energy. float32 (n, 28, cells, cells)."""
    count, size = windows.shape[:2]
    out = np.empty((count, 28, size // CELL, size // CELL), np.float32)
    for window, channels in zip(windows, out, strict=True):
        _gradient_channels(window, channels)
    return out


def _gradient_channels(window: NDArray[np.uint8], out: Array) -> None:
    """As `oriented_gradients`, of one window (size, size, 3), into out (28, cells, cells)."""
    size = len(window)
    cells = size // CELL
    each = _BINS * cells * cells
    steepest = _steepest(window)
    magnitude = np.sqrt(steepest >> _POWER, dtype=np.float32)
    # Votes are collected in half cells and then spread: the same tent-shaped weights as voting into the four nearest
    # cells, with one pass over the pixels instead of four. The four halves lie in planes of their own.
    index = (steepest & _BIN) * (cells * cells)
    index += _half_cells(size)
    votes = np.bincount(index.ravel(), magnitude.ravel(), 4 * each).astype(np.float32)
    _normalise(_spread(votes.reshape(2, 2, _BINS, cells, cells)), out)


def _steepest(window: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Squared strength and direction bin of the steepest colour channel at every pixel, as `_strengths` has them: (size, size).

    In whole numbers: OpenCV's floating-point magnitude rounds differently with the array's address in memory.
    """
    # Both differences in one exact number: (dx + 255) * 511 + (dy + 255). Of equally steep channels the first counts.
    kernel = np.array([[0, -1, 0], [-511, 0, 511], [0, 1, 0]], np.float32)
    found: NDArray[np.int32] | None = None
    for number, channel in enumerate(cv2.split(window)):
        both = cv2.filter2D(channel, cv2.CV_32F, kernel, delta=255 * 511 + 255)
        strength = _strengths()[number].take(both.astype(np.intp))
        found = strength if found is None else np.maximum(found, strength, out=found)
    assert found is not None
    return found.astype(np.intp)


@cache
def _strengths() -> NDArray[np.int32]:
    """Strength and direction of every pair of differences, for each of three channels: int32 (3, 511 * 511).

    Squared strength from bit `_POWER` on, from bit `_CHANNEL` on how early the channel comes, below that the direction 0..17.
    """
    step = np.arange(-255, 256)
    dx, dy = step[:, None], step[None, :]
    angle = np.arctan2(dy, dx) % (2 * np.pi)
    direction = np.floor(angle * (_BINS / (2 * np.pi)) + 0.5).astype(np.int32) % _BINS
    pairs = (((dx * dx + dy * dy) << _POWER) | direction).astype(np.int32).ravel()
    table: NDArray[np.int32] = pairs | (np.arange(3, dtype=np.int32)[::-1, None] << _CHANNEL)
    table.setflags(write=False)
    return table


@cache
def _half_cells(size: int) -> NDArray[np.intp]:
    """Where votes of the first direction go: (size, size)."""
    cells = size // CELL
    place = np.arange(size)
    cell, half = place // CELL, place % CELL // (CELL // 2)
    where: NDArray[np.intp] = (half[:, None] * 2 + half[None, :]) * (_BINS * cells * cells)
    where += cell[:, None] * cells + cell[None, :]
    where.setflags(write=False)
    return where


def _spread(votes: Array) -> Array:
    """Half-cell votes (2, 2, k, c, c) -> (k, c, c) cells with weights 1 3 3 1 (quarters) in both axes."""
    upper, lower = votes
    rows = upper + lower
    rows *= 3
    rows[..., 1:, :] += lower[..., :-1, :]
    rows[..., :-1, :] += upper[..., 1:, :]
    left, right = rows
    cells: Array = left + right
    cells *= 3
    cells[..., 1:] += right[..., :-1]
    cells[..., :-1] += left[..., 1:]
    cells *= np.float32(1 / 16)
    return cells


def _normalise(cells: Array, out: Array) -> None:
    """Directed votes (18, c, c) -> the gradient channels (28, c, c)."""
    undirected = cells[:9] + cells[9:]
    energy = np.einsum("khw,khw->hw", undirected, undirected)
    norm = 1 / np.sqrt(cv2.boxFilter(energy, -1, (3, 3)) * 4 + np.float32(_FLOOR))
    directed = out[:18]
    np.minimum(cells * norm, _CLIP, out=directed)
    out[27] = 0.4714 * directed.sum(0)
    np.minimum(undirected * norm, _CLIP, out=out[18:27])
    out[:27] *= 2


def colour_index(pixels: NDArray[np.uint8], bits: int) -> NDArray[np.int32]:
    """Number of the colour bin of RGB pixels (..., 3), `bits` per channel. int32 (...)."""
    red, green, blue = (np.ascontiguousarray(pixels[..., channel]) >> (8 - bits) for channel in range(3))
    index = red.astype(np.int32)
    for coarse in (green, blue):
        index <<= bits
        index |= coarse
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
