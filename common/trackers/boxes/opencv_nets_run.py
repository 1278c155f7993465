"""OpenCV's tracker classes, driven so that nothing of a run is hidden inside them.

A `cv2.Tracker` cannot be saved: what it knows after some frames - the template's features, place and size to a fraction of a
pixel - has no way out. So none is kept between frames. Each object's first picture is stored as a square canvas in which
the object has a fixed place and size; for every frame the search region is drawn on a like canvas, the object where it was
last; then the class is given the first and asked about the second. Its own rules (window, penalties, smoothing of the size)
all refer to the frame before and so act as always. Place and size then live here, as numbers: they can be saved and
restored exactly, objects may be turned, searched for more widely, and be smaller than the ten pixels that the classes
allow. The price is the template's features anew for each frame (a quarter more work), and rounding to half a pixel of a
512-pixel canvas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.errors import WeightsInvalid
from common.trackers.boxes.siamese_contract import Found, Sighting, margins
from common.trackers.boxes.siamese_crop import Array, Bool, Crops, clip_all, cut_turned
from common.video.contract import Image

CANVAS = 512
_LEAST = 2.0


@dataclass(frozen=True)
class Kind:
    """create: an OpenCV tracker from its files. span: side (n,) of the search regions around boxes of width and height
    (n, 2), as the class takes them. confidence: from the class's score (n,) to 0..1.
    """

    create: Callable[[Sequence[Path]], Any]
    span: Callable[[Array], Array]
    confidence: Callable[[Array], Array]


def _create_nano(paths: Sequence[Path]) -> Any:
    parameters = cv2.TrackerNano.Params()
    parameters.backbone, parameters.neckhead = (str(path) for path in paths)
    return cv2.TrackerNano.create(parameters)


def _create_vit(paths: Sequence[Path]) -> Any:
    parameters = cv2.TrackerVit.Params()
    parameters.net = str(paths[0])
    parameters.tracking_score_threshold = 0.0  # what counts as lost is decided outside
    return cv2.TrackerVit.create(parameters)


def _span_nano(extent: Array) -> Array:
    context = 0.5 * extent.sum(1, keepdims=True)
    span: Array = np.sqrt((extent + context).prod(1)) * 255 / 127
    return span


def _span_vit(extent: Array) -> Array:
    span: Array = 4.0 * np.sqrt(extent.prod(1))
    return span


def _confidence_nano(score: Array) -> Array:
    """NanoTrack's score says little by its height - about 0.9 on the object, and still 0.8 on anything else - but much by
    where it lies between the two.
    """
    sure: Array = 1 / (1 + np.exp(-(score - 0.86) / 0.012))
    return sure


def _confidence_vit(score: Array) -> Array:
    return np.clip(score, 0.0, 1.0)


NANO = Kind(_create_nano, _span_nano, _confidence_nano)
VIT = Kind(_create_vit, _span_vit, _confidence_vit)


class OpenCVEngine:
    """See `Engine`. The files are read for each run: OpenCV's networks must not be shared between threads."""

    def __init__(self, kind: Kind, paths: Sequence[Path]) -> None:
        self._kind, self._paths = kind, list(paths)

    def begin(self, image: Image, boxes: Array, angle: Array, others: Sequence[Sighting]) -> OpenCVProcedure:
        """See `Engine`. There is one template: other sightings are of no use."""
        mean = image.mean((0, 1), dtype=np.float64)
        first = _canvases(image, boxes, angle, self._kind.span(boxes[:, 2:]), mean)
        tree = {
            "boxes": boxes,
            "angle": angle,
            "margin": margins(boxes, _LEAST),
            "first": first,
            "mean": mean,
        }
        return self.resume(tree)

    def resume(self, tree: dict[str, Any]) -> OpenCVProcedure:
        """See `Engine`. Raises `WeightsInvalid` for files that OpenCV cannot read."""
        try:
            tracker = self._kind.create(self._paths)
        except cv2.error as error:
            names = ", ".join(path.name for path in self._paths)
            raise WeightsInvalid(f"OpenCV cannot read {names}: {error.err or error}.") from error
        return OpenCVProcedure(self._kind, tracker, tree)


