"""Who belongs to whom: the assignment of least cost among pairs below a limit."""

from __future__ import annotations

from typing import Any

import lap
import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


def assign(cost: NDArray[np.floating[Any]], limit: float) -> tuple[Int, Int]:
    """Rows and columns of the chosen pairs, by row. cost: (n, m).

    The sum of (cost - limit) over the chosen pairs is least: a pair at the limit or beyond is never chosen. Pairs with no
    competitor are taken at once, the rest is solved by the Jonker-Volgenant method (1987, Computing 38).

    >>> assign(np.array([[0.1, 0.2], [0.2, 0.9]]), 0.8)
    (array([0, 1]), array([1, 0]))
    """
    allowed = cost < limit
    if not allowed.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    in_row, in_column = allowed.sum(1), allowed.sum(0)
    alone = allowed & (in_row == 1)[:, None] & (in_column == 1)
    rows, columns = np.nonzero(alone)
    in_row[rows] = 0
    in_column[columns] = 0
    hard_rows, hard_columns = np.flatnonzero(in_row), np.flatnonzero(in_column)
    if not len(hard_rows):
        return rows, columns
    part = np.where(allowed, cost, limit + 1.0)[np.ix_(hard_rows, hard_columns)]
    _, chosen, _ = lap.lapjv(np.ascontiguousarray(part, np.float64), extend_cost=True, cost_limit=float(limit))
    taken = np.flatnonzero(chosen >= 0)
    more_rows, more_columns = hard_rows[taken], hard_columns[chosen[taken]]
    fits = allowed[more_rows, more_columns]
    rows = np.concatenate((rows, more_rows[fits]))
    columns = np.concatenate((columns, more_columns[fits]))
    order = np.argsort(rows, kind="stable")
    return rows[order], columns[order]
