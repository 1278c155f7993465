"""How the objects, the surfaces and the camera of synthetic scenes move: closed formulas of time, so that any frame can be
had in any order and the truth is exact. Time is in frames and may be fractional (shutter).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating]
_TURN = 2 * np.pi


@dataclass(frozen=True)
class Motion:
    """Where an object is in the world; the world is the background plane measured in pixels of frame 0.

    start: its middle at frame 0. velocity: pixels per frame, for ever. sway: pixels it swings about that line in x and y,
    sway_period: frames of one swing in x (in y it takes 1.3 times as long), phase: radians. angle_rad: its turn at frame 0;
    spin: radians per frame, for ever; swing: radians it rocks, with swing_period. grow: natural logarithm of the largest
    scale change, either way, with grow_period. absent: ranges of frames [from, to) in which it does not exist.
    """

    start: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    sway: tuple[float, float] = (0.0, 0.0)
    sway_period: float = 60.0
    phase: float = 0.0
    angle_rad: float = 0.0
    spin: float = 0.0
    swing: float = 0.0
    swing_period: float = 50.0
    grow: float = 0.0
    grow_period: float = 70.0
    absent: tuple[tuple[int, int], ...] = ()

    def present(self, frame: int) -> bool:
        """Whether the object exists in that frame, in or out of the picture."""
        return not any(first <= frame < end for first, end in self.absent)

    def pose(self, time: float) -> tuple[Array, float, float]:
        """Middle (2,), angle in radians and scale at a time."""
        swings = np.sin(_TURN * time / (self.sway_period * np.array([1.0, 1.3])) + self.phase) - np.sin(self.phase)
        middle = np.array(self.start) + np.array(self.velocity) * time + np.array(self.sway) * swings
        angle = self.angle_rad + self.spin * time + self.swing * float(np.sin(_TURN * time / self.swing_period))
        return middle, angle, float(np.exp(self.grow * np.sin(_TURN * time / self.grow_period)))

    def matrix(self, time: float) -> Array:
        """float64 (3, 3): the object's own coordinates -> world."""
        return _similarity(*self.pose(time))


@dataclass(frozen=True)
class Ripple:
    """A surface that waves: two shears by a sine, one after the other, which can be undone exactly.

    amplitude: pixels. wavelength: pixels (longer than 7 amplitudes looks like cloth). period: frames of one wave.
    """

    amplitude: float
    wavelength: float = 90.0
    period: float = 40.0

    def apply(self, xy: Array, time: float) -> Array:
        """Points at rest (..., 2) -> points of the waving surface (..., 2)."""
        y = xy[..., 1] + self._wave(xy[..., 0], time, 0.4)
        return np.stack([xy[..., 0] + self._wave(y, time, 2.1), y], -1)

    def undo(self, xy: Array, time: float) -> Array:
        """The exact inverse of `apply`."""
        return np.stack(self.undone(xy[..., 0], xy[..., 1], time), -1)

    def undone(self, x: Floats, y: Floats, time: float) -> tuple[Floats, Floats]:
        """`undo` for x and y apart, in their own precision."""
        x = x - self._wave(y, time, 2.1)
        return x, y - self._wave(x, time, 0.4)

    def _wave(self, along: Floats, time: float, phase: float) -> Floats:
        turns, start = _TURN / self.wavelength, _TURN * time / self.period + phase
        wave: Floats = self.amplitude * np.sin(along * turns + start)
        return wave


@dataclass(frozen=True)
class Camera:
    """A camera that pans, zooms and rolls over the background; it stands at identity in frame 0 and never runs away.

    pan: pixels it travels from the start, in x and y. zoom: natural logarithm of the largest magnification. roll: radians.
    period: frames of one pan; the others take 1.4 and 1.8 times as long. shake: pixels of hand shake, a few frames long.
    """

    pan: tuple[float, float] = (0.0, 0.0)
    zoom: float = 0.0
    roll: float = 0.0
    period: float = 120.0
    shake: float = 0.0

    def matrix(self, time: float, width: int, height: int) -> Array:
        """float64 (3, 3): world (pixels of frame 0) -> pixels of the frame at that time."""
        phase = _TURN * time / self.period
        shift = np.array(self.pan) * np.sin(phase * np.array([1.0, 0.8]))
        shift = shift + self.shake * sum(
            np.sin(time * np.array(rate) + np.array(start)) - np.sin(np.array(start))
            for rate, start in (((1.9, 2.3), (0.3, 1.1)), ((0.83, 0.71), (2.0, 0.2)))
        )
        middle = np.array([width - 1, height - 1]) / 2
        about = _similarity(
            np.zeros(2), self.roll * float(np.sin(phase / 1.8)), float(np.exp(self.zoom * np.sin(phase / 1.4)))
        )
        matrix: Array = _shift(middle + shift) @ about @ _shift(-middle)
        return matrix

    def margin(self, width: int, height: int) -> tuple[int, int]:
        """Pixels of background needed beyond the picture on each side, in x and y, so that no border ever shows."""
        reach = float(np.exp(abs(self.zoom)))
        tilt = abs(np.sin(min(abs(self.roll), np.pi / 2)))
        extra_x = (reach * (1 + tilt * height / width) - 1) * width / 2 + reach * (abs(self.pan[0]) + 4 * self.shake)
        extra_y = (reach * (1 + tilt * width / height) - 1) * height / 2 + reach * (abs(self.pan[1]) + 4 * self.shake)
        # A rolled pan mixes the two directions.
        mixed = tilt * reach * max(abs(self.pan[0]), abs(self.pan[1]))
        return int(np.ceil(extra_x + mixed)) + 4, int(np.ceil(extra_y + mixed)) + 4


def transform(matrix: Array, xy: Array) -> Array:
    """Points (n, 2) under an affine or similarity matrix (3, 3)."""
    moved: Array = xy @ matrix[:2, :2].T + matrix[:2, 2]
    return moved


def _similarity(middle: Array, angle: float, scale: float) -> Array:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, middle[0]], [s, c, middle[1]], [0.0, 0.0, 1.0]])


def _shift(by: Array) -> Array:
    return np.array([[1.0, 0.0, by[0]], [0.0, 1.0, by[1]], [0.0, 0.0, 1.0]])
