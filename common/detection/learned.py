"""Detectors that are networks: name -> "module:attribute" of a function (name, options, settings) -> Detector.

The module must import without torch, and the function must return at once: weights are read when detection starts.
"""

from common.detection.detr_variants import VARIANTS
from common.detection.open_variants import OPEN
from common.detection.yolo_variants import YOLO

LEARNED: dict[str, str] = {
    "fastestdet": "common.detection.onnx:fastestdet",
    **dict.fromkeys(VARIANTS, "common.detection.detr:make"),
    **dict.fromkeys(OPEN, "common.detection.open_vocabulary:make"),
    **dict.fromkeys(YOLO, "common.detection.yolo:make"),
    "onnx": "common.detection.onnx:onnx",
}
