"""Weights get into a network whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from common.errors import EngineUnavailable, WeightsInvalid, WeightsMissing
from common.networks.seeding import tensor_for
from common.weights.entries import catalogue
from common.weights.loading import load
from common.weights.options import EngineOptions


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def saved(tmp_path: Path, content: object) -> EngineOptions:
    torch.save(content, tmp_path / "w.pth")
    return EngineOptions(weights=str(tmp_path / "w.pth"), device="cpu")


def test_a_file_fills_the_network(tmp_path: Path) -> None:
    theirs, ours = network(), network()
    options = saved(tmp_path, {"net": {f"module.{k}": v for k, v in theirs.state_dict().items()}, "epoch": 3})
    device = load(ours, "x", options, convert=lambda c: {k.removeprefix("module."): v for k, v in c["net"].items()})
    assert device == torch.device("cpu")
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in theirs.state_dict().items())
    assert not ours.training
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def test_seeded_weights_follow_names_and_leave_constants() -> None:
    ours = network()
    before = ours[0].bias.clone()
    load(ours, "x", EngineOptions(weights="seeded", device="cpu"), constants=["0.bias"])
    assert torch.equal(ours[0].weight, torch.from_numpy(tensor_for("0.weight", (4, 3))))
    assert torch.equal(ours[0].bias, before)


def test_half_precision_is_taken_when_asked_for() -> None:
    ours = network()
    load(ours, "x", EngineOptions(weights="seeded", device="cpu", precision="float16"), half=True)
    assert ours[0].weight.dtype == torch.float16


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda e: e.pop("0.weight"), "1 missing: 0.weight"),
        (lambda e: e.update({"head.weight": torch.ones(1)}), "1 not known: head.weight"),
        (lambda e: e.update({"0.bias": torch.ones(5)}), r"1 of another shape: 0.bias \(5,\) not \(4,\)"),
        (lambda e: e.update({"0.bias": "text"}), "1 missing: 0.bias"),
    ],
)
def test_another_networks_weights_are_refused_by_name(tmp_path: Path, change, told: str) -> None:  # type: ignore[no-untyped-def]
    entries = dict(network().state_dict())
    change(entries)
    ours = network()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(WeightsInvalid, match=told):
        load(ours, "x", saved(tmp_path, entries))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_counters_and_constants_may_be_absent(tmp_path: Path) -> None:
    entries = dict(network().state_dict())
    del entries["1.num_batches_tracked"], entries["0.bias"]
    load(network(), "x", saved(tmp_path, entries), constants=["0.bias"])


def test_a_wrapper_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsInvalid, match=r"holds no weights of x.*It holds: model"):
        load(network(), "x", saved(tmp_path, {"model": 1}), convert=lambda c: c["net"])


def test_missing_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_TRACKING_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsMissing, match="no weights file"):
        load(network(), "x", EngineOptions(weights=str(tmp_path / "none.pth")))
    with pytest.raises(EngineUnavailable, match="No weights are named 'x'"):
        load(network(), "x", EngineOptions())
    for name, weights in catalogue().entries.items():
        with pytest.raises(WeightsMissing) as told:
            load(network(), name, EngineOptions())
        assert weights.command in str(told.value)
