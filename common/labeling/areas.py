"""Who draws areas for boxes: SAM 2 where its weights are on this machine, GrabCut elsewhere, or who is asked for by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from common.detection.contract import Detections
from common.errors import EngineUnavailable
from common.geometry.measures import place
from common.geometry.types import Mask
from common.labeling.segmenter import Segmenter
from common.trackers.masks.sam2 import Sam2Tracker
from common.video.contract import Image
from common.weights.entries import catalogue
from common.weights.options import DEFAULT, EngineOptions
from common.weights.store import Store

GRABCUT = "grabcut"
NAMES = (GRABCUT, "sam2.1-tiny", "sam2.1-small", "sam2.1-base-plus", "sam2.1-large")
_MARGIN = 0.1
"""Share of a box's size by which its area may reach over it."""


class Areas(Protocol):
    """Draws areas. Has no memory of other pictures."""

    def prepare(self) -> None:
        """Reads weights now. Raises `WeightsMissing`, `WeightsInvalid`."""

    def outlined(self, image: Image, found: Detections) -> Detections:
        """The same detections with an area each."""
        ...


def preferred(store: Store | None = None) -> str:
    """The quickest of those whose weights are here."""
    entries, there = catalogue().entries, store or Store.from_env()
    here = [name for name in NAMES[1:] if name in entries and there.status(entries[name]) != "not here"]
    return here[0] if here else GRABCUT


def known(name: str) -> str:
    """The name itself. Raises `EngineUnavailable` for one that does not exist."""
    if name not in NAMES:
        raise EngineUnavailable(f"Nobody draws areas by the name of {name!r}; choose {', '.join(NAMES)}.")
    return name


def make(name: str, options: EngineOptions = DEFAULT) -> Areas:
    """Raises `EngineUnavailable` for a name that does not exist."""
    return Segmenter() if known(name) == GRABCUT else Sam2Areas(Sam2Tracker(name, replace(options, weights=None)))


class Sam2Areas:
    """Each box as a prompt; the picture is encoded once for all of them."""

    def __init__(self, tracker: Sam2Tracker) -> None:
        self._tracker = tracker

    def prepare(self) -> None:
        """See `Areas.prepare`."""
        if self._tracker.options.weights is None:
            store, entry = Store.from_env(), catalogue().find(self._tracker.name)
            if store.status(entry) == "not here":
                store.require(entry)  # says what to do, before the network is built
        self._tracker.stream()

    def outlined(self, image: Image, found: Detections) -> Detections:
        """See `Areas.outlined`."""
        if not len(found):
            return Detections(found.xyxy, found.scores, found.classes, ())
        from common.networks.sam2 import image as network  # brings torch
        from common.networks.sam2.inputs import Clicks, to_picture
        from common.trackers.masks.sam2_run import precision

        rows, columns = image.shape[:2]
        stream = self._tracker.stream()
        masks: list[Mask] = []
        with precision(stream.device, self._tracker.options):
            features = stream.see(image)
            for box in found.xyxy:
                logits, _ = network.masks(stream.model, features, Clicks.of_box(box), (rows, columns), several=False)
                margin = _MARGIN * (box[2:] - box[:2])
                x1, y1 = np.maximum(np.floor(box[:2] - margin), 0).astype(int).tolist()
                x2, y2 = np.minimum(np.ceil(box[2:] + margin), (columns, rows)).astype(int).tolist()
                bits = (to_picture(logits, (rows, columns))[0, y1:y2, x1:x2] > 0).cpu().numpy()
                masks.append(place(bits, x1, y1, columns, rows))
        return Detections(found.xyxy, found.scores, found.classes, tuple(masks))
