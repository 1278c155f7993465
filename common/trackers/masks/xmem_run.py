"""One tracking in progress with a network that segments all objects of a picture together: XMem, Cutie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from common.networks.xmem.pictures import Frame
from common.trackers.masks.xmem_maps import (
    VosSettings,
    drawn_masks,
    exemplar_masks,
    predictions,
    spread,
    working_size,
)
from common.tracking.contract import Exemplar, Prediction, Prompt
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image


class VosEngine(Protocol):
    """A network with its memory of one clip. Images: uint8 (H, W, 3); masks: bool (n, H, W); ids: of the
    masks' objects, from 1 on."""

    def step(self, image: Tensor, masks: Tensor | None = None, ids: Sequence[int] = ()) -> Tensor:
        """The next picture: probabilities (1 + objects, h, w) of the working size, background first."""
        ...

    def keep_for_ever(self, image: Tensor, masks: Tensor, ids: Sequence[int]) -> None:
        """Another labelled picture, memorised for good."""
        ...

    def save(self) -> dict[str, Any]: ...

    def load(self, tree: Mapping[str, Any]) -> None: ...


Build = Callable[[Frame], VosEngine]
"""A fresh engine for pictures of that size; reads the weights when it is first called."""


class VosRun:
    """Online: every pushed image becomes final at once."""

    def __init__(self, engine: VosEngine, frame: Frame, keys: list[str]) -> None:
        self._engine, self._frame, self._keys = engine, frame, keys

    def push(self, image: Image) -> list[list[Prediction]]:
        """Next image, the size of the first; ValueError if not. Gives exactly one frame."""
        if image.shape != (*self._frame.size, 3):
            raise ValueError(f"expected a picture of shape {(*self._frame.size, 3)}, got {image.shape}")
        if not self._keys:
            return [[]]
        with torch.inference_mode():
            label, value = self._frame.labels(self._engine.step(_tensor(image)))
        return [predictions(self._keys, label.cpu().numpy(), value.cpu().numpy())]

    def flush(self) -> list[list[Prediction]]:
        """Nothing is ever held back."""
        return []

    def save(self) -> bytes:
        """Bounded snapshot: what the memory holds, at 480p at most about 75 MB per object."""
        tree = {"keys": self._keys, "size": list(self._frame.size), "working": list(self._frame.working)}
        return pack({**tree, "made_by": type(self._engine).__module__, "engine": self._engine.save()})


def begin(
    build: Build, settings: VosSettings, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar]
) -> VosRun:
    """Prompts are checked before the weights are read."""
    masks = drawn_masks(image, prompts)
    keys = [p.key for p in prompts]
    elsewhere = [(e, *exemplar_masks(e, keys)) for e in exemplars]
    elsewhere = spread([entry for entry in elsewhere if entry[1]], settings.exemplars)
    height, width = image.shape[:2]
    frame = Frame((height, width), working_size(height, width, settings.short_side, settings.most_pixels))
    engine = build(frame)
    if keys:
        engine.step(_tensor(image), torch.from_numpy(masks), range(1, len(keys) + 1))
    for exemplar, known, shown in elsewhere:
        ids = [1 + keys.index(key) for key in known]
        engine.keep_for_ever(_tensor(exemplar.image), torch.from_numpy(shown), ids)
    return VosRun(engine, frame, keys)


def resume(build: Build, state: bytes) -> VosRun:
    """A run from its snapshot. Raises ValueError when the bytes are no snapshot of such a run."""
    tree = unpack(state)
    try:
        (height, width), (rows, columns) = tree["size"], tree["working"]
        frame, keys, saved = Frame((height, width), (rows, columns)), list(tree["keys"]), tree["engine"]
        made_by = tree["made_by"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a snapshot of this tracker: {error!r}") from error
    engine = build(frame)
    if made_by != type(engine).__module__:
        raise ValueError(f"not a snapshot of this tracker but of {made_by}")
    engine.load(saved)
    return VosRun(engine, frame, keys)


def _tensor(image: Image) -> Tensor:
    # A copy: the caller may write into the array, or forbid it.
    return torch.from_numpy(np.array(image))
