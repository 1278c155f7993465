"""The camera's motion between successive pictures: sparse optical flow, ORB, ECC, or none; on small grey pictures.

Small pictures are enough: a corner is found to a twentieth of a small pixel, and hundreds of them outvote what moves on its
own. Sources: Bouguet 2001 (pyramidal Lucas-Kanade); Shi and Tomasi 1994 (corners); Rublee et al. 2011 (ORB); Evangelidis and
Psarakis 2008 (ECC); Aharon et al. 2022 (camera motion in BoT-SORT), arXiv:2206.14651.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.association.contract import Affine
from common.association.settings import CameraMethod
from common.video.contract import Image

Gray = NDArray[np.uint8]
Array = NDArray[np.float64]

LEAST_POINTS = 8
"""Fewer agreeing points are no evidence of a camera's motion."""


@dataclass(frozen=True)
class FlowSettings:
    """side: pictures are halved until their longer side is no longer than this; raised: finer, slower. corners: most points followed;
    raised: steadier, slower. cell: points are spread over cells of this many small pixels. tolerance: small pixels by which
    a point may differ from the common motion."""

    side: int = 640
    corners: int = 150
    cell: int = 30
    tolerance: float = 0.6


class CameraMotion:
    """Measures one video's camera, picture by picture. Memory: one small grey picture. Not shared between threads; one
    thread may measure while another detects, the result then goes to `update(camera=...)`."""

    def __init__(self, method: CameraMethod = "flow", settings: FlowSettings | None = None) -> None:
        if method not in ("none", "flow", "orb", "ecc"):
            raise ValueError(f"camera motion is none, flow, orb or ecc, not {method!r}")
        self._method: CameraMethod = method
        self._settings = settings or FlowSettings()
        self._last: Gray | None = None

    def estimate(self, image: Image) -> Affine | None:
        """float64 (2, 3), pixels of the last picture to pixels of this one; None for the first picture, after a cut, or
        where nothing can be measured. A picture of another size than the last counts as the first."""
        if self._method == "none":
            return None
        gray, scale = small(image, self._settings.side)
        last, self._last = self._last, gray
        found: Array | None = None
        if last is not None and last.shape == gray.shape:
            if self._method == "flow":
                found = self._flow(last, gray)
            elif self._method == "orb":
                found = _orb(last, gray, self._settings.tolerance * 2)
            else:
                found = _ecc(last, gray)
        return None if found is None else _unscaled(found, scale)

    def _flow(self, last: Gray, now: Gray) -> Array | None:
        s = self._settings
        start = corners(last, s.corners, s.cell)
        if len(start) < LEAST_POINTS:
            return None
        found = _followed(last, now, start, start, s.tolerance)
        if found is None:  # a jerk, further than points can be followed: begin where the pictures fit best as a whole
            found = _followed(last, now, start, start + _jump(last, now), s.tolerance)
        return found

    def state(self) -> Any:
        """As a tree for a snapshot."""
        return self._last

    def restore(self, state: Any) -> None:
        self._last = None if state is None else np.asarray(state, np.uint8)


_LUCAS_KANADE: dict[str, Any] = {
    "winSize": (15, 15),
    "maxLevel": 3,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03),
    "minEigThreshold": 1e-3,
}


