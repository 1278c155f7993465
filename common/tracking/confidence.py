"""How far a tracked geometry can be trusted, measured from the pictures alone: for any tracker and any geometry.

Every object is cut out of each picture into a small tile in which its geometry always has the same place and size. While
the tracker is right nothing moves from tile to tile. A few dozen points are followed from the last tile to this one and
back (Lucas-Kanade, one call for all objects): points that do not come back to where they started, or that changed their
surroundings, say that the object is hidden, blurred or left; the motion of the others is the error of this step, and adds
up to an estimate of how far the geometry has slid off the object. The look of the tile against the key figure's catches
what slid so slowly that no single step shows it.

Sources: forward-backward error and median motion of grid points, Kalal, Mikolajczyk & Matas 2010, "Forward-backward error:
automatic detection of tracking failures"; pyramidal Lucas-Kanade, Bouguet 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from common.geometry.codec import decode, encode
from common.geometry.rings import ring
from common.geometry.types import Geometry, Points
from common.tracking.contract import Exemplar, Prediction, Prompt
from common.tracking.snapshot import pack, unpack
from common.tracking.tiles import NOTHING, TILE, Levels, Look, TileFrame, alike, frame_of, look_of, turn_of
from common.video.contract import Image

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
_GRID = 6
_MOST = 180
"""Points per side of the grid in an object; points of all objects together, which many objects share."""
_CELLS = 8
_EXEMPLARS = 3
_PATCH = 9


@dataclass(frozen=True)
class MeterSettings:
    """How the evidence is weighed.

    back_error: largest error of a point's way there and back, in sizes of the object (half its side = 1). Raising it
    forgives blur. patch_alike: correlation of a point's surroundings before and after, 0..1, below which it counts as
    lost. Raising it makes hidden objects show sooner. memory: share of the estimated slide that is kept from frame to
    frame, 0..1. Raising it remembers slides for longer and distrusts objects that turn or roll. look_weight: exponent of
    the look in the score. Raising it distrusts objects that change their look. own_weight: exponent of the tracker's own
    score.
    """

    back_error: float = 0.05
    patch_alike: float = 0.7
    memory: float = 0.99
    look_weight: float = 1.0
    own_weight: float = 0.5


@dataclass
class _State:
    """What is kept of one object between frames, a fixed amount.

    geometry, frame, tile: where the object was last and its picture then, uint8 (TILE, TILE, 3); None while lost.
    key_looks: of the key figure and of up to `_EXEMPLARS` exemplars, float32 (k, ...); look: of the recent trusted frames.
    cells: how far each part of the object moved as the geometry did, 0..1, float64 (_CELLS, _CELLS). slide: x, y and growth
    in object sizes that the geometry has slid off. usual: share of the points that usually can be followed, negative
    before the first. upright: what `turn_of` the key figure was, 1 for figures without a turn.
    """

    geometry: Geometry | None
    frame: TileFrame | None
    tile: NDArray[np.uint8] | None
    key_looks: NDArray[np.float32]
    look: Look
    cells: Float64
    slide: Float64
    usual: float = -1.0
    upright: complex = 1.0


class ConfidenceMeter:
    """Scores of one tracking in progress: `start` once, then `update` with every picture in the order it was tracked.

    Memory: one tile and a few small arrays per object. Deterministic: equal calls give equal scores, also across `save`
    and `load`.
    """

    def __init__(self, settings: MeterSettings | None = None) -> None:
        self._settings = settings or MeterSettings()
        self._shape: tuple[int, ...] = ()
        self._grid = _GRID
        self._states: dict[str, _State] = {}

    def start(self, image: Image, prompts: Sequence[Prompt], exemplars: Sequence[Exemplar] = ()) -> None:
        """The picture that the objects were drawn on (uint8 RGB) and what was drawn. Forgets everything before.

        exemplars: the same objects labelled elsewhere; one that looks as on any of the first few looks right.
        """
        self._shape = image.shape
        self._states = {}
        levels = Levels(image)
        for prompt in prompts:
            upright = turn_of(prompt.geometry) or 1.0
            frame = frame_of(prompt.geometry, _GRID, upright)
            tile = None if frame is None else levels.tile(frame)
            look = NOTHING if frame is None or tile is None else look_of(tile, frame, image.shape)
            cells = np.ones((_CELLS, _CELLS))
            self._states[prompt.key] = _State(
                prompt.geometry, frame, tile, look[None], look, cells, np.zeros(3), upright=upright
            )
        for exemplar in exemplars[:_EXEMPLARS]:
            levels = Levels(exemplar.image)
            for prompt in exemplar.prompts:
                state = self._states.get(prompt.key)
                frame = None if state is None else frame_of(prompt.geometry, _GRID, state.upright)
                tile = None if frame is None else levels.tile(frame)
                if state is not None and frame is not None and tile is not None:
                    look = look_of(tile, frame, exemplar.image.shape)
                    state.key_looks = np.concatenate((state.key_looks, look[None]))

    def update(self, image: Image, predictions: Sequence[Prediction]) -> list[Prediction]:
        """The next picture and where the tracker says the objects are: the same predictions with `score` set, 0..1.

        The score falls with the estimated overlap of the geometry with its object. Lost: 0. Raises ValueError before
        `start`, for an unknown key, or for a picture of another size.
        """
        if image.shape != self._shape:
            raise ValueError(f"pictures have the size of the first, {self._shape[:2]}, got {image.shape[:2]}")
        unknown = [p.key for p in predictions if p.key not in self._states]
        if unknown:
            raise ValueError(f"no object {unknown[0]!r} was given at the start")

        grid = max(3, min(_GRID, int(np.sqrt(_MOST / max(len(predictions), 1)))))
        levels = Levels(image)
        uprights = [self._states[p.key].upright for p in predictions]
        afters = [
            None if p.geometry is None else frame_of(p.geometry, grid, upright)
            for p, upright in zip(predictions, uprights, strict=True)
        ]
        tiles = [None if frame is None else levels.tile(frame) for frame in afters]
        steps: dict[int, _Step] = {}
        for i, (p, after) in enumerate(zip(predictions, afters, strict=True)):
            state = self._states[p.key]
            before = state.frame
            if state.geometry is not None and (before is None or grid != self._grid):
                before = frame_of(state.geometry, grid, state.upright)
            if before is not None and after is not None and state.tile is not None:
                steps[i] = _Step.of(before, after, self._shape)
        pairs = [(self._states[predictions[i].key].tile, tiles[i]) for i in steps]
        self._follow(pairs, list(steps.values()))

        self._grid = grid
        scored = []
        for i, p in enumerate(predictions):
            state, frame, tile = self._states[p.key], afters[i], tiles[i]
            state.geometry, state.frame, state.tile = p.geometry, frame, tile
            score = 0.0
            if frame is not None and tile is not None:
                score = self._score(state, frame, tile, steps.get(i)) * float(np.clip(p.score, 0, 1)) ** (
                    self._settings.own_weight
                )
            scored.append(replace(p, score=score))
        return scored

    def save(self) -> bytes:
        """Bounded snapshot for `load`."""
        states = {
            key: vars(s)
            | {"frame": None, "geometry": None if s.geometry is None else encode(s.geometry)}
            | {"upright": [s.upright.real, s.upright.imag]}
            for key, s in self._states.items()
        }
        return pack({"settings": asdict(self._settings), "shape": self._shape, "states": states})

    @classmethod
    def load(cls, state: bytes) -> ConfidenceMeter:
        """A meter that goes on as the saved one would have. Raises ValueError for a snapshot of an earlier version of one that
        knew outlines otherwise."""
        tree = unpack(state)
        meter = cls(MeterSettings(**tree["settings"]))
        meter._shape = tree["shape"]
        for key, saved in tree["states"].items():
            if "key_look" in saved:  # before exemplars counted there was one
                saved["key_looks"] = saved.pop("key_look")[None]
            geometry = None if saved["geometry"] is None else decode(saved["geometry"])
            if "upright" not in saved and isinstance(geometry, Points) and ring(len(geometry.xy), geometry.edges):
                raise ValueError("a snapshot of an earlier version, whose tiles of polygons stood otherwise")
            saved["upright"] = complex(*saved.get("upright", (1.0, 0.0)))
            meter._states[key] = _State(**(saved | {"geometry": geometry}))
        return meter

    def _follow(
        self, pairs: Sequence[tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]], steps: list[_Step]
    ) -> None:
        """Follow the points of all steps from tile to tile and back; fills in `end` and `good`."""
        if not steps:
            return
        before, after = (
            cv2.cvtColor(np.concatenate([t for t in side if t is not None]), cv2.COLOR_RGB2GRAY)
            for side in zip(*pairs, strict=True)
        )
        offsets = np.concatenate([np.tile([0, k * TILE], (len(s.start), 1)) for k, s in enumerate(steps)])
        start = (np.concatenate([s.start for s in steps]) + offsets).astype(np.float32)
        guess = (np.concatenate([s.expected for s in steps]) + offsets).astype(np.float32)
        end, there = _lucas_kanade(before, after, start, guess)
        back, again = _lucas_kanade(after, before, end, start)
        same = _correlation(_patches(before, start), _patches(after, end))
        found = there & again & (same > self._settings.patch_alike)
        first = 0
        for k, step in enumerate(steps):
            part = slice(first, first + len(step.start))
            first = part.stop
            step.end = end[part].astype(np.float64) - (0, k * TILE)
            error = np.linalg.norm(back[part] - start[part], axis=1)
            limit = max(0.4, self._settings.back_error * float(step.zoom.max()))
            inside = ((step.end >= 4) & (step.end <= TILE - 5)).all(1)
            step.good = found[part] & (error < limit) & inside & step.shown

    def _score(self, state: _State, frame: TileFrame, tile: NDArray[np.uint8], step: _Step | None) -> float:
        steady = inside = 1.0
        if step is not None:
            steady, inside = self._move(state, frame, step)
        look = look_of(tile, frame, self._shape)
        as_drawn = max(alike(look, key) for key in state.key_looks)
        looks = as_drawn if as_drawn >= 0.9 else max(as_drawn, 0.9 * alike(look, state.look))
        # It looks as it was drawn, so it cannot have slid far: what was added up meanwhile (behind a wall) is forgotten.
        state.slide = state.slide * (1 - 0.2 * float(np.clip((as_drawn - 0.7) / 0.2, 0, 1)))
        # The points of an object of a few pixels follow what is behind it as much as the object itself.
        motion = _overlap(state.slide) * inside * (0.3 + 0.7 * steady)
        clear = float(np.clip((frame.half.min() - 1.5) / 4.5, 0, 1))
        score = (1 - clear + clear * motion) * looks**self._settings.look_weight
        if score > 0.5:
            state.look = (0.95 * state.look + 0.05 * look).astype(np.float32)
        return float(score)

    def _move(self, state: _State, frame: TileFrame, step: _Step) -> tuple[float, float]:
        """Add this step to the slide: how much of the object could be followed compared with before, 0..1, and the share
        of it that landed in the geometry, 0..1."""
        good, weight = step.good, state.cells[step.cells[:, 1], step.cells[:, 0]]
        share = float(weight[good].sum() / max(float(weight[step.shown].sum()), 1e-9))
        if state.usual < 0:
            state.usual = share
        steady = min(1.0, share / state.usual) if state.usual > 0.15 else 1.0
        state.usual += 0.03 * (share - state.usual)
        if good.sum() < min(4, len(good)):
            return steady, 1.0
        off = (step.end - step.expected)[good] / step.zoom
        moved = _weighted_median(off, weight[good])
        local = step.local[good]
        distance = (local**2).sum(1)
        far = distance > 0.1
        growth = 0.0
        if far.sum() >= 4:
            ratio = ((off - moved) * local).sum(1)[far] / distance[far]
            growth = float(_weighted_median(ratio[:, None], (weight[good] * distance)[far])[0])
        # Few points left: what they say may be chance.
        state.slide = state.slide * self._settings.memory + np.array([*moved, growth]) * min(1.0, 2 * steady)
        # Parts that move as the geometry does are the object; the others are what is behind it.
        agrees = np.zeros(len(good))
        agrees[np.flatnonzero(good)] = np.linalg.norm(off, axis=1) < 0.1
        learned = weight + 0.1 * (agrees - weight)
        state.cells[step.cells[:, 1], step.cells[:, 0]] = np.clip(learned, 0.05, 1)
        place = (step.end[good] - (TILE - 1) / 2) / frame.zoom
        hit = (np.abs(place) < 1.1).all(1) & (frame.covered(place) > 0.2)
        return steady, 1.0 if frame.own else float(weight[good] @ hit / weight[good].sum())


@dataclass
class _Step:
    """One object from one frame to the next, in tile pixels: where its points start, where the geometry says they go (n, 2).

    local: places in the object, cells: the parts of it, zoom: tile pixels per unit of local, shown: start and expected
    end lie in the picture. end, good: filled in by following the points.
    """

    start: Float64
    expected: Float64
    local: Float64
    cells: NDArray[np.intp]
    zoom: Float64
    shown: Bool
    end: Float64
    good: Bool

    @classmethod
    def of(cls, before: TileFrame, after: TileFrame, shape: tuple[int, ...]) -> _Step:
        local = before.samples
        to = after.samples if before.own and after.own and len(after.samples) == len(local) else local
        middle = (TILE - 1) / 2
        start, expected = middle + local * before.zoom, middle + to * after.zoom
        limit = np.array([shape[1], shape[0]])
        shown = np.ones(len(local), bool)
        for frame, places, tile in ((before, local, start), (after, to, expected)):
            pixels = frame.centre + places @ frame.axes.T
            shown &= ((pixels >= 0) & (pixels <= limit - 1)).all(1) & (np.abs(tile - middle) < middle - 6).all(1)
            if frame.seen is not None and len(frame.seen) == len(shown):
                shown &= frame.seen  # the place of a hidden point is a guess
        cells = np.clip(((local + 1) / 2 * _CELLS).astype(np.intp), 0, _CELLS - 1)
        return cls(start, expected, local, cells, after.zoom, shown, start, shown)


def _overlap(slide: Float64) -> float:
    """Overlap (IoU) of the square -1..1 with itself moved by slide[:2] and scaled by exp(slide[2])."""
    side = float(np.exp(np.clip(slide[2], -3, 3)))
    common = 1.0
    for d in np.abs(slide[:2]):
        common *= max(0.0, min(1.0, float(d) + side) - max(-1.0, float(d) - side)) / 2
    return common / (1 + side * side - common)


def _lucas_kanade(
    before: NDArray[np.uint8], after: NDArray[np.uint8], start: NDArray[np.float32], guess: NDArray[np.float32]
) -> tuple[NDArray[np.float32], Bool]:
    """Where points (n, 2) went, looked for around `guess`, and which of them had enough texture to be followed."""
    end, status, _ = cv2.calcOpticalFlowPyrLK(
        before,
        after,
        start,
        guess.copy(),
        winSize=(13, 13),
        maxLevel=2,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.03),
        minEigThreshold=1e-3,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return end, status.ravel() == 1


def _weighted_median(values: Float64, weights: Float64) -> Float64:
    """Median of every column of (n, d), n >= 1."""
    order = np.argsort(values, axis=0, kind="stable")
    total = np.cumsum(weights[order], axis=0)
    middle = (total < total[-1] / 2).sum(0)
    columns = np.arange(values.shape[1])
    result: Float64 = values[order[middle, columns], columns]
    return result


def _patches(grey: NDArray[np.uint8], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Surroundings of points, float32 (n, _PATCH * _PATCH)."""
    offset = np.arange(_PATCH, dtype=np.float32) - _PATCH // 2
    x = np.repeat((centres[:, :1] + offset)[:, None, :], _PATCH, 1).reshape(-1, _PATCH)
    y = np.repeat((centres[:, 1:] + offset)[:, :, None], _PATCH, 2).reshape(-1, _PATCH)
    patches = cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    result: NDArray[np.float32] = patches.reshape(len(centres), -1).astype(np.float32)
    return result


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised cross-correlation of the rows, -1..1; 0 for rows without contrast."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    result: NDArray[np.float32] = (a * b).sum(1) / np.maximum(size, 1e-3)
    return result
