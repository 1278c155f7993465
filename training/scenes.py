"""Clips made freshly to choose and to judge on: other pictures, textures, outlines and motions than the samples trained on.

They are scenes of `common.evaluation`, whose renderer and painters have nothing in common with `training.samples`; skins and
grounds are painted by it or cut from the held-out pictures. A number gives the same scene for ever.
"""

from __future__ import annotations

import cv2
import numpy as np

from common.evaluation import outlines
from common.evaluation.motion import Camera, Motion, Ripple
from common.evaluation.outlines import Outline
from common.evaluation.paint import Painter, Picture, ground, hue, patterned
from common.evaluation.scenes import Scene, SceneObject
from training import pictures
from training.atlas import window
from training.textures import Rng

TARGET = "target"

WIDTH, HEIGHT = 640, 360


def fresh(seed: int, frames: int = 80) -> Scene:
    """One moving object named `TARGET` among others, some of which look like it, behind an occluder now and then, under a
    moving camera; sizes of 24 to 130 pixels, half of the objects waving, one in four small and blurred.
    """
    rng = np.random.default_rng((seed, 4242))
    small = rng.random() < 0.25
    size = float(rng.uniform(20, 34) if small else rng.uniform(40, 120))
    aspect = float(np.exp(rng.normal(0, 0.4)))
    width, height = size * aspect**0.5, size / aspect**0.5
    paint = _skin(rng)
    shape = _shape(rng, width, height)
    start = (float(rng.uniform(0.35, 0.65)) * WIDTH, float(rng.uniform(0.35, 0.65)) * HEIGHT)
    target = SceneObject(TARGET, shape, _motion(rng, start, size), paint, _ripple(rng, size))
    behind, front = [], []
    for number in range(int(rng.integers(1, 4))):
        like = rng.random() < 0.4
        place = (float(rng.uniform(0, WIDTH)), float(rng.uniform(0, HEIGHT)))
        other = float(size * np.exp(rng.normal(0, 0.25)))
        behind.append(
            SceneObject(
                f"other{number}",
                shape if like else _shape(rng, other, other * float(np.exp(rng.normal(0, 0.3)))),
                _motion(rng, place, other),
                paint if like else _skin(rng),
                _ripple(rng, other),
                tracked=False,
            )
        )
    if rng.random() < 0.4:
        post = outlines.rectangle(float(size * rng.uniform(0.4, 0.9)), float(HEIGHT * 0.9))
        at = (start[0] + float(rng.choice([-1, 1])) * 1.6 * size, HEIGHT / 2)
        front.append(SceneObject("post", post, Motion(at), _skin(rng), tracked=False))
    return Scene(
        seed=seed,
        frames=frames,
        width=WIDTH,
        height=HEIGHT,
        objects=(*behind, target, *front),
        camera=_camera(rng),
        ground=_ground(rng),
        light=float(rng.uniform(0, 0.15)),
        noise=float(rng.uniform(0, 5)),
        shutter=float(rng.uniform(0, 0.8)),
        blur=float(rng.uniform(0.6, 1.3)) if small else 0.0,
        name=f"fresh{seed}",
    )


def _camera(rng: Rng) -> Camera:
    """Still in one scene of three."""
    if rng.random() < 0.33:
        return Camera()
    pan = float(rng.normal(0, 60)), float(rng.normal(0, 25))
    zoom, roll = float(rng.normal(0, 0.15)), float(rng.normal(0, 0.05))
    return Camera(pan, zoom, roll, float(rng.uniform(60, 160)), float(rng.uniform(0, 3)))


def _motion(rng: Rng, start: tuple[float, float], size: float) -> Motion:
    pace = 0.05 * size
    vx, vy = (float(v) for v in rng.normal(0, 0.3 * pace, 2))
    sway = float(rng.uniform(0.2, 1.6) * size), float(rng.uniform(0.1, 0.8) * size)
    return Motion(
        start,
        velocity=(vx, vy),
        sway=sway,
        sway_period=float(np.exp(rng.uniform(np.log(14), np.log(120)))),
        phase=float(rng.uniform(0, 6)),
        angle_rad=float(rng.uniform(-np.pi, np.pi)),
        spin=float(rng.normal(0, 0.02)) if rng.random() < 0.3 else 0.0,
        swing=float(rng.uniform(0, 0.6)),
        grow=float(rng.uniform(-0.5, 0.5)),
    )


def _ripple(rng: Rng, size: float) -> Ripple | None:
    if rng.random() < 0.5:
        return None
    return Ripple(
        float(rng.uniform(0.02, 0.08) * size), float(size * rng.uniform(0.8, 1.6)), float(rng.uniform(20, 50))
    )


def _shape(rng: Rng, width: float, height: float) -> Outline:
    kind = int(rng.integers(4))
    if kind == 0:
        return outlines.ellipse(width, height)
    if kind == 1:
        return outlines.rectangle(width, height)
    if kind == 2:
        return outlines.star(float(max(width, height) / 2), int(rng.integers(4, 8)), float(rng.uniform(0.45, 0.8)))
    return outlines.blob(rng, width, height)


def _skin(rng: Rng) -> Painter:
    if rng.random() < 0.35:
        return patterned(hue(float(rng.random()), float(rng.uniform(0.1, 0.9))))
    return _photographed(int(rng.integers(1 << 30)))


def _ground(rng: Rng) -> Painter:
    return ground if rng.random() < 0.3 else _photographed(int(rng.integers(1 << 30)))


def _photographed(seed: int) -> Painter:
    """A window of a held-out picture, the same whatever else the scene draws."""

    def paint(rng: Rng, height: int, width: int) -> Picture:
        del rng
        own = np.random.default_rng(seed)
        held = pictures.read(held_out=True)
        pixels = held[int(own.integers(len(held)))][1]
        cut = window(own, pixels, max(64, min(320, max(height, width))))
        return cv2.resize(cut, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)

    return paint