def small(image: Image, side: int) -> tuple[Gray, tuple[float, float]]:
    """Grey picture, halved until its longer side is no longer than `side`, and how many pixels of it are one of the image's
    (x, y). Halving is the one reduction that averages all pixels and costs next to nothing."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    while max(gray.shape) > side and min(gray.shape) >= 2:
        gray = cv2.resize(gray, (gray.shape[1] // 2, gray.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(gray, np.uint8), (gray.shape[1] / image.shape[1], gray.shape[0] / image.shape[0])


def corners(gray: Gray, most: int, cell: int) -> NDArray[np.float32]:
    """float32 (n, 1, 2): the best corner of every cell, the best `most` of them: everywhere in the picture, so that one
    object full of texture does not outvote the background."""
    strength = cv2.cornerMinEigenVal(gray, 3)
    rows, columns = gray.shape[0] // cell, gray.shape[1] // cell
    if not rows or not columns:
        return np.zeros((0, 1, 2), np.float32)
    blocks = strength[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell).swapaxes(1, 2)
    blocks = blocks.reshape(rows * columns, cell * cell)
    best = blocks.argmax(1)
    value = blocks[np.arange(len(blocks)), best]
    y = np.arange(rows * columns) // columns * cell + best // cell
    x = np.arange(rows * columns) % columns * cell + best % cell
    keep = np.flatnonzero(value > max(1e-6, 0.002 * float(value.max(initial=0.0))))
    keep = keep[np.argsort(-value[keep], kind="stable")[:most]]
    return np.stack((x[keep], y[keep]), 1).astype(np.float32)[:, None]


def _followed(
    last: Gray, now: Gray, start: NDArray[np.float32], guess: NDArray[np.float32], tolerance: float
) -> Array | None:
    """The common motion of corners (n, 1, 2), looked for around `guess`."""
    flags = cv2.OPTFLOW_USE_INITIAL_FLOW if guess is not start else 0
    end, status, _ = cv2.calcOpticalFlowPyrLK(last, now, start, guess.copy(), flags=flags, **_LUCAS_KANADE)
    inside = ((end >= 0) & (end < now.shape[::-1])).all((1, 2))
    good = (status.ravel() == 1) & inside
    if np.count_nonzero(good) < LEAST_POINTS:
        return None
    return common_motion(start[good].reshape(-1, 2), end[good].reshape(-1, 2), tolerance)


def _jump(last: Gray, now: Gray) -> NDArray[np.float32]:
    """Shift float32 (2,) by phase correlation (Kuglin and Hines 1975) of pictures a quarter as large."""
    size = (max(8, now.shape[1] // 4), max(8, now.shape[0] // 4))
    a, b = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) for picture in (last, now))
    window = cv2.createHanningWindow(size, cv2.CV_32F)
    shift, _ = cv2.phaseCorrelate(a, b, window)
    return np.array((shift[0] * now.shape[1] / size[0], shift[1] * now.shape[0] / size[1]), np.float32)


def common_motion(start: NDArray[np.floating], end: NDArray[np.floating], tolerance: float) -> Array | None:
    """Turn, scale and shift float64 (2, 3) that most points (n, 2) agree on, by consensus and then by least squares with
    the weight of points falling with what they are off (Tukey's biweight). None when fewer than a quarter agree."""
    model, inliers = cv2.estimateAffinePartial2D(
        start.astype(np.float32),
        end.astype(np.float32),
        method=cv2.RANSAC,
        ransacReprojThreshold=2 * tolerance,
        maxIters=300,
        confidence=0.995,
        refineIters=0,
    )
    if model is None or np.count_nonzero(inliers) < max(LEAST_POINTS, 0.25 * len(start)):
        return None
    found = np.asarray(model, np.float64)
    a, b = np.asarray(start, np.float64), np.asarray(end, np.float64)
    for _ in range(4):
        off = np.hypot(*(a @ found[:, :2].T + found[:, 2] - b).T)
        reach = max(
            3 * 1.4826 * float(np.median(off[off < 2 * tolerance])) if (off < 2 * tolerance).any() else 0.0, 0.1
        )
        weight = np.maximum(1 - (off / (1.5 * reach)) ** 2, 0) ** 2
        if np.count_nonzero(weight) < LEAST_POINTS:
            break
        found = similarity(a, b, weight)
    return found


def similarity(a: Array, b: Array, weight: Array) -> Array:
    """Turn, scale and shift float64 (2, 3) of least weighted squares that takes points a (n, 2) to b (Umeyama 1991)."""
    total = weight.sum()
    centre_a, centre_b = weight @ a / total, weight @ b / total
    p, q = a - centre_a, b - centre_b
    spread = weight @ (p * p).sum(1)
    along = weight @ (p * q).sum(1) / spread
    across = weight @ (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]) / spread
    linear = np.array([[along, -across], [across, along]])
    return np.concatenate((linear, (centre_b - linear @ centre_a)[:, None]), 1)


def _orb(last: Gray, now: Gray, tolerance: float) -> Array | None:
    finder = cv2.ORB.create(nfeatures=600, fastThreshold=12)
    points, words = finder.detectAndCompute(last, None)
    there, there_words = finder.detectAndCompute(now, None)
    if words is None or there_words is None or min(len(words), len(there_words)) < LEAST_POINTS:
        return None
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words, there_words)
    if len(matches) < LEAST_POINTS:
        return None
    a = np.array([points[m.queryIdx].pt for m in matches], np.float64)
    b = np.array([there[m.trainIdx].pt for m in matches], np.float64)
    near = np.abs(b - a).max(1) < 0.25 * max(now.shape)
    if np.count_nonzero(near) < LEAST_POINTS:
        return None
    return common_motion(a[near], b[near], tolerance)


def _ecc(last: Gray, now: Gray) -> Array | None:
    """From coarse to fine: ECC only finds what is near where it starts."""
    found = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    for level in (4, 2, 1):
        size = (now.shape[1] // level, now.shape[0] // level)
        if min(size) < 24:
            continue
        a, b = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (last, now))
        found[:, 2] /= level
        try:
            _, found = cv2.findTransformECC(a, b, found, cv2.MOTION_AFFINE, stop, None, 5)
        except cv2.error:  # it does not converge: the pictures have too little in common
            return None
        found[:, 2] *= level
    return np.asarray(found, np.float64)


def _unscaled(affine: Array, scale: tuple[float, float]) -> Affine:
    """From small pixels to the image's. Pixel middles: a small picture's pixel k covers pixels around (k + 0.5) / scale."""
    down = np.array([[scale[0], 0, 0.5 * scale[0] - 0.5], [0, scale[1], 0.5 * scale[1] - 0.5], [0, 0, 1]])
    full: Array = np.linalg.inv(down) @ np.vstack((affine, (0, 0, 1))) @ down
    return full[:2]
