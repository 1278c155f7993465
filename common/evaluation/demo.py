"""The demonstration clip: toy boats, creatures and a cloud over a coast seen from the air, one object for each geometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.evaluation import outlines
from common.evaluation.motion import Array, Camera, Motion, Ripple
from common.evaluation.outlines import Outline
from common.evaluation.paint import Colour, Picture, fractal, ramp
from common.evaluation.scenes import Scene, SceneObject

Bool = NDArray[np.bool_]

GEOMETRY = {
    "buoy": "box",
    "boat": "oriented_box",
    "fish": "mask",
    "kite": "polygon",
    "starfish": "skeleton",
}
"""Which label suits each object of the demonstration."""


def demo_scene(seed: int = 7, frames: int = 150, width: int = 640, height: int = 360) -> Scene:
    """Five objects, named as in `GEOMETRY`, and a cloud that passes in front; the camera pans, zooms and rolls.

    Object sizes and paths scale with the picture's height; made for 640 x 360 and about 150 frames.
    """
    unit = height / 360

    def at(x: float, y: float) -> tuple[float, float]:
        return x * width / 640, y * unit

    def by(x: float, y: float) -> tuple[float, float]:
        return x * unit, y * unit

    objects = (
        SceneObject(
            "starfish",
            _scaled(_starfish(), unit),
            Motion(at(505, 275), sway=by(34, 16), sway_period=120, swing=0.35, swing_period=95, phase=1.0),
            _starfish_skin,
            Ripple(3.2 * unit, 90 * unit, 38),
        ),
        SceneObject(
            "fish",
            _scaled(_fish(), unit),
            Motion(at(150, 285), velocity=by(1.15, -0.25), sway=by(0, 14), swing=0.16, swing_period=46),
            _fish_skin,
            Ripple(4.5 * unit, 120 * unit, 26),
        ),
        SceneObject(
            "boat",
            _scaled(_boat(), unit),
            Motion(at(560, 95), velocity=by(-2.1, 0.55), angle_rad=np.pi - 0.35, spin=-0.0035, grow=0.08, grow_period=130),
            _boat_skin,
        ),
        SceneObject(
            "buoy",
            _scaled(outlines.ellipse(62, 62), unit),
            Motion(at(330, 205), sway=by(24, 46), sway_period=88, spin=0.012, grow=0.14, grow_period=100),
            _buoy_skin,
        ),
        SceneObject(
            "kite",
            _scaled(_kite(), unit),
            Motion(at(120, 95), velocity=by(1.9, 0.1), sway=by(18, 26), sway_period=62, angle_rad=0.5, swing=0.3, swing_period=70),
            _kite_skin,
        ),
        SceneObject(
            "cloud",
            _scaled(outlines.blob(np.random.default_rng((seed, 8)), 150, 84), unit),
            Motion(at(730, 150), velocity=by(-2.3, 0.05), grow=0.05),
            _cloud_skin,
            Ripple(3 * unit, 80 * unit, 90),
            tracked=False,
            opacity=0.96,
        ),
    )  # fmt: skip
    camera = Camera(pan=by(42, 20), zoom=0.1, roll=0.07, period=170)
    return Scene(
        seed, frames, width, height, objects, camera, _coast, light=0.05, light_period=90, noise=1.0, name="demo"
    )  # fmt: skip


# -- shapes, in pixels of a 640 x 360 picture -------------------------------------------------------------------------


def _scaled(outline: Outline, unit: float) -> Outline:
    return Outline(outline.curve * unit, outline.corners * unit, outline.joints * unit, outline.bones)


def _starfish() -> Outline:
    """Five arms with rounded tips: the radius swells smoothly towards each."""
    angle = np.linspace(0, 2 * np.pi, 240, endpoint=False) - np.pi / 2
    radius = 24 + 34 * ((1 + np.cos(5 * (angle + np.pi / 2))) / 2) ** 1.6
    curve = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]
    arms = np.arange(5) * 2 * np.pi / 5 - np.pi / 2
    ray = np.stack([np.cos(arms), np.sin(arms)], 1)
    joints = np.concatenate([np.zeros((1, 2)), 24 * ray, 48 * ray])
    bones = tuple((0, 1 + arm) for arm in range(5)) + tuple((1 + arm, 6 + arm) for arm in range(5))
    return Outline(curve, curve[::20], joints, bones)


def _fish() -> Outline:
    """Seen from the side, swimming to the right: body, then a forked tail."""
    upper = [(62, 0), (54, -12), (38, -22), (18, -27), (-4, -24), (-26, -13), (-38, -7), (-62, -24), (-56, 0)]
    lower = [(x, -y) for x, y in upper[-2:0:-1]]
    joints = np.array([[50, 0], [22, 0], [-6, 0], [-34, 0], [-50, 0]], float)
    return _smoothed(outlines.polygon(np.array(upper + lower, float), joints, ((0, 1), (1, 2), (2, 3), (3, 4))))


def _boat() -> Outline:
    """Seen from above, bow to the right."""
    corners = np.array([[-52, -19], [14, -20], [38, -13], [56, 0], [38, 13], [14, 20], [-52, 19], [-55, 0]], float)
    return outlines.polygon(corners)


def _kite() -> Outline:
    return outlines.polygon(np.array([[0, -44], [30, -10], [0, 46], [-30, -10]], float))


def _smoothed(outline: Outline, width: int = 21) -> Outline:
    """Corners rounded by averaging along the border; corner labels move onto the new border."""
    kernel = np.hanning(width + 2)[1:-1]
    kernel /= kernel.sum()
    padded = np.concatenate([outline.curve[-width:], outline.curve, outline.curve[:width]])
    smooth = np.stack([np.convolve(padded[:, axis], kernel, "same") for axis in (0, 1)], 1)[width:-width]
    nearest = ((outline.corners[:, None] - smooth) ** 2).sum(-1).argmin(1)
    return Outline(smooth, smooth[nearest], outline.joints, outline.bones)


# -- skins; (u, v) run from -1 to 1 over an object's texture ----------------------------------------------------------


def _coordinates(height: int, width: int) -> tuple[Array, Array]:
    v, u = np.mgrid[0:height, 0:width]
    return 2 * u / max(width - 1, 1) - 1, 2 * v / max(height - 1, 1) - 1


def _grained(rng: np.random.Generator, picture: Array | Picture, strength: float = 0.28) -> Picture:
    """Uneven shade: nothing in the clip is flat, as nothing in a real one is."""
    height, width = picture.shape[:2]
    grain = fractal(rng, height, width, 26, 5, 0.8)[..., None]
    painted: Picture = np.clip(picture * (1 - strength + 2 * strength * grain), 0, 255).astype(np.float32)
    return painted


def _choose(where: Bool, inside: Colour, outside: Array | Picture) -> Array:
    chosen: Array = np.where(where[..., None], np.array(inside, float), outside)
    return chosen


def _coast(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Shallow sea, a beach and wooded land, lit from the top left."""
    unit = height / 500
    relief = fractal(rng, height, width, 210 * unit, 6, 0.5)
    y, x = np.mgrid[0:height, 0:width]
    # Land rises towards the top left corner and the bottom right one.
    slope = np.abs((x / width - 0.5) * 0.9 + (y / height - 0.5) * 1.3) * 0.55
    level = (0.55 * relief + slope).astype(np.float32)
    detail = fractal(rng, height, width, 22 * unit, 4, 0.8)
    stops: list[tuple[float, Colour]] = [
        (0.10, (18, 74, 118)), (0.30, (34, 118, 150)), (0.42, (70, 168, 176)), (0.47, (170, 214, 190)),
        (0.49, (232, 216, 168)), (0.54, (214, 188, 132)), (0.57, (120, 148, 76)), (0.70, (62, 108, 58)), (0.95, (38, 74, 46)),
    ]  # fmt: skip
    colour = ramp(level + 0.05 * (detail - 0.5), stops)
    land = np.clip((level - 0.47) / 0.06, 0, 1)
    fall_y, fall_x = np.gradient(relief * 110 + detail * 9 * (0.35 + land))
    shade = np.clip(1 - 0.11 * (fall_x + fall_y), 0.55, 1.45)
    glitter = np.clip(fractal(rng, height, width, 9 * unit, 3, 0.9) - 0.62, 0, 1) * (1 - land) * 170
    painted: Picture = np.clip(colour * shade[..., None] + glitter[..., None], 0, 255).astype(np.float32)
    return painted


