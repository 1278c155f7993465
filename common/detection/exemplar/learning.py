"""Learning from a few labelled pictures: templates first, then the closer look at what they find, twice.

What a template finds where nothing is labelled is the most telling background there is: hard negatives (Felzenszwalb et al.
2010, "Object detection with discriminatively trained part-based models").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.detection.exemplar import channels, closer, refining, windows
from common.detection.exemplar.channels import Level
from common.detection.exemplar.closer import Closer
from common.detection.exemplar.refining import Refiner
from common.detection.exemplar.settings import ExemplarPicture, ExemplarSettings
from common.detection.exemplar.windows import Finder, Template
from common.errors import PromptInvalid
from common.geometry.measures import box_iou
from common.video.contract import Image

Float = NDArray[np.float32]
Int = NDArray[np.int64]

_SEED = 20
_RANDOM = 400
"""Random windows of a picture."""
_KEPT = 1400
"""Samples that the closer look remembers."""
_CUT = 30
"""Objects of a picture that are learned cut by its edge as well."""
_SHAPES = 3
"""Aspects of a class that have templates of their own, at most."""


@dataclass(frozen=True, eq=False)
class Learned:
    """table: colour model. smallest, largest: sides of objects looked for, pixels, for pictures of `shape` rows and columns
    (sides scale with them)."""

    table: Float
    templates: tuple[Template, ...]
    closer: Closer
    smallest: float
    largest: float
    refiners: tuple[Refiner, ...] = ()


@dataclass(frozen=True, eq=False)
class _Seen:
    """A labelled picture as it is learned from. real: it is as it was taken, so that its background counts."""

    levels: list[Level]
    boxes: Float
    classes: Int
    ignore: Float
    shape: tuple[int, int]
    real: bool


def learn(pictures: Sequence[ExemplarPicture], classes: int, settings: ExemplarSettings) -> Learned:
    """Raises `PromptInvalid` when nothing is labelled, or no picture completely."""
    count = sum(len(picture.boxes) for picture in pictures)
    if not count or all(picture.partial for picture in pictures):
        raise PromptInvalid("No object is labelled: label all objects of at least one picture.")
    rng = np.random.default_rng(_SEED)
    sides = np.concatenate([_sides(p.boxes) for p in pictures])
    smallest, largest = float(sides.min()) / settings.reach, float(sides.max()) * settings.reach
    table = _colours(pictures, classes)
    seen = [one for p in pictures for one in _views(p, len(pictures), smallest, largest, settings, table)]
    templates = _templates(seen, classes, settings, rng)
    look = _closer(seen, templates, classes, settings, rng)
    return Learned(table, templates, look, smallest, largest, refining.fit(pictures, classes, settings, table))


def _sides(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = np.sqrt(np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0).astype(np.float64).prod(1))
    return sides


# -- colours -------------------------------------------------------------------------------------------------------------


def colour_groups(classes: int) -> int:
    """Classes have a colour model each when they are few, else one together."""
    return classes if classes <= 4 else 1


def _colours(pictures: Sequence[ExemplarPicture], classes: int) -> Float:
    groups = colour_groups(classes)
    inside = [np.zeros(channels.bins()) for _ in range(groups)]
    outside = np.zeros(channels.bins())
    for picture in pictures:
        image = picture.read()
        scale = min(1.0, 480 / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        lab = np.asarray(cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB))
        numbers = channels.palette(lab)
        free = np.ones(lab.shape[:2], np.uint8)
        for box in (*picture.boxes, *picture.ignore):
            x1, y1, x2, y2 = (int(v) for v in np.round(box * scale))
            free[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = 0
        if not picture.partial:
            outside += np.bincount(numbers[free > 0], minlength=channels.bins())
        for number, (box, label) in enumerate(zip(picture.boxes, picture.classes, strict=True)):
            own = np.zeros(lab.shape[:2], np.uint8)
            mask = picture.masks[number] if picture.masks else None
            if mask is not None:
                own = cv2.resize(mask.to_array().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
            else:
                x1, y1, x2, y2 = (float(v) * scale for v in box)
                half = (max(1, round((x2 - x1) * 0.38)), max(1, round((y2 - y1) * 0.38)))
                cv2.ellipse(own, (round((x1 + x2) / 2), round((y1 + y2) / 2)), half, 0, 0, 360, 1, -1)
            counts = np.bincount(numbers[own > 0], minlength=channels.bins())
            inside[int(label) % groups] += counts / max(counts.sum(), 1) * 1000  # large and small count alike
    return channels.colour_table(inside, outside / max(outside.sum(), 1) * 4000 * max(len(pictures), 1))


# -- views ---------------------------------------------------------------------------------------------------------------


def _views(
    picture: ExemplarPicture, pictures: int, smallest: float, largest: float, settings: ExemplarSettings, table: Float
) -> list[_Seen]:
    """The picture, and changed copies of it: mirrored, darker, brighter and turned a little where pictures are few."""
    image = picture.read()
    rows, columns = image.shape[:2]
    boxes = picture.boxes.astype(np.float32)

    def seen(changed: Image, where: Float, ignore: Float, real: bool) -> _Seen:
        levels = channels.pyramid(changed, smallest, largest, settings, table)
        return _Seen(levels, where, picture.classes, ignore, (rows, columns), real)

    found = [seen(image, boxes, picture.ignore, not picture.partial)]
    nothing = np.zeros((0, 4), np.float32)
    if settings.flip:
        mirrored = boxes.copy()
        mirrored[:, [0, 2]] = columns - boxes[:, [2, 0]]
        found.append(seen(np.ascontiguousarray(image[:, ::-1]), mirrored, nothing, False))
    if pictures <= 4:
        for turn, light in ((0.12, 0.85), (-0.12, 1.15)):
            matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), np.degrees(turn), 1.0)
            changed = cv2.warpAffine(image, matrix, (columns, rows), borderMode=cv2.BORDER_REFLECT_101)
            changed = cv2.convertScaleAbs(changed, alpha=light)
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
            half = (boxes[:, 2:] - boxes[:, :2]) / 2
            moved = np.concatenate((middle - half, middle + half), 1).astype(np.float32)
            found.append(seen(np.asarray(changed, np.uint8), moved, nothing, False))
    return found


def _entering(one: _Seen, settings: ExemplarSettings, rng: np.random.Generator) -> list[tuple[_Seen, Float]]:
    """Each whole object as it looks when the picture's edge cuts it: a copy of the channels that ends within the object, and
    the object's full box there."""
    found = []
    inner = slice(channels.PAD, -channels.PAD)
    for row in np.flatnonzero(_whole(one))[:_CUT]:
        box = one.boxes[row].astype(np.float64)
        side = float(np.sqrt((box[2:] - box[:2]).prod()))
        level = min(one.levels, key=lambda each: abs(np.log(each.size * side / settings.side)))
        axis, low_side = int(rng.integers(2)), bool(rng.integers(2))
        share = rng.uniform(0.25, 0.5)  # of the object that lies outside
        at = box[axis] + (box[axis + 2] - box[axis]) * (share if low_side else 1 - share)
        cell = channels.CELL / level.scale[axis]
        edge = round(at / cell)
        maps = level.maps[inner, inner]
        length = maps.shape[1 - axis]
        if not 3 <= edge <= length - 3:
            continue
        kept = slice(edge, None) if low_side else slice(0, edge)
        maps = maps[:, kept] if axis == 0 else maps[kept]
        around = np.pad(maps, ((channels.PAD, channels.PAD), (channels.PAD, channels.PAD), (0, 0)), mode="edge")
        moved = box.copy()
        moved[[axis, axis + 2]] -= edge * cell if low_side else 0.0
        boxes = moved[None].astype(np.float32)
        cut = _Seen([Level(around, level.scale)], boxes, one.classes[row : row + 1], one.ignore[:0], one.shape, False)
        found.append((cut, boxes))
    return found


