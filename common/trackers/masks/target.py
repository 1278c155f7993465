"""One object: what is known of it, and the step that finds its mask in the next picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Mask
from common.trackers.masks.appearance import CHANNELS, Basis, Evidence, describe, gather, solve
from common.trackers.masks.propagation import dense_motion, motion_evidence
from common.trackers.masks.refinement import snap_to_edges
from common.trackers.masks.settings import FlowSettings
from common.trackers.masks.windows import Window, window_around
from common.video.contract import Image

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """State of one object; everything has a fixed size.

    mask: where it was last seen. anchor: evidence from the labelled pictures, kept for ever. recent: evidence from the
    frames before, fading. area: labelled area in frame pixels. missing: frames since it was last seen, 0 = visible.
    """

    mask: Mask
    anchor: Evidence
    recent: Evidence
    area: float
    missing: int = 0


@dataclass(frozen=True)
class Candidate:
    """An object's likely pixels in the current picture, before objects compete.

    label: float32 frame pixels of the window, > 0.5 = object. features: of the window's cells, expanded.
    """

    window: Window
    label: Float
    features: Float
    grid: tuple[int, int]
    score: float


class Segmenter:
    """Finds objects in pictures by flow, looks and edges. Holds no state of any run."""

    def __init__(self, settings: FlowSettings) -> None:
        self.settings = settings
        self.basis = Basis(CHANNELS + 2, settings.features, settings.kernel_width)

    def learn(self, image: Image, mask: Mask, pixels: int) -> Evidence:
        """Evidence of a labelled picture."""
        window = self.window(mask, pixels)
        share = window.cut_mask(mask)
        features, (columns, rows) = self._features(window.cut(image), share)
        cells = cv2.resize(share, (columns, rows), interpolation=cv2.INTER_AREA).ravel()
        return gather(features, cells, np.ones_like(cells))

    def find(self, target: Target, previous: Image, image: Image, pixels: int) -> Candidate:
        """The object in `image`, given where it was in `previous`."""
        s = self.settings
        window = self.window(target.mask, pixels)
        picture = window.cut(image)
        motion = dense_motion(window.cut(previous), picture)
        carried = motion.warp(window.cut_mask(target.mask))
        prior = motion.trust * carried + (1 - motion.trust) * cv2.GaussianBlur(carried, (0, 0), 6.0)
        features, (columns, rows) = self._features(picture, prior)
        weights = solve(target.anchor.mixed(target.recent, 1 - s.anchor), s.ridge)
        looks = np.clip(features @ weights, -1.2, 1.2).reshape(rows, columns)
        looks = cv2.resize(looks, (window.width, window.height), interpolation=cv2.INTER_LINEAR)
        odds = np.log((prior + 0.02) / (1.02 - prior)) * (0.35 + 0.65 * motion.trust)
        odds = s.propagation * odds + s.appearance * looks
        if s.motion:
            odds += s.motion * motion_evidence(motion, prior)
        label = snap_to_edges(picture, 1 / (1 + np.exp(-odds)), s.radius, s.smoothness)
        label = np.where(cv2.GaussianBlur(prior, (0, 0), 8.0) > 0.01, label, 0)
        inside = label > 0.5
        score = float((np.clip(2 * label - 1, 0, 1) * inside).sum() / max(1, inside.sum()))
        return Candidate(window, window.paste(label.astype(np.float32)), features, (columns, rows), score)

    def update(self, target: Target, found: Candidate, mask: Mask, frame: int) -> Target:
        """The object after its mask in the current picture is settled."""
        s = self.settings
        grid = found.grid
        share = cv2.resize(found.window.cut_mask(mask), grid, interpolation=cv2.INTER_AREA).ravel()
        label = cv2.resize(found.label, grid, interpolation=cv2.INTER_AREA).ravel()
        chosen = slice(frame % 4, None, 4)
        trust = np.abs(2 * np.clip(label, 0, 1) - 1)
        evidence = gather(found.features[chosen], share[chosen], trust[chosen])
        return replace(target, mask=mask, recent=target.recent.mixed(evidence, 1 - s.memory), missing=0)

    def window(self, mask: Mask, pixels: int) -> Window:
        rows, columns = mask.window
        box = (mask.x, mask.y, mask.x + columns, mask.y + rows)
        return window_around(box, (mask.height, mask.width), self.settings.margin, self.settings.margin_px, pixels)

    def _features(self, picture: Image, prior: Float) -> tuple[Float, tuple[int, int]]:
        """Expanded features of the cells (n, d) and the grid (columns, rows); `prior` says where the object is."""
        height, width = prior.shape
        factor = min(1.0, (self.settings.cells / (width * height)) ** 0.5)
        columns, rows = max(1, round(width * factor)), max(1, round(height * factor))
        looks = describe(picture, columns, rows)
        weight = cv2.resize(prior, (columns, rows), interpolation=cv2.INTER_AREA)
        total = float(weight.sum()) + 1e-3
        x, y = np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32)
        place = np.empty((rows, columns, 2), np.float32)
        scale = self.settings.place / np.sqrt(total)
        place[..., 0] = (x - float(weight.sum(0) @ x) / total) * scale
        place[..., 1] = ((y - float(weight.sum(1) @ y) / total) * scale)[:, None]
        return self.basis.expand(np.concatenate([looks, place], 2).reshape(rows * columns, -1)), (columns, rows)
