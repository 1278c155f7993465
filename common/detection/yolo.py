"""The YOLO family of ultralytics: boxes, instance masks, rotated boxes and keypoints, with the published .pt files.

Those files are whole pickled modules. They are never unpickled as such: the network is built from the description that
comes with the installed package, and only tensors, class names and keypoint counts are taken from the file. What this
cannot do: files of a changed architecture (a description of their own in the file) are refused, naming the differences;
export those as ONNX. The package and its weights are AGPL-3.0.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from common.detection import coco
from common.detection.contract import Detections, DetectorCard, DetectorSettings, Finds
from common.detection.decoding import Raw, Task, final_rows, finish, yolo_rows
from common.detection.inputs import letterbox, multiple, planes
from common.detection.network import NetworkDetector, weight_files
from common.detection.yolo_variants import YOLO, YoloVariant
from common.errors import EngineUnavailable, WeightsInvalid
from common.video.contract import Image
from common.weights.options import DEFAULT, SEEDED, EngineOptions

if TYPE_CHECKING:
    import torch

_FINDS: Mapping[Task, Finds] = {"detect": "box", "segment": "mask", "pose": "keypoints", "obb": "oriented_box"}
_CLASSES: Mapping[Task, tuple[str, ...]] = {
    "detect": coco.NAMES,
    "segment": coco.NAMES,
    "pose": ("person",),
    "obb": coco.DOTA,
}
_KINDS: Mapping[Task, str] = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
}
_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class _Net:
    module: Any
    device: torch.device
    dtype: torch.dtype
    classes: int
    final: bool
    stride: int


class YoloDetector(NetworkDetector[_Net]):
    """A `Detector`. Pictures of one size go through together, at the smallest rectangle that holds them."""

    def __init__(
        self,
        name: str,
        variant: YoloVariant,
        options: EngineOptions = DEFAULT,
        settings: DetectorSettings | None = None,
    ) -> None:
        self._variant = variant
        pose = variant.task == "pose"
        card = DetectorCard(
            name=name,
            title=variant.title,
            classes=_CLASSES[variant.task],
            licence="AGPL-3.0-only",
            memory_bound="the network and a batch of its inputs",
            weights=name,
            weights_licence="AGPL-3.0-only",
            paper=variant.paper,
            devices=("cpu", "cuda"),
            finds=_FINDS[variant.task],
            keypoints=coco.KEYPOINTS if pose else (),
            bones=coco.BONES if pose else (),
        )
        super().__init__(card, options, settings or DetectorSettings())

    def _build(self) -> _Net:
        from common.weights import checkpoint
        from common.weights.loading import load

        kind = getattr(_tasks(), _KINDS[self._variant.task])
        card, options = self._card, self._options
        shape: tuple[int, int] | None = None
        if options.weights != SEEDED:
            path = weight_files(card.name, options)[0]
            options = EngineOptions(str(path), options.device, options.precision)
            names, shape = described(checkpoint.read(path))
            if names is not None:
                card = replace(card, classes=names)
            if shape is not None and self._variant.task == "pose" and shape[0] != len(card.keypoints):
                card = replace(card, keypoints=tuple(f"point {n}" for n in range(shape[0])), bones=())
        more = {"data_kpt_shape": shape or (17, 3)} if self._variant.task == "pose" else {}
        module = kind(self._variant.architecture, nc=len(card.classes), verbose=False, **more)
        fixed = [name for name in module.state_dict() if name.endswith("dfl.conv.weight")]
        device = load(module, self._variant.title, options, convert=tensors, constants=fixed, half=True)
        dtype = next(module.parameters()).dtype
        final = bool(module.model[-1].end2end)
        module.fuse(verbose=False)
        module.eval().requires_grad_(False)
        self._card = card
        return _Net(module, device, dtype, len(card.classes), final, max(32, int(module.stride.max())))

    def _infer(self, model: _Net, images: Sequence[Image]) -> list[Detections]:
        found: list[Detections | None] = [None] * len(images)
        sizes = [image.shape[:2] for image in images]
        for size in dict.fromkeys(sizes):
            chosen = [number for number, other in enumerate(sizes) if other == size]
            for number, one in zip(chosen, self._same_size(model, [images[n] for n in chosen]), strict=True):
                found[number] = one
        return [one for one in found if one is not None]

    def _same_size(self, model: _Net, images: Sequence[Image]) -> list[Detections]:
        import torch

        rows, columns = images[0].shape[:2]
        side = multiple(self._settings.side or self._variant.side, model.stride)
        scale = side / max(rows, columns)
        width, height = (multiple(round(length * scale), model.stride) for length in (columns, rows))
        fitted = [letterbox(image, width, height) for image in images]
        blob = torch.from_numpy(planes([picture for picture, _ in fitted]))
        with torch.inference_mode():
            values, prototypes = _outputs(model.module(blob.to(model.device, model.dtype)), self._variant.task)
        table = values.float().cpu().numpy()
        shared = None if prototypes is None else prototypes.float().cpu().numpy()
        floor = self._settings.floor
        found = []
        for number, (_, fit) in enumerate(fitted):
            raw = self._rows(model, table[number], floor)
            masks = None if shared is None else shared[number]
            found.append(finish(raw, fit, floor, prototypes=masks, size=(width, height)))
        return found

    def _rows(self, model: _Net, table: np.ndarray[Any, np.dtype[np.float32]], floor: float) -> Raw:
        if model.final:
            return final_rows(table, self._variant.task, floor)
        return yolo_rows(table.T, model.classes, self._variant.task, floor)


def make(name: str, options: EngineOptions, settings: DetectorSettings) -> YoloDetector:
    """A published network, by the name of its weights."""
    return YoloDetector(name, YOLO[name], options, settings)


def described(content: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, tuple[int, int] | None]:
    """Class names and keypoint shape (points, values) that a checkpoint tells of, None for what it does not."""
    state = _state(content)
    names = state.get("names", content.get("names"))
    found: tuple[str, ...] | None = None
    if isinstance(names, Mapping):
        names = [names[key] for key in sorted(names)]
    if isinstance(names, list | tuple) and 0 < len(names) <= _MOST_CLASSES:
        texts = [str(name) for name in names]
        found = tuple(t if texts.count(t) == 1 else f"{t} {n}" for n, t in enumerate(texts))
    shape = state.get("kpt_shape") or (state.get("yaml") or {}).get("kpt_shape")
    if isinstance(shape, list | tuple) and len(shape) == 2 and all(isinstance(n, int) and 0 < n < 1000 for n in shape):
        return found, (shape[0], shape[1])
    return found, None


def tensors(content: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a checkpoint by the names of `state_dict`: of the averaged network where there is one, of a pickled
    module, or of a plain table. Raises `WeightsInvalid` when there are none."""
    import torch

    from common.weights.checkpoint import Stub

    found: dict[str, Any] = {}
    whole = _module(content)
    if isinstance(whole, Stub):
        _collect(whole, "", found, 0)
    else:
        table = whole if isinstance(whole, Mapping) else content.get("state_dict", content)
        found = {str(key): value for key, value in table.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise WeightsInvalid("The file holds no network of ultralytics.")
    return found


def _module(content: Mapping[str, Any]) -> Any:
    return content.get("ema") or content.get("model")


def _state(content: Mapping[str, Any]) -> Mapping[str, Any]:
    state = getattr(_module(content), "state", None)
    return state if isinstance(state, Mapping) else {}


def _collect(stub: Any, prefix: str, found: dict[str, Any], depth: int) -> None:
    """Parameters and buffers of a module that was pickled, by their dotted names."""
    state = getattr(stub, "state", None)
    if not isinstance(state, Mapping) or depth > 50:
        return
    skipped = state.get("_non_persistent_buffers_set") or ()
    for table in ("_parameters", "_buffers"):
        for name, value in (state.get(table) or {}).items():
            if value is not None and name not in skipped:
                found[f"{prefix}{name}"] = value
    for name, child in (state.get("_modules") or {}).items():
        _collect(child, f"{prefix}{name}.", found, depth + 1)


def _outputs(out: Any, task: Task) -> tuple[Any, Any]:
    """The decoded rows and, where there are masks, the prototypes, from what the module returns in eval mode."""
    values, rest = out if isinstance(out, tuple | list) else (out, None)
    if isinstance(values, tuple | list):
        return values[0], values[1]
    if task != "segment":
        return values, None
    table = rest.get("one2one", rest) if isinstance(rest, Mapping) else {}
    prototypes = table.get("proto") if isinstance(table, Mapping) else rest[-1]
    return values, prototypes[0] if isinstance(prototypes, tuple) else prototypes


def _tasks() -> Any:
    # Importing the package otherwise looks for the internet, and it may install packages by itself.
    from common.detection.isolation import unchanged

    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        with unchanged():
            from ultralytics.nn import tasks
    except ImportError as error:
        raise EngineUnavailable("YOLO needs the package ultralytics (AGPL-3.0): pip install ultralytics.") from error
    return tasks
