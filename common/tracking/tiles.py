"""Objects cut out of pictures into small tiles in which their geometry always has the same place and size.

What `confidence` compares: tiles of neighbouring frames by the motion of points, and looks - tiles made smaller still - with
the key figure's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.rings import ring
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.video.contract import Image

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Look = NDArray[np.float32]
"""float32 (_LOOK, _LOOK, 4): the object made small, RGB 0..1, and what each cell weighs, 0..1."""

TILE = 96
_CORE = 24
"""Half the side of an object in its tile, pixels. The rest of the tile shows where it may have gone."""
_ENLARGE = 3.0
"""Small objects are enlarged at most so many times."""
_LOOK = 16
_FLAT = 0.002
"""Contrast (variance of the three channels, each 0..1) that counts as none."""
_THIN = 6.0
"""Half the side of an outline's frame, pixels, at least: a strip is seen with something beside it."""
_CROSSED = 0.003
"""Twice the area of an outline over its length squared, below which it has no inside to speak of."""
_LARGEST = 1280
"""Longest side of the pictures that tiles are cut from; larger ones are halved, thirded ... first."""


@dataclass(frozen=True)
class TileFrame:
    """Where a geometry is: pixel = centre + axes @ local, so that the geometry spans about -1..1 in local.

    samples: local (n, 2), spots on the object that can be followed; the points themselves for points. cover: share of each
    cell of -1..1 that belongs to the object, float32 (_LOOK, _LOOK). own: the samples go where the geometry says that they
    go, as its own points do, seen: bool (n,), and these of them can be seen or are on the object. half: half sides in pixels,
    (2,). zoom: tile pixels per unit of local, (2,).
    """

    centre: Float64
    axes: Float64
    samples: Float64
    cover: NDArray[np.float32]
    own: bool = False
    seen: Bool | None = None
    half: Float64 = field(init=False)
    zoom: Float64 = field(init=False)

    def __post_init__(self) -> None:
        half = np.sqrt((self.axes * self.axes).sum(0))
        object.__setattr__(self, "half", half)
        object.__setattr__(self, "zoom", np.minimum(_ENLARGE * half, _CORE))

    def covered(self, local: Float64) -> NDArray[np.float32]:
        """How much of the object is in the cells that local places (n, 2) lie in, 0..1; places outside: the nearest cell."""
        cell = np.clip(((local + 1) / 2 * _LOOK).astype(np.intp), 0, _LOOK - 1)
        result: NDArray[np.float32] = self.cover[cell[:, 1], cell[:, 0]]
        return result


