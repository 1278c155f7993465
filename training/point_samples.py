"""Generated pairs of pictures with points on them, for point trackers: where a point of the first is in the second.

Every batch is a function of (seed, step). Drawn per sample: things with hard or soft edges, of which some wave, each on its own
way over a ground that moves, zooms and turns with the camera; points anywhere on them, more where there is texture. Where a
point went is computed from the maps that the pictures are drawn by, so it is exact to a fraction of a pixel; it is hidden
where something else lies on top. Other light, blur and noise in either picture, borders of the picture, pairs of pictures
that have nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training import affinity, lens, render
from training.atlas import Atlas
from training.shapes import REACH
from training.textures import Rng

Array = NDArray[np.float64]

THINGS = 4
_GROUND = -1
_CANDIDATES = 96
_ROUNDS = 12
"""Steps that undo waves; each leaves about a third of the error."""


@dataclass(frozen=True)
class PointSettings:
    """side: of the pictures, pixels. points: per sample. margin: pixels between a point and the first picture's border.
    apart: chance that the second picture is of something else. border: chance per picture that it ends in the crop.
    """

    side: int = 80
    points: int = 8
    margin: float = 9.0
    apart: float = 0.15
    border: float = 0.12


@dataclass(frozen=True)
class Pair:
    """b samples, m = b * points. first, second: float32 (b, 3, side, side) 0..255. picture: (m,) sample of each point.
    start, truth: (m, 2) where it is in the first and the second, pixels, middles at halves; also where it is hidden. seen: (m,) 1
    where it is to be found in the second. expected: (m, 2), doubt: (m,): where a tracker would look for it, and the standard
    deviation of that.
    """

    first: Tensor
    second: Tensor
    picture: Tensor
    start: Tensor
    truth: Tensor
    seen: Tensor
    expected: Tensor
    doubt: Tensor


class PointGenerator:
    """Makes batches. See the module."""

    def __init__(self, atlas: Atlas, settings: PointSettings, seed: int) -> None:
        self._atlas, self._settings, self._seed = atlas, settings, seed

    def batch(self, step: int, size: int) -> Pair:
        """`size` samples; the same for the same number of the step."""
        rng = np.random.default_rng((self._seed, step, 31))
        noise = torch.Generator(self._atlas.grounds.device).manual_seed(self._seed * 1_000_003 + step)
        return _Scene(rng, noise, self._atlas, self._settings, size).pair()


@dataclass(frozen=True)
class _Frame:
    """Where things are in one picture. ground: (n, 2, 3) pixels to the ground's coordinates. places: (n, THINGS, 2, 3) things' own
    coordinates to pixels. ripple: (n, THINGS, 2, 4), in these. edge: (n, 4) the picture's borders x1, y1, x2, y2."""

    ground: Array
    places: Array
    ripple: Array
    edge: Array


