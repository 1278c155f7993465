"""Who belongs to whom: the assignment of least cost among pairs below a limit."""

from __future__ import annotations

from typing import Any

import lap
import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


def assign(cost: NDArray[np.floating[Any]], limit: float) -> tuple[Int, Int]:
    """Rows and columns of the chosen pairs, by row. cost: (n, m).

    The sum of (cost - limit) over the chosen pairs is least: a pair at the limit or beyond is never chosen. When every row
    can have its best column, or every column its best row, it has it; else pairs with no competitor are taken at once, and
    the rest is solved by the Jonker-Volgenant method (1987, Computing 38).

    >>> assign(np.array([[0.1, 0.2], [0.2, 0.9]]), 0.8)
    (array([0, 1]), array([1, 0]))
    """
    if not cost.size:
        nobody = np.zeros(0, np.int64)
        return nobody, nobody
    rows, columns = _best(cost, limit)
    if len(set(columns.tolist())) == len(columns):
        return rows, columns
    columns, rows = _best(cost.T, limit)
    if len(set(rows.tolist())) == len(rows):
        order = rows.argsort()
        return rows[order], columns[order]
    allowed = cost < limit
    rows, columns = allowed.nonzero()
    in_row, in_column = np.bincount(rows), np.bincount(columns)
    alone = (in_row[rows] == 1) & (in_column[columns] == 1)
    if alone.all():
        return rows, columns
    rows, columns = rows[alone], columns[alone]
    in_row[rows] = 0
    in_column[columns] = 0
    hard_rows, hard_columns = in_row.nonzero()[0], in_column.nonzero()[0]
    part = cost.take(hard_rows, 0).take(hard_columns, 1)
    part = np.where(part < limit, part, limit + 1.0)
    _, chosen, _ = lap.lapjv(np.ascontiguousarray(part, np.float64), extend_cost=True, cost_limit=float(limit))
    taken = (chosen >= 0).nonzero()[0]
    more_rows, more_columns = hard_rows[taken], hard_columns[chosen[taken]]
    fits = allowed[more_rows, more_columns]
    rows = np.concatenate((rows, more_rows[fits]))
    columns = np.concatenate((columns, more_columns[fits]))
    order = rows.argsort(kind="stable")
    return rows[order], columns[order]


def _best(cost: NDArray[np.floating[Any]], limit: float) -> tuple[Int, Int]:
    """Rows with a column below the limit, and the best one of each."""
    best = cost.argmin(1)
    rows = (cost[np.arange(len(best)), best] < limit).nonzero()[0]
    return rows, best[rows]
