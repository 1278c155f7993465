"""Overlap of instance masks, all pairs at once, from small pictures of them: exact enough to say which is which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.association.table import GRID
from common.geometry.types import Mask

Float = NDArray[np.float64]
Grid = NDArray[np.bool_]

_CELLS = (np.arange(GRID) + 0.5) / GRID


def grids(masks: Sequence[Mask], xyxy: Float) -> Grid:
    """Bool (n, GRID, GRID): each mask sampled at the middles of the cells of its box x1, y1, x2, y2."""
    out = np.zeros((len(masks), GRID, GRID), bool)
    for grid, mask, (x1, y1, x2, y2) in zip(out, masks, xyxy.tolist(), strict=True):
        height, width = mask.window
        if not mask.area:
            continue
        columns = np.floor(x1 + _CELLS * (x2 - x1)).astype(np.int64) - mask.x
        rows = np.floor(y1 + _CELLS * (y2 - y1)).astype(np.int64) - mask.y
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        found = mask.crop()[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
        grid[:] = found & inside
    return out


def overlap(boxes: Float, shapes: Grid, others: Float, other_shapes: Grid, candidates: Grid) -> Float:
    """Intersection over union float64 (n, m) of masks moved along with their boxes; 0 for pairs that are no candidates.

    boxes, others: x1, y1, x2, y2 (n, 4) and (m, 4). shapes, other_shapes: their grids. candidates: bool (n, m).
    """
    found = np.zeros(candidates.shape)
    first, second = np.nonzero(candidates)
    if not len(first):
        return found
    a, b = boxes[first], others[second]
    low, high = np.minimum(a[:, :2], b[:, :2]), np.maximum(a[:, 2:], b[:, 2:])
    places = low[:, None] + _CELLS[:, None] * (high - low)[:, None]  # pairs, cells, xy
    in_a = _sample(shapes, first, a, places)
    in_b = _sample(other_shapes, second, b, places)
    union = (in_a | in_b).sum((1, 2))
    found[first, second] = (in_a & in_b).sum((1, 2)) / np.maximum(union, 1)
    return found


def _sample(shapes: Grid, rows: NDArray[np.int64], boxes: Float, places: Float) -> Grid:
    """Bool (pairs, GRID, GRID), whether the places belong to the mask of that row in that box."""
    size = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    cells = np.floor((places - boxes[:, None, :2]) / size[:, None] * GRID).astype(np.int64)
    inside = (cells >= 0) & (cells < GRID)
    cells = np.clip(cells, 0, GRID - 1)
    hit = shapes[rows[:, None, None], cells[:, :, None, 1], cells[:, None, :, 0]]
    sampled: Grid = hit & inside[:, :, None, 1] & inside[:, None, :, 0]
    return sampled
