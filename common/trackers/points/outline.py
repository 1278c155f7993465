"""What a closed outline knows: pixels outside of it belong to something else, and what is within it moves along with it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.rings import ring
from common.trackers.points import patches

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

INNER = 24
"""Corners within an outline that carry it, at most; fewer, but not below `FEWEST`, where many outlines would have more than
`IN_ALL` together."""
FEWEST, IN_ALL = 8, 400
RIM = 4
"""Pixels from the rim within which nothing is sought, and between what is found, at least."""
_AWAY = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * RIM + 1, 2 * RIM + 1))
LEAST_CONTRAST = 4.0
"""Standard deviation of a patch, grey levels, and in noises three, from which it is worth following."""
OUTSIDE = 0.2
"""Trust in a pixel outside the outline: the outline is drawn by hand, and the rim itself is worth seeing."""


def area(xy: F64, edges: tuple[tuple[int, int], ...], size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """uint8 (height, width), 1 on and within the closed outline over the vertices xy (n, 2); None where the edges are none.
    size: (width, height) of the picture."""
    order = ring(len(xy), edges)
    if not order:
        return None
    width, height = size
    inside = np.zeros((height, width), np.uint8)
    corners = np.clip(xy[list(order)], -4 * max(size), 5 * max(size))
    cv2.fillPoly(inside, [np.rint(corners * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    result: NDArray[np.uint8] = cv2.dilate(inside, np.ones((3, 3), np.uint8))
    return result


def trust(xy: F64, inside: NDArray[np.uint8] | None) -> F32:
    """Trust (n, AREA) in the pixels of the patches at xy (n, 2), 1 where `inside` (height, width), `OUTSIDE` beyond; all 1
    for points of no closed outline.
    """
    if inside is None:
        return np.ones((len(xy), patches.AREA), np.float32)
    eye = np.broadcast_to(np.eye(2), (len(xy), 2, 2))
    share = patches.sample(inside.astype(np.float32), xy, eye)
    result: F32 = (OUTSIDE + (1 - OUTSIDE) * share).astype(np.float32)
    return result


def most_within(outlines: int) -> int:
    """How many corners carry each one of so many outlines, at most.

    >>> [most_within(n) for n in (1, 20, 500)]
    [24, 20, 8]
    """
    return int(np.clip(IN_ALL // max(outlines, 1), FEWEST, INNER))


def within(gray: NDArray[np.uint8], inside: NDArray[np.uint8], most: int, noise: float) -> F64:
    """Corners (n, 2) within an outline, up to `most`, spread over it, the strongest first: what is there moves along with
    the object, while half of what a vertex sees may lie behind it. gray, inside: uint8 (height, width). noise: of the picture, grey
    levels (`patches.noise_level`)."""
    left, top, width, height = cv2.boundingRect(inside)
    if width == 0:
        return np.zeros((0, 2))
    wide = patches.RADIUS
    window = slice(max(0, top - wide), top + height + wide), slice(max(0, left - wide), left + width + wide)
    # Where the outline leaves the picture is no rim of the object, and yet a poor place: it is gone in the next frame.
    deep = cv2.erode(inside[window], _AWAY, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    apart = max(RIM, float(np.sqrt(np.count_nonzero(deep) / most)))
    seen = np.ascontiguousarray(gray[window])
    found = cv2.goodFeaturesToTrack(seen, most, 0.01, apart, mask=deep, blockSize=5)
    if found is None:
        return np.zeros((0, 2))
    corners = found[:, 0].astype(np.float64)
    # Corners are found in mere noise, too.
    eye = np.broadcast_to(np.eye(2), (len(corners), 2, 2))
    contrast = patches.sample(seen.astype(np.float32), corners, eye).std(1)
    result: F64 = corners[contrast > max(LEAST_CONTRAST, 3 * noise)] + (window[1].start, window[0].start)
    return result
