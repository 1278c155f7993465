"""Draws results over frames the way a person likes to look at them: ids, trails, confidence as colour."""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from common.geometry.measures import bounds
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.journal import Result
from common.video.contract import Image

TRAIL = 40
"""Frames that an object's trail reaches back."""

Colour = tuple[int, int, int]
_DARK: Colour = (24, 26, 30)
_SHIFT = 3  # OpenCV draws at 1/8 pixel


def object_colour(number: int) -> Colour:
    """RGB of the n-th object: neighbours differ clearly, and every colour stands out on natural pictures."""
    hue = (0.58 + number * 0.61803398875) % 1.0
    r, g, b = colorsys.hsv_to_rgb(hue, 0.72, 1.0)
    return round(255 * r), round(255 * g), round(255 * b)


def confidence_colour(score: float) -> Colour:
    """RGB from red (0) over amber to green (1)."""
    stops = np.array([[229, 57, 53], [255, 179, 0], [67, 190, 90]], float)
    r, g, b = (np.interp(min(max(score, 0.0), 1.0), [0.25, 0.6, 0.9], stops[:, channel]) for channel in range(3))
    return round(r), round(g), round(b)


class Overlay:
    """Draws frame after frame. Remembers only the trails (at most `TRAIL` centres per object).

    names: label of each object key. fps: for the clock in the corner; 0 = frame numbers only.
    """

    def __init__(self, names: Mapping[str, str], fps: float, frames: int) -> None:
        self._names = names
        self._number = {key: number for number, key in enumerate(names)}
        self._fps = fps
        self._frames = frames
        self._trails: dict[str, deque[tuple[float, float] | None]] = {key: deque(maxlen=TRAIL) for key in names}

    def draw(self, image: Image, frame: int, results: Sequence[Result]) -> Image:
        """A new picture: `image` with the results of its frame."""
        canvas = image.copy()
        scale = max(1.0, min(image.shape[:2]) / 480)
        line = max(1, round(1.6 * scale))
        size = max(9, round(12 * scale))
        shown = {r.prediction.key: r for r in results if r.prediction.geometry is not None}
        self._fill_masks(canvas, shown)
        for key in self._names:
            self._extend_trail(key, shown.get(key))
            self._draw_trail(canvas, key, line)
        for key, result in shown.items():
            geometry = result.prediction.geometry
            assert geometry is not None
            colour = object_colour(self._number[key])
            _draw_geometry(canvas, geometry, colour, line, dashed=not result.prediction.visible)
            self._draw_label(canvas, result, geometry, colour, size)
        self._draw_clock(canvas, frame, results, size)
        return canvas

    def _fill_masks(self, canvas: Image, shown: Mapping[str, Result]) -> None:
        for key, result in shown.items():
            geometry = result.prediction.geometry
            if isinstance(geometry, Mask) and geometry.area:
                h, w = geometry.window
                window = canvas[geometry.y : geometry.y + h, geometry.x : geometry.x + w]
                inside = geometry.crop()
                tint = np.array(object_colour(self._number[key]), np.float32)
                window[inside] = (0.55 * window[inside] + 0.45 * tint).astype(np.uint8)

    def _extend_trail(self, key: str, result: Result | None) -> None:
        box = bounds(result.prediction.geometry) if result and result.prediction.geometry is not None else None
        if result is None or box is None or not result.prediction.visible:
            self._trails[key].append(None)
        else:
            x1, y1, x2, y2 = (float(v) for v in box.xyxy)
            self._trails[key].append(((x1 + x2) / 2, (y1 + y2) / 2))

    def _draw_trail(self, canvas: Image, key: str, line: int) -> None:
        colour = np.array(object_colour(self._number[key]), float)
        trail = list(self._trails[key])
        for age, (a, b) in enumerate(pairwise(trail)):
            if a is not None and b is not None:
                strength = 0.25 + 0.75 * age / max(1, len(trail) - 1)
                shade = tuple(int(v) for v in colour * strength)
                cv2.line(canvas, _fixed(a), _fixed(b), shade, line, cv2.LINE_AA, _SHIFT)

    def _draw_label(self, canvas: Image, result: Result, geometry: Geometry, colour: Colour, size: int) -> None:
        box = bounds(geometry)
        if box is None:
            return
        score = result.prediction.score
        state = "label" if result.labelled else f"{score:.0%}" if result.prediction.visible else "hidden"
        chip = _chip(f"{self._names[result.prediction.key]}", state, colour, confidence_colour(score), size)
        x1, y1, _, y2 = (float(v) for v in box.xyxy)
        y = y1 - chip.shape[0] - 3
        _paste(canvas, chip, round(x1), round(y if y >= 0 else min(y2 + 3, canvas.shape[0] - chip.shape[0])))

    def _draw_clock(self, canvas: Image, frame: int, results: Sequence[Result], size: int) -> None:
        clock = f"frame {frame} / {self._frames - 1}"
        if self._fps > 0:
            clock += f"   {frame / self._fps:.2f} s"
        lost = [self._names[r.prediction.key] for r in results if r.prediction.geometry is None]
        state = f"lost: {', '.join(lost)}" if lost else ""
        chip = _chip(clock, state, (225, 228, 232), confidence_colour(0.0), size)
        _paste(canvas, chip, size // 2, canvas.shape[0] - chip.shape[0] - size // 2)


def _draw_geometry(canvas: Image, geometry: Geometry, colour: Colour, line: int, dashed: bool) -> None:
    match geometry:
        case Box():
            x1, y1, x2, y2 = (float(v) for v in geometry.xyxy - 0.5)
            _outline(canvas, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour, line, dashed)
        case OrientedBox():
            corners = [(float(x), float(y)) for x, y in geometry.corners() - 0.5]
            _outline(canvas, corners, colour, line, dashed)
            front = ((corners[1][0] + corners[2][0]) / 2, (corners[1][1] + corners[2][1]) / 2)
            cv2.circle(canvas, _fixed(front), (line + 1) << _SHIFT, colour, -1, cv2.LINE_AA, _SHIFT)
        case Mask():
            h, w = geometry.window
            if h and w:
                padded = np.pad(geometry.crop().astype(np.uint8), 1)
                contours, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
                offset = (geometry.x - 1, geometry.y - 1)
                cv2.drawContours(canvas, contours, -1, colour, line, cv2.LINE_AA, offset=offset)
        case Points():
            for a, b in geometry.edges:
                solid = geometry.visible[a] and geometry.visible[b]
                _segment(canvas, geometry.xy[a], geometry.xy[b], colour, line, dashed=not solid)
            for (x, y), visible in zip(geometry.xy, geometry.visible, strict=True):
                centre, radius = _fixed((float(x), float(y))), (line + 2) << _SHIFT
                cv2.circle(canvas, centre, radius, colour if visible else _DARK, -1, cv2.LINE_AA, _SHIFT)
                cv2.circle(canvas, centre, radius, (255, 255, 255) if visible else colour, 1, cv2.LINE_AA, _SHIFT)


def _outline(canvas: Image, corners: list[tuple[float, float]], colour: Colour, line: int, dashed: bool) -> None:
    for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
        _segment(canvas, a, b, colour, line, dashed)


def _segment(
    canvas: Image,
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    colour: Colour,
    line: int,
    dashed: bool,
) -> None:
    start, end = np.asarray(a, float), np.asarray(b, float)
    if not dashed:
        cv2.line(canvas, _fixed(start), _fixed(end), colour, line, cv2.LINE_AA, _SHIFT)
        return
    dashes = int(min(200, np.linalg.norm(end - start) // (5 * line + 3)))
    for number in range(0, dashes, 2):
        p, q = (start + (end - start) * (number + more) / max(1, dashes) for more in (0, 1))
        cv2.line(canvas, _fixed(p), _fixed(q), colour, line, cv2.LINE_AA, _SHIFT)


def _fixed(point: Sequence[float] | np.ndarray) -> tuple[int, int]:
    """Pixel coordinates in OpenCV's fixed-point form, kept where its drawing cannot overflow."""
    x, y = (min(max(float(v), -1e5), 1e5) for v in point)
    return round(x * (1 << _SHIFT)), round(y * (1 << _SHIFT))


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf", size)


@lru_cache(maxsize=16)  # the clock's chip is new on every frame: a large cache would only fill up with them
def _chip(name: str, state: str, colour: Colour, state_colour: Colour, size: int) -> np.ndarray:
    """Label on a dark rounded plate: name in the object's colour, state in the confidence's. RGBA uint8 (h, w, 4)."""
    font, gap, pad = _font(size), size // 2, size // 3
    name_width, state_width = (int(np.ceil(font.getlength(text))) for text in (name, state))
    width = pad * 2 + name_width + (gap + state_width if state else 0)
    plate = Pillow.new("RGBA", (width + 1, size + 2 * pad))
    pen = ImageDraw.Draw(plate)
    pen.rounded_rectangle((0, 0, width, size + 2 * pad - 1), pad, fill=(*_DARK, 205))
    pen.text((pad, pad - 1), name, font=font, fill=(*colour, 255))
    if state:
        pen.text((pad + name_width + gap, pad - 1), state, font=font, fill=(*state_colour, 255))
    return np.array(plate)


def _paste(canvas: Image, chip: np.ndarray, x: int, y: int) -> None:
    """Blend a chip in, moved inside the picture; cut where the picture is smaller than the chip."""
    x = max(0, min(x, canvas.shape[1] - chip.shape[1]))
    y = max(0, min(y, canvas.shape[0] - chip.shape[0]))
    window = canvas[y : y + chip.shape[0], x : x + chip.shape[1]]
    chip = chip[: window.shape[0], : window.shape[1]]
    alpha = chip[..., 3:].astype(np.float32) / 255
    window[:] = (window * (1 - alpha) + chip[..., :3] * alpha).astype(np.uint8)
