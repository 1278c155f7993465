"""Finds what moves, with a moving camera, no weights and no idea of what it is.

The camera's motion is measured with points followed from picture to picture and taken out; each pixel's usual brightness and
its spread are kept in the current picture's coordinates. What differs from the usual by more than the spread explains, and
than a shift of a pixel explains, is something that moved. A place that something has left differs as well; it gives itself
away because its outline is an edge in the remembered picture, not in the current one. (At the very beginning, until a thing
has moved by its own length, its box reaches back to where it was when looking began.)

Sources: running Gaussian average, Wren et al. 1997, "Pfinder"; background models under camera motion by warping, Yi et al.
2013, "Detection of moving objects with non-stationary cameras in 5.8 ms"; pyramidal Lucas-Kanade, Bouguet 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections, DetectorCard
from common.tracking.snapshot import pack, unpack
from common.video.contract import Image

Gray = NDArray[np.float32]


@dataclass(frozen=True)
class MotionSettings:
    """side: pictures are worked on at this length of their longer side; raising it finds smaller things, slower. rate:
    share of a new picture in what is usual; raising it forgets faster what stopped. spread: how many standard deviations
    from usual count as different; raising it finds less. least: smallest difference in grey levels of 0..255. area:
    smallest thing, as a share of the picture. largest: a larger share is a cut or a flash, not an object. confirm:
    pictures in a row that something must be seen in."""

    side: int = 480
    rate: float = 0.06
    spread: float = 3.5
    least: float = 14.0
    area: float = 4e-4
    largest: float = 0.5
    confirm: int = 2


class MotionDetector:
    """A `Detector` for the frames of one video, in order. Memory: a few pictures of `side` pixels."""

    card = DetectorCard(
        name="motion",
        title="What moves (no model)",
        classes=("",),
        licence="Apache-2.0",
        memory_bound="a few reduced pictures",
        temporal=True,
        paper="Wren et al. 1997, Pfinder; Yi et al. 2013",
    )

    def __init__(self, settings: MotionSettings | None = None) -> None:
        self._settings = settings or MotionSettings()
        self._size: tuple[int, ...] | None = None
        self._last: NDArray[np.uint8] | None = None
        self._mean: Gray = np.zeros((0, 0), np.float32)
        self._variance: Gray = self._mean
        self._age: Gray = self._mean
        self._seen: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [self._next(image) for image in images]

    def state(self) -> bytes:
        """See `Resumable`: about 14 bytes for each pixel that it works on, at most 3.3 MB at the usual side."""
        learned = (self._mean, self._variance, self._age, self._seen)
        return pack({"name": self.card.name, "size": self._size, "last": self._last, "learned": learned})

    def restore(self, state: bytes) -> None:
        """See `Resumable`."""
        tree = unpack(state)
        if not isinstance(tree, dict) or tree.get("name") != self.card.name:
            raise ValueError("not a snapshot of the motion detector")
        self._size, self._last = tree["size"], tree["last"]
        self._mean, self._variance, self._age, self._seen = tree["learned"]

    def _next(self, image: Image) -> Detections:
        if self._size is not None and image.shape != self._size:
            raise ValueError(f"pictures of one video have one size; got {image.shape} after {self._size}")
        self._size = image.shape
        scale = min(1.0, self._settings.side / max(image.shape[:2]))
        size = (max(16, round(image.shape[1] * scale)), max(16, round(image.shape[0] * scale)))
        gray = np.asarray(
            cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY), np.uint8
        )
        level = cv2.GaussianBlur(gray, (3, 3), 0).astype(np.float32)
        if self._last is None:
            self._begin(gray, level)
            return Detections()
        motion = _camera(self._last, gray)
        if motion is None:  # a cut: nothing is usual any more
            self._begin(gray, level)
            return Detections()
        self._follow(motion)
        different, strength = self._different(level)
        found = self._things(different, strength, level, image.shape)
        self._learn(level, different)
        self._last = gray
        return found

    def _begin(self, gray: NDArray[np.uint8], level: Gray) -> None:
        self._last, self._mean = gray, level.copy()
        self._variance = np.full_like(level, 36.0)
        self._age = np.ones_like(level)
        self._seen = np.zeros(level.shape, np.uint8)

    def _follow(self, motion: NDArray[np.float64]) -> None:
        """Carries everything remembered into the new picture. What comes in at the edge has no past: age 0."""
        size = self._mean.shape[::-1]
        moved = abs(motion - np.eye(2, 3)).max() > 1e-3
        if not moved:
            return
        self._mean = cv2.warpAffine(self._mean, motion, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        self._variance = cv2.warpAffine(
            self._variance, motion, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        self._age = cv2.warpAffine(self._age, motion, size, flags=cv2.INTER_NEAREST, borderValue=0.0)
        self._seen = cv2.warpAffine(self._seen, motion, size, flags=cv2.INTER_NEAREST, borderValue=0)

    def _different(self, level: Gray) -> tuple[NDArray[np.uint8], Gray]:
        """Which pixels differ from usual (0 or 1), and how much in units of the threshold."""
        s = self._settings
        kernel = np.ones((3, 3), np.uint8)
        # A pixel's shift of the picture is no motion: the nearest of the usual values around counts.
        low, high = cv2.erode(self._mean, kernel), cv2.dilate(self._mean, kernel)
        off = np.maximum(np.maximum(low - level, level - high), 0)
        off = np.maximum(off, 0.5 * np.abs(level - self._mean))
        threshold = np.maximum(s.least, s.spread * np.sqrt(self._variance))
        strength: Gray = np.where(self._age > 0, off / threshold, 0).astype(np.float32)
        mask = (strength > 1).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        return np.asarray(mask, np.uint8), strength

    def _things(self, different: NDArray[np.uint8], strength: Gray, level: Gray, shape: tuple[int, ...]) -> Detections:
        s = self._settings
        total = different.size
        seen = np.zeros_like(self._seen)
        near = cv2.dilate(self._seen, np.ones((9, 9), np.uint8))
        rows: list[tuple[float, float, float, float, float]] = []
        if np.count_nonzero(different) <= s.largest * total:
            count, labels, stats, _ = cv2.connectedComponentsWithStats(different, connectivity=8)
            edges, usual = _edges(level), _edges(self._mean)
            fx, fy = shape[1] / different.shape[1], shape[0] / different.shape[0]
            for label in range(1, count):
                x, y, w, h, pixels = (int(v) for v in stats[label])
                if pixels < max(9.0, s.area * total):
                    continue
                part = (labels[y : y + h, x : x + w] == label).astype(np.uint8)
                inside = part.astype(bool)
                if _left_behind(part, edges, usual, x, y):
                    self._mean[y : y + h, x : x + w][inside] = level[y : y + h, x : x + w][inside]
                    continue
                times = 1 + int(near[y : y + h, x : x + w][inside].max(initial=0))
                window = seen[y : y + h, x : x + w]
                window[inside] = min(times, 250)
                if times >= s.confirm:
                    power = float(strength[y : y + h, x : x + w][inside].mean())
                    rows.append((x * fx, y * fy, (x + w) * fx, (y + h) * fy, float(1 - np.exp(-power))))
        self._seen = seen
        rows.sort(key=lambda row: -row[4])
        table = np.array(rows, np.float32).reshape(-1, 5)
        return Detections(table[:, :4], table[:, 4], np.zeros(len(table), np.int64))

    def _learn(self, level: Gray, different: NDArray[np.uint8]) -> None:
        """What is usual moves towards what is seen; slowly where something moves, so that it does not become usual."""
        s = self._settings
        rate = np.maximum(s.rate, 1 / (self._age + 1))
        rate = np.where(different > 0, s.rate / 4, rate).astype(np.float32)
        rate = np.where(self._age == 0, 1.0, rate).astype(np.float32)
        off = level - self._mean
        self._mean = self._mean + rate * off
        # without what moves: an object that stays long would otherwise make its place look restless
        self._variance = np.where(different > 0, self._variance, (1 - rate) * self._variance + rate * off * off)
        self._variance = np.clip(self._variance, 4.0, 900.0).astype(np.float32)
        self._age = np.minimum(self._age + 1, 250).astype(np.float32)


def _camera(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """2 x 3 motion of the ground from one picture to the next; None when the pictures have nothing in common."""
    still = np.eye(2, 3)
    corners = cv2.goodFeaturesToTrack(before, 300, 0.01, 8)
    if corners is None or len(corners) < 12:
        return still  # nothing to hold on to: bare ground, or darkness
    there, status, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, winSize=(15, 15), maxLevel=3)
    back, again, _ = cv2.calcOpticalFlowPyrLK(now, before, there, None, winSize=(15, 15), maxLevel=3)
    good = (status.ravel() == 1) & (again.ravel() == 1)
    good &= np.abs(back - corners).reshape(-1, 2).max(1) < 0.7
    if good.sum() < max(8, 0.15 * len(corners)):
        return None
    motion, inliers = cv2.estimateAffinePartial2D(
        corners[good], there[good], method=cv2.RANSAC, ransacReprojThreshold=1.0, maxIters=500, confidence=0.99
    )
    if motion is None or np.count_nonzero(inliers) < 0.3 * good.sum():
        return still
    return np.asarray(motion, np.float64)


def _edges(level: Gray) -> Gray:
    dx = cv2.Sobel(level, cv2.CV_32F, 1, 0)
    dy = cv2.Sobel(level, cv2.CV_32F, 0, 1)
    return np.asarray(cv2.magnitude(dx, dy), np.float32)


def _left_behind(part: NDArray[np.uint8], now: Gray, usual: Gray, x: int, y: int) -> bool:
    """Whether a region is a place that something has left: its outline is an edge of the remembered picture alone."""
    padded = np.pad(part, 2)
    rim = cv2.dilate(padded, np.ones((3, 3), np.uint8)) - cv2.erode(padded, np.ones((3, 3), np.uint8))
    height, width = now.shape
    rows, columns = np.nonzero(rim)
    rows, columns = np.clip(rows + y - 2, 0, height - 1), np.clip(columns + x - 2, 0, width - 1)
    return float(now[rows, columns].mean()) < 0.8 * float(usual[rows, columns].mean())
