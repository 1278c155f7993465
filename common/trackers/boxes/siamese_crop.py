"""Square crops around objects as the published siamese trackers cut them, and turned ones for oriented boxes.

Boxes are float64 x, y, width, height with x, y the top-left corner. Turned boxes keep that form: the box before the turn
by `angle` about its centre.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.contract import Image

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]
Index = NDArray[np.intp]
Crops = NDArray[np.uint8]

BLACK = (0, 0, 0)


def sides(boxes: Array, factor: Array | float) -> Array:
    """Side (n,) in whole pixels of the square crops around boxes (n, 4): the mean side times a factor, rounded up."""
    wanted: Array = np.ceil(np.sqrt(boxes[:, 2] * boxes[:, 3]) * factor)
    return np.maximum(wanted, 1.0)


def corners_of(boxes: Array, side: Array) -> NDArray[np.int64]:
    """Top-left pixel (n, 2) of the crops: rounded half to even, as the published code does."""
    middle = boxes[:, :2] + 0.5 * boxes[:, 2:]
    corner: NDArray[np.int64] = np.rint(middle - side[:, None] * 0.5).astype(np.int64)
    return corner


def crop_around(image: Image, boxes: Array, angle: Array, side: Array, size: int) -> Crops:
    """Crops uint8 (n, size, size, 3) around boxes (n, 4), black outside the picture.

    Upright boxes: as MixFormer and MCITrack cut them, quirk included: a crop that touches or crosses the right or lower
    edge does not see the last column or row. Turned boxes (angle != 0): the object stands upright in the crop.
    """
    out = np.empty((len(boxes), size, size, 3), np.uint8)
    for number, ((x, y), length) in enumerate(zip(corners_of(boxes, side), side, strict=True)):
        if angle[number] == 0.0:
            out[number] = cut(image, int(x), int(y), int(length), size, BLACK, keep_last=False)
        else:
            centre = boxes[number, :2] + 0.5 * boxes[number, 2:]
            out[number] = cut_turned(image, centre, float(length), float(angle[number]), size, BLACK)
    return out


def cut(image: Image, x: int, y: int, side: int, size: int, fill: tuple[int, ...], *, keep_last: bool) -> Crops:
    """Pixels x..x+side-1, y..y+side-1, resized bilinearly to (size, size, 3); `fill` outside the picture.

    keep_last: whether a crop that ends at the picture's right or lower edge or beyond shows its last column or row.
    """
    height, width = image.shape[:2]
    right = width if keep_last or x + side < width else width - 1
    bottom = height if keep_last or y + side < height else height - 1
    window = np.empty((side, side, 3), np.uint8)
    window[:] = fill
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + side, right), min(y + side, bottom)
    if left < right and top < bottom:
        window[top - y : bottom - y, left - x : right - x] = image[top:bottom, left:right]
    if side == size:
        return window
    resized: Crops = cv2.resize(window, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return resized


def cut_turned(image: Image, centre: Array, side: float, angle: float, size: int, fill: tuple[int, ...]) -> Crops:
    """The square of that side about centre (2,), turned by `angle` radians, as (size, size, 3)."""
    step = side / size
    cos, sin = float(np.cos(angle)) * step, float(np.sin(angle)) * step
    turn = np.array([[cos, -sin], [sin, cos]])
    # Pixel (i, j) of the crop shows the place i + 0.5, j + 0.5 of it; pixels of the picture likewise.
    origin = np.asarray(centre, np.float64) + turn @ np.full(2, 0.5 - size / 2) - 0.5
    matrix = np.concatenate((turn, origin[:, None]), 1)
    colour = [float(v) for v in fill]
    window: Crops = cv2.warpAffine(
        image,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=colour,
    ).astype(np.uint8, copy=False)
    return window


def place_back(found: NDArray[np.float32], boxes: Array, angle: Array, side: Array, size: int) -> Array:
    """Boxes (n, 4) in the picture.

    found: float32 (n, 4) centre x, y, width, height in 0..1 of the crop. boxes, angle, side: around what, how turned and
    how large the crops were, before they were resized to `size` pixels. Steps and precision are the published ones.
    """
    zoom = size / side[:, None]
    pixels = (found * np.float32(size) / zoom.astype(np.float32)).astype(np.float64)
    half = 0.5 * size / zoom
    before = boxes[:, :2] + 0.5 * boxes[:, 2:]
    upright = pixels[:, :2] + (before - half)
    offset = pixels[:, :2] - half
    cos, sin = np.cos(angle), np.sin(angle)
    turned = before + np.stack((offset[:, 0] * cos - offset[:, 1] * sin, offset[:, 0] * sin + offset[:, 1] * cos), 1)
    centre = np.where((angle == 0.0)[:, None], upright, turned)
    return np.concatenate((centre - 0.5 * pixels[:, 2:], pixels[:, 2:]), 1)


def clip_all(boxes: Array, angle: Array, width: int, height: int, margin: Array) -> Array:
    """`clip` for upright boxes, `clip_turned` for turned ones."""
    upright = (angle == 0.0)[:, None]
    return np.where(upright, clip(boxes, width, height, margin), clip_turned(boxes, width, height, margin))


def clip(boxes: Array, width: int, height: int, margin: Array) -> Array:
    """Boxes (n, 4) cut to the picture, at least margin (n,) wide and high and that far inside."""
    most = np.array([width, height], np.float64)
    margin = np.minimum(margin[:, None], most)
    low = np.minimum(np.maximum(boxes[:, :2], 0.0), most - margin)
    high = np.minimum(np.maximum(boxes[:, :2] + boxes[:, 2:], margin), most)
    return np.concatenate((low, np.maximum(high - low, margin)), 1)


def clip_turned(boxes: Array, width: int, height: int, margin: Array) -> Array:
    """Turned boxes (n, 4) with their centres in the picture, at least margin (n,) and at most the picture's diagonal."""
    centre = np.clip(boxes[:, :2] + 0.5 * boxes[:, 2:], 0.0, np.array([width, height], np.float64))
    most = np.maximum(np.hypot(width, height), margin)[:, None]
    extent = np.clip(boxes[:, 2:], margin[:, None], most)
    return np.concatenate((centre - 0.5 * extent, extent), 1)
