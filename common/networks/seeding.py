"""Weights that are a function of each parameter's name and shape alone: two networks with the same parameter names get
the same weights, and speed and memory can be measured with no download."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_AROUND_ONE = frozenset({"weight", "gamma", "scale", "g"})


def tensor_for(name: str, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """float32 values for the parameter of that full name: the same on every machine.

    Variances lie in 0.5..1.5, vectors called weight (or gamma, scale, g) around 1, other vectors and means around 0 with
    deviation 0.1, and everything else keeps the variance of what goes through it.
    """
    rng = np.random.Generator(np.random.PCG64([zlib.crc32(name.encode()), seed]))
    leaf = name.rpartition(".")[2]
    if leaf == "running_var":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if leaf == "running_mean":
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    values = np.asarray(rng.standard_normal(shape))  # a number for the shape ()
    if len(shape) > 1:
        return (values / math.sqrt(math.prod(shape[1:]))).astype(np.float32)
    return np.asarray(0.1 * values + (1.0 if leaf in _AROUND_ONE else 0.0), np.float32)


@torch.no_grad()
def fill(module: nn.Module, constants: Collection[str] = (), seed: int = 0) -> None:
    """Overwrites every floating-point entry of `module.state_dict()` except those named in `constants` (fixed tables)."""
    for name, tensor in module.state_dict().items():
        if name not in constants and tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(tensor_for(name, tuple(tensor.shape), seed)))
