"""The smart tool with SAM 2: a picture is encoded once, and every further click costs a fraction of that."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np

from common.geometry.measures import place
from common.geometry.types import Mask
from common.serving.smart_tool import GrabCut, Hints, SmartSegmenter
from common.trackers import registry
from common.trackers.masks.sam2 import Sam2Tracker
from common.video.contract import Image
from common.weights.entries import catalogue
from common.weights.options import DEFAULT, EngineOptions
from common.weights.store import Store

if TYPE_CHECKING:
    from common.networks.sam2.decoding import Features
    from common.networks.sam2.inputs import Clicks

log = logging.getLogger(__name__)

PREFERENCE = ("sam2.1-large", "sam2.1-base-plus", "sam2.1-small", "sam2.1-tiny")
"""Best first; on a CPU the fastest first."""


class Sam2Segmenter:
    """Masks from a box and clicks with the network of a tracker, which may track at the same time.

    pictures: how many pictures' features are kept, about 20 MB each; the one that was used longest ago goes first.
    """

    def __init__(self, tracker: Sam2Tracker, pictures: int = 8) -> None:
        self.tracker, self._pictures = tracker, pictures
        self._seen: OrderedDict[bytes, Features] = OrderedDict()
        self._lock = threading.Lock()

    def segment(self, image: Image, hints: Hints) -> Mask:
        """The likeliest mask, within the crop; empty when there is none. Raises `WeightsMissing`."""
        whole = hints.crop == (0, 0, image.shape[1], image.shape[0])
        # a single click without a box can mean the whole, a part, or a part of that
        return self._masks(image, hints, whole and len(hints.positive) + len(hints.negative) < 2)[0][0]

    def alternatives(self, image: Image, hints: Hints) -> list[tuple[Mask, float]]:
        """Three masks that can be meant, each with its expected overlap 0..1, best first."""
        return self._masks(image, hints, several=True)

    def _masks(self, image: Image, hints: Hints, several: bool) -> list[tuple[Mask, float]]:
        from common.networks.sam2 import image as network
        from common.networks.sam2.inputs import to_picture
        from common.trackers.masks.sam2_run import precision

        height, width = image.shape[:2]
        stream = self.tracker.stream()
        x1, y1, x2, y2 = hints.crop
        with precision(stream.device, self.tracker.options):
            features = self._features(image)
            found, quality = network.masks(
                stream.model, features, _clicks(hints, width, height), (height, width), several
            )
            bits = (to_picture(found, (height, width))[:, y1:y2, x1:x2] > 0).cpu().numpy()
            scores = quality.clamp(0, 1).tolist()
        return [(place(bit, x1, y1, width, height), score) for bit, score in zip(bits, scores, strict=True)]

    def _features(self, image: Image) -> Features:
        """From memory, or computed; one picture at a time, so that two requests for one do the work once."""
        digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
        digest.update(repr(image.shape).encode())
        with self._lock:
            features = self._seen.pop(digest.digest(), None)
            if features is None:
                features = self.tracker.stream().see(image)
            self._seen[digest.digest()] = features
            while len(self._seen) > self._pictures:
                self._seen.popitem(last=False)
            return features


class Preferred:
    """SAM 2 as soon as weights of one of its sizes are on this machine, GrabCut before that."""

    def __init__(self, options: EngineOptions = DEFAULT, names: Sequence[str] = PREFERENCE) -> None:
        # a file of weights that somebody chose is the tracker's
        self._options, self._names = replace(options, weights=None), tuple(names)
        self._made: dict[str, Sam2Segmenter] = {}
        self._lock = threading.Lock()

    def segment(self, image: Image, hints: Hints) -> Mask:
        return self.chosen().segment(image, hints)

    def chosen(self) -> SmartSegmenter:
        """What the next request is answered with."""
        store, entries = Store.from_env(), catalogue().entries
        here = [name for name in self._names if name in entries and store.status(entries[name]) != "not here"]
        if not here:
            return GrabCut()
        name = here[0] if len(here) == 1 or self._on_gpu() else here[-1]
        with self._lock:
            if name not in self._made:
                log.info("the smart tool uses %s", name)
                self._made = {name: Sam2Segmenter(cast(Sam2Tracker, registry.shared(name, self._options)))}
            return self._made[name]

    def _on_gpu(self) -> bool:
        from common.networks.device import resolve_device

        return resolve_device(self._options.device).type == "cuda"


@lru_cache(maxsize=1)
def _shared() -> Preferred:
    return Preferred()


def smart_tool(name: str) -> SmartSegmenter:
    """name: "grabcut", or anything else for the best that is on this machine; one for the whole process, so that pictures
    that were looked at once are known."""
    return GrabCut() if name == "grabcut" else _shared()


def _clicks(hints: Hints, width: int, height: int) -> Clicks:
    """A crop that is the whole picture is no box: nobody drew it."""
    from common.networks.sam2.inputs import BACKGROUND, FOREGROUND, Clicks

    if hints.crop != (0, 0, width, height):
        return Clicks.of_box(np.array(hints.crop, np.float32), hints.positive, hints.negative)
    labels = [FOREGROUND] * len(hints.positive) + [BACKGROUND] * len(hints.negative)
    return Clicks(np.concatenate((hints.positive, hints.negative)).astype(np.float32), np.array(labels, np.int64))
