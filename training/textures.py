"""Procedural textures: leaves upon leaves, clouds, stripes, cells, writing. Seeded, float32 RGB 0..255.

Most are "dead leaves": opaque shapes of all sizes thrown upon each other, each with shading and grain of its own, which
have the edges and the spectrum of photographs (Lee, Mumford, Huang, "Occlusion models for natural images", IJCV 2001).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Rng = np.random.Generator


def texture(rng: Rng, side: int) -> NDArray[np.uint8]:
    """One texture uint8 (side, side, 3)."""
    kinds = (leaves, leaves, leaves, clouds, bands, cells, checks, writing)
    picture = kinds[int(rng.integers(len(kinds)))](rng, side)
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.5, 2.0)))
    return np.clip(picture, 0, 255).astype(np.uint8)


def colour(rng: Rng, near: NDArray[np.float32] | None = None, spread: float = 40.0) -> NDArray[np.float32]:
    """float32 (3,); real scenes are duller than chance, so most colours are near grey."""
    if near is not None:
        return np.clip(near + rng.normal(0, spread, 3), 0, 255).astype(np.float32)
    grey = rng.uniform(0, 255)
    return np.clip(grey + rng.normal(0, rng.choice([12.0, 30.0, 80.0]), 3), 0, 255).astype(np.float32)


def noise(rng: Rng, side: int, first: int = 2, octaves: int = 6, fall: float = 0.6) -> Picture:
    """Fractal noise (side, side) of deviation about 1; raising `first` makes it finer, `fall` rougher."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        knots = min(side, first * 2**octave + 1)
        grid = rng.standard_normal((knots, knots)).astype(np.float32)
        total += fall**octave * cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    return total * np.float32(np.sqrt(1 - fall**2))


def leaves(rng: Rng, side: int) -> Picture:
    """Shapes upon shapes, large ones at the bottom."""
    count = int(rng.integers(30, 220))
    base = colour(rng)
    picture = np.full((side, side, 3), base, np.float32)
    picture += shade(rng, side)
    radii = np.sort(side * 0.5 * rng.uniform(0.06, 1.0, count) ** 2.5)[::-1] + 2
    spread = rng.uniform(15, 90)
    family = [colour(rng, base, spread) for _ in range(int(rng.integers(3, 9)))]
    grain = noise(rng, side, int(rng.integers(4, 24)), 4)[..., None] * rng.uniform(0, 18)
    for radius in radii:
        place = rng.uniform(-0.1, 1.1, 2) * side
        points = outline(rng, place, float(radius))
        low = np.clip(np.floor(points.min(0)).astype(int), 0, side)
        high = np.clip(np.ceil(points.max(0)).astype(int) + 1, 0, side)
        if (high - low).min() < 2:
            continue
        inside = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(inside, [np.rint((points - low) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        part = picture[low[1] : high[1], low[0] : high[0]]
        tint = colour(rng, family[int(rng.integers(len(family)))], 12)
        slope = np.linspace(-1, 1, part.shape[0], dtype=np.float32)[:, None, None] * rng.normal(0, 20)
        skin = tint + slope + grain[low[1] : high[1], low[0] : high[0]] * rng.uniform(0, 2)
        part += (skin - part) * (inside.astype(np.float32) / 255)[..., None]
    return picture


def outline(rng: Rng, place: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Points (m, 2) of a round, cornered or long shape."""
    kind = int(rng.integers(4))
    turn, long = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.5))
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    if kind == 1:
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
    reach = np.ones(len(angle))
    if kind == 2:
        for wave in range(2, 6):
            reach += rng.normal(0, 0.35 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    if kind == 3:
        angle, reach = np.pi / 4 + np.arange(4) * np.pi / 2, np.ones(4)
    local = np.stack((np.cos(angle) * reach * long, np.sin(angle) * reach / long), 1) * radius
    cos, sin = np.cos(turn), np.sin(turn)
    return local @ np.array([[cos, sin], [-sin, cos]]) + place


def shade(rng: Rng, side: int) -> Picture:
    """A slope of light (side, side, 1)."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = rng.normal(0, 30, 2)
    return (axis[None, :, None] * x + axis[:, None, None] * y).astype(np.float32)


def clouds(rng: Rng, side: int) -> Picture:
    """Noise between two or three colours."""
    level = noise(rng, side, int(rng.integers(1, 8)), 6, rng.uniform(0.4, 0.8))
    part = 1 / (1 + np.exp(-level * rng.uniform(0.8, 8)))
    picture = part[..., None] * colour(rng) + (1 - part[..., None]) * colour(rng)
    if rng.random() < 0.5:
        picture = picture + noise(rng, side, 3, 5)[..., None] * (colour(rng) - 128) * 0.3
    return (picture + shade(rng, side)).astype(np.float32)


def bands(rng: Rng, side: int) -> Picture:
    """Bent stripes."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    angle, width = rng.uniform(0, np.pi), rng.uniform(5, 60)
    along = x * np.cos(angle) + y * np.sin(angle) + rng.uniform(0, 12) * noise(rng, side, 2, 3)
    part = np.clip(np.sin(along * 2 * np.pi / width) * rng.uniform(0.6, 6), -1, 1)[..., None] * 0.5 + 0.5
    return (part * colour(rng) + (1 - part) * colour(rng) + noise(rng, side, 6, 4)[..., None] * 8).astype(np.float32)


def cells(rng: Rng, side: int) -> Picture:
    """Nearest-neighbour cells with grain."""
    seeds = rng.uniform(0, side, (int(rng.integers(8, 90)), 2)).astype(np.float32)
    y, x = np.mgrid[:side:3, :side:3].astype(np.float32)
    nearest = ((x - seeds[:, 0, None, None]) ** 2 + (y - seeds[:, 1, None, None]) ** 2).argmin(0).astype(np.uint8)
    index = cv2.resize(nearest, (side, side), interpolation=cv2.INTER_NEAREST)
    base = colour(rng)
    tints = np.stack([colour(rng, base, 50) for _ in seeds])
    return (tints[index] + 12 * noise(rng, side, 8, 4)[..., None]).astype(np.float32)


def checks(rng: Rng, side: int) -> Picture:
    """A chessboard with grain."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    width, height = rng.uniform(6, 50, 2)
    part = ((x // width + y // height) % 2)[..., None]
    return (part * colour(rng) + (1 - part) * colour(rng) + noise(rng, side, 4, 5)[..., None] * 10).astype(np.float32)


def writing(rng: Rng, side: int) -> Picture:
    """Lines of letters and signs."""
    picture = np.ascontiguousarray(np.full((side, side, 3), colour(rng), np.float32) + shade(rng, side))
    ink, size = colour(rng).tolist(), float(rng.uniform(0.4, 1.8))
    for y in range(10, side + 30, int(8 + 24 * size)):
        line = "".join(chr(int(c)) for c in rng.integers(33, 126, 30))
        start = (-int(rng.integers(0, 30)), y)
        cv2.putText(picture, line, start, int(rng.integers(0, 5)), size, ink, int(rng.integers(1, 4)), cv2.LINE_AA)
    return picture
