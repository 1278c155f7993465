"""Closed outlines for the objects of synthetic scenes: curves, corners for a polygon label, joints for a skeleton label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outline:
    """A shape at rest, in its own coordinates: pixels at scale 1, (0, 0) its middle, x right, y down.

    curve: float64 (n, 2), the dense closed border. corners: float64 (k, 2), vertices of a polygon label on that border.
    joints: float64 (j, 2), points of a skeleton label inside. bones: pairs of joint indices.
    """

    curve: Array
    corners: Array
    joints: Array
    bones: tuple[tuple[int, int], ...]

    @property
    def half_size(self) -> Array:
        """float64 (2,): half width and half height of the smallest centred box around the curve."""
        half: Array = np.abs(self.curve).max(0)
        return half


def ellipse(width: float, height: float) -> Outline:
    """An ellipse; corners: 12 points of its border; joints: the middle and four points towards the ends."""
    return _round(np.ones(144), width, height)


def blob(rng: np.random.Generator, width: float, height: float) -> Outline:
    """An irregular round shape, different for every state of the generator."""
    angle = np.linspace(0, 2 * np.pi, 144, endpoint=False)
    radius = np.ones(144)
    for order in range(2, 6):
        radius = radius + rng.uniform(0.03, 0.13) * np.sin(order * angle + rng.uniform(0, 2 * np.pi))
    return _round(radius / radius.max(), width, height)


def polygon(corners: Array, joints: Array | None = None, bones: tuple[tuple[int, int], ...] = ()) -> Outline:
    """A shape with straight edges. corners: (k, 2) in order around the border, simple (no crossing edges)."""
    corners = np.asarray(corners, np.float64)
    steps = np.linspace(0, 1, 24, endpoint=False)[None, :, None]
    following = np.roll(corners, -1, 0)
    curve = (corners[:, None] * (1 - steps) + following[:, None] * steps).reshape(-1, 2)
    if joints is None:
        joints, bones = _cross(np.abs(corners).max(0))
    return Outline(curve, corners, np.asarray(joints, np.float64), bones)


def rectangle(width: float, height: float) -> Outline:
    """A rectangle with its four corners."""
    half = np.array([width, height]) / 2
    return polygon(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half)


def star(radius: float, arms: int = 5, inner: float = 0.5) -> Outline:
    """A star; its skeleton runs from the middle into every arm. inner: radius of the notches over that of the tips."""
    angle = np.arange(2 * arms) * np.pi / arms - np.pi / 2
    reach = np.where(np.arange(2 * arms) % 2 == 0, radius, radius * inner)
    corners = np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None]
    joints = np.concatenate([np.zeros((1, 2)), corners[::2] * 0.78])
    return polygon(corners, joints, tuple((0, arm) for arm in range(1, arms + 1)))


def _round(radius: Array, width: float, height: float) -> Outline:
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    half = np.array([width, height]) / 2
    curve = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None] * half
    joints, bones = _cross(half)
    return Outline(curve, curve[:: len(radius) // 12], joints, bones)


def _cross(half: Array) -> tuple[Array, tuple[tuple[int, int], ...]]:
    joints = np.array([[0, 0], [0, -0.5], [0.5, 0], [0, 0.5], [-0.5, 0]]) * half
    return joints, ((0, 1), (0, 2), (0, 3), (0, 4))
