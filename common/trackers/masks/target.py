"""One object: what is known of it, and the step that finds its mask in the next picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Mask
from common.trackers.masks.appearance import CHANNELS, Basis, Evidence, describe, gather, solve
from common.trackers.masks.propagation import dense_motion, motion_evidence
from common.trackers.masks.recovery import Memory
from common.trackers.masks.refinement import snap_to_edges
from common.trackers.masks.settings import FlowSettings
from common.trackers.masks.windows import Window, carry_over, window_around
from common.video.contract import Image

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """State of one object; everything has a fixed size.

    mask: where it was last seen. anchor: evidence from the labelled pictures, kept for ever; first: weights of the
    classifier learned from that alone. recent: evidence from the frames before, fading. area: labelled area; usual: area
    lately, following slow changes (frame pixels). view, moved: window of the last frame and the motion evidence in it.
    memory: to find it again. missing: frames since it was last seen, 0 = visible.
    """

    mask: Mask
    anchor: Evidence
    first: Float
    recent: Evidence
    area: float
    usual: float
    view: Window
    moved: Float
    memory: Memory
    missing: int = 0


@dataclass(frozen=True)
class Candidate:
    """An object's likely pixels in the current picture, before objects compete.

    label: float32, frame pixels of the window, > 0.5 = object. features: (n, d), the window's cells expanded. grid:
    (columns, rows) of the cells. cells: (n,) 0..1, the label per cell. support: (n,), > 0 where the first look and the
    motion speak for the object. moved: (h, w), motion evidence gathered so far. score: 0..1. alike: -1.2..1.2, how much
    the chosen pixels look like the labelled ones.
    """

    window: Window
    label: Float
    features: Float
    grid: tuple[int, int]
    cells: Float
    support: Float
    moved: Float
    score: float
    alike: float

    @property
    def area(self) -> float:
        """Frame pixels of the label, before objects compete."""
        return float(np.count_nonzero(self.label > 0.5))

    def merit(self, area: float) -> float:
        """Score, less for covering little of the usual area: a remnant may match well and still be the wrong place."""
        return float(self.score * min(1.0, self.area / area) ** 0.5)


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
        motion = dense_motion(window.cut(previous), picture, max(4_000, int(s.flow_share * pixels)))
        carried = motion.warp(window.cut_mask(target.mask))
        # What has no counterpart in the previous picture was uncovered, most often by the object moving on: ground.
        prior = motion.trust * carried + (1 - motion.trust) * s.uncovered * cv2.GaussianBlur(carried, (0, 0), 6.0)
        moves = s.persist * motion.warp(carry_over(target.moved, target.view, window)) + motion_evidence(motion, prior)
        certainty = s.propagation * (0.35 + 0.65 * motion.trust)
        return self._judge(target, window, picture, prior, certainty, moves)

    def find_again(self, target: Target, rough: Mask, image: Image, pixels: int) -> Candidate:
        """The object in `image`, given roughly where it is, after it was lost."""
        window = self.window(rough, pixels)
        prior = cv2.GaussianBlur(window.cut_mask(rough), (0, 0), 4.0)
        nothing = np.zeros_like(prior)
        return self._judge(target, window, window.cut(image), prior, np.float32(0.5), nothing)

    def _judge(
        self,
        target: Target,
        window: Window,
        picture: Image,
        prior: Float,
        certainty: Float | np.float32,
        moves: Float,
    ) -> Candidate:
        """Weigh place, looks and motion against each other.

        prior: float32 (h, w), 0..1, where the object should be. certainty: weight of that. moves: motion evidence.
        """
        s = self.settings
        features, grid = self._features(picture, prior)
        columns, rows = grid
        weights = solve(target.anchor.mixed(target.recent, 1 - s.anchor, 1 - s.anchor_ground), s.ridge)
        looks, known = np.clip(features @ np.stack([weights, target.first], 1), -1.2, 1.2).T
        odds = certainty * np.log((prior + 0.02) / (1.02 - prior))
        # Far from everything learned the classifier says 0. The object has been shown, the world has not: lean to ground.
        odds += s.appearance * cv2.resize((looks - s.strange).reshape(rows, columns), (window.width, window.height))
        odds += s.motion * np.clip(moves, -s.motion_cap_against, s.motion_cap_for)
        label = snap_to_edges(picture, (1 / (1 + np.exp(-odds))).astype(np.float32), s.radius, s.smoothness)
        label = np.where(cv2.GaussianBlur(prior, (0, 0), 8.0) > 0.01, label, 0).astype(np.float32)
        cells = cv2.resize(np.clip(label, 0, 1), grid, interpolation=cv2.INTER_AREA).ravel()
        support = s.gate_looks * known + s.gate_motion * cv2.resize(moves, grid, interpolation=cv2.INTER_AREA).ravel()
        inside = cells > 0.5
        sure = float((2 * cells[inside] - 1).mean()) if inside.any() else 0.0
        alike = float(known[inside].mean()) if inside.any() else -1.0
        # Both fall short of 1 on a perfect mask: labels are soft at the boundary, looks are learned only approximately.
        score = max(0.0, sure) ** 0.5 * min(1.0, max(0.0, 0.3 + 0.9 * alike))
        return Candidate(window, window.paste(label), features, grid, cells, support, moves, score, alike)

    def update(self, target: Target, found: Candidate, mask: Mask, frame: int) -> Target:
        """The object after its mask in the current picture is settled."""
        s = self.settings
        grid = found.grid
        share = cv2.resize(found.window.cut_mask(mask), grid, interpolation=cv2.INTER_AREA).ravel()
        chosen = slice(frame % s.stride, None, s.stride)
        trust = np.abs(2 * found.cells - 1) * np.clip(1 + np.sign(share - 0.5) * found.support, 0, 1)
        evidence = gather(found.features[chosen], share[chosen], trust[chosen])
        return replace(
            target,
            mask=mask,
            recent=target.recent.mixed(evidence, 1 - s.memory, 1 - s.memory),
            view=found.window,
            moved=found.moved,
            usual=0.95 * target.usual + 0.05 * mask.area,
            missing=0,
        )

    def window(self, mask: Mask, pixels: int) -> Window:
        rows, columns = mask.window
        box = (mask.x, mask.y, mask.x + columns, mask.y + rows)
        return window_around(box, (mask.height, mask.width), self.settings.margin, self.settings.margin_px, pixels)

    def _features(self, picture: Image, prior: Float) -> tuple[Float, tuple[int, int]]:
        """Expanded features of the cells (n, d) and the grid (columns, rows); `prior` says where the object is."""
        height, width = prior.shape
        # A cell spans a few working pixels; finer ones cost time and add nothing that the boundary refinement does not.
        cells = min(self.settings.cells, max(2_000, width * height // 5))
        factor = min(1.0, (cells / (width * height)) ** 0.5)
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
