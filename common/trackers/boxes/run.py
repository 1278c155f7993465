"""One tracking in progress: where every object went, frame by frame."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.geometry.types import Box, OrientedBox
from common.trackers.boxes import anchor, colour, features, filter, flow
from common.trackers.boxes.patches import Array, Double, Pyramid
from common.trackers.boxes.state import State
from common.tracking.contract import Prediction
from common.tracking.snapshot import pack
from common.video.contract import Image

CELLS = 48
WINDOW = CELLS * features.CELL
STIFFNESS = 4000.0
_SCALE_STEP = 1.03
_ANGLE_STEP = 0.06
_SCALE_BIAS = 0.99
_DETOUR = 1.05
_CHUNK = 16
_SURE = 0.3
_COAST = 0.05
_COLOUR = 0.3
_COLOUR_PACE = 0.04
_LOST = 0.25
_ANCHORED = 0.55
_RENEW = 0.5
_PATIENCE = 4
_GUESSES = 30
_FOUND_NEAR = 0.35
_FOUND_FAR = 0.6
_LOST_WINDOWS = 3
_SPIRAL_STEPS = 60
_GOLDEN_ANGLE = 2.399963

Index = NDArray[np.intp]
Pose = tuple[float, float, float, float]
"""Centre x, centre y, scale of the search window, turn."""


class Found(NamedTuple):
    """Poses (n, 4), responses there (n,) with colour and of the filter alone, and their clearness by the filter of now and of the first frame (n,)."""

    pose: Double
    peak: Double
    fit: Double
    clear: Double
    memory: Double


class CorrelationRun:
    """See `common.tracking.contract.Run`. Memory: about 2 MB per object and one grey frame."""

    def __init__(self, state: State) -> None:
        self._state = state

    def push(self, image: Image) -> list[list[Prediction]]:
        """Next image, uint8 (height, width, 3); one frame comes out."""
        state = self._state
        if image.shape != (state.size[1], state.size[0], 3):
            raise ValueError(f"frames of this run are {state.size[0]} x {state.size[1]} RGB, got shape {image.shape}")
        pyramid = Pyramid(image)
        grey = flow.shrink(image)
        state.age += 1
        camera, motions = flow.estimate(state.grey, grey, state.size, state.corners())
        self._advance(pyramid, camera, motions)
        state.grey = grey
        return [[self._prediction(i) for i in range(len(state.keys))]]

    def flush(self) -> list[list[Prediction]]:
        """Nothing is held back."""
        return []

    def save(self) -> bytes:
        """Snapshot of bounded size."""
        return pack(self._state.to_tree())

    def _advance(self, pyramid: Pyramid, camera: flow.Motion, motions: list[flow.Motion]) -> None:
        s = self._state
        steady = camera.move(s.centre) if camera.trust > 0.3 else s.centre.copy()
        poses: list[Pose] = []
        owner: list[int] = []
        for i, motion in enumerate(motions):
            more = self._where_lost(i, steady[i]) if s.hidden[i] else self._where(i, steady[i], motion)
            poses += more
            owner += [i] * len(more)
        ids = np.array(owner, np.intp)
        found = self._search(pyramid, np.array(poses, np.float64).reshape(-1, 4), ids)
        chosen = [self._choose(i, found, np.flatnonzero(ids == i)) for i in range(len(s.keys))]
        columns = (
            [np.array(c, np.float64) for c in zip(*chosen, strict=True)]
            if chosen
            else [np.zeros((0, 4)), *4 * [np.zeros(0)]]
        )
        found = Found(*columns)
        held = self._anchor(pyramid, found, steady)
        self._accept(pyramid, found, held, steady)

    def _where(self, i: int, steady: Double, motion: flow.Motion) -> list[Pose]:
        """Poses to look at for a visible object: where flow or, failing that, its velocity leads; scales, turns."""
        s = self._state
        guess = steady + s.velocity[i]
        plain = middle = (float(guess[0]), float(guess[1]), float(s.scale[i]), float(s.angle[i]))
        trusted = motion.trust > 0.3
        if trusted:
            x, y = motion.move(s.centre[i])
            turn = motion.angle if s.oriented[i] else 0.0
            middle = (float(x), float(y), middle[2] * motion.scale, middle[3] + turn)
        x, y, scale, angle = middle
        poses = [middle, (x, y, scale / _SCALE_STEP, angle), (x, y, scale * _SCALE_STEP, angle)]
        if s.oriented[i]:
            poses += [(x, y, scale, angle - _ANGLE_STEP), (x, y, scale, angle + _ANGLE_STEP)]
        size = float(np.sqrt(s.shape[i].prod()))
        if trusted and np.hypot(x - plain[0], y - plain[1]) > 0.1 * size:
            poses.append(plain)
        return poses

    def _where_lost(self, i: int, steady: Double) -> list[Pose]:
        """Poses to look at for an object that is not seen: where it should be, and places on a widening spiral."""
        s = self._state
        missing = int(s.missing[i])
        guess = steady + s.velocity[i]
        size = float(np.sqrt(s.shape[i].prod()))
        scale, angle = float(s.scale[i]), float(s.angle[i])
        poses = [(float(guess[0]), float(guess[1]), scale, angle)]
        reach = _SPIRAL_STEPS
        for k in range(_LOST_WINDOWS):
            step = (missing * _LOST_WINDOWS + k) % min(reach, 6 + missing * _LOST_WINDOWS)
            radius, turn = 1.2 * size * np.sqrt(step + 0.5), step * _GOLDEN_ANGLE
            place = np.clip(guess + radius * np.array([np.cos(turn), np.sin(turn)]), 0, s.size)
            poses.append((float(place[0]), float(place[1]), scale, angle))
        return poses

    def _choose(self, i: int, found: Found, own: Index) -> tuple[Double, float, float, float, float]:
        """Pose, response, clearness by the filter and by the first frame's, of object i among its found poses."""
        s = self._state
        k = int(own[0])
        if s.hidden[i]:
            best = int(own[np.argmax(found.memory[own] + 0.5 * found.clear[own])])
            return (
                found.pose[best],
                float(found.peak[best]),
                float(found.fit[best]),
                float(found.clear[best]),
                float(found.memory[best]),
            )
        near = 5 if s.oriented[i] else 3
        peak = found.fit
        best = int(own[:near][np.argmax(peak[own[:near]])])
        pose = found.pose[k].copy()
        pose[2] *= _SCALE_STEP ** _vertex(peak[k + 1] * _SCALE_BIAS, peak[k], peak[k + 2] * _SCALE_BIAS)
        if s.oriented[i]:
            pose[3] += _ANGLE_STEP * _vertex(peak[k + 3], peak[k], peak[k + 4])
        last = int(own[-1])
        if len(own) > near and found.peak[last] > _DETOUR * found.peak[best]:
            best, pose = last, found.pose[last]
        return pose, float(found.peak[best]), float(peak[best]), float(found.clear[best]), float(found.memory[best])

    def _anchor(self, pyramid: Pyramid, found: Found, steady: Double) -> Double:
        """Correct the poses in place by the kept pictures; returns the shares of points (n, 2) that agree."""
        s = self._state
        held = np.zeros((len(s.keys), 2))
        for i, pose in enumerate(found.pose):
            for j, kept in enumerate(s.anchors[i]):
                shape = s.shape[i] * pose[2] / s.scale[i]
                rest = anchor.align(kept, pyramid, pose[:2], shape, pose[3])
                moved, growth, turn = anchor.correct(rest, pose[:2], shape, pose[3])
                if rest.trust == 0 or (not s.hidden[i] and _stays(pose[:2] - steady[i], moved - steady[i])):
                    continue
                held[i, j] = rest.trust
                if rest.trust > _ANCHORED:
                    pose[:2] = moved
                    pose[2] *= growth
                    pose[3] += turn if s.oriented[i] else 0.0
                    break
        return held

    def _search(self, pyramid: Pyramid, poses: Double, owner: Index) -> Found:
        """Best position near each pose by its owner's filter, and how good it is there."""
        s = self._state
        parts: list[Found] = []
        for start in range(0, max(1, len(poses)), _CHUNK):
            own, pose = owner[start : start + _CHUNK], poses[start : start + _CHUNK].copy()
            windows = self._windows(pyramid, pose, own)
            spectra = filter.transform(features.describe(windows))
            maps = filter.respond(s.filters[own], spectra)
            usual = s.usual[own, None, None].astype(np.float32)
            seen = colour.presence(windows, s.colours[own], self._share(own))
            shift, peak = _peaks((1 - _COLOUR) / usual * maps + _COLOUR * seen)
            cell = s.side[own] * pose[:, 2] / CELLS
            cos, sin = np.cos(pose[:, 3]), np.sin(pose[:, 3])
            dx, dy = shift[:, 0] * cell, shift[:, 1] * cell
            pose[:, 0] += dx * cos - dy * sin
            pose[:, 1] += dx * sin + dy * cos
            memory = filter.respond(s.first[own], spectra)
            parts.append(Found(pose, peak, _near(maps, shift), clearness(maps, shift), clearness(memory, shift)))
        return Found(*(np.concatenate([getattr(p, name) for p in parts]) for name in Found._fields))

    def _windows(self, pyramid: Pyramid, poses: Double, owner: Index) -> NDArray[np.uint8]:
        side = self._state.side[owner] * poses[:, 2]
        windows = [pyramid.crop(p[:2], d, p[3], WINDOW) for p, d in zip(poses, side, strict=True)]
        return np.array(windows, np.uint8).reshape(-1, WINDOW, WINDOW, 3)

    def _share(self, owner: Index) -> Array:
        """Width and height of the objects as shares of their windows, float32 (n, 2)."""
        s = self._state
        share: Array = (s.shape[owner] / (s.side * s.scale)[owner, None]).astype(np.float32)
        return share

    def _accept(self, pyramid: Pyramid, found: Found, held: Double, steady: Double) -> None:
        """Take the new poses, decide what is still seen, and learn from what surely is."""
        s = self._state
        score = _confidence(found.clear / s.level[:, 0], found.memory / s.level[:, 1], found.memory, held)
        s.held = held.max(1)
        fits = (found.memory > 0.4 * s.level[:, 1]) & (s.held > 0.4)
        size = np.sqrt(s.shape.prod(1))
        guess = steady + s.velocity
        near = np.hypot(*(found.pose[:, :2] - guess).T) < size
        back = s.hidden & (fits | (score > np.where(near, _FOUND_NEAR, _FOUND_FAR)))
        pace = 0.05 if s.age > 5 else 0.5
        now = np.maximum(np.stack((found.clear, found.memory), 1), 1.0)
        good = (score > 0.5) & ~s.hidden
        s.usual = np.where(good, (1 - pace) * s.usual + pace * np.maximum(found.fit, 1e-6), s.usual)
        s.level = np.where(((score > 0.5) & ~s.hidden)[:, None], (1 - pace) * s.level + pace * now, s.level)
        s.trust = np.where(s.hidden & ~back, 0.0, 0.6 * s.trust + 0.4 * score)
        s.trust[back] = score[back]
        follow = np.where(s.hidden, back, score > _COAST)
        pose = found.pose.copy()
        pose[~follow, :2] = guess[~follow]
        pose[~follow, 2], pose[~follow, 3] = s.scale[~follow], s.angle[~follow]
        pose[:, 2] = np.clip(pose[:, 2], 2 / np.maximum(s.shape.max(1) / s.scale, 2), 4 * max(s.size) / s.side)
        growth = pose[:, 2] / s.scale
        s.velocity = np.where(follow[:, None], 0.5 * s.velocity + 0.5 * (pose[:, :2] - steady), 0.8 * s.velocity)
        s.velocity[back] = 0
        s.centre, s.scale, s.angle = pose[:, :2].copy(), pose[:, 2].copy(), pose[:, 3].copy()
        s.shape = s.shape * growth[:, None]
        s.centre = np.clip(s.centre, -s.shape / 2, np.array(s.size) + s.shape / 2)
        s.missing = np.where((s.trust < _LOST) | (self._inside() < 0.15), s.missing + 1, 0)
        s.hidden = (s.missing >= _PATIENCE) | (self._inside() < 0.15)
        sure = ~s.hidden & (score > _SURE)
        for i in np.flatnonzero(sure & (score > 0.9) & (s.held < _RENEW) & (found.memory > 0.8 * s.level[:, 1])):
            s.anchors[i, 1] = anchor.take(pyramid, s.centre[i], s.shape[i], float(s.angle[i]))
        if s.age % 2 == 0 or s.age < 10:
            self._learn(pyramid, np.flatnonzero(sure))

    def _inside(self) -> Double:
        """Share (n,) of every object's upright frame that lies inside the picture."""
        corners = self._state.corners()
        low, high = corners.min(1), corners.max(1)
        cut = np.clip(high, 0, self._state.size) - np.clip(low, 0, self._state.size)
        share: Double = cut.prod(1) / np.maximum((high - low).prod(1), 1e-9)
        return share

    def _learn(self, pyramid: Pyramid, who: Index) -> None:
        s = self._state
        pose = np.concatenate((s.centre, s.scale[:, None], s.angle[:, None]), 1)
        for start in range(0, len(who), _CHUNK):
            part = who[start : start + _CHUNK]
            windows = self._windows(pyramid, pose[part], part)
            spectra = filter.transform(features.describe(windows))
            fresh = colour.count(windows, self._share(part))
            s.colours[part] = (1 - _COLOUR_PACE) * s.colours[part] + _COLOUR_PACE * fresh
            stiff = np.full(len(part), STIFFNESS, np.float32)
            s.filters[part] = filter.learn(spectra, s.target[part], s.weight[part], s.filters[part], stiff)

    def _prediction(self, i: int) -> Prediction:
        s = self._state
        visible = not s.hidden[i]
        score = float(np.clip(s.trust[i], 0, 1)) if visible else 0.0
        if not visible and (s.missing[i] > _GUESSES or self._inside()[i] < 0.15):
            return Prediction(s.keys[i], None, 0.0, False)
        (x, y), (w, h) = s.centre[i].tolist(), s.shape[i].tolist()
        if s.oriented[i]:
            oriented = OrientedBox(np.array([x, y, w, h], np.float32), float(s.angle[i]))
            return Prediction(s.keys[i], oriented, score, visible)
        box = Box(np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2], np.float32))
        return Prediction(s.keys[i], box, score, visible)


