"""Finding hidden points again by looking for their key patch around where they should be."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.trackers.points import patches

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

HALF = 7
"""The searched window is 2 * HALF + 1 pixels wide, a little less than the key patch, so that it can be turned."""
_SIDE = 2 * HALF + 1
_axis = np.arange(-HALF, HALF + 1, dtype=np.float32)
_GRID: F32 = np.stack([np.tile(_axis, _SIDE), np.repeat(_axis, _SIDE)], 1)
DISTINCT = 0.08
"""How much better than the next best place a match must be."""


def bent(template: F32, affine: F64) -> F32:
    """Key patches (n, AREA) as they should look now, float32 (n, side, side), given key patch -> now affine (n, 2, 2)."""
    n = len(template)
    where = _GRID @ np.linalg.inv(affine).transpose(0, 2, 1).astype(np.float32)
    where = np.clip(where, -patches.RADIUS, patches.RADIUS) + patches.RADIUS
    out = np.empty((n, _SIDE * _SIDE), np.float32)
    for i in range(n):
        patch = template[i].reshape(patches.SIDE, patches.SIDE)
        out[i] = cv2.remap(patch, where[i, None], None, cv2.INTER_LINEAR)[0]
    return out.reshape(n, _SIDE, _SIDE)


def look(image: F32, views: F32, centre: F64, radius: F64) -> tuple[F64, F64]:
    """The best place of each view (n, side, side) within radius (n,) pixels around centre (n, 2).

    Returns positions (n, 2) and how good they are (n,): normalised correlation, or -1 where the place is not better than
    another one by `DISTINCT`, where the view has no texture, or where the window does not lie in the picture.
    """
    height, width = image.shape
    place, quality = centre.copy(), np.full(len(views), -1.0)
    for i, (view, (x, y), reach) in enumerate(zip(views, centre, radius, strict=True)):
        left, top = max(0, int(np.floor(x - reach)) - HALF), max(0, int(np.floor(y - reach)) - HALF)
        right, bottom = min(width, int(np.ceil(x + reach)) + HALF + 1), min(height, int(np.ceil(y + reach)) + HALF + 1)
        if right - left < _SIDE or bottom - top < _SIDE or view.std() < 4.0:
            continue
        match = cv2.matchTemplate(image[top:bottom, left:right], view, cv2.TM_CCOEFF_NORMED)
        _, best, _, (bx, by) = cv2.minMaxLoc(match)
        match[max(0, by - 4) : by + 5, max(0, bx - 4) : bx + 5] = -1
        if best - float(match.max()) >= DISTINCT:
            place[i] = bx + left + HALF, by + top + HALF
            quality[i] = best
    return place, quality
