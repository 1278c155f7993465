"""What the parity tests of the box networks share: which part of a case is run in the time a test may take."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.parity.cases import WHOLE, Arrays, Case, assert_close, folders, load

INPUTS = ("in_", "clip_u8", "override:")


def parameters(network: str) -> list[Any]:
    """The folders of a network's cases; one skipped entry, saying why, where there are none."""
    found = folders(network)
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason="the parity cases are not beside the checkout"))]
    return [pytest.param(folder, id=folder.name) for folder in found]


def shortened(case: Case, frames: int) -> Case:
    """The case with its clip cut after that many frames, and everything expected of it."""
    arrays = dict(case["arrays"])
    if WHOLE or "clip_u8" not in arrays:
        return case
    full = len(arrays["clip_u8"])
    arrays["clip_u8"] = arrays["clip_u8"][:frames]
    for name, values in arrays.items():
        if name.startswith("seq_") and len(values) in (full - 1, full) and values.ndim <= 2:
            arrays[name] = values[: len(values) - full + frames]
    return {**case, "arrays": arrays}


def check(folder: Path, run_case: Callable[..., Arrays], single: bool, frames: int) -> None:
    """Runs a case and compares every array that is not an input, boxes in pixels within their own limit.

    single: with the single forward pass. frames: of the clip; 0 leaves the sequence out.
    """
    single, frames = single or WHOLE, 1000 if WHOLE else frames
    case = load(folder)
    if frames:
        case = shortened(case, frames)
    ours = run_case(case, single=single, sequence=frames > 0)
    compared = 0
    for name, theirs in case["arrays"].items():
        tracked = name.startswith("seq_")
        if name.startswith(INPUTS) or not (frames if tracked else single):
            continue
        assert name in ours, f"{name} was not computed"
        compared += 1
        if name == "seq_boxes_xywh":
            np.testing.assert_allclose(ours[name], theirs, rtol=0, atol=case["tolerance"]["seq_boxes_atol_px"])
        else:
            assert_close(name, ours[name], theirs, case)
    assert compared


@torch.no_grad()
def override(network: nn.Module, case: Case) -> None:
    """Sets the tensors that a case gives values of: short ones in its JSON, long ones among its arrays."""
    entries = network.state_dict()
    for name, values in case.get("overrides", {}).items():
        entries[name].copy_(torch.tensor(values).view_as(entries[name]))
    for name, array in case["arrays"].items():
        if name.startswith("override:"):
            entry = entries[name.removeprefix("override:")]
            entry.copy_(torch.from_numpy(array).view_as(entry))


def random_input(description: dict[str, Any]) -> torch.Tensor:
    """The input that a case's recipe describes: normal values of a numbered generator, checked by their digest."""
    found = re.fullmatch(
        r"np\.random\.Generator\(np\.random\.PCG64\((\d+)\)\)\.standard_normal\(shape\)\.astype\(float32\)",
        description["recipe"],
    )
    assert found, f"a recipe of another form: {description['recipe']}"
    values = np.random.Generator(np.random.PCG64(int(found[1]))).standard_normal(description["shape"])
    values = values.astype(np.float32)
    assert hashlib.sha256(values.tobytes()).hexdigest() == description["sha256"]
    return torch.from_numpy(values)