# -- templates -----------------------------------------------------------------------------------------------------------


def _templates(
    seen: Sequence[_Seen], classes: int, settings: ExemplarSettings, rng: np.random.Generator
) -> tuple[Template, ...]:
    found = []
    for label in range(classes):
        boxes = [one.boxes[(one.classes == label) & _whole(one)] for one in seen]
        if not sum(map(len, boxes)):
            boxes = [one.boxes[one.classes == label] for one in seen]
        aspects = [np.log((b[:, 2] - b[:, 0]) / np.maximum(b[:, 3] - b[:, 1], 1e-3)) for b in boxes]
        together = np.concatenate(aspects)
        if not len(together):
            continue
        middles = _middles(together)
        for middle in middles:
            grid = windows.grid_of(float(np.exp(middle)), settings.side)
            objects, background = [], []
            for one, own, aspect in zip(seen, boxes, aspects, strict=True):
                mine = own[
                    np.abs(aspect[:, None] - middles[None]).argmin(1) == int(np.argmin(np.abs(middles - middle)))
                ]
                objects.append(_look(one, _shaken(mine, rng, 6, 0.05), grid, settings))
                if one.real:
                    background.append(_look(one, _elsewhere(one, label, float(np.exp(middle)), rng), grid, settings))
            shape = (*grid, seen[0].levels[0].maps.shape[2])
            found.append(windows.discriminant(np.concatenate(objects), np.concatenate(background), shape, label))
    return tuple(found)


