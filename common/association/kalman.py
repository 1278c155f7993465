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
# with few boxes what counts is how many array operations there are: what is linear is one product with a table
_CORNERS = np.array(((1, 0, -0.5, 0), (0, 1, 0, -0.5), (1, 0, 0.5, 0), (0, 1, 0, 0.5)))
_CENTRED = np.array(((0.5, 0, 0.5, 0), (0, 0.5, 0, 0.5), (-1, 0, 1, 0), (0, -1, 0, 1)))
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
        """whole: float64 (20, n): the four of each of `NAMES`, in their order."""
        # a selection of columns is not contiguous, which snapshots would tell
        self.whole = whole = np.ascontiguousarray(whole)
        self.pos, self.vel, self.pp, self.pv, self.vv = (whole[at : at + 4].T for at in range(0, 20, 4))

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
    out: Float = _CORNERS.dot(pos.T).T
    return out


def centred(xyxy: NDArray[np.floating]) -> Float:
    """cx, cy, w, h float64 (n, 4) of x1, y1, x2, y2."""
    out: Float = _CENTRED.dot(np.asarray(xyxy, np.float64).reshape(-1, 4).T)
    sides = out[2:]
    np.maximum(sides, MIN_SIZE, out=sides)
    return out.T


def squares(pos: Float) -> Float:
    """Squares of what noise is measured in, float64 (n, 4): of the geometric mean of the sides for the centre, of each side
    for itself. pos: cx, cy, w, h, float64 (n, 4)."""
    return _squares(pos.T).T


def _squares(pos: Float) -> Float:
    """The same with a row for each coordinate, (4, n)."""
    out: Float = pos.take(_ONE, 0)
    out *= pos.take(_OTHER, 0)
    return out


def born(boxes: Float, model: MotionModel) -> Motion:
    """New objects at cx, cy, w, h float64 (n, 4), of unknown speed."""
    scale2 = squares(boxes)
    motion = Motion(np.zeros((20, len(boxes))))
    motion.pos[:] = boxes
    np.multiply(scale2, (2 * model.measurement) ** 2, out=motion.pp)
    np.multiply(scale2, model.birth**2, out=motion.vv)
    return motion


def predict(motion: Motion, ticks: float, model: MotionModel) -> None:
    """Moves all boxes on by `ticks` >= 0, in place."""
    if not len(motion) or ticks <= 0:
        return
    step, noise = _step(model, ticks)
    whole = motion.whole
    grown = noise.dot(_squares(whole[:4]))
    np.add(step.dot(whole), grown, out=whole)
    np.maximum(whole[2:4], MIN_SIZE, out=whole[2:4])


@lru_cache(maxsize=64)
def _step(model: MotionModel, ticks: float) -> tuple[Float, Float]:
    """How a state (20, n) goes on, as a table (20, 20), and what squared sizes (4, n) add to it, as a table (20, 4)."""
    time = np.array([model.fade, model.fade, model.fade_size, model.fade_size])
    left = np.exp(-ticks / time)  # of a speed
    way = time * (1 - left)  # of a speed of 1
    step = np.zeros((5, 4, 5, 4))  # to each of `NAMES` and coordinates, from each
    noise = np.zeros((5, 4, 4))
    speed = model.speed**2 * ticks
    added = {"pp": model.position**2 * ticks + speed * ticks**2 / 3, "pv": speed * ticks / 2, "vv": speed}
    factors = {
        ("pos", "pos"): np.ones(4),
        ("vel", "pos"): way,
        ("vel", "vel"): left,
        ("pp", "pp"): np.ones(4),
        ("pv", "pp"): 2 * way,
        ("vv", "pp"): way**2,
        ("pv", "pv"): left,
        ("vv", "pv"): way * left,
        ("vv", "vv"): left**2,
    }
    each = np.arange(4)
    for (source, target), factor in factors.items():
        step[Motion.NAMES.index(target), each, Motion.NAMES.index(source), each] = factor
    for target, share in added.items():
        noise[Motion.NAMES.index(target), each, each] = share
    tables: tuple[Float, Float] = step.reshape(20, 20), noise.reshape(20, 4)
    for table in tables:
        table.setflags(write=False)
    return tables


def correct(motion: Motion, index: NDArray[np.int64], boxes: Float, deviation: NDArray[np.floating]) -> None:
    """Takes measurements cx, cy, w, h float64 (k, 4) of the objects `index`, in place. deviation: float64 (k,), of the
    measurement in box sizes."""
    seen = boxes.T
    part = motion.whole.take(index, 1).reshape(5, 4, -1)
    noise = _squares(seen)
    noise *= np.square(deviation)
    gain = part[2:4] / (part[2] + noise)  # of the place, and of the speed
    noise *= gain[0]  # what is left of the place's variance; less exact as a difference
    part[:2] += gain * (seen - part[0])
    part[3:] -= gain * part[3]
    part[2] = noise
    sides = part[0, 2:]
    np.maximum(sides, MIN_SIZE, out=sides)
    motion.whole[:, index] = part.reshape(20, -1)


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
        np.maximum(motion.pos[:, 2:], MIN_SIZE, out=motion.pos[:, 2:])
        motion.vel[:, 2:] *= scale
        for variance in (motion.pp, motion.pv, motion.vv):
            variance *= scale**2


def mahalanobis(motion: Motion, boxes: Float, deviation: float) -> Float:
    """Squared distance float64 (n, m) of m measurements from n predictions, over all four coordinates (chi-square, 4)."""
    spread = motion.pp + squares(motion.pos) * deviation**2
    off = boxes[None] - motion.pos[:, None]
    found: Float = (off * off / spread[:, None]).sum(2)
    return found
