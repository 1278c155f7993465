"""A closed outline is found in edges of any order, and nothing else is taken for one."""

from __future__ import annotations

import random as chance

from hypothesis import given
from hypothesis import strategies as st

from common.geometry.rings import ring

Edges = tuple[tuple[int, int], ...]


@given(st.integers(3, 12).flatmap(lambda n: st.permutations(range(n))), st.randoms(use_true_random=False))
def test_the_vertices_of_an_outline_come_in_order(order: list[int], random: chance.Random) -> None:
    n = len(order)
    edges = [(order[i], order[(i + 1) % n]) for i in range(n)]
    edges = [(b, a) if random.random() < 0.5 else (a, b) for a, b in edges]
    random.shuffle(edges)
    found = ring(n, tuple(edges))
    around = {frozenset(e) for e in edges}
    assert sorted(found) == list(range(n))
    assert {frozenset((found[i], found[(i + 1) % n])) for i in range(n)} == around


@given(
    st.integers(1, 7).flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=12).map(tuple)
        )
    )
)
def test_any_edges_are_answered(case: tuple[int, Edges]) -> None:
    count, edges = case
    found = ring(count, edges)
    around = {frozenset(e) for e in edges if e[0] != e[1]}
    if found:
        assert sorted(found) == list(range(count)) and count >= 3
        assert {frozenset((found[i], found[(i + 1) % count])) for i in range(count)} == around
    else:
        degree = [sum(i in e for e in around) for i in range(count)]
        reached, new = {0}, {0}
        while new:
            new = {b for e in around for a in e & reached for b in e} - reached
            reached |= new
        assert count < 3 or set(degree) != {2} or len(reached) < count


def test_an_edge_from_a_vertex_to_itself_is_none() -> None:
    assert ring(3, ((0, 1), (1, 2), (2, 0), (1, 1))) == (0, 1, 2)
    assert ring(6, ((0, 4), (4, 3), (3, 2), (2, 1), (1, 5), (5, 0), (1, 1), (3, 3))) == (0, 4, 3, 2, 1, 5)
