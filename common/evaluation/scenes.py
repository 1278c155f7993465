"""Synthetic clips with exact ground truth: textured objects move over a background seen by a moving camera.

A scene is a value: the same arguments give the same frames and truth, in any order, on any machine up to the rounding of
its arithmetic. Frames are rendered when asked for, so a clip of any length costs no memory and none is ever stored.

Pixels: points count pixel CENTRES as integers, boxes and oriented boxes span areas (`common.geometry.types`), so the box
of an outline is its bounds plus half a pixel, and the box of a mask is [first column, last column + 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import FrameUnreadable
from common.evaluation import outlines
from common.evaluation.motion import Camera, Motion, Ripple, transform
from common.evaluation.outlines import Outline
from common.evaluation.paint import Painter, ground, hue, patterned
from common.geometry.types import Box, OrientedBox, Points
from common.video.contract import Image, VideoInfo

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]
Layer = NDArray[np.float32]

_FINE = 2  # samples per pixel along each axis: edges are smooth and a pixel's coverage is known to a quarter


@dataclass(frozen=True)
class SceneObject:
    """One thing in the scene. Later objects of a scene are in front of earlier ones.

    key: its name, unique in the scene. paint: makes its texture (seeded by the scene and its place in it). ripple: how its
    surface waves, None = rigid. tracked: False for a mere occluder, which hides others but is not in the truth.
    opacity: 0..1; an object below 0.5 hides nothing and has an empty mask.
    """

    key: str
    outline: Outline
    motion: Motion
    paint: Painter
    ripple: Ripple | None = None
    tracked: bool = True
    opacity: float = 1.0

    def place(self, xy: Array, time: float, camera: Array) -> Array:
        """Points at rest on the object (n, 2) -> pixels of the frame at that time."""
        surface = xy if self.ripple is None else self.ripple.apply(xy, time)
        return transform(camera @ self.motion.matrix(time), surface)


@dataclass(frozen=True, eq=False)
class ObjectTruth:
    """Where one object really is in one frame.

    mask: bool (H, W), pixels of which it covers at least half and that nothing in front covers. box: tight box of the mask,
    None when it is empty. amodal: box of the whole object, also behind others and outside the picture; may reach outside.
    oriented: the same in the object's own axes, turned with it. visible_fraction: visible pixels / pixels of the
    whole object, 0..1. points, polygon, skeleton: fixed to its surface, with a visible flag each.
    Everything but key, mask and fraction is None while the object is absent from the world.
    """

    key: str
    mask: Bool
    visible_fraction: float
    box: Box | None = None
    amodal: Box | None = None
    oriented: OrientedBox | None = None
    points: Points | None = None
    polygon: Points | None = None
    skeleton: Points | None = None

    @property
    def visible(self) -> bool:
        """Whether any pixel of it can be seen."""
        return bool(self.mask.any())


@dataclass(frozen=True, eq=False)
class FrameTruth:
    """All truth of one frame. camera: float64 (3, 3), background pixels of frame 0 -> pixels of this frame.
    background: points fixed to the background plane, with visible flags.
    """

    frame: int
    camera: Array
    objects: tuple[ObjectTruth, ...]
    background: Points

    def __getitem__(self, key: str) -> ObjectTruth:
        for truth in self.objects:
            if truth.key == key:
                return truth
        raise KeyError(key)


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip as a value.

    seed: draws textures and points. frames, width, height: its size; at least 1. objects: back to front. camera: see
    `Camera`. ground: painter of the background. light: 0..1, how far brightness swings (over light_period frames). noise:
    standard deviation of sensor noise, grey levels. shutter: 0..1, share of a frame's time it is open (motion blur). blur:
    standard deviation in pixels of a soft lens. points: per object, and on the background.
    """

    seed: int
    frames: int
    width: int
    height: int
    objects: tuple[SceneObject, ...] = ()
    camera: Camera = field(default_factory=Camera)
    ground: Painter = ground
    light: float = 0.0
    light_period: float = 45.0
    noise: float = 0.0
    shutter: float = 0.0
    blur: float = 0.0
    points: int = 24
    fps: float = 25.0
    name: str = "scene"

    def __post_init__(self) -> None:
        if min(self.frames, self.width, self.height) < 1:
            raise ValueError(f"a scene has frames and pixels, got {self.frames} of {self.width}x{self.height}")
        if len({o.key for o in self.objects}) != len(self.objects):
            raise ValueError("two objects of the scene share a key")

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the tracked objects, back to front: the order of `FrameTruth.objects`."""
        return tuple(o.key for o in self.objects if o.tracked)

    def source(self) -> SceneSource:
        """The clip as a `FrameSource`."""
        return SceneSource(self)

    def render(self, frame: int) -> Image:
        """Frame as RGB uint8 (height, width, 3); the caller may keep it."""
        self._check(frame)
        times = [float(frame)] if self.shutter <= 0 else [frame + self.shutter * part for part in (-0.5, 0.0, 0.5)]
        canvas = self._expose(times[0], frame)
        if len(times) > 1:
            canvas = np.mean([canvas, *(self._expose(time, frame) for time in times[1:])], 0, np.float32)
        if self.blur > 0:
            canvas = cv2.GaussianBlur(canvas, (0, 0), self.blur)
        canvas *= np.float32(1 + self.light * np.sin(2 * np.pi * frame / self.light_period))
        grain = np.zeros_like(canvas)
        if self.noise > 0:
            rng = np.random.default_rng((self.seed, 1, frame))
            rng.standard_normal(dtype=np.float32, out=grain)
            grain *= np.float32(self.noise)
        picture: Image = cv2.add(canvas, grain, dtype=cv2.CV_8U)  # rounded, and kept within 0..255
        return picture

    def truth(self, frame: int) -> FrameTruth:
        """Where everything is in that frame. Shutter and blur change the picture, not the truth: it is that of the middle
        of the exposure.
        """
        self._check(frame)
        time, camera = float(frame), self.camera_at(frame)
        owner = np.full((self.height, self.width), -1, np.int32)
        covered = [0] * len(self.objects)
        for number, thing in enumerate(self.objects):
            layer = self._layer(number, time, camera) if thing.motion.present(frame) else None
            if layer is None:
                continue
            (rows, columns), _, alpha = layer
            solid = alpha >= 0.5
            covered[number] = int(solid.sum())
            owner[rows, columns][solid] = number
        objects = [self._object_truth(n, frame, camera, owner) for n, o in enumerate(self.objects) if o.tracked]
        background = self._seen(transform(camera, self._anchors[-1]), -1, owner)
        return FrameTruth(frame, camera, tuple(objects), background)

    def camera_at(self, frame: int) -> Array:
        """float64 (3, 3): background pixels of frame 0 -> pixels of that frame."""
        return self.camera.matrix(float(frame), self.width, self.height)

    def camera_between(self, before: int, after: int) -> Array:
        """float64 (3, 3): background pixels of frame `before` -> pixels of frame `after`."""
        matrix: Array = self.camera_at(after) @ np.linalg.inv(self.camera_at(before))
        return matrix

    def _check(self, frame: int) -> None:
        if not 0 <= frame < self.frames:
            raise FrameUnreadable(f"Frame {frame} does not exist: the scene has frames 0 to {self.frames - 1}.", frame)

    # -- pictures ----------------------------------------------------------------------------------------------------

    @cached_property
    def _backdrop(self) -> tuple[Image, tuple[int, int]]:
        margin_x, margin_y = self.camera.margin(self.width, self.height)
        rng = np.random.default_rng((self.seed, 0))
        picture = self.ground(rng, self.height + 2 * margin_y, self.width + 2 * margin_x)
        return np.clip(np.rint(picture), 0, 255).astype(np.uint8), (margin_x, margin_y)

    @cached_property
    def _skins(self) -> tuple[tuple[Layer, Layer], ...]:
        """Per object: colour (h, w, 3) and coverage 0..1 (h, w), with `_FINE` texels per pixel at scale 1."""
        skins: list[tuple[Layer, Layer]] = []
        for number, thing in enumerate(self.objects):
            rng = np.random.default_rng((self.seed, 2, number))
            width, height = (int(v) for v in 2 * np.ceil(thing.outline.half_size * _FINE) + 9)
            colour = thing.paint(rng, height, width).astype(np.float32)
            inside = np.zeros((height, width), np.uint8)
            texels = thing.outline.curve * _FINE + np.array([width - 1, height - 1]) / 2
            cv2.fillPoly(inside, [np.rint(texels * 256).astype(np.int32)], 255, cv2.LINE_AA, 8)
            skins.append((colour, inside.astype(np.float32) / np.float32(255)))
        return tuple(skins)

    @cached_property
    def _anchors(self) -> tuple[Array, ...]:
        """Tracked points at rest: one set per object, then the background's."""
        anchors = []
        for number, thing in enumerate(self.objects):
            rng = np.random.default_rng((self.seed, 3, number))
            anchors.append(_scatter(rng, thing.outline, self.points))
        rng = np.random.default_rng((self.seed, 4))
        grid = rng.uniform(0.03, 0.97, (max(1, self.points), 2)) * (self.width - 1, self.height - 1)
        return (*anchors, grid)

    def _expose(self, time: float, frame: int) -> Layer:
        """The scene at one instant, float32 (height, width, 3). frame: decides which objects exist."""
        camera = self.camera.matrix(time, self.width, self.height)
        picture, (margin_x, margin_y) = self._backdrop
        to_texel = np.linalg.inv(camera) @ _fine_to_pixel(0, 0)
        to_texel[:2, 2] += (margin_x, margin_y)
        size = (self.width * _FINE, self.height * _FINE)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        fine = cv2.warpAffine(picture, to_texel[:2], size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        canvas: Layer = cv2.resize(fine, (self.width, self.height), interpolation=cv2.INTER_AREA).astype(np.float32)
        for number, thing in enumerate(self.objects):
            layer = self._layer(number, time, camera) if thing.motion.present(frame) else None
            if layer is None:
                continue
            (rows, columns), colour, alpha = layer
            part = canvas[rows, columns]
            part *= 1 - alpha[..., None]
            part += colour
        return canvas

    def _layer(self, number: int, time: float, camera: Array) -> tuple[tuple[slice, slice], Layer, Layer] | None:
        """One object alone: the window of the picture it may touch, colour times coverage, coverage. None = outside."""
        thing = self.objects[number]
        colour, inside = self._skins[number]
        reach = thing.place(thing.outline.curve, time, camera)
        low = np.maximum(np.floor(reach.min(0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(reach.max(0)).astype(int) + 2, (self.width, self.height))
        if (low >= high).any():
            return None
        to_rest = np.linalg.inv(camera @ thing.motion.matrix(time)) @ _fine_to_pixel(int(low[0]), int(low[1]))
        columns, rows = (high - low) * _FINE
        along, down = np.arange(columns, dtype=np.float64), np.arange(rows, dtype=np.float64)[:, None]
        # Single precision from here on: what follows is rounded to 1/32 of a texel.
        x, y = ((a * along + (b * down + c)).astype(np.float32) for a, b, c in to_rest[:2])
        if thing.ripple is not None:
            x, y = thing.ripple.undone(x, y, time)
        tall, wide = inside.shape
        whole, part = cv2.convertMaps(x * _FINE + (wide - 1) / 2, y * _FINE + (tall - 1) / 2, cv2.CV_16SC2)
        alpha = cv2.remap(inside, whole, part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        tint = cv2.remap(colour, whole, part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = alpha * np.float32(thing.opacity)
        window = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        tint *= alpha[..., None]
        return window, _shrink(tint), _shrink(alpha)

    # -- truth -------------------------------------------------------------------------------------------------------

    def _object_truth(self, number: int, frame: int, camera: Array, owner: NDArray[np.int32]) -> ObjectTruth:
        thing, time = self.objects[number], float(frame)
        mask = owner == number
        if not thing.motion.present(frame):
            return ObjectTruth(thing.key, mask, 0.0)
        reach = thing.place(thing.outline.curve, time, camera)
        whole = abs(float(cv2.contourArea(reach.astype(np.float32))))
        fraction = min(1.0, float(mask.sum()) / max(whole, 1.0))
        outline, joints, anchors = thing.outline, thing.outline.joints, self._anchors[number]
        edges = tuple((i, (i + 1) % len(outline.corners)) for i in range(len(outline.corners)))
        return ObjectTruth(
            thing.key,
            mask,
            fraction,
            box=mask_box(mask),
            amodal=Box(np.concatenate([reach.min(0), reach.max(0)]).astype(np.float32) + np.float32(0.5)),
            oriented=self._oriented(thing, time, camera),
            points=self._seen(thing.place(anchors, time, camera), number, owner),
            polygon=self._seen(thing.place(outline.corners, time, camera), number, owner, edges),
            skeleton=self._seen(thing.place(joints, time, camera), number, owner, outline.bones),
        )

    @staticmethod
    def _oriented(thing: SceneObject, time: float, camera: Array) -> OrientedBox:
        curve = thing.outline.curve if thing.ripple is None else thing.ripple.apply(thing.outline.curve, time)
        matrix = camera @ thing.motion.matrix(time)
        scale, angle = float(np.hypot(*matrix[:2, 0])), float(np.arctan2(matrix[1, 0], matrix[0, 0]))
        low, high = curve.min(0), curve.max(0)
        middle = transform(matrix, (low + high)[None] / 2)[0] + 0.5
        return OrientedBox(np.concatenate([middle, (high - low) * scale]).astype(np.float32), angle)

    def _seen(
        self, xy: Array, number: int, owner: NDArray[np.int32], edges: tuple[tuple[int, int], ...] = ()
    ) -> Points:
        """Points with their visibility: inside the picture and on a pixel that belongs to the object.

        Corners lie on the border, where the pixel may already be the next object's: a neighbouring pixel will do.
        """
        inside = ((xy >= -0.5) & (xy < (self.width - 0.5, self.height - 0.5))).all(1)
        x, y = np.rint(np.clip(xy, 0, (self.width - 1, self.height - 1))).astype(int).T
        own = (owner == number).astype(np.uint8)
        if edges and number >= 0:
            own = cv2.dilate(own, np.ones((3, 3), np.uint8))
        return Points(xy.astype(np.float32), inside & own[y, x].astype(bool), edges)


class SceneSource:
    """A scene as a `FrameSource`: frames are rendered one at a time, forward or backward."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    @property
    def info(self) -> VideoInfo:
        scene = self._scene
        return VideoInfo(scene.frames, scene.width, scene.height, scene.fps, name=scene.name)

    def read(self, index: int) -> Image:
        return self._scene.render(index)

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        for index in range(start, stop, 1 if stop >= start else -1):
            yield self._scene.render(index)

    def close(self) -> None:
        """Nothing to close."""


def mask_box(mask: Bool) -> Box | None:
    """Tight box of a bool (H, W) mask; None when it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return None
    return Box(np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32))


def random_scene(
    seed: int,
    frames: int = 60,
    width: int = 320,
    height: int = 240,
    objects: int = 3,
    *,
    size: float = 0.25,
    speed: float = 1.0,
    turn: float = 0.2,
    grow: float = 0.1,
    ripple: float = 0.0,
    pan: float = 0.05,
    occluder: bool = False,
    light: float = 0.0,
    noise: float = 0.0,
    shutter: float = 0.0,
    blur: float = 0.0,
) -> Scene:
    """A scene of irregular objects named "object-1", "object-2" ... that swing about the picture for ever.

    size: mean object size over the picture's shorter side. speed: factor on their pace (1 = about 1 % of the shorter side
    per frame). turn: radians they rock. grow: logarithm of the scale change. ripple: pixels their surface waves.
    pan: camera travel over the shorter side. occluder: a post stands in the middle. The rest as in `Scene`.
    """
    rng = np.random.default_rng((seed, 9))
    side = min(width, height)
    hues = rng.uniform() + np.arange(objects) / max(objects, 1)
    things: list[SceneObject] = []
    taken: list[Array] = []
    for number in range(objects):
        extent = side * size * rng.uniform(0.85, 1.2, 2)
        room = np.maximum(np.array([width, height]) - 1.3 * extent, 0) / 2
        sway = room * rng.uniform(0.35, 0.7, 2)
        period = float(2 * np.pi * sway.max() / max(0.01 * side * speed, 1e-6))
        # Of many places to begin, the one farthest from the others: everything can be seen in frame 0.
        phases = rng.uniform(0, 2 * np.pi, 64)
        centres = np.array([width - 1, height - 1]) / 2 + rng.uniform(-1, 1, (64, 2)) * (room - sway)
        starts = centres + sway * np.sin(phases)[:, None]
        gaps = [np.abs((starts - other) / extent).max(1) for other in taken]
        if occluder:
            gaps.append(np.abs(starts[:, 0] - (width - 1) / 2) / (0.6 * extent[0] + 0.06 * width))
        best = int(np.argmax(np.min(gaps, 0))) if gaps else 0
        start, phase = starts[best], float(phases[best])
        taken.append(start)
        motion = Motion(
            (float(start[0]), float(start[1])),
            sway=(float(sway[0]), float(sway[1])),
            sway_period=max(period, 4.0),
            phase=phase,
            swing=turn,
            swing_period=float(rng.uniform(50, 90)),
            grow=grow,
            grow_period=float(rng.uniform(60, 110)),
        )
        waves = Ripple(ripple, max(2.5 * float(extent.max()), 8.0)) if ripple > 0 else None
        outline = outlines.blob(rng, float(extent[0]), float(extent[1]))
        things.append(SceneObject(f"object-{number + 1}", outline, motion, patterned(hue(hues[number])), waves))
    if occluder:
        post = outlines.rectangle(0.12 * width, 2.0 * height)
        motion = Motion(((width - 1) / 2, (height - 1) / 2))
        things.append(SceneObject("post", post, motion, patterned((120.0, 105.0, 90.0)), tracked=False))
    camera = Camera(pan=(pan * side, 0.6 * pan * side), zoom=pan / 2, roll=pan / 3)
    return Scene(
        seed, frames, width, height, tuple(things), camera, light=light, noise=noise, shutter=shutter, blur=blur
    )


def leaving_scene(
    seed: int, frames: int = 60, width: int = 160, height: int = 120, leave: int = 15, back: int | None = None
) -> Scene:
    """One object, "object-1", begins in the middle and has wholly left the picture, to the right, at frame `leave`.

    back: from this frame on (later than leave) it comes in again the way it went, is where it began at leave + back, and
    so on for ever; None = it never returns.
    """
    rng = np.random.default_rng((seed, 9))
    side = min(width, height)
    outline = outlines.blob(rng, 0.3 * side, 0.3 * side)
    middle = ((width - 1) / 2, (height - 1) / 2)
    way = width / 2 + 0.17 * side
    if back is None:
        motion = Motion(middle, velocity=(way / leave, 0.0))
    else:
        reach = way / (1 - np.cos(2 * np.pi * leave / (leave + back)))
        motion = Motion(middle, sway=(float(reach), 0.0), sway_period=leave + back, phase=-np.pi / 2)
    thing = SceneObject("object-1", outline, motion, patterned(hue(float(rng.uniform()))))
    return Scene(seed, frames, width, height, (thing,))


def _fine_to_pixel(left: int, top: int) -> Array:
    """Sample of the fine grid of a window -> pixel: samples sit symmetrically inside the pixel they average to."""
    offset = 0.5 / _FINE - 0.5
    return np.array([[1 / _FINE, 0.0, left + offset], [0.0, 1 / _FINE, top + offset], [0.0, 0.0, 1.0]])


def _shrink(fine: Layer) -> Layer:
    """Mean over each pixel's samples."""
    height, width = fine.shape[0] // _FINE, fine.shape[1] // _FINE
    small: Layer = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return small


def _scatter(rng: np.random.Generator, outline: Outline, count: int) -> Array:
    """Points at rest well inside an outline, float64 (count, 2)."""
    half, curve = outline.half_size, outline.curve.astype(np.float32)
    margin = 0.12 * float(half.min())
    found: list[Array] = []
    for _ in range(200 * max(count, 1)):
        if len(found) == max(count, 1):
            break
        xy = rng.uniform(-half, half)
        if cv2.pointPolygonTest(curve, (float(xy[0]), float(xy[1])), True) >= margin:
            found.append(xy)
    return np.array(found) if found else np.zeros((1, 2))
