"""Procedural pictures for synthetic scenes: seeded noise, landscapes and patterns. No picture files are needed.

Every function returns float32 arrays of shape (height, width, 3), RGB, 0..255.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Colour = tuple[float, float, float]
Painter = Callable[[np.random.Generator, int, int], Picture]
"""Paints a picture of a height and a width."""


def hue(value: float, saturation: float = 0.75, brightness: float = 0.9) -> Colour:
    """RGB 0..255 of a hue; value, saturation and brightness are 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(value % 1.0, saturation, brightness)
    return 255 * red, 255 * green, 255 * blue


def fractal(
    rng: np.random.Generator, height: int, width: int, coarsest: float = 64.0, octaves: int = 5, decay: float = 0.6
) -> NDArray[np.float32]:
    """Smooth noise float32 (height, width), 0..1: octaves of random grids, the first with cells of `coarsest` pixels."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cell = max(coarsest / 2**octave, 1.0)
        rows, columns = int(np.ceil(height / cell)) + 3, int(np.ceil(width / cell)) + 3
        grid = rng.random((rows, columns)).astype(np.float32)
        layer = _spread(height, rows, cell) @ grid @ _spread(width, columns, cell).T
        total += np.float32(decay**octave) * layer
    low, high = float(total.min()), float(total.max())
    scaled: NDArray[np.float32] = ((total - low) / max(high - low, 1e-6)).astype(np.float32)
    return scaled


def _spread(length: int, knots: int, cell: float) -> NDArray[np.float32]:
    """Weights float32 (length, knots) of a cubic (Catmull-Rom) curve through knots that stand `cell` pixels apart.

    A product with it is exact where OpenCV's warps round positions to 1/32 pixel, which shows in magnified noise.
    """
    at = np.arange(length, dtype=np.float64) / cell + 1
    left = np.floor(at).astype(int)
    t = at - left
    weights = np.zeros((length, knots), np.float32)
    pixels = np.arange(length)
    weights[pixels, left - 1] = t * (-0.5 + t * (1 - 0.5 * t))
    weights[pixels, left] = 1 + t * t * (-2.5 + 1.5 * t)
    weights[pixels, left + 1] = t * (0.5 + t * (2 - 1.5 * t))
    weights[pixels, left + 2] = t * t * (-0.5 + 0.5 * t)
    return weights


def ramp(values: NDArray[np.float32], stops: list[tuple[float, Colour]]) -> Picture:
    """Colour for each value by straight lines between the stops (value, colour), sorted by value."""
    at = [stop for stop, _ in stops]
    channels = [np.interp(values, at, [colour[c] for _, colour in stops]) for c in range(3)]
    return np.stack(channels, -1).astype(np.float32)


def ground(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Muted stony ground with detail at every scale: the background of plain scenes."""
    tone = fractal(rng, height, width, 48, 5, 0.85)
    tone = np.clip(1.7 * (tone - 0.5) + 0.5, 0, 1)
    tint = fractal(rng, height, width, 80, 2)[..., None]
    stone = ramp(tone, [(0.0, (40, 44, 52)), (0.5, (112, 110, 104)), (1.0, (188, 182, 170))])
    mixed: Picture = stone * (1 - 0.35 * tint) + np.array((70, 90, 60), np.float32) * 0.35 * tint
    return mixed


def patterned(colour: Colour) -> Painter:
    """Stripes, checks, spots or marble in shades of one colour, drawn by the generator, with fine grain on top."""

    def paint(rng: np.random.Generator, height: int, width: int) -> Picture:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        pitch = rng.uniform(9, 16)
        tilt = rng.uniform(0, np.pi)
        u = (x * np.cos(tilt) + y * np.sin(tilt)) / pitch
        v = (y * np.cos(tilt) - x * np.sin(tilt)) / pitch
        bend = fractal(rng, height, width, 40, 3)
        kind = int(rng.integers(4))
        if kind == 0:
            wave = np.sin(2 * np.pi * (u + bend))
        elif kind == 1:
            wave = np.sin(np.pi * u) * np.sin(np.pi * v) * 2
        elif kind == 2:
            wave = np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) - 0.6
        else:
            wave = np.sin(8 * np.pi * bend)
        level = np.clip(0.5 + 0.9 * wave, 0, 1).astype(np.float32)
        # Uneven grain: every place of the pattern looks a little different, so a point on it can be told from its neighbours.
        grain = np.clip(1.6 * (fractal(rng, height, width, 24, 4, 0.8) - 0.5) + 0.5, 0, 1)
        shade = ramp(
            (0.55 * level + 0.45 * grain).astype(np.float32), [(0.0, _mix(colour, 0.25)), (1.0, _mix(colour, 1.4))]
        )
        painted: Picture = np.minimum(shade * (0.75 + 0.5 * grain[..., None]), 255).astype(np.float32)
        return painted

    return paint


def _mix(colour: Colour, level: float) -> Colour:
    """The colour darkened (level < 1) or drawn towards white (1..2)."""
    if level < 1:
        red, green, blue = (c * level for c in colour)
    else:
        red, green, blue = (c + (level - 1) * (255 - c) for c in colour)
    return red, green, blue
