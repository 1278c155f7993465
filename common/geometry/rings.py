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
        around[a].add(b)
        around[b].add(a)
    if count < 3 or any(len(two - {i}) != 2 for i, two in enumerate(around)):
        return ()
    order = [0]
    last, here = -1, 0
    while True:
        last, here = here, min(i for i in around[here] if i != last) if last != -1 else min(around[here])
        if here == 0:
            break
        order.append(here)
    return tuple(order) if len(order) == count else ()
