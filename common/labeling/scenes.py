"""Scenes of a video or picture set, told apart by how pictures look as a whole, so that each may be labelled in its own way.

A picture belongs to the scene whose labelled pictures it looks most like. That needs no pass over the video, and no memory: a
cut, a change of light or of place shows on the next picture. Source: comparison of colour histograms by the Bhattacharyya
coefficient, as usual for shot boundaries (Hanjalic 2002, "Shot-boundary detection: unraveled and resolved?").
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.contract import Image

Float = NDArray[np.float32]

APART = 0.3
"""Distance from which two pictures are of different scenes."""
_SIZE = (64, 48)
_LIGHT, _COLOUR = 8, 6


def look(image: Image) -> Float:
    """What a picture looks like as a whole: root of a smooth histogram of lightness and colour, float32 (288,), length 1."""
    small = cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    light = np.clip(lab[:, 0] / 256 * _LIGHT, 0, _LIGHT - 1e-3)
    # a and b of natural pictures lie near the middle
    tint = np.clip((lab[:, 1:] - 80) / 96 * _COLOUR, 0, _COLOUR - 1e-3)
    counts, _ = np.histogramdd(
        np.column_stack((light, tint)), (_LIGHT, _COLOUR, _COLOUR), [(0, _LIGHT), (0, _COLOUR), (0, _COLOUR)]
    )
    for axis in range(3):  # a little lighter or darker is nearly the same
        padded = np.pad(counts, [(1, 1) if n == axis else (0, 0) for n in range(3)], mode="edge")
        one, two, three = (np.take(padded, range(k, k + counts.shape[axis]), axis) for k in range(3))
        counts = 0.25 * one + 0.5 * two + 0.25 * three
    root = np.sqrt(counts.ravel())
    return np.asarray(root / max(float(np.linalg.norm(root)), 1e-9), np.float32)


def distance(a: Float, b: Float) -> float:
    """0 for the same look, 1 for nothing in common (Hellinger distance).

    >>> grey = np.full((48, 64, 3), 90, np.uint8)
    >>> distance(look(grey), look(grey)), distance(look(grey), look(grey + 120)) > APART
    (0.0, True)
    """
    return float(np.sqrt(max(0.0, 1.0 - float(a @ b))).round(6))


def groups(looks: Sequence[Float]) -> list[int]:
    """Scene of each of a few pictures, numbered from 0 in order: pictures that can be reached from each other by steps
    shorter than `APART` are of one scene (single linkage)."""
    scene = list(range(len(looks)))
    for a in range(len(looks)):
        for b in range(a):
            if scene[a] != scene[b] and distance(looks[a], looks[b]) < APART:
                old, new = scene[a], scene[b]
                scene = [new if one == old else one for one in scene]
    order = {old: number for number, old in enumerate(dict.fromkeys(scene))}
    return [order[one] for one in scene]


def middle(looks: Sequence[Float]) -> Float:
    """The look of a scene."""
    mean = np.mean(looks, 0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def nearest(seen: Float, known: Float) -> int:
    """Number of the scene that the look is most like. known: float32 (scenes, 288)."""
    return int((known @ seen).argmax())
