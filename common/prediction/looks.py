"""What tells objects apart by their appearance, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from common.prediction.settings import DESCRIPTOR, NO_LOOKS
from common.video.contract import Image
from common.weights.options import EngineOptions

Looks = Callable[[Image, NDArray[np.float32]], NDArray[np.float32]]
"""Picture, boxes (n, 4) -> unit vectors float32 (n, d)."""


def make_looks(name: str, options: EngineOptions) -> Looks | None:
    """None for "none". Raises `EngineUnavailable` for a name that is not known, `WeightsMissing`."""
    if name == NO_LOOKS:
        return None
    if name == DESCRIPTOR:
        from common.association.reid.descriptor import describe

        return describe
    from common.association.reid.embedder import OsNetEmbedder  # loads PyTorch

    model, _, file = name.partition("=")
    # --weights is the detector's
    return OsNetEmbedder(model, replace(options, weights=file or None)).embed
