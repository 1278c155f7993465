"""One tracking with XMem in progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from common.networks.xmem.engine import Engine, EngineSettings
from common.networks.xmem.memory import MemorySettings
from common.networks.xmem.network import XMem
from common.networks.xmem.pictures import Frame
from common.trackers.masks.xmem import XMemSettings
from common.trackers.masks.xmem_maps import drawn_masks, exemplar_masks, predictions, spread, working_size
from common.tracking.contract import Exemplar, Prediction, Prompt
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

_FRAMES_OF_LONG_TERM = 10
"""Long-term memory holds no more than so many pictures have tokens: below 1000 tokens (640x400) less than published,
where prototypes would not be fewer than what they stand for."""


class XMemRun:
    """Online: every pushed image becomes final at once."""

    def __init__(self, engine: Engine, frame: Frame, keys: list[str]) -> None:
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
        """Bounded snapshot: the memory's tokens, at 480p at most about 75 MB per object (half of it on a GPU)."""
        tree = {"keys": self._keys, "size": list(self._frame.size), "working": list(self._frame.working)}
        return pack({**tree, "engine": self._engine.save()})


def begin(
    network: Callable[[], XMem],
    settings: XMemSettings,
    image: Image,
    prompts: Sequence[Prompt],
    exemplars: Sequence[Exemplar],
) -> XMemRun:
    """Prompts are checked before the weights are read."""
    masks = drawn_masks(image, prompts)
    keys = [p.key for p in prompts]
    elsewhere = [(e, *exemplar_masks(e, keys)) for e in exemplars]
    elsewhere = spread([entry for entry in elsewhere if entry[1]], settings.exemplars)
    height, width = image.shape[:2]
    frame = Frame((height, width), working_size(height, width, settings.short_side, settings.most_pixels))
    engine = _engine(network(), settings, frame)
    if keys:
        engine.step(_tensor(image), torch.from_numpy(masks), range(len(keys)))
    for exemplar, known, shown in elsewhere:
        ids = [keys.index(key) for key in known]
        engine.keep_for_ever(_tensor(exemplar.image), torch.from_numpy(shown), ids)
    return XMemRun(engine, frame, keys)


def resume(network: Callable[[], XMem], settings: XMemSettings, state: bytes) -> XMemRun:
    """A run from its snapshot. Raises ValueError when the bytes are no snapshot of such a run."""
    tree: dict[str, Any] = unpack(state)
    try:
        (height, width), (rows, columns) = tree["size"], tree["working"]
        frame, keys, saved = Frame((height, width), (rows, columns)), list(tree["keys"]), tree["engine"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a snapshot of XMem: {error!r}") from error
    engine = _engine(network(), settings, frame)
    engine.load(saved)
    return XMemRun(engine, frame, keys)


def _engine(network: XMem, settings: XMemSettings, frame: Frame) -> Engine:
    rows, columns = frame.padded
    tokens = rows * columns // 256
    memory = MemorySettings(
        long_tokens=min(settings.long_tokens, _FRAMES_OF_LONG_TERM * tokens), extra_frames=settings.exemplars
    )
    return Engine(network, EngineSettings(settings.memory_every, memory=memory), frame)


def _tensor(image: Image) -> torch.Tensor:
    # A copy: the caller may write into the array, or forbid it.
    return torch.from_numpy(np.array(image))