class Levels:
    """A picture at full, half, quarter ... size, made when asked for."""

    def __init__(self, image: Image) -> None:
        factor = min(-(-max(image.shape[:2]) // _LARGEST), *image.shape[:2])
        self._images = [(self._smaller(image, factor), factor)]

    @staticmethod
    def _smaller(image: Image, factor: int) -> Image:
        if factor == 1:
            return image
        size = (image.shape[1] // factor, image.shape[0] // factor)
        cut = image[: size[1] * factor, : size[0] * factor]  # whole blocks only: exact places, fast averaging
        small: Image = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
        return small

    def tile(self, frame: TileFrame) -> NDArray[np.uint8]:
        """uint8 (TILE, TILE, 3): the surroundings of a geometry, its centre in the middle, `frame.zoom` pixels to its rim."""
        shrink = float((frame.half / frame.zoom).min())
        while self._images[-1][1] * 2 <= shrink and min(self._images[-1][0].shape[:2]) >= 32:
            image, factor = self._images[-1]
            self._images.append((self._smaller(image, 2), 2 * factor))
        image, factor = next((i, f) for i, f in reversed(self._images) if f <= shrink or f == self._images[0][1])
        linear = frame.axes / frame.zoom / factor
        middle = (frame.centre + 0.5) / factor - 0.5
        matrix = np.column_stack((linear, middle - linear @ np.full(2, (TILE - 1) / 2)))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        tile: NDArray[np.uint8] = cv2.warpAffine(
            image, matrix, (TILE, TILE), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return tile


_LINE: Float64 = (np.arange(_LOOK) + 0.5) * 2 / _LOOK - 1
_CENTRES: Float64 = np.stack(np.meshgrid(_LINE, _LINE), -1)
"""Local places of a look's cells, (_LOOK, _LOOK, 2)."""
NOTHING: Look = np.zeros((_LOOK, _LOOK, 4), np.float32)


def look_of(tile: NDArray[np.uint8], frame: TileFrame, shape: tuple[int, ...]) -> Look:
    """The object in its tile made small; cells off the picture weigh 0."""
    x, y = np.maximum(np.rint(frame.zoom).astype(int), 1)
    middle = TILE // 2
    core = tile[middle - y : middle + y, middle - x : middle + x]
    small = cv2.resize(core, (_LOOK, _LOOK), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    cover = frame.cover
    reach, limit = np.abs(frame.axes).sum(1), np.array([shape[1], shape[0]])
    if (frame.centre < reach).any() or (frame.centre + reach > limit - 1).any():
        pixels = frame.centre + _CENTRES @ frame.axes.T
        cover = cover * ((pixels >= -0.5) & (pixels <= limit - 0.5)).all(-1)
    look = np.empty((_LOOK, _LOOK, 4), np.float32)
    look[..., :3], look[..., 3] = small, cover
    return look


def alike(a: Look, b: Look) -> float:
    """How alike two looks are, 0..1: correlation of the colours over the cells that both have, less where the mean colour
    differs. Surfaces with hardly any contrast are alike when their mean colours are.
    """
    weight = np.minimum(a[..., 3], b[..., 3]).ravel()
    total = float(weight.sum())
    if total < 1:
        return 0.0
    pa, pb = a[..., :3].reshape(-1, 3), b[..., :3].reshape(-1, 3)
    mean_a, mean_b = weight @ pa / total, weight @ pb / total
    # One grey mean for the three channels: brightness may change a little, hue is part of the look.
    da, db = pa - mean_a.mean(), pb - mean_b.mean()
    contrast = float(np.sqrt((weight @ (da * da)).sum() * (weight @ (db * db)).sum())) / total
    common = float((weight @ (da * db)).sum()) / total
    shift = float(np.abs(mean_a - mean_b).max())
    return float(np.clip((common + _FLAT) / (contrast + _FLAT), 0, 1) * np.exp(-((shift / 0.35) ** 2)))


_FULL: NDArray[np.float32] = np.ones((_LOOK, _LOOK), np.float32)


def turn_of(geometry: Geometry) -> complex | None:
    """The direction of a closed outline, a complex number of size 1 that turns as the outline does; None for anything else,
    and for an outline without a clear one, as one that crosses itself."""
    order = ring(len(geometry.xy), geometry.edges) if isinstance(geometry, Points) else ()
    if not order or not isinstance(geometry, Points):
        return None
    xy = geometry.xy.astype(np.float64)[list(order)]
    x, y = (xy - xy.mean(0)).T
    twice = float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    around = float(np.hypot(x - np.roll(x, -1), y - np.roll(y, -1)).sum())
    # The first Fourier coefficient of an outline turns by what the outline turns (Zahn & Roskies 1972).
    steps = np.exp(-2j * np.pi * np.sign(twice) * np.arange(len(xy)) / len(xy))
    first = complex(((x + 1j * y) * steps).mean())
    clear = abs(twice) > _CROSSED * around**2 and abs(first) > 0.15 * float(np.sqrt((x * x + y * y).mean()))
    return first / abs(first) if clear else None


def frame_of(geometry: Geometry, grid: int, upright: complex = 1.0) -> TileFrame | None:
    """The frame and samples of a geometry, at most grid * grid; None for an empty mask. upright: `turn_of` the outline in the
    position in which it shall stand upright in its tile."""
    match geometry:
        case Box():
            x1, y1, x2, y2 = geometry.xyxy.astype(np.float64)
            half = np.maximum([(x2 - x1) / 2, (y2 - y1) / 2], 1.0)
            return TileFrame(np.array([(x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2]), np.diag(half), _spread(grid), _FULL)
        case OrientedBox():
            cx, cy, w, h = geometry.cxcywh.astype(np.float64)
            c, s = np.cos(geometry.angle_rad), np.sin(geometry.angle_rad)
            axes = np.array([[c, -s], [s, c]]) * np.maximum([w / 2, h / 2], 1.0)
            return TileFrame(np.array([cx - 0.5, cy - 0.5]), axes, _spread(grid), _FULL)
        case Mask():
            if geometry.area == 0:
                return None
            return _mask_frame(geometry, grid)
        case Points():
            xy = geometry.xy.astype(np.float64)
            order = ring(len(xy), geometry.edges)
            if order and (turn := turn_of(geometry)) is not None:
                return _outline_frame(xy[list(order)], turn / upright, grid)
            seen = xy[geometry.visible] if geometry.visible.any() else xy
            half = np.maximum((seen.max(0) - seen.min(0)) / 2, 12.0)
            centre = (seen.max(0) + seen.min(0)) / 2
            chosen = np.unique(np.linspace(0, len(xy) - 1, min(len(xy), grid * grid)).round().astype(int))
            local, cover = (xy[chosen] - centre) / half, _hull((seen - centre) / half)
            return TileFrame(centre, np.diag(half), local, cover, own=True, seen=geometry.visible[chosen])


def _mask_frame(mask: Mask, grid: int) -> TileFrame:
    """Centred on the mask's mass and as large as its spread says: a thin part that comes and goes moves it little."""
    h, w = mask.window
    small = cv2.resize(mask.crop().astype(np.float32), (2 * _LOOK, 2 * _LOOK), interpolation=cv2.INTER_AREA)
    line = (np.arange(2 * _LOOK) + 0.5) / (2 * _LOOK)
    total, across, down = float(small.sum()), small.sum(0), small.sum(1)
    mean = np.array([across @ line, down @ line]) / total
    spread = np.sqrt(np.maximum([across @ (line - mean[0]) ** 2, down @ (line - mean[1]) ** 2], 0) / total)
    size = np.array([w, h])
    centre = np.array([mask.x, mask.y]) + mean * size - 0.5
    half = np.maximum(1.9 * spread * size, 1.0)  # 1.73 for a rectangle, 2 for an ellipse
    # Cells of the frame, found again in the small mask.
    spot = ((_LINE[:, None] * half + centre + 0.5 - (mask.x, mask.y)) / size * 2 * _LOOK).astype(np.float32) - 0.5
    x, y = np.meshgrid(spot[:, 0], spot[:, 1])
    cover = cv2.remap(small, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return TileFrame(centre, np.diag(half), _within(cover, grid), cover)


def _within(cover: NDArray[np.float32], grid: int) -> Float64:
    """Local (n, 2), at most grid * grid: middles of cells that the object covers, spread over them."""
    rows, columns = np.nonzero(cover >= min(0.9, float(cover.max())))
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), grid * grid)).round().astype(int))
    samples: Float64 = (np.stack((columns, rows), 1)[chosen] + 0.5) * (2 / _LOOK) - 1
    return samples


def _outline_frame(xy: Float64, turn: complex, grid: int) -> TileFrame:
    """Of the area in a closed outline (n, 2), hidden vertices and all: turned as it is turned, with samples in it that stay in
    their places on the object when it turns, grows or bends."""
    middle = xy.mean(0)
    off = xy - middle
    rotation = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    turned = off @ rotation
    low, high = turned.min(0), turned.max(0)
    half = np.maximum((high - low) / 2, _THIN)
    centre = middle + rotation @ ((low + high) / 2)
    corners = (xy - centre) @ rotation / half
    cover = _filled(corners)
    around = np.arange(2 * grid) * len(xy) / (2 * grid)
    before = around.astype(int)
    share = (around - before)[:, None]
    rim = (1 - share) * off[before] + share * off[(before + 1) % len(xy)]
    depths = (np.arange(grid // 2) + 0.5) * 2 / grid
    spots = (middle + depths[:, None, None] * rim).reshape(-1, 2)
    samples = (spots - centre) @ rotation / half
    cell = np.clip(((samples + 1) / 2 * _LOOK).astype(np.intp), 0, _LOOK - 1)
    inside: Bool = cover[cell[:, 1], cell[:, 0]] > 0
    if np.count_nonzero(inside) < len(samples) / 3:  # a ring that is not quite closed
        return TileFrame(centre, rotation * half, _within(cover, grid), cover)
    return TileFrame(centre, rotation * half, samples, cover, own=True, seen=inside)


def _filled(corners: Float64) -> NDArray[np.float32]:
    """Cells in an outline of local places (n, 2); all cells when it hardly encloses any."""
    cover = np.zeros((_LOOK, _LOOK), np.float32)
    cv2.fillPoly(cover, [np.rint(((corners + 1) / 2 * _LOOK - 0.5) * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
    return cover if cover.sum() > _LOOK else _FULL


def _hull(local: Float64) -> NDArray[np.float32]:
    """Cells inside the convex hull of some local points; all cells when they hardly enclose any."""
    corners = np.rint((local + 1) / 2 * _LOOK - 0.5).astype(np.int32)
    cover = np.zeros((_LOOK, _LOOK), np.float32)
    cv2.fillConvexPoly(cover, cv2.convexHull(corners), 1.0)
    return cover if cover.sum() > _LOOK else _FULL


@lru_cache(maxsize=16)
def _spread(n: int) -> Float64:
    """Local (n * n, 2): away from the rim, where boxes show what is behind the object."""
    line = np.linspace(-0.7, 0.7, n)
    grid: Float64 = np.stack([v.ravel() for v in np.meshgrid(line, line)], 1)
    grid.setflags(write=False)  # shared by all
    return grid
