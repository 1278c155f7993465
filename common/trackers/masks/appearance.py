"""What the object looks like, told apart from what is around it: features per cell and a small kernel classifier.

The classifier is ridge regression on random Fourier features (Rahimi, Recht, Random Features for Large-Scale Kernel
Machines, NIPS 2007). All it ever keeps of the pictures it has seen are two sums of fixed size, so its memory does not
grow, forgetting is a multiplication, and the first frame and corrections can be kept for ever beside the recent past.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.contract import Image

Float = NDArray[np.float32]

CHANNELS = 17
"""Features of a cell before its place within the object is added."""


def describe(image: Image, columns: int, rows: int) -> Float:
    """Features of an image on a coarser grid of cells, float32 (rows, columns, CHANNELS).

    Lab colour of the cell and of its surroundings at two sizes, strength and direction of edges at two sizes; scaled so
    that a difference of 1 in any of them is about equally telling.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2Lab).astype(np.float32)
    light = np.ascontiguousarray(lab[..., 0])
    gx, gy = cv2.Sobel(light, cv2.CV_32F, 1, 0), cv2.Sobel(light, cv2.CV_32F, 0, 1)
    # Not cv2.magnitude: its last bit depends on where the arrays lie in memory, and runs must repeat exactly.
    strength = np.sqrt(gx * gx + gy * gy) / 4
    safe = strength * 16 + 1e-6
    # Doubled angles: an edge has a direction but no sign.
    edges = cv2.merge([strength, (gx * gx - gy * gy) / safe, 2 * gx * gy / safe])
    lab, edges = (cv2.resize(a, (columns, rows), interpolation=cv2.INTER_AREA) for a in (lab, edges))
    near_lab, far_lab = cv2.GaussianBlur(lab, (0, 0), 2.0), cv2.GaussianBlur(lab, (0, 0), 5.0)
    near, far = cv2.GaussianBlur(edges, (0, 0), 2.0), cv2.GaussianBlur(edges, (0, 0), 5.0)
    return np.concatenate(
        [
            lab / 20,
            near_lab / 20,
            far_lab / 25,
            np.sqrt(near[..., :1]) / 2,
            np.sqrt(far[..., :1]) / 2,
            near[..., 1:] / (near[..., :1] + 4),
            far[..., 1:] / (far[..., :1] + 4),
            np.sqrt(edges[..., :1]) / 4,
            (lab[..., :1] - far_lab[..., :1]) / 15,
        ],
        2,
    ).astype(np.float32)


@dataclass(frozen=True)
class Evidence:
    """All that the classifier remembers: sums over cells, of the object (row 0) and of the ground (row 1).

    gram: float32 (2, d, d). target: float32 (2, d).
    """

    gram: Float
    target: Float

    def mixed(self, other: Evidence, of_object: float, of_ground: float) -> Evidence:
        """What remains of this and the given shares (0..1) of the other, for the object and for the ground."""
        share = np.array([of_object, of_ground], np.float32)
        return Evidence(
            _blend(self.gram, other.gram, share[:, None, None]), _blend(self.target, other.target, share[:, None])
        )


def _blend(old: Float, new: Float, share: Float) -> Float:
    return (1 - share) * old + share * new


class Basis:
    """Random Fourier features of a Gaussian kernel: the same for the same seed, shared by all objects.

    channels: features per cell. size: number of random features; more follow the kernel more closely and cost time.
    width: width of the kernel in feature units; smaller tells finer differences apart and generalises less.
    """

    def __init__(self, channels: int, size: int, width: float, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.size = size
        self._directions = (random.normal(size=(channels, size)) / width).astype(np.float32)
        self._phases = random.uniform(0, 2 * np.pi, size).astype(np.float32)

    def expand(self, features: Float) -> Float:
        """float32 (n, channels) -> float32 (n, size)."""
        waves: Float = features @ self._directions
        waves += self._phases
        np.cos(waves, out=waves)
        return waves


def gather(expanded: Float, share: Float, trust: Float) -> Evidence:
    """Evidence of labelled cells, both classes weighing the same whatever their number.

    expanded: (n, d) from `Basis.expand`. share: (n,) 0..1, how much of the cell is object; undecided cells count little.
    trust: (n,) 0..1, how far the label is to be believed.
    """
    sign = 2 * share - 1
    grams, targets = [], []
    for side in (sign > 0, sign <= 0):
        weight = np.abs(sign[side]) * trust[side]
        weight *= 500 / max(1.0, float(weight.sum()))
        weighted = expanded[side] * weight[:, None]
        grams.append(weighted.T @ expanded[side])
        targets.append(weighted.T @ sign[side])
    return Evidence(np.stack(grams).astype(np.float32), np.stack(targets).astype(np.float32))


def solve(evidence: Evidence, ridge: float) -> Float:
    """Weights float32 (d,) of the classifier; `expand(x) @ weights` is near +1 on the object, near -1 elsewhere."""
    gram = evidence.gram.sum(0, dtype=np.float64)
    gram[np.diag_indices_from(gram)] += ridge
    return np.linalg.solve(gram, evidence.target.sum(0, dtype=np.float64)).astype(np.float32)
