"""XMem behind the tracker contract. Imports no torch: that waits until tracking starts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common.trackers.masks.xmem_maps import VosSettings
from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.video.contract import Image
from common.weights.options import DEFAULT, EngineOptions

if TYPE_CHECKING:
    from common.networks.xmem.engine import Engine
    from common.networks.xmem.network import Sizes, XMem
    from common.networks.xmem.pictures import Frame
    from common.trackers.masks.xmem_run import VosRun

_TITLES = {"xmem": "XMem", "xmem-s012": "XMem s012 (most accurate)"}


class XMemTracker:
    """Any number of masks, together, with memory of three kinds. Two runs share nothing but the weights.

    sizes: of the network; None = as published.
    """

    def __init__(
        self,
        name: str = "xmem",
        options: EngineOptions = DEFAULT,
        settings: VosSettings | None = None,
        sizes: Sizes | None = None,
    ) -> None:
        self._name, self._options = name, options
        self._settings, self._sizes = settings or VosSettings(), sizes
        self._network: XMem | None = None
        self._lock = threading.Lock()

    @property
    def card(self) -> TrackerCard:
        return TrackerCard(
            name=self._name,
            title=_TITLES.get(self._name, self._name),
            geometries=frozenset({"mask"}),
            licence="MIT",
            memory_bound="taken at the start: per object about 75 MB at 480p, whatever the length",
            weights=self._name,
            weights_licence="NOASSERTION",
            paper="https://arxiv.org/abs/2207.07115",
            devices=("cpu", "cuda"),
        )

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> VosRun:
        """Begin on `image`. Exemplars are memorised for good, `VosSettings.exemplars` of them, evenly chosen.

        Raises `PromptInvalid` for a mask that is empty or of another picture's size, `WeightsMissing`.
        """
        from common.trackers.masks.xmem_run import begin

        return begin(self._engine, self._settings, image, prompts, exemplars)

    def load(self, state: bytes) -> VosRun:
        """A run from `VosRun.save`. Raises ValueError for bytes that are not one of this tracker's, `WeightsMissing`."""
        from common.trackers.masks.xmem_run import resume

        return resume(self._engine, state)

    def _engine(self, frame: Frame) -> Engine:
        from common.networks.xmem.engine import Engine, EngineSettings
        from common.networks.xmem.memory import MemorySettings

        s, (height, width) = self._settings, frame.padded
        memory = MemorySettings(long_tokens=s.long_room(height * width // 256), extra_frames=s.exemplars)
        return Engine(self._loaded(), EngineSettings(s.memory_every, memory=memory), frame)

    def _loaded(self) -> XMem:
        """The network with its weights, read once."""
        from common.networks.xmem.network import XMem, convert
        from common.weights.loading import load

        with self._lock:
            if self._network is None:
                network = XMem(self._sizes)
                load(network, self._name, self._options, convert=convert, half=True)
                self._network = network
            return self._network


def make(name: str, options: EngineOptions) -> XMemTracker:
    """The tracker of a name in the catalogue of weights."""
    return XMemTracker(name, options)
