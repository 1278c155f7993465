"""XMem behind the tracker contract. Imports no torch: that waits until tracking starts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.video.contract import Image
from common.weights.options import DEFAULT, EngineOptions

if TYPE_CHECKING:
    from common.networks.xmem.network import Sizes, XMem
    from common.trackers.masks.xmem_run import XMemRun

_TITLES = {"xmem": "XMem", "xmem-s012": "XMem s012 (most accurate)"}


@dataclass(frozen=True)
class XMemSettings:
    """short_side: larger pictures are brought to it (pixels), raising it costs memory and time and finds smaller objects;
    most_pixels: of a picture, for very wide ones. memory_every: frames between two that are memorised. long_tokens: most
    of the long-term memory; pictures with few tokens get less, ten frames' worth. exemplars: most labelled frames besides
    the first that are kept for ever.
    """

    short_side: int = 480
    most_pixels: int = 480 * 1280
    memory_every: int = 5
    long_tokens: int = 10_000
    exemplars: int = 4


class XMemTracker:
    """Any number of masks, together, with memory of three kinds. Two runs share nothing but the weights.

    sizes: of the network; None = as published.
    """

    def __init__(
        self,
        name: str = "xmem",
        options: EngineOptions = DEFAULT,
        settings: XMemSettings | None = None,
        sizes: Sizes | None = None,
    ) -> None:
        self._name, self._options = name, options
        self._settings, self._sizes = settings or XMemSettings(), sizes
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

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> XMemRun:
        """Begin on `image`. Exemplars are memorised for good, `XMemSettings.exemplars` of them, evenly chosen.

        Raises `PromptInvalid` for a mask that is empty or of another picture's size, `WeightsMissing`.
        """
        from common.trackers.masks.xmem_run import begin

        return begin(self._loaded, self._settings, image, prompts, exemplars)

    def load(self, state: bytes) -> XMemRun:
        """A run from `XMemRun.save`. Raises ValueError for bytes that are not one of this tracker's, `WeightsMissing`."""
        from common.trackers.masks.xmem_run import resume

        return resume(self._loaded, self._settings, state)

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
