"""Our TAPNext equals the published one, on the cases beside the checkout.

Unless PARITY=whole, one frame at the network's own size and six with a stretched table of positions, in the last of which
a point joins: recurrent as it is, it does the same in every further frame.
"""

from __future__ import annotations

import pytest

from tests.parity import tapnext
from tests.parity.cases import FOLDER, WHOLE, assert_close, first_frames, folders, load

_FOLDERS = folders("tapnext")


@pytest.mark.slow
@pytest.mark.skipif(not _FOLDERS, reason=f"no cases of TAPNext in {FOLDER}")
@pytest.mark.parametrize("folder", _FOLDERS, ids=lambda folder: folder.name)
def test_parity(folder):
    case = first_frames(first_frames(load(folder), "single", 1), "seq", 6)
    if not WHOLE:  # how it stands after the last frame
        for name in ("seq_out_track_logits_last", "seq_out_state_block11_rglru"):
            del case["arrays"][name]
    ours = tapnext.run_case(case)
    wanted = {name for name in case["arrays"] if name.startswith(("single_out", "seq_out"))}
    assert wanted <= ours.keys()
    for name in sorted(ours.keys() & case["arrays"].keys()):
        assert_close(name, ours[name], case["arrays"][name], case)
