"""SAM 2.1 equals the official predictor on whole videos: forward, backward, joined late, prompted by box and clicks.

Unless PARITY=whole, of two objects until more frames have passed than are remembered (16), and of box and clicks: backward
and joined late is the same from another frame on.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.parity import sam2
from tests.parity.cases import WHOLE, Arrays, Case, assert_close, folders, leave_out, load

FOLDERS = folders("sam2")


def shortened(case: Case, frames: int) -> Case:
    if WHOLE:
        return case
    case = leave_out(case, "rev_", "late_")
    arrays, outputs = case["arrays"], dict(case["outputs"])
    packed = [int(n) for n in re.findall(r"\d+", outputs["fwd_final_masks_packed"].split("of frames")[1].split(":")[0])]
    kept = [n for n in packed if n < frames]
    for name in [name for name in arrays if name.startswith("fwd_")]:
        arrays[name] = arrays[name][: len(kept) if name.endswith("_packed") else frames]
    outputs["fwd_final_masks_packed"] = f"of frames {','.join(map(str, kept))}"
    return {**case, "arrays": arrays, "outputs": outputs}


@pytest.mark.slow
@pytest.mark.skipif(not FOLDERS, reason="../shared/parity/sam2* is not here")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_case(folder: Path) -> None:
    case = shortened(load(folder), 18)
    ours = sam2.run_case(case)
    assert set(ours) >= set(case["arrays"])
    for name, theirs in case["arrays"].items():
        if name.endswith("_logits_s2"):
            _assert_logits(name, ours, case)
        elif name.endswith("_packed"):
            width = 8 * theirs.shape[-1]
            unpacked = [np.unpackbits(array, axis=-1)[..., :width] for array in (ours[name], theirs)]
            assert_close(name, unpacked[0], unpacked[1], case)
        else:
            assert_close(name, ours[name], theirs, case)


def _assert_logits(name: str, ours: Arrays, case: Case) -> None:
    """Logits of an object whose score is about zero hang on the score's sign: those are left out, as the case says."""
    score = name.replace("_logits_s2", "_score")
    clear = np.abs(case["arrays"][score]) >= case["tolerance"].get("skip_logits_where_abs_score_below", 0)
    assert clear.mean() > 0.5
    assert_close(name, ours[name][clear], case["arrays"][name][clear], case)
