"""What a closed outline knows about its own patches: pixels outside of it belong to something else."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.trackers.points import patches

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

OUTSIDE = 0.2
"""Trust in a pixel outside the outline: the outline is drawn by hand, and the rim itself is worth seeing."""


def ring(count: int, edges: tuple[tuple[int, int], ...]) -> list[int]:
    """The vertices in order along a single closed outline over all `count` of them; empty when the edges are not that.

    >>> ring(3, ((0, 1), (2, 1), (0, 2)))
    [0, 1, 2]
    """
    around: list[set[int]] = [set() for _ in range(count)]
    for a, b in edges:
        around[a].add(b)
        around[b].add(a)
    if count < 3 or any(len(two - {i}) != 2 for i, two in enumerate(around)):
        return []
    order = [0]
    last, here = -1, 0
    while True:
        last, here = here, min(i for i in around[here] if i != last) if last != -1 else min(around[here])
        if here == 0:
            break
        order.append(here)
    return order if len(order) == count else []


def trust(xy: F64, edges: tuple[tuple[int, int], ...], size: tuple[int, int]) -> F32:
    """Trust (n, AREA) in the pixels of the vertices' patches, 1 on and within the outline, `OUTSIDE` beyond; all 1 for
    points that are no closed outline. size: (width, height) of the picture.
    """
    full = np.ones((len(xy), patches.AREA), np.float32)
    order = ring(len(xy), edges)
    if not order:
        return full
    width, height = size
    inside = np.zeros((height, width), np.uint8)
    corners = np.clip(xy[order], -4 * max(size), 5 * max(size))
    cv2.fillPoly(inside, [np.rint(corners * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    inside = cv2.dilate(inside, np.ones((3, 3), np.uint8))
    eye = np.broadcast_to(np.eye(2), (len(xy), 2, 2))
    share = patches.sample(inside.astype(np.float32), xy, eye)
    result: F32 = (OUTSIDE + (1 - OUTSIDE) * share).astype(np.float32)
    return result
