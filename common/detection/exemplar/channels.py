"""What a picture looks like, cell by cell: gradients by direction, colour, and how much each cell's colour is the objects'.

Source: aggregated channel features, Dollár, Appel, Belongie and Perona 2014, "Fast feature pyramids for object detection";
histograms of oriented gradients, Dalal and Triggs 2005. The colour model is a ratio of histograms, Swain and Ballard 1991.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.detection.exemplar.settings import ExemplarSettings
from common.video.contract import Image

Float = NDArray[np.float32]

CELL = 4
"""Pixels of a cell's side."""
PAD = 5
"""Cells around the picture that windows may reach over."""
_DIRECTIONS = 6
_AROUND = 4
"""Cells on each side that say how strong gradients are around a cell."""
_MEASURED = 2
"""Of so many sizes one is measured."""
_BINS = (8, 16, 16)
_COLOUR_ZERO = np.array([0, 128, 128], np.float32)
_COLOUR_SCALE = np.array([255, 48, 48], np.float32)


@dataclass(frozen=True)
class Level:
    """One size of the picture. maps: float32 (rows, columns, channels), with PAD cells around. scale: pixels of this size
    per pixel of the picture, in x and y."""

    maps: Float
    scale: tuple[float, float]

    @property
    def size(self) -> float:
        return float(np.sqrt(self.scale[0] * self.scale[1]))


def palette(lab: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Number of the colour bin of each pixel of a Lab picture, int32 (rows, columns)."""
    # a and b of natural pictures lie near the middle: their bins are spread over the middle half
    wide = np.clip((lab[..., 1:].astype(np.int16) - 64) >> 3, 0, 15)
    numbers: NDArray[np.int32] = ((lab[..., 0].astype(np.int32) >> 5) * _BINS[1] + wide[..., 0]) * _BINS[2] + wide[
        ..., 1
    ]
    return numbers


def colour_table(inside: Sequence[NDArray[np.float64]], outside: NDArray[np.float64]) -> Float:
    """How much each colour bin speaks for each group of objects, float32 (bins, groups), 0..1.

    inside: histograms float64 (bins,) of the pixels of each group's objects; outside: of the background.
    """
    columns = []
    everything = sum(inside, outside)
    for own in inside:
        rest = everything - own
        a, b = (_smooth(h) / max(h.sum(), 1.0) for h in (own, rest))
        # a colour that is nowhere says nothing
        least = 0.3 / own.size
        columns.append((a + 0.1 * least) / (a + b + least))
    return np.stack(columns, 1).astype(np.float32)


def bins() -> int:
    """How many colour bins there are."""
    return int(np.prod(_BINS))


def _smooth(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    cube = histogram.reshape(_BINS)
    for axis in range(3):
        sides = np.take(cube, np.r_[0, : cube.shape[axis] - 1], axis) + np.take(
            cube, np.r_[1 : cube.shape[axis], cube.shape[axis] - 1], axis
        )
        cube = 0.6 * cube + 0.2 * sides
    return cube.ravel()


def channel_count(settings: ExemplarSettings, groups: int) -> int:
    return (_DIRECTIONS + 1 if settings.shapes else 0) + (3 + groups if settings.colours else 0)


def level(image: Image, size: tuple[int, int], settings: ExemplarSettings, table: Float) -> Float:
    """The picture's channels at another size, float32 (rows, columns, channels). size: width and height in pixels, multiples of CELL."""
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR)
    return np.asarray(of_pictures(np.asarray(small, np.uint8)[None], settings, table)[0])


