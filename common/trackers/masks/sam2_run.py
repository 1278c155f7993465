"""A tracking in progress with SAM 2 and its kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from common.errors import PromptInvalid
from common.geometry.types import Box, Geometry, Mask
from common.networks.sam2.decoding import Found
from common.networks.sam2.inputs import Clicks, to_picture
from common.networks.sam2.memory import Bank, Entry
from common.networks.sam2.stream import Drawing, Stream
from common.tracking.contract import Exemplar, Prediction, Prompt
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image
from common.weights.loading import load
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.trackers.masks.sam2 import Sam2Tracker


def fill(
    model: nn.Module,
    name: str,
    options: EngineOptions,
    convert: Callable[[dict[str, Any]], Mapping[str, Any]],
    constants: Collection[str] = (),
) -> None:
    """Weights in single precision, whatever the precision of the work: that is `precision`'s matter."""
    load(model, name, replace(options, precision="float32"), convert=convert, constants=constants)


@contextmanager
def precision(device: torch.device, options: EngineOptions) -> Iterator[None]:
    """No gradients; bfloat16 on a GPU, as recommended by the authors, unless single precision is asked for."""
    with torch.inference_mode():
        if device.type == "cuda" and options.precision != "float32":
            with torch.autocast("cuda", torch.bfloat16):
                yield
        else:
            yield


def check(image: Image, prompts: Sequence[Prompt]) -> list[Drawing]:
    """What the network is told about each object. Raises `PromptInvalid`."""
    return [_drawing(prompt, image.shape[:2]) for prompt in prompts]


def begin(
    stream: Stream, tracker: Sam2Tracker, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar]
) -> Sam2Run:
    drawings = check(image, prompts)
    banks = [Bank() for _ in prompts]
    with precision(stream.device, tracker.options):
        for exemplar in _evenly(exemplars, tracker.settings.exemplars):
            _learn(stream, banks, prompts, exemplar)
        if banks:
            stream.step(stream.see(image), banks, 0, dict(enumerate(drawings)), image.shape[:2])
    boxes = [isinstance(prompt.geometry, Box) for prompt in prompts]
    return Sam2Run(stream, tracker, [prompt.key for prompt in prompts], boxes, banks, image.shape, 0)


def resume(stream: Stream, tracker: Sam2Tracker, state: bytes) -> Sam2Run:
    tree = unpack(state)
    if not isinstance(tree, dict) or tree.get("tracker") != tracker.name:
        raise ValueError(f"not a snapshot of {tracker.name}")
    banks = [_bank(saved, stream.device) for saved in tree["banks"]]
    return Sam2Run(stream, tracker, tree["keys"], tree["boxes"], banks, tuple(tree["shape"]), tree["frame"])


class Sam2Run:
    """One tracking in progress. Online: every pushed image becomes final at once."""

    def __init__(
        self,
        stream: Stream,
        tracker: Sam2Tracker,
        keys: list[str],
        boxes: list[bool],
        banks: list[Bank],
        shape: tuple[int, ...],
        frame: int,
    ) -> None:
        self._stream, self._tracker = stream, tracker
        self._keys, self._boxes, self._banks = keys, boxes, banks
        self._shape, self._frame = shape, frame

    def push(self, image: Image) -> list[list[Prediction]]:
        """Next image, the size of the first; ValueError if not. Gives exactly one frame."""
        if image.shape != self._shape:
            raise ValueError(f"expected a picture of shape {self._shape}, got {image.shape}")
        self._frame += 1
        if not self._banks:
            return [[]]
        with precision(self._stream.device, self._tracker.options):
            features = self._stream.see(image)
            found = self._stream.step(features, self._banks, self._frame, {}, image.shape[:2])
            return [self._predictions(found)]

    def flush(self) -> list[list[Prediction]]:
        """Nothing is held back."""
        return []

    def save(self) -> bytes:
        """Labelled frames, six memories and 15 pointers per object."""
        return pack(
            {
                "tracker": self._tracker.name,
                "keys": self._keys,
                "boxes": self._boxes,
                "shape": list(self._shape),
                "frame": self._frame,
                "banks": [_saved(bank) for bank in self._banks],
            }
        )

    def _predictions(self, found: Found) -> list[Prediction]:
        shape = (self._shape[0], self._shape[1])
        scores = (found.score[:, 0].float().sigmoid() * found.quality).clamp(0, 1).cpu().tolist()
        present = (found.score[:, 0] > 0).cpu().tolist()
        predictions = []
        for place, (key, box) in enumerate(zip(self._keys, self._boxes, strict=True)):
            geometry: Geometry | None = None
            if present[place]:
                # one at a time: the masks of many objects in a large picture are large
                bits = (to_picture(found.logits[place : place + 1], shape)[0] > 0).cpu().numpy()
                mask = Mask.from_array(bits)
                geometry = (_box(mask) if box else mask) if mask.area else None
            seen = geometry is not None
            predictions.append(Prediction(key, geometry, float(scores[place]) if seen else 0.0, seen))
        return predictions


