"""The tracker of SAM 3 behind the tracker contract: SAM 2's with a large network. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common.trackers.masks.sam2 import Sam2Settings, Sam2Tracker
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.networks.sam2.stream import Stream

_LABELLED = 4
"""Most labelled pictures that the network reads, the first among them."""

_TITLES = {"sam3": "SAM 3 tracker (large; Meta's licence, on request)"}


class Sam3Tracker(Sam2Tracker):
    """As `Sam2Tracker`; sizes: `common.networks.sam2.sam3.Sizes`."""

    weights_licence = "LicenseRef-SAM-License"
    paper = "https://arxiv.org/abs/2511.16719"
    titles = _TITLES
    memory_bound = "per object five megabytes and two thirds of one per labelled picture, whatever the length"

    def __init__(
        self, name: str, options: EngineOptions, settings: Sam2Settings | None = None, sizes: Any = None
    ) -> None:
        super().__init__(name, options, settings or Sam2Settings(exemplars=_LABELLED - 1), sizes)

    def open(self) -> Stream:
        from common.networks.sam2 import build, sam3
        from common.trackers.masks.sam2_run import fill

        model = sam3.build(self.sizes or sam3.Sizes())
        fill(model, self.name, self.options, sam3.convert, constants=[build.COPY])
        build.tie(model)
        return sam3.Sam3Stream(model, self.settings.together)


def make(name: str, options: EngineOptions) -> Sam3Tracker:
    """The tracker of a name in the catalogue of weights."""
    return Sam3Tracker(name, options)
