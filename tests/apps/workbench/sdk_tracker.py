"""A tracker app built on nothing but the SDK's own base class; its boxes move two pixels to the right per frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from supervisely.nn.inference import BBoxTracking
from supervisely.nn.prediction_dto import PredictionBBox


class Drift(BBoxTracking):
    def load_model(self, *_: Any, **__: Any) -> None:
        """There is no model."""

    def load_on_device(self, *_: Any, **__: Any) -> None:
        """Nor a device."""

    def initialize(self, init_rgb_image: np.ndarray, target_bbox: PredictionBBox) -> None:
        self.box = [int(value) for value in target_bbox.bbox_tlbr]

    def predict(
        self, rgb_image: np.ndarray, settings: dict[str, Any], prev_rgb_image: np.ndarray, target_bbox: PredictionBBox
    ) -> PredictionBBox:
        top, left, bottom, right = self.box
        self.box = [top, left + 2, bottom, right + 2]
        return PredictionBBox("", self.box, None)


model = Drift(model_dir=None)
model.serve()
app = model.app
