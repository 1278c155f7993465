"""The SDK's own tracker app around a tracker that gives every box back where it was."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from supervisely.nn.inference import BBoxTracking
from supervisely.nn.prediction_dto import PredictionBBox

PACE_S = float(os.environ.get("BENCHMARK_PACE_MS", "0")) / 1000
"""Time a network would take per object and frame."""


class Still(BBoxTracking):
    def load_model(self, *_: Any, **__: Any) -> None:
        """There is no model."""

    def load_on_device(self, *_: Any, **__: Any) -> None:
        """Nor a device."""

    def initialize(self, init_rgb_image: np.ndarray, target_bbox: PredictionBBox) -> None:
        path = Path(os.environ["BENCHMARK_STAMP"])
        if not path.exists():
            path.write_text(str(time.time()))

    def predict(
        self, rgb_image: np.ndarray, settings: dict[str, Any], prev_rgb_image: np.ndarray, target_bbox: PredictionBBox
    ) -> PredictionBBox:
        time.sleep(PACE_S)
        return PredictionBBox("", target_bbox.bbox_tlbr, None)


model = Still(model_dir=None)
model.serve()
app = model.app