def of_pictures(pictures: NDArray[np.uint8], settings: ExemplarSettings, table: Float) -> Float:
    """The channels of pictures of one size, float32 (n, rows, columns, channels). pictures: (n, height, width, 3), multiples of CELL.

    They are worked on below each other, as one: many small ones cost hardly more than one of all their pixels.
    """
    n, height, width = pictures.shape[:3]
    lab = np.asarray(cv2.cvtColor(pictures.reshape(n * height, width, 3), cv2.COLOR_RGB2LAB), np.uint8)
    cells = (width // CELL, n * height // CELL)
    parts: list[Float] = []
    if settings.shapes:
        parts += _gradients(lab[..., 0].reshape(n, height, width))
    if settings.colours:
        mean = np.asarray(cv2.resize(lab, cells, interpolation=cv2.INTER_AREA), np.float32)
        parts += list(np.moveaxis((mean - _COLOUR_ZERO) / _COLOUR_SCALE, -1, 0))
        likely = np.take(table, palette(lab[::2, ::2]), axis=0)
        likely = cv2.resize(likely, cells, interpolation=cv2.INTER_AREA).reshape(cells[1], cells[0], -1)
        parts += [likely[..., group] for group in range(table.shape[1])]
    maps = np.stack(parts, -1).astype(np.float32, copy=False)
    return maps.reshape(n, height // CELL, width // CELL, -1)


def _gradients(light: NDArray[np.uint8]) -> list[Float]:
    """Of pictures (n, height, width): for each direction, and over all, (n * rows, columns) cells."""
    n, height, width = light.shape
    # each between rows of its own, mirrored, so that it does not see its neighbours
    apart = np.concatenate((light[:, 2:0:-1], light, light[:, -2:-4:-1]), 1)
    smooth = cv2.GaussianBlur(apart.reshape(-1, width), (3, 3), 0)
    slopes = (cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    dx, dy = (slope.reshape(n, height + 4, width)[:, 2:-2].reshape(n * height, width) for slope in slopes)
    strength, angle = cv2.cartToPolar(dx, dy)
    place = np.asarray(angle, np.float32) * np.float32(_DIRECTIONS / np.pi)  # 0..2 * directions
    place -= np.float32(_DIRECTIONS) * (place >= _DIRECTIONS)
    cells = (width // CELL, n * height // CELL)
    parts = []
    for direction in range(_DIRECTIONS):
        off = np.abs(place - np.float32(direction))
        off = np.minimum(off, np.float32(_DIRECTIONS) - off)
        share = np.maximum(np.float32(1) - off, 0) * strength
        parts.append(cv2.resize(share, cells, interpolation=cv2.INTER_AREA))
    total = np.asarray(sum(parts), np.float32)
    each = np.pad(total.reshape(n, -1, cells[0]), ((0, 0), (_AROUND, _AROUND), (0, 0)), mode="edge")
    reach = 2 * _AROUND + 1
    mean = cv2.blur(each.reshape(-1, cells[0]), (reach, reach), borderType=cv2.BORDER_REPLICATE).reshape(each.shape)
    around = mean[:, _AROUND:-_AROUND].reshape(total.shape) + np.float32(12.0)
    parts.append(total)
    return [np.asarray(np.sqrt(part / around), np.float32) for part in parts]


def sizes(shape: tuple[int, ...], smallest: float, largest: float, settings: ExemplarSettings) -> list[tuple[int, int]]:
    """Sizes (width, height) to look at a picture of `shape` in, finest first, for objects whose side is between smallest
    and largest pixels."""
    rows, columns = shape[:2]
    step = 2 ** (1 / settings.per_octave)
    finest = settings.side / max(smallest, 1.0)
    finest = min(finest, np.sqrt(settings.most_pixels / (rows * columns)), 2.0)
    coarsest = min(settings.side / max(largest, smallest, 1.0), finest)
    count = int(np.ceil(np.log(finest / coarsest) / np.log(step) - 1e-6)) + 1
    found = []
    for number in range(count):
        scale = finest / step**number
        size = (max(4, round(columns * scale / CELL)) * CELL, max(4, round(rows * scale / CELL)) * CELL)
        if size not in found:
            found.append(size)
    return found


def pyramid(image: Image, smallest: float, largest: float, settings: ExemplarSettings, table: Float) -> list[Level]:
    """The picture in all sizes that objects of those sides need. Channels are measured at each second size; those of the
    sizes between are their neighbours', made smaller (Dollár et al. 2014)."""
    found = []
    maps: Float = np.zeros((0, 0, 0), np.float32)
    for number, size in enumerate(sizes(image.shape, smallest, largest, settings)):
        if number % _MEASURED == 0:
            maps = own = level(image, size, settings, table)
        else:
            own = np.asarray(cv2.resize(maps, (size[0] // CELL, size[1] // CELL), interpolation=cv2.INTER_LINEAR))
            own = own.reshape(size[1] // CELL, size[0] // CELL, -1)
        around = np.pad(own, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="edge")
        found.append(Level(around, (size[0] / image.shape[1], size[1] / image.shape[0])))
    return found


def sample(
    levels: Sequence[Level], boxes: NDArray[np.floating], grid: tuple[int, int], margin: float, side: float
) -> Float:
    """Channels inside boxes on an even grid: float32 (n, rows * columns * channels).

    boxes: (n, 4) pixels of the picture. grid: rows and columns. margin: share of the box's size that is looked at around
    it. side: each box is read at the size at which its side comes nearest to this.
    """
    rows, columns = grid
    channels = levels[0].maps.shape[2]
    out = np.zeros((len(boxes), rows, columns, channels), np.float32)
    if not len(boxes):
        return out.reshape(0, rows * columns * channels)
    at = boxes.astype(np.float32)
    extent = np.sqrt(np.maximum((at[:, 2] - at[:, 0]) * (at[:, 3] - at[:, 1]), 1e-6))
    logs = np.log(np.array([one.size for one in levels]))
    chosen = np.abs(np.log(side / extent)[:, None] - logs).argmin(1)
    spread = (1 + 2 * margin) * ((np.arange(columns) + 0.5) / columns - 0.5)
    fall = (1 + 2 * margin) * ((np.arange(rows) + 0.5) / rows - 0.5)
    for number in np.unique(chosen):
        mine = np.flatnonzero(chosen == number)
        one = levels[number]
        fx, fy = one.scale[0] / CELL, one.scale[1] / CELL
        own = at[mine]
        x = (((own[:, 0] + own[:, 2]) / 2)[:, None] + (own[:, 2] - own[:, 0])[:, None] * spread) * fx - 0.5 + PAD
        y = (((own[:, 1] + own[:, 3]) / 2)[:, None] + (own[:, 3] - own[:, 1])[:, None] * fall) * fy - 0.5 + PAD
        height, width = one.maps.shape[:2]
        x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
        x0, y0 = x.astype(np.intp), y.astype(np.intp)
        u, v = (x - x0).astype(np.float32)[:, None, :, None], (y - y0).astype(np.float32)[:, :, None, None]
        flat = one.maps.reshape(-1, channels)
        corner = y0[:, :, None] * width + x0[:, None, :]
        top = flat[corner] * (1 - u) + flat[corner + 1] * u
        low = flat[corner + width] * (1 - u) + flat[corner + width + 1] * u
        out[mine] = top * (1 - v) + low * v
    return out.reshape(len(boxes), -1)
