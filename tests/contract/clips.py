"""The clips that the contract suite plays to trackers, and what a person would draw on them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from common.evaluation.scenes import FrameTruth, ObjectTruth, Scene, leaving_scene, random_scene
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.contract import GeometryKind, Prediction, Prompt, Tracker, track
from common.video.contract import Image

TYPES: dict[GeometryKind, type] = {"box": Box, "oriented_box": OrientedBox, "mask": Mask, "points": Points}


@lru_cache(maxsize=64)
def clip(
    seed: int, frames: int, width: int = 96, height: int = 72, objects: int = 1, **options: float
) -> tuple[Image, ...]:
    """Frames of a random scene; the arrays cannot be written to, so that no test can spoil another's."""
    return _rendered(scene(seed, frames, width, height, objects, **options))


@lru_cache(maxsize=64)
def scene(seed: int, frames: int, width: int = 96, height: int = 72, objects: int = 1, **options: float) -> Scene:
    return random_scene(
        seed, frames, width, height, objects, **{"size": 0.35, "turn": 0.05, "grow": 0.03, "speed": 2.5, **options}
    )


@lru_cache(maxsize=8)
def leaving(seed: int, frames: int, leave: int) -> tuple[tuple[Image, ...], FrameTruth]:
    made = leaving_scene(seed, frames, 160, 120, leave)
    return _rendered(made), made.truth(0)


def _rendered(made: Scene) -> tuple[Image, ...]:
    images = tuple(made.source().stream(0, made.frames))
    for image in images:
        image.setflags(write=False)
    return images


def geometry(truth: ObjectTruth, kind: GeometryKind) -> Geometry:
    """The object's true geometry of that kind."""
    if kind == "box":
        assert truth.amodal is not None
        return truth.amodal
    if kind == "oriented_box":
        assert truth.oriented is not None
        return truth.oriented
    if kind == "mask":
        return Mask.from_array(truth.mask)
    assert truth.points is not None
    return Points(truth.points.xy[:6], edges=((0, 1), (1, 2)))


def prompts(truth: FrameTruth, kind: GeometryKind) -> list[Prompt]:
    return [Prompt(o.key, geometry(o, kind)) for o in truth.objects]


def play(tracker: Tracker, images: Iterable[Image], wanted: Sequence[Prompt]) -> list[list[Prediction]]:
    """Everything the tracker says about a clip."""
    return list(track(tracker, iter(list(images)), wanted))


def fingerprint(frames: Sequence[Sequence[Prediction]]) -> list[bytes]:
    """Predictions as bytes, frame by frame: equal only when equal to the last bit."""
    return [b"|".join(_bytes(p) for p in frame) for frame in frames]


def _bytes(prediction: Prediction) -> bytes:
    shape = prediction.geometry
    match shape:
        case None:
            body = b"none"
        case Box():
            body = b"box" + shape.xyxy.tobytes()
        case OrientedBox():
            body = b"oriented" + shape.cxcywh.tobytes() + struct.pack("d", shape.angle_rad)
        case Mask():
            body = b"mask" + np.packbits(shape.to_array()).tobytes()
        case Points():
            body = b"points" + shape.xy.tobytes() + shape.visible.tobytes() + repr(shape.edges).encode()
    return prediction.key.encode() + body + struct.pack("d?", float(prediction.score), bool(prediction.visible))
