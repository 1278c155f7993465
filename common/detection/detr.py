"""RT-DETRv2, D-FINE, DEIMv2 and RF-DETR through transformers, with their authors' checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from common.detection import coco
from common.detection.contract import Detections, DetectorCard, DetectorSettings
from common.detection.decoding import detr_rows, finish
from common.detection.detr_variants import VARIANTS, Variant
from common.detection.inputs import IMAGENET_MEAN, IMAGENET_STD, Fit
from common.detection.network import NetworkDetector
from common.video.contract import Image
from common.weights.options import DEFAULT, EngineOptions

if TYPE_CHECKING:
    import torch

MOST_QUERIES = 300


@dataclass(frozen=True)
class _Net:
    module: Any
    device: torch.device
    side: int


class DetrDetector(NetworkDetector[_Net]):
    """A `Detector`: every thing comes out once, there is nothing to suppress."""

    def __init__(
        self, name: str, variant: Variant, options: EngineOptions = DEFAULT, settings: DetectorSettings | None = None
    ) -> None:
        self._variant = variant
        card = DetectorCard(
            name=name,
            title=variant.title,
            classes=coco.NAMES if variant.classes == 80 else coco.NAMES_91,
            licence=variant.licence,
            memory_bound="the network and a batch of its inputs",
            weights=name,
            weights_licence=variant.weights_licence,
            paper=variant.paper,
            devices=("cpu", "cuda"),
        )
        super().__init__(card, options, settings or DetectorSettings())

    def _build(self) -> _Net:
        from common.detection.transformers_loading import build

        variant, name = self._variant, self._card.name
        module, device, names = build(
            variant.family, "ForObjectDetection", variant.backbone, variant.config, variant.classes, name, self._options
        )
        if names is not None:
            self._card = replace(self._card, classes=names)
        return _Net(module, device, self._settings.side or variant.side)

    def _infer(self, model: _Net, images: Sequence[Image]) -> list[Detections]:
        import torch

        from common.detection.tensors import stretched

        variant, side = self._variant, model.side
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if variant.normalised else ((0.0,) * 3, (1.0,) * 3)
        pixels = stretched(images, side, side, mean, std, model.device)
        with torch.inference_mode():
            out = model.module(pixel_values=pixels.to(next(model.module.parameters()).dtype))
        logits, boxes = out.logits.float().cpu().numpy(), out.pred_boxes.float().cpu().numpy()
        floor = self._settings.floor
        found = []
        for image, rows, where in zip(images, logits, boxes, strict=True):
            height, width = image.shape[:2]
            fit = Fit(width, height, side / width, side / height)
            found.append(finish(detr_rows(where, rows, side, side, floor, MOST_QUERIES), fit, floor))
        return found


def make(name: str, options: EngineOptions, settings: DetectorSettings) -> DetrDetector:
    """A published size, by the name of its weights."""
    return DetrDetector(name, VARIANTS[name], options, settings)
