"""EdgeTAM behind the tracker contract: SAM 2's tracker with a light network. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.trackers.masks.sam2 import Sam2Tracker
from common.weights.options import EngineOptions

if TYPE_CHECKING:
    from common.networks.sam2.stream import Stream

_TITLES = {"edgetam": "EdgeTAM (SAM 2 for small machines)"}


class EdgeTamTracker(Sam2Tracker):
    """As `Sam2Tracker`; sizes: `common.networks.sam2.edgetam.Sizes`."""

    paper = "https://arxiv.org/abs/2501.07256"
    titles = _TITLES
    memory_bound = "per object one megabyte and an eighth per labelled picture, whatever the length"

    def open(self) -> Stream:
        from common.networks.sam2 import build, edgetam
        from common.trackers.masks.sam2_run import fill

        model = edgetam.build(self.sizes or edgetam.Sizes())
        fill(model, self.name, self.options, edgetam.convert, constants=[build.COPY])
        build.tie(model)
        return edgetam.EdgeTamStream(model, self.settings.together)


def make(name: str, options: EngineOptions) -> EdgeTamTracker:
    """The tracker of a name in the catalogue of weights."""
    return EdgeTamTracker(name, options)