def _near(maps: Array, at: Double) -> Double:
    """Highest value (n,) of every map (n, c, c) within a cell of `at` (n, 2; x, y from the centre)."""
    cells = maps.shape[-1]
    middle = np.clip(np.round(at).astype(int) + cells // 2, 1, cells - 2)
    step = np.arange(-1, 2)
    rows, columns = middle[:, 1, None, None] + step[:, None], middle[:, 0, None, None] + step
    around = maps[np.arange(len(maps))[:, None, None], rows, columns]
    highest: Double = around.max((1, 2)).astype(np.float64)
    return highest


def _stays(found: Double, kept: Double) -> bool:
    """Whether kept pictures claim that nothing moved beside the camera where the filter saw motion.

    found, kept: (2,) pixels. Such points lie on the background seen around or through the object.
    """
    return float(np.hypot(*found)) > 1.5 and float(np.hypot(*kept)) < 0.3 * float(np.hypot(*found))


def _confidence(clear: Double, memory: Double, likeness: Double, held: Double) -> Double:
    """Chance (n,) that the box overlaps the object by half.

    clear, memory: clearness of the responses of the filter and of the first frame's, over what is usual for the object;
    likeness: the latter as it is. held: (n, 2) share of points that agree with the kept pictures.
    """
    evidence = 4 * (clear - 0.55) + 8 * (memory - 0.55) + 0.5 * (likeness - 8) + 6 * held[:, 0] + held[:, 1]
    chance: Double = 1 / (1 + np.exp(-np.clip(evidence, -20, 20)))
    return chance


def clearness(maps: Array, at: Double) -> Double:
    """Height of every map (n, c, c) at cells `at` (n, 2; x, y from the centre) over the rest, in its deviations.

    The peak-to-sidelobe ratio of Bolme et al., "Visual object tracking using adaptive correlation filters", CVPR 2010.
    """
    cells = maps.shape[-1]
    column = np.clip(np.round(at[:, 0]).astype(int) + cells // 2, 0, cells - 1)
    row = np.clip(np.round(at[:, 1]).astype(int) + cells // 2, 0, cells - 1)
    clear = np.empty(len(maps))
    for i, (values, x, y) in enumerate(zip(maps, column.tolist(), row.tolist(), strict=True)):
        top = values[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max()
        whole = values.mean(dtype=np.float64)
        values = values - whole
        near = values[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5]
        rest = cells * cells - near.size
        mean = -near.sum() / rest
        square = (np.vdot(values, values) - np.vdot(near, near)) / rest - mean**2
        clear[i] = (top - whole - mean) / (np.sqrt(max(square, 0.0)) + 1e-9)
    return clear


def _peaks(maps: Array) -> tuple[Double, Double]:
    """Highest point of every map (n, c, c): offset (n, 2) x, y in cells from the centre, to a fraction; and height."""
    count, cells = maps.shape[:2]
    flat = maps.reshape(count, cells * cells)
    at = flat.argmax(1)
    row, column = np.divmod(at, cells)
    n = np.arange(count)
    top = flat[n, at].astype(np.float64)
    left, right = maps[n, row, (column - 1) % cells], maps[n, row, (column + 1) % cells]
    up, down = maps[n, (row - 1) % cells, column], maps[n, (row + 1) % cells, column]
    dx = [_vertex(a, b, c) for a, b, c in zip(left, top, right, strict=True)]
    dy = [_vertex(a, b, c) for a, b, c in zip(up, top, down, strict=True)]
    shift = np.stack((column - cells // 2 + np.array(dx), row - cells // 2 + np.array(dy)), 1)
    return shift.astype(np.float64), top


def _vertex(before: float, middle: float, after: float) -> float:
    """Where the parabola through three equally spaced values is highest, -1..1 steps from the middle one."""
    bend = before + after - 2 * middle
    if bend >= 0:
        return -1.0 if before > after else 1.0
    return float(np.clip((before - after) / (2 * bend), -1.0, 1.0))