def _starfish_skin(rng: np.random.Generator, height: int, width: int) -> Picture:
    u, v = _coordinates(height, width)
    radius, angle = np.hypot(u, v), np.arctan2(v, u) + np.pi / 2
    base = ramp(radius.astype(np.float32), [(0.0, (255, 190, 92)), (0.5, (244, 120, 48)), (1.0, (196, 58, 40))])
    ridge = np.abs(np.sin(2.5 * angle)) * radius < 0.05
    dots = (np.sin(radius * 34) > 0.72) & (np.abs(np.sin(2.5 * angle)) * radius < 0.12)
    return _grained(rng, _choose(ridge | dots, (255, 226, 170), base))


def _fish_skin(rng: np.random.Generator, height: int, width: int) -> Picture:
    u, v = _coordinates(height, width)
    base = ramp(v.astype(np.float32), [(-0.8, (255, 178, 40)), (0.1, (250, 132, 30)), (0.7, (255, 214, 130))])
    painted: Array = base.astype(np.float64)
    for middle, half in ((0.5, 0.09), (0.02, 0.1), (-0.5, 0.07)):
        across = np.abs(u - middle - 0.05 * np.cos(3 * v))
        painted = _choose(across < half + 0.035, (24, 26, 40), painted)
        painted = _choose(across < half, (250, 250, 250), painted)
    aspect = width / height
    eye = np.hypot((u - 0.76) * aspect, v + 0.2)
    painted = _choose(eye < 0.2, (255, 255, 255), painted)
    return _grained(rng, _choose(eye < 0.12, (10, 10, 16), painted), 0.2)


