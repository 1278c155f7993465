"""Cases that prove that a network equals the published one: read, filled with their weights, compared.

They lie in `../shared/parity` beside the checkout (see its README) and are not part of the project.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from common.networks.seeding import fill

FOLDER = Path(__file__).parents[3] / "shared" / "parity"

WHOLE = os.environ.get("PARITY") == "whole"
"""Set PARITY=whole to run every case to its end, large networks included: some minutes. Otherwise the tests run of a long
case what reaches all of the network's code."""

Case = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


def folders(network: str) -> list[Path]:
    """The cases whose name begins with that, in order; none where the folder is missing."""
    return sorted(path.parent for path in FOLDER.glob(f"{network}*/case.json"))


def load(folder: Path) -> Case:
    """case.json with its arrays under "arrays"."""
    case: Case = json.loads((folder / "case.json").read_text())
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        case["arrays"] = {name: arrays[name] for name in arrays.files}
    return case


def leave_out(case: Case, *beginnings: str) -> Case:
    """The case without its arrays of these names; whole with PARITY=whole."""
    kept = {n: a for n, a in case["arrays"].items() if WHOLE or not n.startswith(beginnings)}
    return {**case, "arrays": kept}


def first_frames(case: Case, part: str, frames: int) -> Case:
    """The case with the clip of a part ("single", "seq") cut after that many frames, and what is expected of them; whole
    with PARITY=whole. For networks that say the same of a frame whatever follows it."""
    arrays: Arrays = dict(case["arrays"])
    clip = f"{part}_in_frames"
    full = len(arrays[clip])
    for name, values in arrays.items():
        by_frame = name == clip or name.startswith((f"{part}_out_", f"{part}_mid_"))
        if by_frame and len(values) == full and not WHOLE:
            arrays[name] = values[:frames]
    return {**case, "arrays": arrays}


def first_steps(case: Case, frames: dict[str, int]) -> Case:
    """The case with its runs of these names ("b_<run>_...") cut after so many frames, and what is expected of them, without
    how it stands at a run's end; whole with PARITY=whole."""
    arrays: Arrays = dict(case["arrays"])
    runs = dict(case["runs"])
    for tag, count in ({} if WHOLE else frames).items():
        runs[tag] = {**runs[tag], "frames": count}
        for name in [name for name in arrays if name.startswith(f"b_{tag}_")]:
            if name.endswith(("_frames", "_labels0", "_labels_t")):
                continue
            if "_final_" in name:
                del arrays[name]
            else:
                arrays[name] = arrays[name][:count]
    return {**case, "arrays": arrays, "runs": runs}


def check_parameters(module: nn.Module, case: Case) -> None:
    """Fails naming the differences unless the names and shapes are those of the published checkpoint.

    Those in case["constants"] may be absent: an implementation may compute them.
    """
    ours = {name: list(value.shape) for name, value in module.state_dict().items()}
    theirs: dict[str, list[int]] = case["parameters"]
    missing = sorted(theirs.keys() - ours.keys() - set(case.get("constants", ())))
    extra = sorted(ours.keys() - theirs.keys())
    wrong = sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
    assert not (missing or extra or wrong), (
        f"missing {len(missing)}: {missing[:8]}; extra {len(extra)}: {extra[:8]}; "
        f"of another shape {len(wrong)}: {[(name, ours[name], theirs[name]) for name in wrong[:8]]}"
    )


def prepare(module: nn.Module, case: Case) -> None:
    """Checks the parameters and gives them the case's weights: seeded, scaled. Copies and overrides are the network's own
    matter, where a case has some."""
    check_parameters(module, case)
    fill(module, case.get("constants", ()), case["seed"])
    entries = module.state_dict()
    for name, factor in case["scales"].items():
        entries[name].mul_(factor)
    module.eval()


def assert_close(name: str, ours: NDArray[Any], theirs: NDArray[Any], case: Case) -> None:
    """Within the case's tolerance; bool and integer arrays agree in 99.5 % of their entries."""
    assert ours.shape == theirs.shape, f"{name}: shape {ours.shape}, not {theirs.shape}"
    if theirs.dtype.kind in "biu":
        agreement = float(np.mean(ours == theirs)) if theirs.size else 1.0
        assert agreement >= 0.995, f"{name}: {agreement:.4f} of the entries agree"
        return
    limits = {**case["tolerance"], **case.get("tolerance_overrides", {}).get(name, {})}
    np.testing.assert_allclose(ours, theirs, rtol=limits["rtol"], atol=limits["atol"], err_msg=name)
