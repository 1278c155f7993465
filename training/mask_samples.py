"""Samples for the judge of masks: generated pictures with exact masks, and the clues that the flow tracker has there.

The clues are computed by the tracker's own code: what it learned from the labelled picture and from the last one, whose mask is wrong as
a tracker's masks are, and what flow, colours and motion then say of the present picture. Every batch is a function of
(seed, step).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.geometry.types import Mask
from common.trackers.masks.appearance import solve
from common.trackers.masks.recovery import Memory
from common.trackers.masks.settings import FlowSettings
from common.trackers.masks.target import Segmenter, Target
from common.trackers.masks.tiny_run import planes
from common.trackers.masks.windows import Window as View
from training.atlas import Atlas
from training.samples import Generator, Settings, Window
from training.textures import Rng

Float = NDArray[np.float32]

SIDES = (112, 128, 144)
"""Of the windows, pixels: one of them for a batch."""

_NOTHING = Memory(np.zeros(1, np.float32), 1.0, 2.0)
_PIXELS = 90_000


@dataclass(frozen=True)
class Sample:
    """b samples. first, last, now: float32 (b, 3, side, side), 0..255. known: (b, side, side) the object in the first, exact;
    believed: in the last, as the tracker has it. clues: (b, CLUES, side, side). truth: (b, side, side) in now."""

    first: Tensor
    last: Tensor
    now: Tensor
    known: Tensor
    believed: Tensor
    clues: Tensor
    truth: Tensor


class MaskGenerator:
    """Makes batches. See the module."""

    def __init__(self, atlas: Atlas, seed: int) -> None:
        self._atlas, self._seed = atlas, seed
        self._segmenter = Segmenter(FlowSettings())

    def batch(self, step: int, size: int) -> Sample:
        """`size` samples; the same for the same number of the step."""
        rng = np.random.default_rng((self._seed, step, 57))
        side = int(rng.choice(SIDES))
        zoom = float(side / 144 * np.exp(rng.uniform(-0.3, 0.5)))
        settings = Settings(side, side, gone=0.03, still=0.0, border=0.08, hidden=0.3, cell=1, zoom=zoom, follow=True)
        windows = Generator(self._atlas, settings, self._seed + 7).batch(step, size)
        parts = [self._part(rng, [_one(w, number) for w in windows]) for number in range(size)]
        device = self._atlas.grounds.device
        believed, clues = (torch.from_numpy(np.stack(values)).to(device) for values in zip(*parts, strict=True))
        first, last, now = windows
        return Sample(first.crops, last.crops, now.crops, first.body, believed, clues, now.body)

    def _part(self, rng: Rng, pictures: list[tuple[NDArray[np.uint8], Float]]) -> tuple[Float, Float]:
        """The last mask as a tracker has it, and the clues, of one sample."""
        (first, known), (last, exact), (now, _) = pictures
        segmenter, side = self._segmenter, len(known)
        whole = View(0, 0, side, side, side, side)
        believed = worn(rng, exact)
        drawn = (known > 0.5).astype(np.float32)
        anchor, recent = segmenter.evidence(first, drawn), segmenter.evidence(last, believed)
        kept = float(rng.uniform(0.3, 1.0))
        target = Target(
            mask=Mask.from_array(believed > 0.5),
            anchor=anchor,
            first=solve(anchor, segmenter.settings.ridge),
            recent=anchor.mixed(recent, kept, kept),
            area=1.0,
            usual=1.0,
            view=whole,
            moved=np.zeros((side, side), np.float32),
            memory=_NOTHING,
        )
        clues = segmenter.clues(target, whole, last, believed, now, _PIXELS)
        # As if the motion before had been much the same.
        lasting = 1 / (1 - segmenter.settings.persist)
        clues = replace(clues, moves=clues.moves * np.float32(rng.uniform(1, lasting)))
        return believed, planes(clues, segmenter.odds(clues), (side, side))


def worn(rng: Rng, exact: Float) -> Float:
    """A mask float32 (h, w), 0 or 1, that is as wrong as a tracker's: rounder, leaking, eaten away, aside; or right."""
    if rng.random() < 0.2:
        return (exact > 0.5).astype(np.float32)
    side = exact.shape[0]
    size = max(4.0, float(np.sqrt((exact > 0.5).sum())))
    soft = cv2.GaussianBlur(exact, (0, 0), float(rng.uniform(0.01, 0.08)) * size)
    grain = cv2.GaussianBlur(
        rng.normal(0, 1, exact.shape).astype(np.float32), (0, 0), float(rng.uniform(0.05, 0.2)) * size
    )
    grain /= float(grain.std()) + 1e-6
    level = soft + grain * float(rng.uniform(0, 0.25)) + float(rng.normal(0, 0.12))
    shift = rng.normal(0, 0.02 * size, 2) * (rng.random() < 0.4)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    level = cv2.warpAffine(level, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    near = cv2.dilate((exact > 0.5).astype(np.uint8), np.ones((2 * int(0.2 * size) + 1,) * 2, np.uint8))
    return ((level > 0.5) & (near > 0)).astype(np.float32)


def _one(window: Window, number: int) -> tuple[NDArray[np.uint8], Float]:
    """Picture uint8 (side, side, 3) and mask of one sample."""
    picture = window.crops[number].permute(1, 2, 0).round().to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(picture), window.body[number].cpu().numpy()
