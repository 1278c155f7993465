"""Constant-velocity Kalman filters of many boxes at once: centre, width and height, each with its speed.

The coordinates do not influence one another, so a covariance is three numbers per coordinate and a step is a handful of
array operations for all tracks. Noise is proportional to the box's size as in SORT's descendants (BoT-SORT, Aharon et al.
2022, arXiv:2206.14651), but per time instead of per frame: three frames left out, or a video of ten frames a second, mean
what they mean. Speeds fade slowly (Singer 1970), so that an object that is out of sight does not run away.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        half = self.pos[:, 2:] / 2
        return np.concatenate((self.pos[:, :2] - half, self.pos[:, :2] + half), 1)


def centred(xyxy: NDArray[np.floating]) -> Float:
    """cx, cy, w, h float64 (n, 4) of x1, y1, x2, y2."""
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    out = np.empty_like(boxes)
    out[:, :2] = (boxes[:, :2] + boxes[:, 2:]) / 2
    out[:, 2:] = np.maximum(boxes[:, 2:] - boxes[:, :2], MIN_SIZE)
    return out


def scales(pos: Float) -> Float:
    """What noise is measured in, float64 (n, 4): the geometric mean of the sides for the centre, each side for itself."""
    out = np.empty_like(pos)
    size = np.maximum(pos[:, 2:], MIN_SIZE)
    out[:, 2:] = size
    out[:, :2] = np.sqrt(size[:, :1] * size[:, 1:])
    return out


def born(boxes: Float, model: MotionModel) -> Motion:
    """New objects at cx, cy, w, h float64 (n, 4), of unknown speed."""
    scale2 = scales(boxes) ** 2
    zero = np.zeros_like(boxes)
    return Motion(boxes.copy(), zero, scale2 * (2 * model.measurement) ** 2, zero.copy(), scale2 * model.birth**2)


def predict(motion: Motion, ticks: float, model: MotionModel) -> None:
    """Moves all boxes on by `ticks` >= 0, in place."""
    if not len(motion) or ticks <= 0:
        return
    time = np.array([model.fade, model.fade, model.fade_size, model.fade_size])
    left = np.exp(-ticks / time)
    way = time * (1 - left)
    scale2 = scales(motion.pos) ** 2
    noise = scale2 * (model.speed**2 * ticks)
    motion.pos += way * motion.vel
    np.maximum(motion.pos[:, 2:], MIN_SIZE, out=motion.pos[:, 2:])
    motion.vel *= left
    motion.pp += way * (2 * motion.pv + way * motion.vv) + scale2 * (model.position**2 * ticks) + noise * (ticks**2 / 3)
    motion.pv = left * (motion.pv + way * motion.vv) + noise * (ticks / 2)
    motion.vv = left**2 * motion.vv + noise


def correct(motion: Motion, index: NDArray[np.int64], boxes: Float, deviation: NDArray[np.floating]) -> None:
    """Takes measurements cx, cy, w, h float64 (k, 4) of the objects `index`, in place. deviation: float64 (k,), of the
    measurement in box sizes."""
    pos, pp, pv = motion.pos[index], motion.pp[index], motion.pv[index]
    gain = pp + (scales(boxes) * np.asarray(deviation)[:, None]) ** 2
    gain_speed = pv / gain
    gain = pp / gain
    off = boxes - pos
    pos += gain * off
    np.maximum(pos[:, 2:], MIN_SIZE, out=pos[:, 2:])
    motion.pos[index] = pos
    motion.vel[index] += gain_speed * off
    motion.vv[index] -= gain_speed * pv
    motion.pp[index] = pp * (1 - gain)
    motion.pv[index] = pv * (1 - gain)


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
    spread = motion.pp + (scales(motion.pos) * deviation) ** 2
    off = boxes[None] - motion.pos[:, None]
    found: Float = (off * off / spread[:, None]).sum(2)
    return found
