"""The smart tool: a mask from a box and clicks. `GrabCut` needs no weights; networks take its place by the same protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.measures import place
from common.geometry.types import Bool, Mask
from common.video.contract import Image

Clicks = NDArray[np.float32]
"""float32 (n, 2): x, y in pixels of the picture; n may be 0."""


def no_clicks() -> Clicks:
    return np.zeros((0, 2), np.float32)


@dataclass(frozen=True)
class Hints:
    """What the person said. crop: x1, y1, x2, y2 in pixels, half-open, inside the picture, not empty.
    positive, negative: clicks on the object and beside it."""

    crop: tuple[int, int, int, int]
    positive: Clicks = field(default_factory=no_clicks)
    negative: Clicks = field(default_factory=no_clicks)


class SmartSegmenter(Protocol):
    """Stateless; may be called from several threads."""

    def segment(self, image: Image, hints: Hints) -> Mask:
        """The object's mask, within the crop; empty when there is none. image: RGB uint8 (H, W, 3)."""
        ...


@dataclass(frozen=True)
class GrabCut:
    """Iterated graph cuts on colour (Rother, Kolmogorov, Blake 2004, "GrabCut").

    What lies around the crop is background for certain, which is where the background's colours come from. Clicks are
    discs of certain colour; without them the crop alone says what is meant.
    side: longest side, in pixels, at which it is solved; raising it gives finer edges and costs its square.
    context: how much around the crop is looked at, as a share of its longer side. click: radius of a click, as a share of
    the crop's shorter side. rounds: of the iteration.
    """

    side: int = 320
    context: float = 0.25
    click: float = 0.03
    rounds: int = 4

    def segment(self, image: Image, hints: Hints) -> Mask:
        height, width = image.shape[:2]
        x1, y1, x2, y2 = hints.crop
        margin = max(2, round(self.context * max(x2 - x1, y2 - y1)))
        left, top = max(0, x1 - margin), max(0, y1 - margin)
        right, bottom = min(width, x2 + margin), min(height, y2 + margin)
        window = np.ascontiguousarray(image[top:bottom, left:right])
        scale = min(1.0, self.side / max(window.shape[:2]))
        size = (max(2, round(window.shape[1] * scale)), max(2, round(window.shape[0] * scale)))
        small = cv2.resize(window, size, interpolation=cv2.INTER_AREA) if scale < 1 else window

        factor = np.array(size) / (window.shape[1], window.shape[0])
        corners = np.rint((np.array([[x1, y1], [x2, y2]]) - (left, top)) * factor).astype(int)
        (cx1, cy1), (cx2, cy2) = corners[0], np.maximum(corners[1], corners[0] + 1)
        labels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
        labels[cy1:cy2, cx1:cx2] = cv2.GC_PR_FGD
        if not (labels == cv2.GC_BGD).any():  # the crop is the whole picture: its rim is likely background
            rim = max(1, min(labels.shape) // 40)
            inner = labels[rim:-rim, rim:-rim].copy()
            labels[:] = cv2.GC_PR_BGD
            labels[rim:-rim, rim:-rim] = inner
        radius = max(1, round(self.click * min(cx2 - cx1, cy2 - cy1)))
        positive = np.rint((hints.positive + 0.5 - (left, top)) * factor - 0.5).astype(int)
        negative = np.rint((hints.negative + 0.5 - (left, top)) * factor - 0.5).astype(int)
        for x, y in negative:
            cv2.circle(labels, (int(x), int(y)), radius, int(cv2.GC_BGD), -1)
        for x, y in positive:
            cv2.circle(labels, (int(x), int(y)), radius, int(cv2.GC_FGD), -1)

        solved = self._solve(small, labels)
        solved[: max(0, cy1)] = solved[cy2:] = False
        solved[:, : max(0, cx1)] = solved[:, cx2:] = False
        solved = _chosen(solved, positive, negative)
        if scale < 1:
            whole = cv2.resize(solved.astype(np.uint8) * 255, window.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            solved = whole > 127
        inside = solved[y1 - top : y2 - top, x1 - left : x2 - left]
        return place(inside, x1, y1, width, height)

    def _solve(self, image: Image, labels: NDArray[np.uint8]) -> Bool:
        foreground = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
        # five colours each is what the mixtures have; with fewer pixels than that there is nothing to learn
        if min(int(foreground.sum()), int((~foreground).sum())) < 5:
            return foreground
        models = np.zeros((1, 65)), np.zeros((1, 65))
        work = labels.copy()
        cv2.setRNGSeed(1)
        cv2.grabCut(
            np.ascontiguousarray(image[:, :, ::-1]),
            work,
            None,
            models[0],
            models[1],
            self.rounds,
            cv2.GC_INIT_WITH_MASK,
        )
        solved: Bool = np.isin(work, (cv2.GC_FGD, cv2.GC_PR_FGD))
        return solved


def _chosen(mask: Bool, positive: NDArray[np.int_], negative: NDArray[np.int_]) -> Bool:
    """The parts that were clicked on, or the largest one; smooth, with pinholes filled unless somebody clicked there."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    smooth = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    for x, y in positive:
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x]:
            smooth[y, x] = 1
    count, parts, stats, _ = cv2.connectedComponentsWithStats(smooth, connectivity=8)
    if count < 2:
        return mask & False
    clicked = {int(parts[y, x]) for x, y in positive if 0 <= y < parts.shape[0] and 0 <= x < parts.shape[1]} - {0}
    wanted = clicked or {1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())}
    kept = np.isin(parts, sorted(wanted))
    holes, numbered, hole_stats, _ = cv2.connectedComponentsWithStats((~kept).astype(np.uint8), connectivity=4)
    refused = {int(numbered[y, x]) for x, y in negative if 0 <= y < parts.shape[0] and 0 <= x < parts.shape[1]}
    small = kept.sum() * 0.01
    for hole in range(1, holes):
        if hole_stats[hole, cv2.CC_STAT_AREA] < small and hole not in refused:
            kept |= numbered == hole
    return np.asarray(kept, bool)
