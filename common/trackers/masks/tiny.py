"""An experiment: the flow tracker with a small network of our own as judge of its clues.

Not among the trackers that are offered: it is no better than `flow`, and takes twice the time (docs/benchmarks.md says what
limits it). Its weights are made by `make train OF=masks`; `benchmarks/masks.py --trackers flow tiny_mask` measures it. Imports no
torch. See tiny_run.py for how the network is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from common.errors import EngineUnavailable
from common.trackers.masks.flow import FlowRun, FlowTracker
from common.trackers.masks.target import Judge
from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.video.contract import Image
from common.weights.options import EngineOptions

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "own" / "masks.safetensors"

CARD = TrackerCard(
    name="tiny_mask",
    title="Optical flow and tiny network (experiment)",
    geometries=frozenset({"mask"}),
    licence="Apache-2.0",
    memory_bound="one picture, and per object its mask, four sums of fixed size and keys of one small picture",
    paper="training/masks.py",
    devices=("cpu", "cuda"),
)


def make(name: str, options: EngineOptions) -> TinyMaskTracker:
    """The tracker `tiny_mask`. Raises `EngineUnavailable` at the first start where torch is not installed."""
    del name
    return TinyMaskTracker(options)


class TinyMaskTracker:
    """Tracks the masks of any number of objects. Stateless apart from the network, which is read once."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._tracker: FlowTracker | None = None
        self._lock = threading.Lock()

    @property
    def card(self) -> TrackerCard:
        """See `TrackerCard`."""
        return CARD

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> FlowRun:
        """Begin, as the flow tracker does."""
        return self._loaded().start(image, prompts, exemplars)

    def load(self, state: bytes) -> FlowRun:
        """A run from `save`. Raises ValueError when the bytes are not one of this tracker's."""
        return self._loaded().load(state)

    def _loaded(self) -> FlowTracker:
        with self._lock:
            if self._tracker is None:
                self._tracker = FlowTracker(judge=judge(self._options))
            return self._tracker


def judge(options: EngineOptions) -> Judge:
    """The network with the suite's weights, or those that options name. Raises `EngineUnavailable`."""
    if find_spec("torch") is None:
        raise EngineUnavailable(
            "The tracker tiny_mask is a network and needs torch: pip install torch. The tracker flow works without."
        )
    from common.trackers.masks.tiny_run import TinyJudge

    return TinyJudge(options if options.weights is not None else replace(options, weights=str(WEIGHTS)))
