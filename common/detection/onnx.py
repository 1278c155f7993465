"""Detectors that are ONNX files, run by onnxruntime: nothing but the file is needed, neither torch nor the training code.

Class names and the kind of task come from the file's metadata (as ultralytics writes them) or from a JSON file of the same
name beside it: {"names": [...], "layout": "yolo", "task": "segment", "side": 640, "mean": [...], "std": [...],
"channels": "bgr", "keypoints": [...]} - every key may be left out.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.detection import coco
from common.detection.contract import Detections, DetectorCard, DetectorSettings, Finds
from common.detection.decoding import Task, finish
from common.detection.inputs import IMAGENET_MEAN, IMAGENET_STD, Fit, letterbox, planes, stretch
from common.detection.network import NetworkDetector, weight_files
from common.detection.onnx_layouts import LAYOUTS, STRETCHED, Reading, Shape, decode, prototypes_of, recognise
from common.errors import EngineUnavailable, WeightsInvalid, WeightsMissing
from common.video.contract import Image
from common.weights.options import DEFAULT, EngineOptions

_SIDE = 640
_FINDS: Mapping[Task, Finds] = {"detect": "box", "segment": "mask", "pose": "keypoints", "obb": "oriented_box"}


@dataclass(frozen=True)
class _Loaded:
    """session: onnxruntime.InferenceSession. width, height: of the input. batch: pictures that one run takes, 0 = any.
    sizes: name of a second input that wants (width, height) of each picture, or None."""

    session: Any
    reading: Reading
    width: int
    height: int
    batch: int
    picture: str
    sizes: str | None
    half: bool
    bgr: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


class OnnxDetector(NetworkDetector[_Loaded]):
    """A `Detector` from an ONNX file in one of the layouts of `onnx_layouts`."""

    def __init__(
        self, card: DetectorCard, options: EngineOptions = DEFAULT, settings: DetectorSettings | None = None
    ) -> None:
        super().__init__(card, options, settings or DetectorSettings())

    def _build(self) -> _Loaded:
        name = self._card.weights or self._card.name
        if self._options.weights is None and self._card.weights is None:
            raise WeightsMissing("The detector onnx is a file of yours: name it with --weights FILE.onnx.")
        path = weight_files(name, self._options)[0]
        session = _open(path, self._options.device)
        about = _about(path, session.get_modelmeta().custom_metadata_map)
        inputs = session.get_inputs()
        shape = _shape(inputs[0].shape)
        if len(shape) != 4 or shape[1] not in (3, None):
            raise WeightsInvalid(f"{path.name} takes {inputs[0].shape} instead of pictures (n, 3, height, width).")
        shapes = {output.name: _shape(output.shape) for output in session.get_outputs()}
        names = about.get("names")
        reading = recognise(shapes, about.get("task"), None if names is None else len(names), about.get("layout"))
        wanted = self._settings.side or about.get("side") or _SIDE
        self._card = _described(self._card, reading, names, about.get("keypoints"))
        imagenet = about.get("normalise") == "imagenet"
        return _Loaded(
            session=session,
            reading=reading,
            width=shape[3] or wanted,
            height=shape[2] or wanted,
            batch=shape[0] or 0,
            picture=inputs[0].name,
            sizes=inputs[1].name if len(inputs) > 1 else None,
            half="float16" in inputs[0].type,
            bgr=about.get("channels", "bgr" if reading.layout == "fastestdet" else "rgb") == "bgr",
            mean=tuple(about.get("mean") or (IMAGENET_MEAN if imagenet else (0.0,) * 3)),
            std=tuple(about.get("std") or (IMAGENET_STD if imagenet else (1.0,) * 3)),
        )

    def _infer(self, model: _Loaded, images: Sequence[Image]) -> list[Detections]:
        step = model.batch or len(images)
        found: list[Detections] = []
        for start in range(0, len(images), step):
            found += self._run(model, images[start : start + step])
        return found

    def _run(self, model: _Loaded, images: Sequence[Image]) -> list[Detections]:
        fitted = [_fit(image, model) for image in images]
        blob = planes([image[..., ::-1] if model.bgr else image for image, _ in fitted], model.mean, model.std)
        if len(blob) < model.batch:  # a fixed batch is filled up
            blob = np.concatenate((blob, np.repeat(blob[-1:], model.batch - len(blob), 0)))
        feeds: dict[str, NDArray[np.generic]] = {model.picture: blob.astype(np.float16) if model.half else blob}
        if model.sizes is not None:
            feeds[model.sizes] = np.tile(np.array([[model.width, model.height]], np.int64), (len(blob), 1))
        names = [output.name for output in model.session.get_outputs()]
        values = [np.asarray(value).astype(np.float32, copy=False) for value in model.session.run(names, feeds)]
        outputs = dict(zip(names, values, strict=True))
        floor, size = self._settings.floor, (model.width, model.height)
        raws = decode(outputs, model.reading, len(images), *size, floor)
        prototypes = prototypes_of(outputs, model.reading)
        overlap = 0.45 if model.reading.layout == "fastestdet" else 0.7
        found = []
        for number, (raw, (_, fit)) in enumerate(zip(raws, fitted, strict=True)):
            shared = None if prototypes is None else prototypes[number]
            found.append(finish(raw, fit, floor, overlap=overlap, prototypes=shared, size=size))
        most = max((int(one.classes.max(initial=-1)) for one in found), default=-1)
        if most >= len(self._card.classes):
            self._card = replace(self._card, classes=_names(most + 1, self._card.classes))
        return found


def fastestdet(name: str, options: EngineOptions, settings: DetectorSettings) -> OnnxDetector:
    """FastestDet: 80 classes at 352 x 352, made for small processors."""
    card = DetectorCard(
        name=name,
        title="FastestDet",
        classes=coco.NAMES,
        licence="BSD-3-Clause",
        memory_bound="the network and a batch of reduced pictures",
        weights=name,
        weights_licence="BSD-3-Clause",
        paper="https://github.com/dog-qiuqiu/FastestDet",
        devices=("cpu", "cuda"),
    )
    return OnnxDetector(card, options, settings)


def onnx(name: str, options: EngineOptions, settings: DetectorSettings) -> OnnxDetector:
    """An ONNX file of the user's own."""
    card = DetectorCard(
        name=name,
        title="ONNX file",
        classes=("",),
        licence="MIT",
        memory_bound="the network and a batch of reduced pictures",
        weights=None,
        paper="https://onnxruntime.ai",
        devices=("cpu", "cuda"),
    )
    return OnnxDetector(card, options, settings)


