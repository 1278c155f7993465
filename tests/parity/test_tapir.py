"""Our TAPIR equals the published one, on the cases beside the checkout.

Unless PARITY=whole, the whole-clip network on the clip with two refinement sizes, the causal one frame by frame until two
frames after a point was replaced.
"""

from __future__ import annotations

import pytest

from tests.parity import tapir
from tests.parity.cases import FOLDER, assert_close, first_frames, folders, leave_out, load

_FOLDERS = folders("tapir")


@pytest.mark.skipif(not _FOLDERS, reason=f"no cases of TAPIR in {FOLDER}")
@pytest.mark.parametrize("folder", _FOLDERS, ids=lambda folder: folder.name)
def test_parity(folder):
    case = load(folder)
    if case["config"]["use_casual_conv"]:
        case = first_frames(leave_out(case, "single_"), "seq", 9)
    else:
        case = leave_out(case, "seq_")
    ours = tapir.run_case(case)
    wanted = {name for name in case["arrays"] if name.startswith(("single_out", "seq_out"))}
    assert wanted and wanted <= ours.keys()
    for name in sorted(ours.keys() & case["arrays"].keys()):
        assert_close(name, ours[name], case["arrays"][name], case)
