"""Everything that samples are composed of, as stacks of arrays: grounds, skins, outlines, and pieces cut from pictures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from training import pictures, shapes
from training.textures import Rng, texture

GROUND = 288
SKIN = 96


@dataclass(frozen=True)
class Atlas:
    """grounds: uint8 (g, 3, GROUND, GROUND). skins: uint8 (k, 3, SKIN, SKIN), the first `cut` of which are pieces of pictures that fill
    the outlines of the same number. fields: float32 (m, 1, side, side); hulls: float32 (m, points, 2).
    """

    grounds: Tensor
    skins: Tensor
    fields: Tensor
    hulls: Tensor
    cut: int

    def to(self, device: torch.device) -> Atlas:
        """The same on a device."""
        moved = (t.to(device) for t in (self.grounds, self.skins, self.fields, self.hulls))
        return Atlas(*moved, self.cut)


def build(seed: int, held_out: bool = False, grounds: int = 240, skins: int = 500, outlines: int = 400) -> Atlas:
    """An atlas: a function of its arguments. held_out: from the pictures that are kept for checking."""
    rng = np.random.default_rng((seed, int(held_out)))
    known = pictures.read(held_out)
    natural = [pixels for picture, pixels in known if picture.natural]
    plain = [pixels for picture, pixels in known if not picture.natural]
    pieces = [piece for pixels in natural for piece in _pieces(rng, pixels)]
    order = rng.permutation(len(pieces))[: max(1, outlines // 2)]
    cut_skins, fields, hulls = [], [], []
    for number in order:
        skin, mask = pieces[int(number)]
        found = shapes.field(mask)
        if found is not None:
            cut_skins.append(skin)
            fields.append(found[0])
            hulls.append(found[1])
    cut = len(cut_skins)
    while len(fields) < outlines:
        found = shapes.field(shapes.draw(rng))
        if found is not None:
            fields.append(found[0])
            hulls.append(found[1])

    def source(side: int) -> np.ndarray:
        chance = rng.random()
        if chance < 0.45:
            return texture(rng, side)
        pool = natural if chance < 0.85 or not plain else plain
        return window(rng, pool[int(rng.integers(len(pool)))], side)

    return Atlas(
        _stack([source(GROUND) for _ in range(grounds)]),
        _stack([*cut_skins, *(source(SKIN) for _ in range(skins))]),
        torch.from_numpy(np.stack(fields)[:, None]),
        torch.from_numpy(np.stack(hulls)),
        cut,
    )


def window(rng: Rng, picture: np.ndarray, side: int) -> np.ndarray:
    """A turned, zoomed, mirrored, recoloured window uint8 (side, side, 3) of a picture."""
    height, width = picture.shape[:2]
    most = min(height, width) / side
    zoom = float(np.exp(rng.uniform(np.log(0.35), np.log(max(0.5, most)))))
    turn = rng.normal(0, 0.2) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
    matrix = np.zeros((2, 3))
    matrix[:, :2] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * zoom
    matrix[:, 0] *= rng.choice([-1, 1])
    matrix[:, 2] = rng.uniform(0.1, 0.9, 2) * (width, height) - matrix[:, :2] @ np.full(2, side / 2)
    if zoom > 1.5:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * zoom)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(picture, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return recolour(rng, cut)


def recolour(rng: Rng, picture: np.ndarray) -> np.ndarray:
    """Half of the time other colours: channels exchanged, contrast, a tint."""
    if rng.random() < 0.5:
        return picture
    changed = picture.astype(np.float32)
    if rng.random() < 0.5:
        changed = changed[..., rng.permutation(3)]
    changed = (changed - 128) * rng.uniform(0.6, 1.3) + 128 + rng.normal(0, 20, 3)
    return np.clip(changed, 0, 255).astype(np.uint8)


def _pieces(rng: Rng, picture: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Regions of similar colour: (skin, outline) each. They are objects or parts of such often enough."""
    found = []
    for spatial, tone, levels in ((8, 20, 24), (12, 35, 40)):
        smooth = cv2.cvtColor(cv2.pyrMeanShiftFiltering(picture, spatial, tone), cv2.COLOR_RGB2LAB)
        index = (smooth // levels).astype(np.int32)
        number = index[..., 0] * 4096 + index[..., 1] * 64 + index[..., 2]
        for value in np.unique(number):
            count, labels, stats, _ = cv2.connectedComponentsWithStats(
                (number == value).astype(np.uint8), connectivity=4
            )
            for label in range(1, count):
                x, y, w, h, area = (int(v) for v in stats[label])
                if area < 350 or min(w, h) < 14 or max(w, h) > 320 or area < 0.25 * w * h:
                    continue
                mask = (labels[y : y + h, x : x + w] == label).astype(np.uint8) * 255
                mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
                skin = cv2.resize(picture[y : y + h, x : x + w], (SKIN, SKIN), interpolation=cv2.INTER_AREA)
                found.append((recolour(rng, skin), mask))
    return found


def _stack(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))