def _boat_skin(rng: np.random.Generator, height: int, width: int) -> Picture:
    u, v = _coordinates(height, width)
    planks = 0.5 + 0.5 * np.sin(v * 30)
    deck = ramp(planks.astype(np.float32), [(0.0, (150, 98, 56)), (0.4, (196, 142, 88)), (1.0, (214, 164, 110))])
    hull = np.maximum(np.abs(v) * 1.0, np.where(u > 0.2, np.abs(v) + (u - 0.2) * 1.05, 0))
    painted = _choose((hull > 0.68) | (u < -0.86), (208, 34, 44), deck)
    painted = _choose((hull > 0.62) & (hull < 0.68), (250, 244, 236), painted)
    cabin = (np.abs(u + 0.3) < 0.26) & (np.abs(v) < 0.42)
    painted = _choose(cabin, (246, 246, 250), painted)
    painted = _choose((np.abs(u + 0.08) < 0.05) & (np.abs(v) < 0.34), (40, 70, 110), painted)
    painted = _choose((np.abs(u + 0.36) < 0.1) & (np.abs(v) < 0.18), (60, 110, 190), painted)
    return _grained(rng, painted, 0.16)


def _buoy_skin(rng: np.random.Generator, height: int, width: int) -> Picture:
    u, v = _coordinates(height, width)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    painted = _choose(np.sin(3 * angle) > 0, (236, 52, 96), np.broadcast_to((252, 248, 240), (*u.shape, 3)))
    painted = _choose((radius < 0.46) & (radius > 0.3), (40, 60, 140), painted)
    painted = _choose(radius < 0.3, (255, 214, 60), painted)
    return _grained(rng, painted * (1.08 - 0.25 * radius[..., None]), 0.18)


def _kite_skin(rng: np.random.Generator, height: int, width: int) -> Picture:
    u, v = _coordinates(height, width)
    quarter = (u > 0).astype(int) + 2 * (v > -0.22).astype(int)
    colours = np.array([(122, 64, 200), (54, 190, 210), (250, 208, 60), (240, 96, 150)], float)
    painted = colours[quarter]
    painted = _choose((np.abs(u) < 0.05) | (np.abs(v + 0.22) < 0.035), (250, 250, 250), painted)
    return _grained(rng, painted, 0.22)


def _cloud_skin(rng: np.random.Generator, height: int, width: int) -> Picture:
    puffs = fractal(rng, height, width, 70, 5, 0.6)
    return ramp(puffs, [(0.0, (176, 188, 204)), (0.5, (232, 238, 244)), (1.0, (255, 255, 255))])
