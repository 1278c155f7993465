"""Snapshots: what goes in comes out, and nothing of it is kept afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from common.tracking.snapshot import Tree, pack, unpack


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Garbage in reference cycles stays, so that what is freed at once can be told from it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "wrap",
    [lambda a: a, lambda a: {"a": a}, lambda a: {"a": [(1, a), {"b": a}]}],
    ids=["alone", "in a dict", "nested"],
)
def test_a_packed_array_is_freed_with_its_owner(no_collection: None, wrap: Callable[[np.ndarray], Tree]) -> None:
    array = np.arange(1000)
    gone = weakref.ref(array)
    data = pack(wrap(array))
    del array
    assert gone() is None, "the snapshot's array waits for Python's garbage collection"
    assert isinstance(data, bytes)


def test_packing_leaves_no_garbage(no_collection: None) -> None:
    tree = {"a": (1, np.arange(3)), "b": [None, b"x", np.float32(2)]}
    for _ in range(3):
        pack({"inner": pack(tree)})
    assert gc.collect() == 0


def test_an_unpacked_array_is_freed_with_its_tree(no_collection: None) -> None:
    tree = unpack(pack({"a": [np.arange(1000)]}))
    gone = weakref.ref(tree["a"][0])
    del tree
    assert gone() is None


@pytest.mark.parametrize("tree", [{1: 2}, object(), np.array([object()]), {"a": {3}}])
def test_other_values_cannot_be_saved(tree: object) -> None:
    with pytest.raises(TypeError):
        pack(tree)