def _drawing(prompt: Prompt, shape: tuple[int, int]) -> Drawing:
    height, width = shape
    geometry = prompt.geometry
    if isinstance(geometry, Mask):
        if (geometry.height, geometry.width) != shape:
            raise PromptInvalid(f"The mask of {prompt.key} is of another picture's size; draw it on this one.")
        if geometry.area == 0:
            raise PromptInvalid(f"The mask of {prompt.key} is empty; draw the object.")
        return geometry.to_array()
    if isinstance(geometry, Box):
        inside = np.clip(geometry.xyxy, 0, [width, height, width, height]).astype(np.float32)
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            raise PromptInvalid(f"The box of {prompt.key} is empty or outside the picture; draw it on the object.")
        return Clicks.of_box(inside)
    raise PromptInvalid(f"{prompt.key} is neither a mask nor a box, which is what SAM 2 tracks.")


def _learn(stream: Stream, banks: Sequence[Bank], prompts: Sequence[Prompt], exemplar: Exemplar) -> None:
    """An exemplar's place in time is not known, so its memory counts and its pointer does not: as for frames ahead."""
    shape = exemplar.image.shape[:2]
    places = {prompt.key: place for place, prompt in enumerate(prompts)}
    shown = [
        (places[other.key], other)
        for other in exemplar.prompts
        if other.key in places and not (isinstance(other.geometry, Mask) and other.geometry.area == 0)
    ]
    drawings = [(place, _drawing(other, shape)) for place, other in shown]
    if drawings:
        features = stream.see(exemplar.image)
        for place, drawing in drawings:
            banks[place].elsewhere.append(stream.learn(features, drawing, shape))


def _evenly(exemplars: Sequence[Exemplar], most: int) -> list[Exemplar]:
    if len(exemplars) <= most:
        return list(exemplars)
    return [exemplars[round(at)] for at in np.linspace(0, len(exemplars) - 1, most)]


def _box(mask: Mask) -> Box:
    height, width = mask.window
    return Box(np.array((mask.x, mask.y, mask.x + width, mask.y + height), np.float32))


def _saved(bank: Bank) -> dict[str, Any]:
    return {
        "labelled": [[number, _saved_entry(entry)] for number, entry in bank.labelled.items()],
        "elsewhere": [_saved_entry(entry) for entry in bank.elsewhere],
        "recent": [[number, _saved_entry(entry)] for number, entry in bank.recent.items()],
    }


def _bank(saved: dict[str, Any], device: torch.device) -> Bank:
    return Bank(
        {number: _entry(entry, device) for number, entry in saved["labelled"]},
        [_entry(entry, device) for entry in saved["elsewhere"]],
        {number: _entry(entry, device) for number, entry in saved["recent"]},
    )


def _saved_entry(entry: Entry) -> list[Any]:
    """numpy has no bfloat16: its bits are kept as integers."""
    tokens = None if entry.tokens is None else entry.tokens.cpu()
    if tokens is not None and tokens.dtype == torch.bfloat16:
        tokens = tokens.view(torch.int16)
    return [None if tokens is None else tokens.numpy(), entry.pointer.cpu().numpy()]


def _entry(saved: list[Any], device: torch.device) -> Entry:
    tokens, pointer = (None if array is None else torch.from_numpy(array).to(device) for array in saved)
    if tokens is not None and tokens.dtype == torch.int16:
        tokens = tokens.view(torch.bfloat16)
    assert pointer is not None, "an entry always has its pointer"
    return Entry(tokens, pointer)
