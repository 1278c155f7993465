"""Short generated sequences for box trackers: a first picture with its exact box, then two later windows.

Every batch is a function of (seed, step), so an interrupted training goes on with exactly the samples that would have come.
Drawn per sample: an object of one or two parts with hard or soft edges, on a moving, zooming, turning ground; or none at
all: a region of the ground itself, whose box follows no edge. Things that look alike, things in front, the picture's border,
changes of light, blur, noise, grey pictures, objects that are gone. Changes are small between some windows, large between
others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from common.networks.tiny.network import OBJECT, STRIDE
from training import affinity, lens, render
from training.atlas import Atlas
from training.render import Layer
from training.shapes import HULL, REACH, SIDE

FRAMES = 3
_BEHIND = 2
_PARTS = 2

Array = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class Window:
    """One frame of b samples. crops: float32 (b, 3, side, side) 0..255. boxes: (b, 4) x1, y1, x2, y2 in them. seen: (b,)
    1 where the object is there to be found. body: (b, h, w) share of every cell that shows it; see `Settings.cell`."""

    crops: Tensor
    boxes: Tensor
    seen: Tensor
    body: Tensor


@dataclass(frozen=True)
class Settings:
    """template, search: sides of the crops, pixels. gone: chance that the object is missing from a later window. still:
    chance of a region of the ground. border: chance per frame and axis that the picture ends near the object. hidden: chance of something in front. cell: pixels
    of a cell of `Window.body`, each way. zoom: factor on the object's size in the crops. follow: the later windows lie as
    a mask tracker cuts them, about where the object is in the second, and light and camera are the same in both; else as the
    search of a box tracker may lie.
    """

    template: int = 88
    search: int = 144
    gone: float = 0.07
    still: float = 0.28
    border: float = 0.13
    hidden: float = 0.4
    cell: int = STRIDE
    zoom: float = 1.0
    follow: bool = False


class Generator:
    """Makes batches. See the module."""

    def __init__(self, atlas: Atlas, settings: Settings, seed: int) -> None:
        self._atlas, self._settings, self._seed = atlas, settings, seed

    def batch(self, step: int, size: int) -> list[Window]:
        """The FRAMES windows of `size` samples; the first is the template."""
        rng = np.random.default_rng((self._seed, step))
        noise = torch.Generator(self._atlas.grounds.device).manual_seed(self._seed * 1_000_003 + step)
        return _Batch(rng, noise, self._atlas, self._settings, size).windows()


class _Batch:
    """One batch while it is drawn. All arrays have a row per sample."""

    def __init__(self, rng: Rng, noise: torch.Generator, atlas: Atlas, settings: Settings, size: int) -> None:
        self.rng, self.noise, self.atlas, self.settings, self.n = rng, noise, atlas, settings, size
        self.change = rng.uniform(0.05, 1.0, size)
        self.still = rng.random(size) < settings.still
        self.skin, self.field = self._looks()
        self.paint = self._paints()
        self.soft = np.exp(
            np.where(rng.random((size, 5)) < 0.6, rng.uniform(-0.3, 0.7, (size, 5)), rng.uniform(0.7, 2.5, (size, 5)))
        )
        self.ground = rng.integers(len(atlas.grounds), size=size)
        self.ground_map = affinity.affine(
            self._turns(0.25), np.exp(rng.uniform(-0.5, 0.7, size)) / 144, rng.uniform(-0.7, 0.7, (size, 2))
        )
        self.light = np.zeros((size, 1, 3))
        self.tones: dict[int, tuple[Array, Array]] = {}
        self.grey = rng.random(size) < 0.1
        self.coarse = np.where(rng.random(size) < 0.3, rng.uniform(0.6, 2.2, size), 0.0)
        self.camera = int(rng.integers(1 << 30)) if settings.follow else 0
        self.ripple_base = np.concatenate(
            (
                rng.normal(0, 2.0, (size, 5, 2, 2)),
                rng.uniform(0, 2 * np.pi, (size, 5, 2, 1)),
                np.zeros((size, 5, 2, 1)),
            ),
            -1,
        )

    # -- what things look like

    def _looks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Skins and outlines (n, 5): two things behind, two parts, one in front."""
        rng, atlas = self.rng, self.atlas
        field = rng.integers(len(atlas.fields), size=(self.n, 5))
        skin = rng.integers(len(atlas.skins), size=(self.n, 5))
        skin = np.where((field < atlas.cut) & (rng.random((self.n, 5)) < 0.75), field, skin)
        like = rng.random((self.n, 5)) < np.array([0.4, 0.2, 0, 0.25, 0.15])
        skin = np.where(like, skin[:, 2:3], skin)
        field = np.where(like & (rng.random((self.n, 5)) < 0.7), field[:, 2:3], field)
        return skin, field

    def _paints(self) -> Array:
        """(n, 5, 2, 3) outline to skin; pieces of pictures keep their place."""
        rng = self.rng
        turn, zoom = rng.uniform(-np.pi, np.pi, (self.n, 5)), rng.uniform(0.35, 1.0, (self.n, 5))
        paint = np.zeros((self.n, 5, 2, 3))
        paint[..., 0, 0] = paint[..., 1, 1] = np.cos(turn) * zoom
        paint[..., 0, 1], paint[..., 1, 0] = -np.sin(turn) * zoom, np.sin(turn) * zoom
        paint[..., 2] = rng.uniform(-0.4, 0.4, (self.n, 5, 2))
        own = self.skin == self.field
        paint[own] = np.array([[1.0, 0, 0], [0, 1.0, 0]])
        return paint

    def _turns(self, spread: float) -> Array:
        rng = self.rng
        return np.where(rng.random(self.n) < 0.75, rng.normal(0, spread, self.n), rng.uniform(-np.pi, np.pi, self.n))

    # -- where things are

    def windows(self) -> list[Window]:
        rng, n, s = self.rng, self.n, self.settings
        shape = np.exp(np.where(rng.random(n) < 0.6, rng.uniform(-1.0, 1.0, n), rng.normal(0, 0.2, n)))
        base = affinity.affine(self._turns(0.3), 1.0, np.zeros((n, 2)))
        base[:, :, :2] = base[:, :, :2] @ affinity.stretch(shape)
        hull = self.atlas.hulls.cpu().numpy()[self.field[:, 2:4]].astype(float)
        joint = affinity.affine(rng.uniform(-1.2, 1.2, n), rng.uniform(0.25, 0.75, n), rng.uniform(-0.6, 0.6, (n, 2)))
        two = (rng.random(n) < 0.4) & ~self.still
        points = affinity.apply(base, hull[:, 0])
        base *= (OBJECT / np.sqrt(_extent(points).prod(1)))[:, None, None]
        others = self._others()
        camera = affinity.affine(np.zeros(n), np.ones(n), np.zeros((n, 2)))
        pose = base
        crop = edge = base
        slow = np.where(rng.random(n) < 0.5, 0.15, 0.6)
        swap = rng.random(n) < 0.12
        out = []
        for frame in range(FRAMES):
            side = s.template if frame == 0 else s.search
            if frame:
                pace = self.change * (1.0 if frame == 1 else slow)
                camera = _then(camera, self._camera_step(pace))
                pose = _then_inside(pose, self._own_step(pace))
                joint = _then_inside(
                    joint,
                    affinity.affine(
                        rng.normal(0, 0.3, n) * pace,
                        np.exp(rng.normal(0, 0.08, n) * pace),
                        rng.normal(0, 0.08, (n, 2)) * pace[:, None],
                    ),
                )
                others = [_then_inside(o, self._other_step(pace)) for o in others]
                if frame == 1 and swap.any():
                    self.ground = np.where(
                        swap & ~self.still, rng.integers(len(self.atlas.grounds), size=n), self.ground
                    )
            ripple = self._ripples(frame)
            trunk, limb = _then(pose, camera), _then(affinity.compose(pose, joint), camera)
            places = [
                affinity.apply(m, h - _waves(h, r))
                for m, h, r in ((trunk, hull[:, 0], ripple[:, 2]), (limb, hull[:, 1], ripple[:, 3]))
            ]
            places[1] = np.where(two[:, None, None], places[1], places[0])
            outline = np.concatenate(places, 1)
            box = np.concatenate((outline.min(1), outline.max(1)), 1)
            if not (s.follow and frame > 1):
                edge = self._border(box, frame)
            box = np.concatenate((np.maximum(box[:, :2], edge[:, :2]), np.minimum(box[:, 2:], edge[:, 2:])), 1)
            if not (s.follow and frame > 1):
                crop = self._crop(box, frame, side)
            things = [_then(o, camera) for o in others]
            maps = [things[0], things[1], trunk, limb, things[2]]
            maps = [affinity.compose(crop, m) for m in maps]
            ground = affinity.compose(self.ground_map, affinity.inverse(affinity.compose(crop, camera)))
            out.append(self._render(frame, side, ground, maps, ripple, two, _box(crop, box), _box(crop, edge)))
        return out

    def _others(self) -> list[Array]:
        """Two things behind and one in front, some of which are far away and so not there."""
        rng, n = self.rng, self.n
        made = []
        for number, chance in enumerate((0.6, 0.4, self.settings.hidden)):
            front = number == _BEHIND
            far = rng.random(n) > chance
            away = rng.normal(0, 34, (n, 2)) if front else rng.uniform(-85, 85, (n, 2))
            away[far] = 4000.0
            size = rng.uniform(8, 40, n) if front else rng.uniform(8, 48, n)
            size = np.where(
                (self.skin[:, 4 * front + number * (not front)] == self.skin[:, 2]),
                24 * np.exp(rng.normal(0, 0.2, n)),
                size,
            )
            thing = affinity.affine(self._turns(0.5), size, away)
            thing[:, :, :2] = thing[:, :, :2] @ affinity.stretch(np.exp(rng.uniform(-0.8, 0.8, n)))
            made.append(thing)
        return made

    def _camera_step(self, pace: Array) -> Array:
        rng, n = self.rng, self.n
        strong = np.where(self.still, 2.5, 1.0)
        step = affinity.affine(
            rng.normal(0, 0.1, n) * pace * strong, np.exp(rng.normal(0, 0.12, n) * pace * strong), np.zeros((n, 2))
        )
        shear = rng.normal(0, 0.05, (n, 2, 2)) * (pace * strong)[:, None, None]
        step[:, :, :2] = step[:, :, :2] @ (np.eye(2) + shear)
        return step

    def _own_step(self, pace: Array) -> Array:
        """The object's own change: turns, size, stretch, and its way over the ground. None for a region of the ground."""
        rng, n = self.rng, self.n
        pace = np.where(self.still, 0.0, pace)
        turn = np.where(rng.random(n) < 0.8, rng.normal(0, 0.25, n), rng.uniform(-1.6, 1.6, n)) * pace
        step = affinity.affine(turn, np.exp(rng.normal(0, 0.1, n) * pace), rng.normal(0, 0.6, (n, 2)) * pace[:, None])
        stretch = np.eye(2) + rng.normal(0, 0.1, (n, 2, 2)) * pace[:, None, None]
        step[:, :, :2] = step[:, :, :2] @ stretch
        flip = (rng.random(n) < 0.08) & (pace > 0.4)
        step[flip, :, 0] *= -1
        return step

    def _other_step(self, pace: Array) -> Array:
        rng, n = self.rng, self.n
        return affinity.affine(
            rng.normal(0, 0.3, n) * pace,
            np.exp(rng.normal(0, 0.1, n) * pace),
            rng.normal(0, 0.7, (n, 2)) * pace[:, None],
        )

    def _ripples(self, frame: int) -> Array:
        """(n, 5, 2, 4); none for regions of the ground."""
        rng = self.rng
        ripple = self.ripple_base.copy()
        height = rng.uniform(0, 0.07, (self.n, 5, 2)) * (self.change * (frame > 0) * ~self.still)[:, None, None]
        ripple[..., 3] = height
        ripple[..., 2] += rng.normal(0, 0.6, (self.n, 5, 2))
        return ripple

    def _border(self, box: Array, frame: int) -> Array:
        """The picture's borders (n, 4) x1, y1, x2, y2 in the frame's coordinates; of those near, part of the box lies within."""
        rng, n = self.rng, self.n
        edge = np.tile(np.array([-1e4, -1e4, 1e4, 1e4]), (n, 1))
        extent = box[:, 2:] - box[:, :2]
        least = 0.6 if frame == 0 else 0.35
        for axis in (0, 1):
            near = rng.random(n) < self.settings.border
            share = rng.uniform(least, 1.7, n)
            low = rng.random(n) < 0.5
            edge[:, axis] = np.where(near & low, box[:, 2 + axis] - share * extent[:, axis], edge[:, axis])
            edge[:, 2 + axis] = np.where(near & ~low, box[:, axis] + share * extent[:, axis], edge[:, 2 + axis])
        return edge

    def _crop(self, box: Array, frame: int, side: int) -> Array:
        """Map (n, 2, 3) from the frame to the crop."""
        rng, n = self.rng, self.n
        size = self.settings.zoom * OBJECT / np.sqrt((box[:, 2:] - box[:, :2]).prod(1))
        kind = rng.random(n)
        if self.settings.follow:
            size *= np.exp(rng.normal(0, 0.15, n))
            jitter = rng.normal(0, 2, (n, 2))
        elif frame == 0:
            size *= np.exp(rng.normal(0, 0.01, n))
            jitter = np.zeros((n, 2))
        else:
            size *= np.exp(rng.normal(0, 1, n) * np.where(kind < 0.5, 0.06, 0.22))
            kind = rng.random((n, 1))
            near, mid = rng.normal(0, 5, (n, 2)), rng.normal(0, 16, (n, 2))
            reach = side / 2 - 20
            jitter = np.where(kind < 0.45, near, np.where(kind < 0.8, mid, rng.uniform(-reach, reach, (n, 2))))
            jitter = np.clip(jitter, -reach, reach)
        crop = np.zeros((n, 2, 3))
        crop[:, 0, 0] = crop[:, 1, 1] = size
        crop[:, :, 2] = side / 2 + jitter - size[:, None] * (box[:, :2] + box[:, 2:]) / 2
        return crop

    # -- pictures

    def _render(
        self,
        frame: int,
        side: int,
        ground: Array,
        maps: list[Array],
        ripple: Array,
        two: NDArray[np.bool_],
        box: Array,
        edge: Array,
    ) -> Window:
        rng, n, atlas = self.rng, self.n, self.atlas
        device = atlas.grounds.device

        def send(values: NDArray[np.generic], kind: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), dtype=kind).to(device)

        picture = render.ground(atlas, send(self.ground, torch.int64), send(ground), side)
        gone = (rng.random(n) < self.settings.gone) & (frame > 0) & ~self.still
        target = torch.zeros(n, 1, side, side, device=device)
        light = (
            rng.normal(0, 12, (n, 1, 1)) * self.change[:, None, None]
            + rng.normal(0, 5, (n, 1, 3)) * self.change[:, None, None]
        )
        left = target
        # What belongs to the last two windows alike is drawn once.
        same = self.settings.follow and frame > 1
        if same:
            light = self.light
        self.light = light
        for number, place in enumerate(maps):
            own = number in (2, 3)
            opacity = np.where(self.still | gone, 0.0, 1.0) if own else np.ones(n)
            gain, shift = np.exp(rng.normal(0, 0.1, (n, 1))) * np.ones((n, 3)), rng.normal(0, 8, (n, 3))
            if same:
                gain, shift = self.tones[number]
            self.tones[number] = gain, shift
            wanted = _in_view(place, side)
            if number == 3:
                wanted &= two
            if number == 4:
                left = target.clone()
                wanted &= (rng.random(n) < 0.25) | (frame > 0)
            rows = np.flatnonzero(wanted)
            if not len(rows):
                continue
            inverse = affinity.inverse(place[rows])
            scale = np.sqrt(np.abs(np.linalg.det(inverse[:, :, :2])))
            part = Layer(
                send(self.skin[rows, number], torch.int64),
                send(self.field[rows, number], torch.int64),
                send(inverse),
                send(self.paint[rows, number]),
                send(ripple[rows, number]) if own and frame else None,
                send(np.clip(self.soft[rows, number] * scale, 1e-3, 2 * (REACH - 1) if self.settings.follow else None)),
                send(opacity[rows]),
                send(gain[rows]),
                send(light[rows, 0] if own else shift[rows]),
            )
            colours, coverage = render.layer(atlas, part, side)
            drawn = coverage * part.opacity[:, None, None, None]
            at = send(rows, torch.int64)
            picture[at] = render.over(picture[at], colours, drawn)
            if own:
                target[at] = torch.maximum(target[at], coverage)
            if number == 4:
                left[at] = target[at] * (1 - drawn)
        middle = torch.arange(side, device=device, dtype=torch.float32) + 0.5
        e = send(edge)[:, :, None]
        inside = ((middle > e[:, 1]) & (middle < e[:, 3]))[:, None, :, None] & (
            (middle > e[:, 0]) & (middle < e[:, 2])
        )[:, None, None, :]
        left, whole = left * inside, (target * inside).sum((1, 2, 3))
        share = left.sum((1, 2, 3)) / whole.clamp(min=1)
        seen = (share > 0.25) & (whole > 60) & send(~gone, torch.bool)
        if self.settings.follow:
            rng = np.random.default_rng((self.camera, min(frame, 1)))
        picture = lens.degrade(picture, rng, self.noise, self.grey, self.coarse)
        fill = picture.mean((2, 3), keepdim=True)
        picture = torch.where(inside, picture, fill).clamp(0, 255)
        limits = send(np.clip(box, 0, side))
        body = functional.avg_pool2d(left * seen[:, None, None, None], self.settings.cell)[:, 0]
        return Window(picture, limits, seen.float(), body)


def _then(first: Array, second: Array) -> Array:
    return affinity.compose(second, first)


def _then_inside(pose: Array, step: Array) -> Array:
    """A change in the thing's own coordinates."""
    return affinity.compose(pose, step)


def _in_view(place: Array, side: int) -> NDArray[np.bool_]:
    """Which things (n,) placed by (n, 2, 3) may reach into the crop."""
    reach = 1.5 * np.abs(place[:, :, :2]).sum(2)
    shown: NDArray[np.bool_] = ((place[:, :, 2] + reach > 0) & (place[:, :, 2] - reach < side)).all(1)
    return shown


def _extent(points: Array) -> Array:
    return points.max(1) - points.min(1)


def _box(affine: Array, box: Array) -> Array:
    """Boxes (n, 4) under an upright map."""
    return np.concatenate(
        (affinity.apply(affine, box[:, None, :2])[:, 0], affinity.apply(affine, box[:, None, 2:])[:, 0]), 1
    )


def _waves(points: Array, ripple: Array) -> Array:
    """As `render.waves`, which is its inverse to first order."""
    return render.waves(torch.from_numpy(points), torch.from_numpy(ripple)).numpy()


assert HULL < SIDE
