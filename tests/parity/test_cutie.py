"""Cutie as wrapped here equals the official repository on every case there is."""

from __future__ import annotations

import pytest

from tests.parity import cutie
from tests.parity.cases import assert_close, first_steps, folders, load

FOLDERS = folders("cutie")
FRAMES = {"fifo": 8, "late_delete": 10, "internal_size": 4}
"""Unless PARITY=whole: until what a run is about has shown and been used (a memory that fills, an object that joins or leaves)."""


@pytest.mark.skipif(not FOLDERS, reason="no parity cases beside the checkout (../shared/parity/cutie*)")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_equals_the_published_network(folder):
    case = first_steps(load(folder), FRAMES)
    ours = cutie.run_case(case)
    wanted = case["arrays"].keys() - case["inputs"].keys()
    assert wanted and not wanted - ours.keys()
    for name in sorted(wanted):
        assert_close(name, ours[name], case["arrays"][name], case)
