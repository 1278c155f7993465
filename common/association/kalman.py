"""Constant-velocity Kalman filters of many boxes at once: centre, width and height, each with its speed.

The coordinates do not influence one another, so a covariance is three numbers per coordinate and a step is a handful of
array operations for all tracks. Noise is proportional to the box's size as in SORT's descendants (BoT-SORT, Aharon et al.
2022, arXiv:2206.14651), but per time instead of per frame: three frames left out, or a video of ten frames a second, mean
what they mean. Speeds fade slowly (Singer 1970), so that an object that is out of sight does not run away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

_ONE, _OTHER = np.array((2, 2, 2, 3)), np.array((3, 3, 2, 3))
MIN_SIZE = 1e-2
"""Pixels; boxes do not get thinner than this."""


@dataclass(frozen=True)
class MotionModel:
    """position: deviation of a random step within one tick (1/30 s), in box sizes; raised: predictions are trusted less.
    speed: change of speed within one tick. measurement: deviation of a detection of score 1. birth: deviation of a new
    object's speed per tick. fade, fade_size: ticks after which a speed has fallen to a third.
    """

    position: float = 0.05
    speed: float = 0.003
    measurement: float = 0.08
    birth: float = 0.0625
    fade: float = 200.0
    fade_size: float = 30.0


class Motion:
    """State of n boxes; all float64 (n, 4) over cx, cy, w, h. pos: pixels. vel: pixels per tick. pp, pv, vv: covariance.
    They are views of one array, so that rows are taken and put back at once; change them in place."""

    __slots__ = ("pos", "pp", "pv", "vel", "vv", "whole")
    NAMES = ("pos", "vel", "pp", "pv", "vv")

    def __init__(self, whole: Float) -> None:
        """whole: float64 (5, n, 4), in the order of `NAMES`."""
        self.whole = whole
        self.pos: Float
        self.vel: Float
        self.pp: Float
        self.pv: Float
        self.vv: Float
        self.pos, self.vel, self.pp, self.pv, self.vv = whole

    def __len__(self) -> int:
        return len(self.pos)

    def __reduce__(self) -> tuple[type[Motion], tuple[Float]]:
        return Motion, (self.whole,)  # copies are views of their own array again

    def keep(self, index: NDArray[np.generic]) -> Motion:
        return Motion(self.whole[:, index])

    def joined(self, other: Motion) -> Motion:
        return Motion(np.concatenate((self.whole, other.whole), 1))

    def xyxy(self) -> Float:
        """float64 (n, 4), x1, y1, x2, y2."""
        return corners(self.pos)


def corners(pos: Float) -> Float:
    """x1, y1, x2, y2 float64 (n, 4) of cx, cy, w, h."""
    out = np.empty_like(pos)
    half = pos[:, 2:] / 2
    np.subtract(pos[:, :2], half, out=out[:, :2])
    np.add(pos[:, :2], half, out=out[:, 2:])
    return out


def centred(xyxy: NDArray[np.floating]) -> Float:
    """cx, cy, w, h float64 (n, 4) of x1, y1, x2, y2."""
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    out = np.empty_like(boxes)
    out[:, :2] = (boxes[:, :2] + boxes[:, 2:]) / 2
    out[:, 2:] = np.maximum(boxes[:, 2:] - boxes[:, :2], MIN_SIZE)
    return out


def squares(pos: Float) -> Float:
    """Squares of what noise is measured in, float64 (n, 4): of the geometric mean of the sides for the centre, of each side
    for itself."""
    size = np.maximum(pos, MIN_SIZE)
    out: Float = size.take(_ONE, 1)
    out *= size.take(_OTHER, 1)
    return out


def born(boxes: Float, model: MotionModel) -> Motion:
    """New objects at cx, cy, w, h float64 (n, 4), of unknown speed."""
    scale2 = squares(boxes)
    motion = Motion(np.zeros((5, len(boxes), 4)))
    motion.pos[:] = boxes
    np.multiply(scale2, (2 * model.measurement) ** 2, out=motion.pp)
    np.multiply(scale2, model.birth**2, out=motion.vv)
    return motion


def predict(motion: Motion, ticks: float, model: MotionModel) -> None:
    """Moves all boxes on by `ticks` >= 0, in place."""
    if not len(motion) or ticks <= 0:
        return
    left, way = _fading(model, ticks)
    pos, vel, pp, pv, vv = motion.pos, motion.vel, motion.pp, motion.pv, motion.vv
    scale2 = squares(pos)
    pos += way * vel
    size = pos[:, 2:]
    np.maximum(size, MIN_SIZE, out=size)
    vel *= left
    # with few boxes what counts is how many operations there are: products are made once and added in place
    noise = model.speed**2 * ticks
    drift = way * vv
    pp += scale2 * (model.position**2 * ticks + noise * (ticks**2 / 3))
    pv *= 2
    pv += drift
    pp += way * pv
    pv += drift
    pv *= left / 2
    vv *= left * left
    scale2 *= noise
    vv += scale2
    scale2 *= ticks / 2
    pv += scale2


@lru_cache(maxsize=64)
def _fading(model: MotionModel, ticks: float) -> tuple[Float, Float]:
    """What is left of speeds after a while, and how far a speed of 1 leads in it; float64 (4,) each."""
    time = np.array([model.fade, model.fade, model.fade_size, model.fade_size])
    left = np.exp(-ticks / time)
    way = time * (1 - left)
    left.setflags(write=False)
    way.setflags(write=False)
    return left, way


def correct(motion: Motion, index: NDArray[np.int64] | None, boxes: Float, deviation: NDArray[np.floating]) -> None:
    """Takes measurements cx, cy, w, h float64 (k, 4) of the objects `index` (None = all), in place. deviation: float64 (k,),
    of the measurement in box sizes."""
    part = motion.whole if index is None else motion.whole.take(index, 1)
    pos, vel, pp, pv, vv = part
    off = boxes - pos
    noise = squares(boxes)
    noise *= np.square(deviation)[:, None]
    spread = pp + noise
    gain_speed = pv / spread
    noise /= spread  # 1 - gain
    pos += off
    pos -= noise * off
    np.maximum(pos[:, 2:], MIN_SIZE, out=pos[:, 2:])
    pp *= noise
    vv -= gain_speed * pv
    pv *= noise
    gain_speed *= off
    vel += gain_speed
    if index is not None:
        motion.whole[:, index] = part


def warp(motion: Motion, affine: Float) -> None:
    """Follows the camera, in place. affine: float64 (2, 3), previous pixels to present ones.

    Sizes and deviations follow the scale; a small turn leaves an upright box as it is (equal noise in x and y).
    """
    linear = affine[:, :2]
    scale = float(np.sqrt(abs(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0])))
    motion.pos[:, :2] = motion.pos[:, :2] @ linear.T + affine[:, 2]
    motion.vel[:, :2] = motion.vel[:, :2] @ linear.T
    if scale != 1.0:
        motion.pos[:, 2:] *= scale
        motion.vel[:, 2:] *= scale
        for variance in (motion.pp, motion.pv, motion.vv):
            variance *= scale**2


def mahalanobis(motion: Motion, boxes: Float, deviation: float) -> Float:
    """Squared distance float64 (n, m) of m measurements from n predictions, over all four coordinates (chi-square, 4)."""
    spread = motion.pp + squares(motion.pos) * deviation**2
    off = boxes[None] - motion.pos[:, None]
    found: Float = (off * off / spread[:, None]).sum(2)
    return found