class _Scene:
    """One batch while it is drawn. All arrays have a row per sample."""

    def __init__(self, rng: Rng, noise: torch.Generator, atlas: Atlas, settings: PointSettings, size: int) -> None:
        self.rng, self.noise, self.atlas, self.settings, self.n = rng, noise, atlas, settings, size
        n, many = size, (size, THINGS)
        self.field = rng.integers(len(atlas.fields), size=many)
        skin = rng.integers(len(atlas.skins), size=many)
        skin = np.where((self.field < atlas.cut) & (rng.random(many) < 0.6), self.field, skin)
        self.skin = np.where(rng.random(many) < 0.15, skin[:, :1], skin)
        self.number = rng.integers(len(atlas.grounds), size=n)
        self.paint = affinity.affine(
            rng.uniform(-np.pi, np.pi, n * THINGS),
            np.exp(rng.uniform(-1.0, 0.6, n * THINGS)),
            rng.uniform(-0.4, 0.4, (n * THINGS, 2)),
        ).reshape(n, THINGS, 2, 3)
        sharp = rng.random(many) < 0.7
        self.soft = np.exp(np.where(sharp, rng.uniform(-0.3, 0.7, many), rng.uniform(0.7, 1.8, many)))
        self.gain = np.exp(rng.normal(0, 0.1, (*many, 1))) * np.ones((*many, 3))
        self.bias = rng.normal(0, 8, (*many, 3))
        self.grey = rng.random(n) < 0.12
        self.coarse = np.where(rng.random(n) < 0.25, rng.uniform(0.6, 1.8, n), 0.0)
        self.pace = rng.uniform(0.03, 1.0, n)

    def pair(self) -> Pair:
        """Both pictures and the points."""
        settings = self.settings
        first, second = self._frames()
        pictures = [self._render(frame) for frame in (first, second)]
        start, owner = self._points(first, pictures[0])
        truth, own = self._followed(first, second, start, owner)
        seen = own & _within(truth, second.edge, settings.side)
        apart = torch.from_numpy(self.rng.random(self.n) < settings.apart).to(pictures[1].device)
        pictures[1] = torch.where(apart[:, None, None, None], pictures[1].roll(1, 0), pictures[1])
        seen &= ~apart.cpu().numpy()[:, None]
        doubt = np.exp(self.rng.uniform(np.log(1.5), np.log(24.0), seen.shape))
        expected = truth + self.rng.normal(0, 1, truth.shape) * doubt[..., None]
        number = np.repeat(np.arange(self.n), settings.points)
        return Pair(
            pictures[0],
            pictures[1],
            self._send(number, torch.int64),
            self._send(start.reshape(-1, 2)),
            self._send(truth.reshape(-1, 2)),
            self._send(seen.reshape(-1)),
            self._send(expected.reshape(-1, 2)),
            self._send(doubt.reshape(-1)),
        )

    # -- where things are

    def _frames(self) -> tuple[_Frame, _Frame]:
        rng, n, side = self.rng, self.n, self.settings.side
        many = n * THINGS
        far = rng.random((n, THINGS)) > np.array([0.8, 0.7, 0.5, 0.4])
        middle = rng.uniform(-8, side + 8, (n, THINGS, 2)) + 4000.0 * far[..., None]
        size = np.exp(rng.uniform(np.log(7), np.log(45), many))
        pose = affinity.affine(rng.uniform(-np.pi, np.pi, many), size, middle.reshape(many, 2))
        pose[:, :, :2] = pose[:, :, :2] @ affinity.stretch(np.exp(rng.uniform(-0.8, 0.8, many)))
        pace = np.repeat(self.pace, THINGS)
        moved = affinity.compose(pose, self._step(many, pace, np.zeros((many, 2))))
        moved[:, :, 2] += rng.normal(0, 9, (many, 2)) * pace[:, None]
        camera = self._step(n, self.pace, rng.normal(0, 11, (n, 2)) * self.pace[:, None], about=side / 2)
        cameras = np.repeat(camera, THINGS, 0)
        ground = affinity.affine(
            rng.uniform(-np.pi, np.pi, n), np.exp(rng.uniform(-0.6, 0.9, n)) / 144, rng.uniform(-0.7, 0.7, (n, 2))
        )
        waves, still = self._waves(), rng.random((n, THINGS, 1)) < 0.5
        later = waves.copy()
        later[..., 2] += rng.normal(0, 1.0, (n, THINGS, 2)) * self.pace[:, None, None]
        for ripple in (waves, later):
            ripple[..., 3] = np.where(still, 0.0, ripple[..., 3])
        return (
            _Frame(ground, pose.reshape(n, THINGS, 2, 3), waves, self._border()),
            _Frame(
                affinity.compose(ground, affinity.inverse(camera)),
                affinity.compose(cameras, moved).reshape(n, THINGS, 2, 3),
                later,
                self._border(),
            ),
        )

    def _step(self, count: int, pace: Array, shift: Array, about: float = 0.0) -> Array:
        """A turn, a change of size and a shear, by about the pace, with `about` (both x and y) going to it plus shift."""
        rng = self.rng
        step = affinity.affine(rng.normal(0, 0.35, count) * pace, np.exp(rng.normal(0, 0.2, count) * pace), shift)
        step[:, :, :2] = step[:, :, :2] @ (np.eye(2) + rng.normal(0, 0.09, (count, 2, 2)) * pace[:, None, None])
        middle = np.full(2, about)
        step[:, :, 2] += middle - step[:, :, :2] @ middle
        return step

    def _waves(self) -> Array:
        """(n, THINGS, 2, 4)."""
        rng, many = self.rng, (self.n, THINGS, 2)
        frequency = rng.normal(0, 2.0, (*many, 2))
        steep = np.maximum(np.linalg.norm(frequency, axis=-1), 1.0)
        phase, height = rng.uniform(0, 2 * np.pi, many), rng.uniform(0, 0.16, many) / steep
        return np.concatenate((frequency, phase[..., None], height[..., None]), -1)

    def _border(self) -> Array:
        rng, n, side = self.rng, self.n, self.settings.side
        edge = np.tile(np.array([-1e4, -1e4, 1e4, 1e4]), (n, 1))
        near = rng.random(n) < self.settings.border
        which = rng.integers(4, size=n)
        depth = rng.uniform(2, 0.4 * side, n)
        value = np.where(which < 2, depth, side - depth)
        rows = np.flatnonzero(near)
        edge[rows, which[rows]] = value[rows]
        return edge

    # -- points

    def _points(self, frame: _Frame, picture: Tensor) -> tuple[Array, NDArray[np.int64]]:
        """Positions (n, points, 2) in that frame, within its border, and on what they lie (n, points)."""
        rng, n, settings = self.rng, self.n, self.settings
        candidates = rng.uniform(settings.margin, settings.side - settings.margin, (n, _CANDIDATES, 2))
        owner, depth = self._owner(frame, candidates)
        # Points on edges belong to nothing; those on small things are rare, and wanted.
        clear = _within(candidates, frame.edge, settings.side) & (np.abs(depth) > 0.04)
        many = np.stack([(owner == number).sum(1) for number in range(_GROUND, THINGS)], 1)
        share = 1.0 / np.take_along_axis(np.maximum(many, 6), owner + 1, 1)
        grey = picture.mean(1, keepdim=True)
        spread = functional.avg_pool2d(grey**2, 9, 1, 4) - functional.avg_pool2d(grey, 9, 1, 4) ** 2
        column, row = candidates.astype(np.int64).transpose(2, 0, 1)
        texture = spread.clamp(min=0).sqrt().cpu().numpy()[np.arange(n)[:, None], 0, row, column]
        share *= 0.2 + np.minimum(texture / 15, 1.0)
        luck = rng.random((n, _CANDIDATES)) ** (1 / share)
        order = np.argsort(-(luck + clear), 1, kind="stable")[:, : settings.points]
        return np.take_along_axis(candidates, order[..., None], 1), np.take_along_axis(owner, order, 1)

    def _owner(self, frame: _Frame, xy: Array) -> tuple[NDArray[np.int64], Array]:
        """On which thing points (n, p, 2) lie, and the least depth (n, p) by which they lie in or out of any."""
        owner = np.full(xy.shape[:2], _GROUND, np.int64)
        least = np.full(xy.shape[:2], np.inf)
        for thing in range(THINGS):
            inner = self._inner(frame, thing, xy)
            grid = torch.from_numpy(inner / REACH).float()[:, :, None]
            fields = self.atlas.fields[torch.from_numpy(self.field[:, thing])].cpu()
            depth = functional.grid_sample(fields, grid, padding_mode="border", align_corners=False)[:, 0, :, 0].numpy()
            depth = np.where(np.abs(inner).max(-1) < REACH, depth, -1.0)
            owner = np.where(depth > 0, thing, owner)
            least = np.minimum(least, np.abs(depth))
        return owner, least

    def _inner(self, frame: _Frame, thing: int, xy: Array) -> Array:
        """Pixels (n, p, 2) as coordinates of the thing, as it is drawn."""
        flat = affinity.apply(affinity.inverse(frame.places[:, thing]), xy)
        return flat + _waves_at(flat, frame.ripple[:, thing])

    def _followed(
        self, first: _Frame, second: _Frame, xy: Array, owner: NDArray[np.int64]
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Where points of the first frame are in the second, (n, p, 2), and whether nothing lies on them there."""
        ground = affinity.apply(affinity.inverse(second.ground), affinity.apply(first.ground, xy))
        truth = ground
        for thing in range(THINGS):
            inner = self._inner(first, thing, xy)
            flat = inner
            for _ in range(_ROUNDS):
                flat = inner - _waves_at(flat, second.ripple[:, thing])
            there = affinity.apply(second.places[:, thing], flat)
            truth = np.where((owner == thing)[..., None], there, truth)
        return truth, self._owner(second, truth)[0] == owner

    # -- pictures

    def _render(self, frame: _Frame) -> Tensor:
        rng, side, atlas = self.rng, self.settings.side, self.atlas
        picture = render.ground(atlas, self._send(self.number, torch.int64), self._send(frame.ground), side)
        for thing in range(THINGS):
            rows = np.flatnonzero(np.abs(frame.places[:, thing, :, 2]).max(1) < 3 * side)
            if not len(rows):
                continue
            inverse = affinity.inverse(frame.places[rows, thing])
            scale = np.sqrt(np.abs(np.linalg.det(inverse[:, :, :2])))
            part = render.Layer(
                self._send(self.skin[rows, thing], torch.int64),
                self._send(self.field[rows, thing], torch.int64),
                self._send(inverse),
                self._send(self.paint[rows, thing]),
                self._send(frame.ripple[rows, thing]),
                self._send(np.maximum(self.soft[rows, thing] * scale, 1e-3)),
                self._send(np.ones(len(rows))),
                self._send(self.gain[rows, thing]),
                self._send(self.bias[rows, thing] + rng.normal(0, 6, (len(rows), 1)) * self.pace[rows, None]),
            )
            colours, coverage = render.layer(atlas, part, side)
            at = self._send(rows, torch.int64)
            picture[at] = render.over(picture[at], colours, coverage)
        picture = lens.degrade(picture, rng, self.noise, self.grey, self.coarse)
        middle = torch.arange(side, device=picture.device) + 0.5
        edge = self._send(frame.edge)[:, :, None]
        across, down = (middle > edge[:, 0]) & (middle < edge[:, 2]), (middle > edge[:, 1]) & (middle < edge[:, 3])
        inside = down[:, None, :, None] & across[:, None, None, :]
        return torch.where(inside, picture, picture.mean((2, 3), keepdim=True)).clamp(0, 255)

    def _send(self, values: NDArray[np.generic], kind: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=kind).to(self.atlas.grounds.device)


def _waves_at(points: Array, ripple: Array) -> Array:
    """`render.waves` in double precision."""
    return render.waves(torch.from_numpy(points), torch.from_numpy(ripple)).numpy()


def _within(xy: Array, edge: Array, side: int) -> NDArray[np.bool_]:
    """Which points (n, p, 2) lie in the crop and in the picture of borders edge (n, 4)."""
    low, high = np.maximum(edge[:, None, :2], 0), np.minimum(edge[:, None, 2:], side)
    inside: NDArray[np.bool_] = ((xy > low) & (xy < high)).all(-1)
    return inside
