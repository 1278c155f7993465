"""One object: what is known of it, and the step that finds its mask in the next picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

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
    memory: to find it again. missing: frames since it was last seen, 0 = visible. shown: what the judge keeps of the labelled
    picture, None without one.
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
    shown: Float | None = None


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


@dataclass(frozen=True)
class Clues:
    """What speaks for the object in its window.

    float32 (h, w), working pixels: prior, 0..1, where the last mask has moved to; certainty, the weight of that; moves, motion
    evidence gathered so far. float32 (n,), cells, the first row first: looks, known, -1.2..1.2, the classifier's answer now and
    with the labelled pictures alone. features: (n, d), the cells expanded; grid: (columns, rows) of them.
    """

    prior: Float
    certainty: Float
    moves: Float
    looks: Float
    known: Float
    features: Float
    grid: tuple[int, int]

    def spread(self, cells: Float) -> Float:
        """Values of the cells (n,) at every working pixel (h, w)."""
        height, width = self.prior.shape
        return np.asarray(cv2.resize(cells.reshape(self.grid[1], self.grid[0]), (width, height)), np.float32)


class Judge(Protocol):
    """Has the last word on the clues. Holds no state of any run."""

    def keep(self, image: Image, mask: Mask) -> Float:
        """What to remember of a labelled picture; of bounded size."""

    def judge(self, shown: Float, before: Image, share: Float, picture: Image, clues: Clues, odds: Float) -> Float:
        """Log odds float32 (h, w) of the object, instead of odds, which weigh the clues by fixed numbers.

        shown: from `keep`. before, picture: uint8 (h, w, 3), the window in the last picture and in this one. share: (h, w)
        0..1, the object in the last.
        """


class Segmenter:
    """Finds objects in pictures by flow, looks and edges. Holds no state of any run."""

    def __init__(self, settings: FlowSettings, judge: Judge | None = None) -> None:
        self.settings, self.judge = settings, judge
        self.basis = Basis(CHANNELS + 2, settings.features, settings.kernel_width)

    def learn(self, image: Image, mask: Mask, pixels: int) -> Evidence:
        """Evidence of a labelled picture."""
        window = self.window(mask, pixels)
        return self.evidence(window.cut(image), window.cut_mask(mask))

    def evidence(self, picture: Image, share: Float) -> Evidence:
        """Evidence of a window that shows the object where share (h, w), 0..1, says."""
        features, (columns, rows) = self._features(picture, share)
        cells = cv2.resize(share, (columns, rows), interpolation=cv2.INTER_AREA).ravel()
        return gather(features, cells, np.ones_like(cells))

    def find(self, target: Target, previous: Image, image: Image, pixels: int) -> Candidate:
        """The object in `image`, given where it was in `previous`."""
        window = self.window(target.mask, pixels)
        before, picture, share = window.cut(previous), window.cut(image), window.cut_mask(target.mask)
        clues = self.clues(target, window, before, share, picture, pixels)
        odds = self.odds(clues)
        if self.judge is not None and target.shown is not None:
            odds = self.judge.judge(target.shown, before, share, picture, clues, odds)
        return self._settle(window, picture, clues, odds)

    def find_again(self, target: Target, rough: Mask, image: Image, pixels: int) -> Candidate:
        """The object in `image`, given roughly where it is, after it was lost."""
        window = self.window(rough, pixels)
        prior = cv2.GaussianBlur(window.cut_mask(rough), (0, 0), 4.0)
        picture = window.cut(image)
        clues = self._clues(target, picture, prior, np.full_like(prior, 0.5), np.zeros_like(prior))
        return self._settle(window, picture, clues, self.odds(clues))

    def clues(self, target: Target, window: Window, before: Image, share: Float, picture: Image, pixels: int) -> Clues:
        """Of an object that share (h, w) of the window `before` showed, in the same window now."""
        s = self.settings
        motion = dense_motion(before, picture, max(4_000, int(s.flow_share * pixels)))
        carried = motion.warp(share)
        # What has no counterpart in the previous picture was uncovered, most often by the object moving on: ground.
        prior = motion.trust * carried + (1 - motion.trust) * s.uncovered * cv2.GaussianBlur(carried, (0, 0), 6.0)
        moves = s.persist * motion.warp(carry_over(target.moved, target.view, window)) + motion_evidence(motion, prior)
        return self._clues(target, picture, prior, s.propagation * (0.35 + 0.65 * motion.trust), moves)

    def _clues(self, target: Target, picture: Image, prior: Float, certainty: Float, moves: Float) -> Clues:
        s = self.settings
        features, grid = self._features(picture, prior)
        weights = solve(target.anchor.mixed(target.recent, 1 - s.anchor, 1 - s.anchor_ground), s.ridge)
        looks, known = np.clip(features @ np.stack([weights, target.first], 1), -1.2, 1.2).T
        return Clues(prior, certainty, moves, looks, known, features, grid)

    def odds(self, clues: Clues) -> Float:
        """Place, looks and motion weighed against each other: log odds float32 (h, w)."""
        s = self.settings
        odds = clues.certainty * np.log((clues.prior + 0.02) / (1.02 - clues.prior))
        # Far from everything learned the classifier says 0. The object has been shown, the world has not: lean to ground.
        odds += s.appearance * clues.spread(clues.looks - s.strange)
        odds += s.motion * np.clip(clues.moves, -s.motion_cap_against, s.motion_cap_for)
        return np.asarray(odds, np.float32)

    def _settle(self, window: Window, picture: Image, clues: Clues, odds: Float) -> Candidate:
        """The object's mask from its log odds, and how sure that is."""
        s = self.settings
        prior, moves, grid = clues.prior, clues.moves, clues.grid
        label = snap_to_edges(picture, (1 / (1 + np.exp(-odds))).astype(np.float32), s.radius, s.smoothness)
        label = np.where(cv2.GaussianBlur(prior, (0, 0), 8.0) > 0.01, label, 0).astype(np.float32)
        cells = cv2.resize(np.clip(label, 0, 1), grid, interpolation=cv2.INTER_AREA).ravel()
        known = clues.known
        support = s.gate_looks * known + s.gate_motion * cv2.resize(moves, grid, interpolation=cv2.INTER_AREA).ravel()
        inside = cells > 0.5
        sure = float((2 * cells[inside] - 1).mean()) if inside.any() else 0.0
        alike = float(known[inside].mean()) if inside.any() else -1.0
        # Both fall short of 1 on a perfect mask: labels are soft at the boundary, looks are learned only approximately.
        score = max(0.0, sure) ** 0.5 * min(1.0, max(0.0, 0.3 + 0.9 * alike))
        return Candidate(window, window.paste(label), clues.features, grid, cells, support, moves, score, alike)

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