def _open(path: Path, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable("ONNX models need onnxruntime: pip install onnxruntime.") from error
    there = onnxruntime.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in there:
        raise EngineUnavailable("onnxruntime has no GPU here; choose the device cpu, or install onnxruntime-gpu.")
    wanted = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # waiting threads that spin take the time of the decoder beside them
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[name for name in wanted if name in there])
    except Exception as error:  # onnxruntime's own exceptions have no common base but this
        raise WeightsInvalid(f"{path.name} cannot be run as an ONNX model: {str(error).splitlines()[0]}") from error


def _shape(shape: Sequence[object]) -> Shape:
    return tuple(length if isinstance(length, int) and length > 0 else None for length in shape)


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What is known of a model beyond its shapes. Raises `WeightsInvalid` for a JSON file that is damaged."""
    about: dict[str, Any] = {}
    if metadata.get("names"):
        names = _literal(metadata["names"])
        about["names"] = list(names.values()) if isinstance(names, dict) else names
    if metadata.get("task"):
        about["task"] = metadata["task"]
    side = _literal(metadata.get("imgsz", ""))
    if isinstance(side, list) and side and isinstance(side[0], int):
        about["side"] = max(side)
    beside = path.with_suffix(".json")
    if beside.is_file():
        try:
            told = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsInvalid(f"{beside.name} is no JSON: {error}.") from error
        if not isinstance(told, dict) or told.get("layout", LAYOUTS[0]) not in LAYOUTS:
            raise WeightsInvalid(f"{beside.name} must hold an object, its layout one of {', '.join(LAYOUTS)}.")
        about |= told
    names = about.get("names")
    if names is not None and not (isinstance(names, list | tuple) and all(isinstance(n, str) for n in names)):
        raise WeightsInvalid(f"The class names of {path.name} are no list of texts.")
    return about


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text) if len(text) < 1_000_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _described(
    card: DetectorCard, reading: Reading, names: Sequence[str] | None, keypoints: Sequence[str] | None
) -> DetectorCard:
    count = reading.classes
    if names is not None:
        card = replace(card, classes=tuple(names))
    elif card.classes == ("",) and count:
        known = {80: coco.NAMES, 91: coco.NAMES_91}.get(count)
        card = replace(card, classes=known or _names(count))
    points = tuple(keypoints or (coco.KEYPOINTS if reading.task == "pose" else ()))
    bones = coco.BONES if points == coco.KEYPOINTS else ()
    return replace(card, finds=_FINDS[reading.task], keypoints=points, bones=bones)


def _names(count: int, known: Sequence[str] = ()) -> tuple[str, ...]:
    named = [name for name in known if name]
    return tuple([*named, *(f"class {number}" for number in range(len(named), count))][:count])


def _fit(image: Image, model: _Loaded) -> tuple[Image, Fit]:
    if model.reading.layout not in STRETCHED:
        return letterbox(image, model.width, model.height)
    way = cv2.INTER_AREA if model.reading.layout == "fastestdet" else cv2.INTER_LINEAR
    return stretch(image, model.width, model.height, way)