def _middles(logs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centres of at most `_SHAPES` clusters, each no wider than it must be (k-means in one dimension)."""
    spread = float(np.ptp(logs))
    count = int(np.clip(np.ceil(spread / 0.5), 1, _SHAPES))
    middles = np.quantile(logs, (np.arange(count) + 0.5) / count)
    for _ in range(8):
        nearest = np.abs(logs[:, None] - middles[None]).argmin(1)
        middles = np.array([logs[nearest == k].mean() if (nearest == k).any() else middles[k] for k in range(count)])
    return np.unique(np.round(middles, 4))


def _whole(one: _Seen) -> NDArray[np.bool_]:
    """Objects that the picture's edge does not cut."""
    rows, columns = one.shape
    boxes = one.boxes
    inside: NDArray[np.bool_] = (
        (boxes[:, 0] > 1) & (boxes[:, 1] > 1) & (boxes[:, 2] < columns - 1) & (boxes[:, 3] < rows - 1)
    )
    return inside


def _look(one: _Seen, boxes: Float, grid: tuple[int, int], settings: ExemplarSettings) -> Float:
    return channels.sample(one.levels, boxes, grid, windows.MARGIN, settings.side)


def _shaken(boxes: Float, rng: np.random.Generator, times: int, amount: float) -> Float:
    """Each box, and copies of it that are moved and scaled a little (share of its size)."""
    copies = np.repeat(boxes, times, 0)
    if not len(copies):
        return copies
    size = copies[:, 2:] - copies[:, :2]
    middle = (copies[:, 2:] + copies[:, :2]) / 2 + rng.normal(0, amount, size.shape) * size
    size = size * np.exp(rng.normal(0, amount, size.shape) + rng.normal(0, amount, (len(size), 1)))
    out = np.concatenate((middle - size / 2, middle + size / 2), 1).astype(np.float32)
    out[::times] = boxes
    return out


def _elsewhere(one: _Seen, label: int, aspect: float, rng: np.random.Generator) -> Float:
    """Random boxes of that aspect, and objects of other classes, that no object of the class overlaps much."""
    rows, columns = one.shape
    logs = [np.log(level.size) for level in one.levels]
    area = np.exp(rng.uniform(min(logs), max(logs), 3 * _RANDOM))
    side = 32 / area
    size = np.stack((side * np.sqrt(aspect), side / np.sqrt(aspect)), 1)
    middle = rng.uniform(0, 1, (len(size), 2)) * (columns, rows)
    boxes = np.concatenate((middle - size / 2, middle + size / 2), 1).astype(np.float32)
    boxes = np.concatenate((boxes, one.boxes[one.classes != label]))
    mine = np.concatenate((one.boxes[one.classes == label], one.ignore))
    near = box_iou(boxes, mine).max(1, initial=0) if len(mine) else np.zeros(len(boxes))
    return boxes[near < 0.3]


# -- the closer look -----------------------------------------------------------------------------------------------------


@dataclass
class _Samples:
    looks: list[Float]
    boxes: list[Float]
    overlaps: list[Float]
    partners: list[Float]
    matched: list[NDArray[np.bool_]]
    weights: list[Float]

    def add(self, one: _Seen, boxes: Float, classes: int, weight: float, settings: ExemplarSettings) -> None:
        """Samples of these boxes with their overlaps; those on what is to be ignored are left out."""
        if len(one.ignore) and len(boxes):
            hidden = box_iou(boxes, one.ignore).max(1)
            shown = box_iou(boxes, one.boxes).max(1, initial=0) if len(one.boxes) else np.zeros(len(boxes))
            boxes = boxes[(hidden < 0.2) | (shown > hidden)]
        if not len(boxes):
            return
        table = (
            box_iou(boxes, one.boxes).astype(np.float32) if len(one.boxes) else np.zeros((len(boxes), 0), np.float32)
        )
        overlaps = np.zeros((len(boxes), classes), np.float32)
        for label in range(classes):
            mine = one.classes == label
            if mine.any():
                overlaps[:, label] = table[:, mine].max(1)
        nearest = table.argmax(1) if table.shape[1] else np.zeros(len(boxes), np.int64)
        best = table.max(1, initial=0)
        self.looks.append(channels.sample(one.levels, boxes, closer.GRID, closer.MARGIN, settings.side))
        self.boxes.append(boxes)
        self.overlaps.append(overlaps)
        self.partners.append(one.boxes[nearest] if table.shape[1] else boxes)
        self.matched.append(best > 0.4)
        self.weights.append(np.full(len(boxes), weight, np.float32))

    def fit(self, before: Closer | None = None) -> Closer:
        looks, boxes, overlaps = np.concatenate(self.looks), np.concatenate(self.boxes), np.concatenate(self.overlaps)
        weights, partners, matched = (
            np.concatenate(self.weights),
            np.concatenate(self.partners),
            np.concatenate(self.matched),
        )
        if len(looks) > _KEPT:
            rng = np.random.default_rng(_SEED)
            telling = overlaps.max(1) + 0.6 * weights + 0.3 * rng.random(len(looks))
            chosen = np.sort(np.argsort(-telling, kind="stable")[:_KEPT])
            looks, boxes, overlaps = looks[chosen], boxes[chosen], overlaps[chosen]
            weights, partners, matched = weights[chosen], partners[chosen], matched[chosen]
        return closer.fit(looks, boxes, overlaps, weights, partners, matched, before)


def _closer(
    seen: Sequence[_Seen],
    templates: Sequence[Template],
    classes: int,
    settings: ExemplarSettings,
    rng: np.random.Generator,
) -> Closer:
    samples = _Samples([], [], [], [], [], [])
    finder = Finder(templates)
    found: list[tuple[_Seen, Float]] = []
    total = max(1, sum(len(one.boxes) for one in seen))
    copies = int(np.clip(300 // total, 2, 12))
    for one in seen:
        samples.add(one, _shaken(one.boxes, rng, copies, 0.04), classes, 1.0, settings)
        samples.add(one, _shaken(one.boxes, rng, copies, 0.15), classes, 1.0, settings)
        if one.real:
            boxes, _, _ = finder.windows(one.levels, settings.proposals)
            found.append((one, boxes))
    for one in seen:
        if one.real:
            for cut, boxes in _entering(one, settings, rng):
                samples.add(cut, _shaken(boxes, rng, copies // 2 + 1, 0.06), classes, 1.0, settings)
    budget = max(20, 500 // max(1, len(found)))
    for one, boxes in found:
        samples.add(one, boxes[:budget], classes, 1.0, settings)
        picked = _elsewhere(one, -1, 1.0, rng)
        samples.add(one, picked[: budget // 3], classes, 0.5, settings)
    look = samples.fit()
    # what still looks like an object and is none, or is found shifted, is learned, too
    for one, boxes in found:
        reduced = look.reduced(channels.sample(one.levels, boxes, closer.GRID, closer.MARGIN, settings.side), boxes)
        moved = look.corrected(reduced, boxes)
        again = look.reduced(channels.sample(one.levels, moved, closer.GRID, closer.MARGIN, settings.side), moved)
        order = np.argsort(-look.score(again).max(1), kind="stable")
        samples.add(one, moved[order[: budget // 2]], classes, 1.0, settings)
    return samples.fit(look)
