"""Where a network runs and how precisely."""

from __future__ import annotations

import torch

from common.errors import EngineUnavailable


def resolve_device(name: str) -> torch.device:
    """name: "auto" (a GPU when there is one), "cpu" or "cuda". Raises `EngineUnavailable` for a GPU that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise EngineUnavailable(f"Device {name!r} is not known; choose auto, cpu or cuda.")
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise EngineUnavailable("This machine has no GPU that PyTorch can use; choose the device cpu or auto.")
    return torch.device("cpu")


def resolve_dtype(precision: str, device: torch.device, half: bool) -> torch.dtype:
    """precision: "auto", "float32" or "float16". half: whether the network keeps its accuracy in half precision."""
    if precision == "float16" or (precision == "auto" and half and device.type == "cuda"):
        return torch.float16
    return torch.float32
