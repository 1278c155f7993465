"""A clip of five textured things that slide to and fro, two pixels per frame, and how each looks as every geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from common.geometry.shapes import Polygon, Polyline, SinglePoint, Value, skeleton
from common.geometry.supervisely import to_json
from common.geometry.types import Box, Mask, OrientedBox

WIDTH, HEIGHT = 224, 128
PLACES = ((8, 6), (8, 48), (8, 92), (118, 24), (118, 72))
"""Where each of the five is on frame 0: (x, y) of its top-left pixel."""
SIZE = (32, 28)
TURN = 30
"""Frames from one end of the way to the other."""
SPEED = 2

KINDS = ("rectangle", "oriented_bbox", "bitmap", "polygon", "point", "line", "graph")
APP_OF = {"rectangle": "box_tracker", "oriented_bbox": "box_tracker", "bitmap": "mask_tracker"} | dict.fromkeys(
    ("polygon", "point", "line", "graph"), "point_tracker"
)
BONES = (("a", "b"), ("b", "c"))


def shift(frame: int) -> int:
    """How far right of its place everything is on a frame, pixels."""
    step = frame % (2 * TURN)
    return SPEED * min(step, 2 * TURN - step)


def write_clip(path: Path, frames: int, seed: int = 5) -> Path:
    random = np.random.default_rng(seed)

    def texture(height: int, width: int, low: int, high: int) -> np.ndarray:
        coarse = random.integers(low, high, (height // 5 + 2, width // 5 + 2, 3), dtype=np.uint8)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    ground = texture(HEIGHT, WIDTH, 10, 110)
    looks = [texture(SIZE[1], SIZE[0], 120, 255) for _ in PLACES]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 8_000_000
        for index in range(frames):
            image = ground.copy()
            for (x, y), look in zip(PLACES, looks, strict=True):
                left = x + shift(index)
                image[y : y + SIZE[1], left : left + SIZE[0]] = look
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def value(kind: str, frame: int = 0, number: int = 0) -> Value:
    """One of the five things as it is on a frame."""
    x, y = PLACES[number][0] + shift(frame), PLACES[number][1]
    w, h = SIZE
    match kind:
        case "rectangle":
            return Box(np.array([x, y, x + w, y + h]))
        case "oriented_bbox":
            return OrientedBox(np.array([x + w / 2, y + h / 2, w - 8, h - 8]), 0.3)
        case "bitmap":
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[y : y + h, x : x + w] = True
            return Mask.from_array(mask)
        case "polygon":
            return Polygon(np.array([[x, y], [x + w - 1, y], [x + w - 1, y + h - 1], [x, y + h - 1]]))
        case "point":
            return SinglePoint(np.array([x + w / 2, y + h / 2]))
        case "line":
            return Polyline(np.array([[x + 4, y + 4], [x + w / 2, y + h / 2], [x + w - 5, y + 8]]))
        case "graph":
            return skeleton({"a": (x + 6.0, y + 6.0), "b": (x + 18.0, y + 14.0), "c": (x + 26.0, y + 20.0)}, BONES)
    raise ValueError(kind)


def data(kind: str, frame: int = 0, number: int = 0) -> dict[str, Any]:
    """The same as Supervisely writes it."""
    return to_json(value(kind, frame, number), WIDTH, HEIGHT)
