"""Points with edges that are one closed outline: polygons, as trackers of points see them."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=256)
def ring(count: int, edges: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """The vertices in order along a single closed outline over all `count` of them; empty when the edges are not that.

    >>> ring(3, ((0, 1), (2, 1), (0, 2)))
    (0, 1, 2)
    """
    around: list[set[int]] = [set() for _ in range(count)]
    for a, b in edges:
        if a != b:
            around[a].add(b)
            around[b].add(a)
    if count < 3 or any(len(two) != 2 for two in around):
        return ()
    order, last, here = [0], 0, min(around[0])
    while here != 0:
        order.append(here)
        (onward,) = around[here] - {last}
        last, here = here, onward
    return tuple(order) if len(order) == count else ()
