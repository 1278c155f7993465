"""SAM 2.1 behind the tracker contract. Imports no torch: that waits until tracking starts."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.tracking.contract import Exemplar, Prompt, TrackerCard
from common.video.contract import Image
from common.weights.options import DEFAULT, EngineOptions

if TYPE_CHECKING:
    from common.networks.sam2.stream import Stream
    from common.trackers.masks.sam2_run import Sam2Run

_TITLES = {
    "sam2.1-tiny": "SAM 2.1 tiny (fastest)",
    "sam2.1-small": "SAM 2.1 small",
    "sam2.1-base-plus": "SAM 2.1 base+",
    "sam2.1-large": "SAM 2.1 large (most accurate)",
}


@dataclass(frozen=True)
class Sam2Settings:
    """exemplars: most labelled pictures besides the first that are remembered; each makes frames slower by about a tenth.
    together: most objects in a batch; raising it uses a GPU better and takes more of its memory.
    """

    exemplars: int = 4
    together: int = 8


class Sam2Tracker:
    """Any number of masks and boxes, together, with memory of the labelled frames and the last six. A box is tracked as
    the object that fills it. Two runs share nothing but the weights.

    sizes: `common.networks.sam2.build.Sizes`, None = those of the name. On a GPU it runs in bfloat16 unless single precision is asked for.
    """

    licence = "Apache-2.0"
    weights_licence = "Apache-2.0"
    paper = "https://arxiv.org/abs/2408.00714"
    titles: Mapping[str, str] = _TITLES
    memory_bound = "per object four megabytes and half a megabyte per labelled picture, whatever the length"

    def __init__(
        self,
        name: str = "sam2.1-tiny",
        options: EngineOptions = DEFAULT,
        settings: Sam2Settings | None = None,
        sizes: Any = None,
    ) -> None:
        self.name, self.options = name, options
        self.settings, self.sizes = settings or Sam2Settings(), sizes
        self._stream: Stream | None = None
        self._lock = threading.Lock()

    @property
    def card(self) -> TrackerCard:
        return TrackerCard(
            name=self.name,
            title=self.titles.get(self.name, self.name),
            geometries=frozenset({"mask", "box"}),
            licence=self.licence,
            memory_bound=self.memory_bound,
            weights=self.name,
            weights_licence=self.weights_licence,
            paper=self.paper,
            devices=("cpu", "cuda"),
        )

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> Sam2Run:
        """Begin on `image`. Exemplars become conditioning frames, `Sam2Settings.exemplars` of them, evenly chosen.

        Raises `PromptInvalid` for a mask or box that is empty or outside the picture, `WeightsMissing`, `WeightsInvalid`.
        """
        from common.trackers.masks.sam2_run import begin, check

        check(image, prompts)  # before weights are read
        return begin(self.stream(), self, image, prompts, exemplars)

    def load(self, state: bytes) -> Sam2Run:
        """A run from `Sam2Run.save`. Raises ValueError for bytes that are not one of this tracker's, `WeightsMissing`."""
        from common.trackers.masks.sam2_run import resume

        return resume(self.stream(), self, state)

    def stream(self) -> Stream:
        """The network with its weights, read once."""
        with self._lock:
            if self._stream is None:
                self._stream = self.open()
            return self._stream

    def open(self) -> Stream:
        """Builds the network and fills it; what another network of this kind does differently."""
        from common.networks.sam2 import build
        from common.networks.sam2.convert import convert
        from common.networks.sam2.stream import Stream
        from common.trackers.masks.sam2_run import fill

        sizes = {
            "sam2.1-tiny": build.TINY,
            "sam2.1-small": build.SMALL,
            "sam2.1-base-plus": build.BASE_PLUS,
            "sam2.1-large": build.LARGE,
        }
        model = build.build(self.sizes or sizes[self.name])
        fill(model, self.name, self.options, convert, constants=[build.COPY])
        build.tie(model)
        return Stream(model, self.settings.together)


def make(name: str, options: EngineOptions) -> Sam2Tracker:
    """The tracker of a name in the catalogue of weights."""
    return Sam2Tracker(name, options)
