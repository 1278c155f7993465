"""Published weights into a network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import WeightsInvalid
from common.networks.device import resolve_device, resolve_dtype
from common.networks.seeding import fill
from common.weights import checkpoint
from common.weights.entries import catalogue
from common.weights.options import SEEDED, EngineOptions
from common.weights.store import Store

Convert = Callable[[dict[str, Any]], Mapping[str, Any]]

_COUNTERS = "num_batches_tracked"
"""Batch norm counts its training batches there; nothing reads it at inference, and many checkpoints lack it."""

_SHOWN = 5


def identity(entries: dict[str, Any]) -> dict[str, Any]:
    return entries


def load(
    module: nn.Module,
    name: str,
    options: EngineOptions,
    *,
    convert: Convert = identity,
    constants: Collection[str] = (),
    half: bool = False,
) -> torch.device:
    """Fills `module`, puts it on the device in its precision, in eval mode, without gradients; returns the device.

    name: in the catalogue. options.weights: None = from the store, a file, or "seeded" (by the parameters' names).
    convert: from what the file holds to the module's own names, without wrappers and entries it has no use for.
    constants: entries that the module computes itself; left as built when seeded or when the file has none of that shape.
    half: whether the network keeps its accuracy in half precision. Raises `WeightsMissing`, `WeightsInvalid` (naming the
    differences), `EngineUnavailable` for a device that is not there.
    """
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.precision, device, half)
    if options.weights == SEEDED:
        fill(module, constants)
    else:
        path = options.weights or Store.from_env().require(catalogue().find(name))[0]
        entries = checkpoint.read(path)
        try:
            converted = convert(entries)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise WeightsInvalid(f"{path} holds no weights of {name}: {error!r}. {_found(entries)}") from error
        assign(module, converted, constants, f"{path} does not fit {name}")
    module.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return device


@torch.no_grad()
def assign(module: nn.Module, entries: Mapping[str, Any], constants: Collection[str] = (), problem: str = "") -> None:
    """Copies tensors into the module's entries of the same names. Raises `WeightsInvalid`, beginning with `problem`, unless names and shapes
    are equal (constants and batch norm's counters may differ)."""
    ours = module.state_dict()
    free = set(constants) | {name for name in ours if name.endswith(_COUNTERS)}
    theirs = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    differences = {
        "missing": [name for name in ours if name not in theirs and name not in free],
        "not known": [name for name in entries if name not in ours and not str(name).endswith(_COUNTERS)],
        "of another shape": [
            f"{name} {tuple(theirs[name].shape)} not {tuple(value.shape)}"
            for name, value in ours.items()
            if name in theirs and name not in free and theirs[name].shape != value.shape
        ],
    }
    if any(differences.values()):
        told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in differences.items() if names)
        raise WeightsInvalid(f"{problem}: {told}.")
    for name, value in ours.items():
        if name in theirs and theirs[name].shape == value.shape:
            value.copy_(theirs[name])


def _some(names: list[str]) -> str:
    return ", ".join(map(str, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _found(entries: Mapping[str, Any]) -> str:
    return f"It holds: {_some([str(key) for key in entries])}."