class OpenCVProcedure:
    """See `Procedure`. The classes take one object at a time, so objects are not batched."""

    def __init__(self, kind: Kind, tracker: Any, tree: dict[str, Any]) -> None:
        self._kind, self._tracker = kind, tracker
        self.boxes: Array = tree["boxes"]
        self.angle: Array = tree["angle"]
        self._margin: Array = tree["margin"]
        self._first: Crops = tree["first"]
        self._mean: Array = tree["mean"]

    def follow(self, image: Image, widen: Array) -> Found:
        """See `Procedure`. A widened region shows the object smaller than it was learned."""
        span = self._kind.span(self.boxes[:, 2:]) * widen
        canvases = _canvases(image, self.boxes, self.angle, span, self._mean)
        zoom = CANVAS / span
        # The template's window depends on the box by its span alone, and that fills the canvas whatever the proportions:
        # so the class can be told those of now.
        extents = self.boxes[:, 2:] * (CANVAS * widen / span)[:, None]
        found, score = self.boxes.copy(), np.zeros(len(span))
        for i, canvas in enumerate(canvases):
            given = _centred(extents[i])
            self._tracker.init(self._first[i], given)
            _, (x, y, w, h) = self._tracker.update(canvas)
            score[i] = self._tracker.getTrackingScore()
            # In a widened region the class believes the object larger than it looks, so its size says nothing.
            growth = (np.array([w, h]) + 0.5) / np.array(given[2:]) if widen[i] == 1.0 else 1.0
            extent = self.boxes[i, 2:] * growth
            # Corner and size come cut to whole pixels: half a pixel more is right on average.
            offset = np.array([x + 0.5 + (w + 0.5) / 2, y + 0.5 + (h + 0.5) / 2])
            offset -= np.array([given[0] + given[2] / 2, given[1] + given[3] / 2])
            cos, sin = np.cos(self.angle[i]), np.sin(self.angle[i])
            dx, dy = offset / zoom[i]
            centre = self.boxes[i, :2] + self.boxes[i, 2:] / 2 + (dx * cos - dy * sin, dx * sin + dy * cos)
            found[i] = np.concatenate((centre - extent / 2, extent))
        height, width = image.shape[:2]
        return Found(clip_all(found, self.angle, width, height, self._margin), self._kind.confidence(score))

    def accept(self, image: Image, found: Found, follow: Bool, learn: Bool) -> None:
        """See `Procedure`. There is nothing to learn."""
        self.boxes = np.where(follow[:, None], found.boxes, self.boxes)

    def to_tree(self) -> dict[str, Any]:
        """See `Procedure`."""
        return {
            "boxes": self.boxes,
            "angle": self.angle,
            "margin": self._margin,
            "first": self._first,
            "mean": self._mean,
        }


def _canvases(image: Image, boxes: Array, angle: Array, span: Array, mean: Array) -> Crops:
    """Search regions uint8 (n, CANVAS, CANVAS, 3), BGR as OpenCV's networks want them, the mean colour outside."""
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    fill = tuple(int(v) for v in mean)
    out = np.empty((len(boxes), CANVAS, CANVAS, 3), np.uint8)
    for number, (c, s, a) in enumerate(zip(centre, span, angle, strict=True)):
        out[number] = cut_turned(image, c, float(max(s, 1.0)), float(a), CANVAS, fill)[..., ::-1]
    return out


def _centred(extent: Array) -> tuple[int, int, int, int]:
    """Whole-pixel box x, y, width, height of about that extent (2,) in the middle of a canvas."""
    w, h = (int(np.clip(round(float(v)), 4, CANVAS)) for v in extent)
    return (CANVAS - w) // 2, (CANVAS - h) // 2, w, h
