"""How a person wants a network run: with which weights, where, how precisely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SEEDED = "seeded"
"""Stands for weights that are a function of the parameters' names: to measure speed and memory with no download."""

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "float16"]


@dataclass(frozen=True)
class EngineOptions:
    """weights: None = those of the catalogue, a checkpoint file, or `SEEDED`. device: "auto" takes a GPU when there is
    one. precision: "auto" is half on a GPU where the network allows it, and single elsewhere.
    """

    weights: str | None = None
    device: Device = "auto"
    precision: Precision = "auto"


DEFAULT = EngineOptions()
