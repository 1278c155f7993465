"""What people labelled in a video before it is predicted: their objects go on, and are never doubled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from common.association.contract import Given


@dataclass(frozen=True)
class Seeds:
    """count: their objects are the identities 1..count. at: those that are labelled on a frame, by its number; asked for
    rising numbers."""

    count: int
    at: Callable[[int], Given | None]
