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


@dataclass
class Motion:
    """State of n boxes; all float64 (n, 4) over cx, cy, w, h. pos: pixels. vel: pixels per tick. pp, pv, vv: covariance."""

    pos: Float
    vel: Float
    pp: Float
    pv: Float
    vv: Float

    def __len__(self) -> int:
        return len(self.pos)

    def keep(self, index: NDArray[np.generic]) -> Motion:
        return Motion(self.pos[index], self.vel[index], self.pp[index], self.pv[index], self.vv[index])

    def joined(self, other: Motion) -> Motion:
        names = ("pos", "vel", "pp", "pv", "vv")
        return Motion(*(np.concatenate((getattr(self, name), getattr(other, name))) for name in names))

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
    out = np.empty_like(pos)
    size = np.maximum(pos[:, 2:], MIN_SIZE)
    np.multiply(size[:, :1], size[:, 1:], out=out[:, :1])
    out[:, 1] = out[:, 0]
    np.multiply(size, size, out=out[:, 2:])
    return out


def born(boxes: Float, model: MotionModel) -> Motion:
    """New objects at cx, cy, w, h float64 (n, 4), of unknown speed."""
    scale2 = squares(boxes)
    zero = np.zeros_like(boxes)
    return Motion(boxes.copy(), zero, scale2 * (2 * model.measurement) ** 2, zero.copy(), scale2 * model.birth**2)


def predict(motion: Motion, ticks: float, model: MotionModel) -> None:
    """Moves all boxes on by `ticks` >= 0, in place."""
    if not len(motion) or ticks <= 0:
        return
    left, way = _fading(model, ticks)
    scale2 = squares(motion.pos)
    motion.pos += way * motion.vel
    np.maximum(motion.pos[:, 2:], MIN_SIZE, out=motion.pos[:, 2:])
    motion.vel *= left
    # with few boxes what counts is how many operations there are: products are made once and added in place
    noise = model.speed**2 * ticks
    drift = way * motion.vv
    motion.pp += scale2 * (model.position**2 * ticks + noise * (ticks**2 / 3))
    motion.pv *= 2
    motion.pv += drift
    motion.pp += way * motion.pv
    motion.pv += drift
    motion.pv *= left / 2
    motion.vv *= left * left
    scale2 *= noise
    motion.vv += scale2
    scale2 *= ticks / 2
    motion.pv += scale2


@lru_cache(maxsize=64)
def _fading(model: MotionModel, ticks: float) -> tuple[Float, Float]:
    """What is left of speeds after a while, and how far a speed of 1 leads in it; float64 (4,) each."""
    time = np.array([model.fade, model.fade, model.fade_size, model.fade_size])
    left = np.exp(-ticks / time)
    way = time * (1 - left)
    left.setflags(write=False)
    way.setflags(write=False)
    return left, way


def correct(motion: Motion, index: NDArray[np.int64], boxes: Float, deviation: NDArray[np.floating]) -> None:
    """Takes measurements cx, cy, w, h float64 (k, 4) of the objects `index`, in place. deviation: float64 (k,), of the
    measurement in box sizes."""
    pos, pp, pv = motion.pos[index], motion.pp[index], motion.pv[index]
    off = boxes - pos
    noise = squares(boxes)
    noise *= np.square(deviation)[:, None]
    spread = pp + noise
    gain_speed = pv / spread
    noise /= spread  # 1 - gain
    pos += off
    pos -= noise * off
    np.maximum(pos[:, 2:], MIN_SIZE, out=pos[:, 2:])
    motion.pos[index] = pos
    pp *= noise
    motion.pp[index] = pp
    motion.vv[index] -= gain_speed * pv
    pv *= noise
    motion.pv[index] = pv
    gain_speed *= off
    motion.vel[index] += gain_speed


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
