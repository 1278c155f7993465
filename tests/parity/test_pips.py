"""Our PIPs equals the published one, on the cases beside the checkout."""

from __future__ import annotations

import pytest

from tests.parity import pips
from tests.parity.cases import FOLDER, assert_close, folders, load

_FOLDERS = folders("pips")


@pytest.mark.skipif(not _FOLDERS, reason=f"no cases of PIPs in {FOLDER}")
@pytest.mark.parametrize("folder", _FOLDERS, ids=lambda folder: folder.name)
def test_parity(folder):
    case = load(folder)
    ours = pips.run_case(case)
    wanted = {name for name in case["arrays"] if name.startswith(("single_out", "seq_out"))}
    assert wanted <= ours.keys()
    for name in sorted(ours.keys() & case["arrays"].keys()):
        assert_close(name, ours[name], case["arrays"][name], case)
