"""Our CoTracker3 equals the published one, on the cases beside the checkout.

Unless PARITY=whole, of each case the clip that is resized, has late points and, online, overlapping windows, with the grid
of support points: without them, reversed, and in one window of the network's own size, it is the same code.
"""

from __future__ import annotations

import pytest

from tests.parity import cotracker
from tests.parity.cases import FOLDER, WHOLE, assert_close, folders, leave_out, load

_FOLDERS = folders("cotracker")


@pytest.mark.skipif(not _FOLDERS, reason=f"no cases of CoTracker3 in {FOLDER}")
@pytest.mark.parametrize("folder", _FOLDERS, ids=lambda folder: folder.name)
def test_parity(folder):
    case = leave_out(load(folder), "single_")
    ours = cotracker.run_case(case, grid_only=not WHOLE, ahead_only=not WHOLE)
    wanted = {name for name in case["arrays"] if name.startswith(("single_out", "seq_out"))}
    if not WHOLE and "seq_out_tracks_support" in wanted:
        wanted = {name for name in wanted if name.endswith("_support")}
    elif not WHOLE:
        wanted = {name for name in wanted if not name.endswith("_backward")}
    assert wanted
    assert wanted <= ours.keys()
    for name in sorted(ours.keys() & case["arrays"].keys()):
        assert_close(name, ours[name], case["arrays"][name], case)
