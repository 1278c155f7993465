"""Where did the object's pixels go: dense optical flow, how far it can be trusted, and what it says about figure and ground.

Flow: Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016 (OpenCV's implementation). Trust:
forward-backward consistency after Sundaram, Brox, Keutzer, Dense Point Trajectories, ECCV 2010.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.contract import Image

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Motion:
    """Motion between the previous and the current picture, seen from the current one.

    back: float32 (h, w, 2), pixels: where in the previous picture each pixel of the current one was, relative to itself.
    trust: float32 (h, w), 0..1: 1 where going back and forth returns to the same pixel, near 0 where it was hidden.
    """

    back: Float
    trust: Float

    def warp(self, previous: Float) -> Float:
        """Values of the previous picture, float32 (h, w), brought to the current one; 0 flows in from outside."""
        return np.asarray(cv2.remap(previous, *self._sources(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    def _sources(self) -> tuple[Float, Float]:
        height, width = self.trust.shape
        x = np.arange(width, dtype=np.float32)[None] + self.back[..., 0]
        y = np.arange(height, dtype=np.float32)[:, None] + self.back[..., 1]
        return x, y


def dense_motion(previous: Image, current: Image, pixels: int) -> Motion:
    """Flow in both directions between two pictures of one size, at least 24 pixels along each side.

    pixels: most pixels at which the flow is computed; larger pictures are reduced for it and the flow is enlarged again,
    which costs little, as flow is smooth but for the boundary, and that is found by other means.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before, now = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (previous, current))
    height, width = now.shape
    factor = min(1.0, (pixels / (height * width)) ** 0.5)
    size = (max(24, round(width * factor)), max(24, round(height * factor)))
    reduced = size[0] < width or size[1] < height
    if reduced:
        before, now = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (before, now))
    back = np.asarray(flow.calc(now, before, None), np.float32)
    forth = np.asarray(flow.calc(before, now, None), np.float32)
    motion = Motion(back, np.ones(now.shape, np.float32))
    returned = cv2.remap(forth, *motion._sources(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    gap = back + returned
    error = np.einsum("hwc,hwc->hw", gap, gap)
    length = np.einsum("hwc,hwc->hw", back, back) + np.einsum("hwc,hwc->hw", returned, returned)
    trust = np.exp(-error / (2 + 0.1 * length))
    if reduced:
        back = cv2.resize(back, (width, height)) * np.array([width / size[0], height / size[1]], np.float32)
        trust = cv2.resize(trust, (width, height))
    return Motion(np.asarray(back, np.float32), np.asarray(trust, np.float32))


def motion_evidence(motion: Motion, prior: Float, step: int = 4) -> Float:
    """Does a pixel move like the object or like what is around it? float32 (h, w) within -1..1, positive = object.

    Two affine motions are fitted within the window, one where `prior` says object and one where it says background. The
    evidence is nought where both explain the flow equally well, so an object at rest on a resting ground is not judged.
    What a badly drawn boundary drags along is exposed: it moves with the ground, frame after frame.
    """
    height, width = prior.shape
    ys, xs = np.mgrid[step // 2 : height : step, step // 2 : width : step].astype(np.float32)
    here = (slice(step // 2, height, step), slice(step // 2, width, step))
    flow, trust, share = motion.back[here], motion.trust[here], prior[here]
    basis = np.stack([np.ones_like(xs), xs / width - 0.5, ys / height - 0.5], -1)
    inside, outside = trust * (share > 0.8), trust * (share < 0.1)
    if inside.sum() < 12 or outside.sum() < 12:
        return np.zeros_like(prior)
    errors = [_affine_error(basis, flow, weight) for weight in (inside, outside)]
    spread = 0.25 + 0.01 * np.einsum("hwc,hwc->hw", flow, flow)
    evidence = np.clip((errors[1] - errors[0]) / (errors[0] + errors[1] + spread), -1, 1) * trust
    return np.asarray(cv2.resize(evidence.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))


def _affine_error(basis: Float, flow: Float, weight: Float) -> Float:
    """Squared distance of each flow vector to the affine motion fitted with `weight`, robustly (three reweightings)."""
    rows, vectors = basis.reshape(-1, 3).astype(np.float64), flow.reshape(-1, 2).astype(np.float64)
    w = weight.ravel().astype(np.float64)
    error = np.zeros(len(rows))
    for _ in range(3):
        weighted = rows * w[:, None]
        motion = np.linalg.solve(weighted.T @ rows + 1e-3 * np.eye(3), weighted.T @ vectors)
        error = ((rows @ motion - vectors) ** 2).sum(1)
        w = weight.ravel() / (1 + error)
    return error.reshape(weight.shape).astype(np.float32)
