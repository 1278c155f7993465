"""Cutie, the successor of XMem, behind the tracker contract. Imports no torch: that waits until tracking starts."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.trackers.masks.xmem_maps import VosSettings
from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.video.contract import Image
from common.weights.options import DEFAULT, EngineOptions

if TYPE_CHECKING:
    from torch import nn

    from common.networks.xmem.pictures import Frame
    from common.trackers.masks.cutie_engine import CutieEngine
    from common.trackers.masks.xmem_run import VosRun


class CutieTracker:
    """Any number of masks, together, with a memory of pixels and one of objects. Two runs share nothing but the weights.

    shape: entries over the package's configuration of the network, as in its config/model/*.yaml; None = as published.
    """

    def __init__(
        self,
        name: str = "cutie",
        options: EngineOptions = DEFAULT,
        settings: VosSettings | None = None,
        shape: Mapping[str, Any] | None = None,
    ) -> None:
        self._name, self._options = name, options
        self._settings, self._shape = settings or VosSettings(), shape
        self._network: nn.Module | None = None
        self._lock, self._busy = threading.Lock(), threading.Lock()

    @property
    def card(self) -> TrackerCard:
        return TrackerCard(
            name=self._name,
            title="Cutie",
            geometries=frozenset({"mask"}),
            licence="MIT",
            memory_bound="per object about 40 MB at 480p, reached after 2000 frames, whatever the length",
            weights=self._name,
            weights_licence="NOASSERTION",
            paper="https://arxiv.org/abs/2310.12982",
            devices=("cpu", "cuda"),
        )

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> VosRun:
        """Begin on `image`. Exemplars are memorised for good, `VosSettings.exemplars` of them, evenly chosen.

        Raises `PromptInvalid` for a mask that is empty or of another picture's size, `WeightsMissing`,
        `EngineUnavailable` where the package rf-cutie is not installed.
        """
        from common.trackers.masks.xmem_run import begin

        return begin(self._engine, self._settings, image, prompts, exemplars)

    def load(self, state: bytes) -> VosRun:
        """A run from `VosRun.save`. Raises ValueError for bytes that are not one of this tracker's, `WeightsMissing`."""
        from common.trackers.masks.xmem_run import resume

        return resume(self._engine, state)

    def _engine(self, frame: Frame) -> CutieEngine:
        from common.trackers.masks.cutie_engine import CutieEngine, CutieSettings

        s, (height, width) = self._settings, frame.padded
        room = s.long_room(height * width // 256)
        settings = CutieSettings(memory_every=s.memory_every, long_tokens=room, buffer=room // 5)
        # Half precision also halves the package's similarities, which are differences of large numbers: only when asked.
        half = self._options.precision == "float16"
        return CutieEngine(self._loaded(), settings, frame, self._busy, half)

    def _loaded(self) -> nn.Module:
        """The network with its weights, read once. Always single precision: half is a matter of each step."""
        from dataclasses import replace

        from common.trackers.masks.cutie_network import build, constants, convert
        from common.weights.loading import load

        with self._lock:
            if self._network is None:
                network = build(self._shape)
                single = replace(self._options, precision="float32")
                load(network, self._name, single, convert=convert, constants=constants(network))
                self._network = network
            return self._network


def make(name: str, options: EngineOptions) -> CutieTracker:
    """The tracker of a name in the catalogue of weights."""
    return CutieTracker(name, options)
