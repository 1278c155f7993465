"""Where an object's box really ends: found boxes are shifted and scaled by what a finer look at them says.

Learned from the labelled objects and from copies of them, turned a little and put on what else is in the picture: each is
looked at through boxes that are off a little, and a linear map from what is seen there to how far the box is off is fitted.
Whether it helps on objects that it has not learned from is measured by leaving each object out in turn; where it does not,
boxes stay as they are. Sources: Xiong and De la Torre 2013, "Supervised descent method and its applications to face
alignment"; ridge regression in its dual form, Saunders et al. 1998, with samples left out as in An, Liu and Venkatesh 2007, "Fast
cross-validation algorithms for least squares support vector machine and kernel ridge regression"; objects on other ground,
Dwibedi et al. 2017, "Cut, paste and learn: surprisingly easy synthesis for instance detection".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from common.detection.exemplar import channels, turning
from common.detection.exemplar.settings import ExemplarPicture, ExemplarSettings
from common.geometry.types import Mask
from common.video.contract import Image

Float = NDArray[np.float32]

_SIDE = 64
"""Pixels of the finer look's side."""
_MARGIN = 0.25
"""Share of the box's size that it shows around it, on each side."""
_OFF = (0.12, 0.06)
"""How far boxes are off that the first and the second look learn from, standard deviation, as a share of their size. The second
is taken twice: learning a third costs half as much again and helped no more."""
_MOST, _EACH = 160, 48
"""Looks that are learned from, of a class and of an object, as they are."""
_LEAST = 2
"""Looks of an object that is learned from; of so many objects that this is too much only some are."""
_TURN, _TURNED = 0.3, 2.0
"""Radians by which copies of objects are turned at most, and how many copies there are for each look at an object as it is."""
_ELSEWHERE = 0.6
"""Share of the copies that have the background of another place."""
_CUT_OUT = 24
"""Objects of a class that are copied."""
_LONGEST = 0.25
"""A box is moved by at most this share of its size at once."""
_RIDGE = 0.05
_BETTER = 0.92
"""Of the error of boxes of left-out objects at most this must be left."""
_EDGE = 2.0
_AT_ONCE = 8
"""Looks that are worked on together."""
_SEED = 3


@dataclass(frozen=True, eq=False)
class Refiner:
    """One look at the boxes of one class. mean: (d,). weights: (d, 4), from what is seen to shift in x, y and logarithm of the size's ratio in x, y."""

    label: int
    mean: Float
    weights: Float


def refined(
    image: Image,
    boxes: Float,
    labels: NDArray[np.int64],
    refiners: Sequence[Refiner],
    settings: ExemplarSettings,
    table: Float,
) -> Float:
    """Boxes (n, 4) as the refiners of their classes put them, one after the other. Those that the picture's edge cuts stay
    as they are."""
    if not len(boxes) or not refiners:
        return boxes
    rows, columns = image.shape[:2]
    whole = (boxes[:, :2] > _EDGE).all(1) & (boxes[:, 2] < columns - _EDGE) & (boxes[:, 3] < rows - _EDGE)
    out = boxes.copy()
    for one in refiners:
        mine = np.flatnonzero(whole & (labels == one.label))
        if len(mine):
            seen = _looks(image, out[mine], settings, table)
            out[mine] = _moved(out[mine], ((seen - one.mean) @ one.weights).astype(np.float32))
    return np.clip(out, 0, np.array([columns, rows, columns, rows], np.float32))


def fit(
    pictures: Sequence[ExemplarPicture], classes: int, settings: ExemplarSettings, table: Float
) -> tuple[Refiner, ...]:
    """Refiners of the classes that one helps, coarse ones before finer ones. table: the colour model."""
    rng = np.random.default_rng(_SEED)
    lessons = [[_Lessons([], [], []) for _ in range(classes)] for _ in _OFF]
    copied = np.zeros(classes, np.int64)
    for number, (image, box, mask, label, times) in enumerate(_objects(pictures, classes)):
        own = np.repeat(box[None], times, 0)
        copies = _copies(image, box, mask, times, rng) if copied[label] < _CUT_OUT else None
        copied[label] += 1
        real = own if copies is None else np.concatenate((own, copies.boxes))
        for off, of_classes in zip(_OFF, lessons, strict=True):
            shaken = _moved(real, rng.normal(0, off, (len(real), 4)).astype(np.float32))
            seen = [_looks(image, shaken[:times], settings, table)]
            if copies is not None:
                seen.append(_looks(image, shaken[times:], settings, table, copies))
            of_classes[label].add(np.concatenate(seen), _target(shaken, real), number)
    looks = [[one.fitted(label) for label, one in enumerate(of_classes)] for of_classes in lessons]
    return tuple(one for of_classes in (*looks, looks[-1]) for one in of_classes if one is not None)


def _objects(pictures: Sequence[ExemplarPicture], classes: int) -> Iterator[tuple[Image, Float, Mask | None, int, int]]:
    """Picture, box, area, class of each object that is learned from, and how many looks at it as it is."""
    count = np.zeros(classes, np.int64)
    for picture in pictures:
        count += np.bincount(picture.classes, minlength=classes)
    apart = np.maximum(-(-_LEAST * count // _MOST), 1)  # every how manieth object of a class is taken
    met = np.zeros(classes, np.int64)
    for picture in pictures:
        image = picture.read()
        rows, columns = image.shape[:2]
        masks = picture.masks or (None,) * len(picture.boxes)
        for box, mask, label in zip(picture.boxes.astype(np.float32), masks, picture.classes.tolist(), strict=True):
            if (box[:2] <= _EDGE).any() or box[2] >= columns - _EDGE or box[3] >= rows - _EDGE:
                continue
            met[label] += 1
            if (met[label] - 1) % apart[label] == 0:
                yield image, box, mask, label, int(np.clip(_MOST // max(int(count[label]), 1), _LEAST, _EACH))


@dataclass(frozen=True, eq=False)
class _Lessons:
    """What one look at one class is learned from: what is seen, how far the boxes are off, and whose they are."""

    looks: list[Float]
    targets: list[Float]
    owners: list[int]

    def add(self, looks: Float, targets: Float, owner: int) -> None:
        self.looks.append(looks)
        self.targets.append(targets)
        self.owners.extend([owner] * len(looks))

    def fitted(self, label: int) -> Refiner | None:
        """None where there are too few objects to tell whether it helps, or where it does not."""
        if len(set(self.owners)) < 2:
            return None
        return _fitted(label, np.concatenate(self.looks), np.concatenate(self.targets), np.array(self.owners))


def _fitted(label: int, looks: Float, targets: Float, owners: NDArray[np.int64]) -> Refiner | None:
    """None where objects that are left out are not put better."""
    mean = looks.mean(0)
    rows = looks - mean
    kernel = (rows @ rows.T).astype(np.float64)
    kernel[np.diag_indices_from(kernel)] += _RIDGE * float(np.trace(kernel)) / len(kernel) + 1e-9
    factor = linalg.cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    answer = linalg.cho_solve(factor, targets, check_finite=False)
    kept: list[float] = []
    names = np.unique(owners)
    for name in names[:: max(1, len(names) // 6)]:
        out = np.flatnonzero(owners == name)
        # what is left of these by what the others teach, from the inverse of all (An, Liu and Venkatesh 2007)
        chosen = np.zeros((len(owners), len(out)))
        chosen[out, np.arange(len(out))] = 1
        own = linalg.cho_solve(factor, chosen, overwrite_b=True, check_finite=False)[out]
        left = linalg.solve(own, answer[out], assume_a="pos", check_finite=False)
        kept.append(float(np.abs(left).mean() / max(np.abs(targets[out]).mean(), 1e-9)))
    if np.mean(kept) > _BETTER:
        return None
    weights = rows.T @ answer
    return Refiner(label, mean.astype(np.float32), weights.astype(np.float32))


@dataclass(frozen=True, eq=False)
class _Copies:
    """Changed copies of one object. boxes: float32 (n, 4), theirs. area: uint8, of the picture. middle: (2,), about which it is
    turned by angles (n,), radians. away: float32 (n, 2), how far from it the background is taken, pixels."""

    boxes: Float
    area: NDArray[np.uint8]
    middle: Float
    angles: NDArray[np.float64]
    away: Float


def _copies(image: Image, box: Float, mask: Mask | None, times: int, rng: np.random.Generator) -> _Copies | None:
    """Turned ones, and ones on what is elsewhere in the picture, for each of so many that are as they are. None where the object
    cannot be told from its background."""
    found = turning.cut_out(image, box, mask)
    if found is None:
        return None
    middle: Float = (box[:2] + box[2:]) / np.float32(2)
    angles = rng.uniform(-_TURN, _TURN, round(_TURNED * times))
    boxes = np.stack([turning.turned(found.hull, middle, float(angle)) for angle in angles])
    away = (rng.uniform(0, 1, (len(angles), 2)) * image.shape[1::-1] - middle).astype(np.float32)
    away[rng.random(len(away)) >= _ELSEWHERE] = 0
    return _Copies(boxes, found.area, middle, angles, away)


def _looks(
    image: Image, boxes: Float, settings: ExemplarSettings, table: Float, copies: _Copies | None = None
) -> Float:
    """What is seen in each box and around it, float32 (n, d). copies: of the object that the boxes are about."""
    views = np.empty((len(boxes), _SIDE, _SIDE, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes.astype(np.float64)):
        across, down = (1 + 2 * _MARGIN) * max(x2 - x1, 1.0), (1 + 2 * _MARGIN) * max(y2 - y1, 1.0)
        fx, fy = _SIDE / across, _SIDE / down
        left, top = (x1 + x2 - across) / 2, (y1 + y2 - down) / 2
        matrix = np.array([[fx, 0, -left * fx + (fx - 1) / 2], [0, fy, -top * fy + (fy - 1) / 2]])
        if copies is None:
            views[number] = _view(image, matrix)
        else:
            views[number] = _view_of_copy(image, matrix, copies, number)
    at_once = range(0, len(views), _AT_ONCE)
    maps = [channels.of_pictures(views[start : start + _AT_ONCE], settings, table) for start in at_once]
    return np.concatenate([part.reshape(len(part), -1) for part in maps])


def _view_of_copy(image: Image, matrix: NDArray[np.float64], copies: _Copies, number: int) -> Image:
    """What that copy looks like, turned and on its other ground."""
    turn = turning.rotation(float(copies.angles[number]))
    moved = matrix[:, :2] @ (copies.middle - turn @ copies.middle) + matrix[:, 2]
    own = np.column_stack((matrix[:, :2] @ turn, moved))
    view = _view(image, own)
    if not copies.away[number].any():
        return view
    other = np.column_stack((matrix[:, :2], matrix[:, 2] - matrix[:, :2] @ copies.away[number]))
    share = cv2.warpAffine(copies.area, own, (_SIDE, _SIDE)).astype(np.float32) / 255
    return np.asarray(cv2.blendLinear(view, _view(image, other), share, 1 - share), np.uint8)


def _view(image: Image, matrix: NDArray[np.float64]) -> Image:
    view = cv2.warpAffine(image, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(view, np.uint8)


def _target(boxes: Float, real: Float) -> Float:
    size, own = boxes[:, 2:] - boxes[:, :2], real[:, 2:] - real[:, :2]
    shift = ((real[:, :2] + real[:, 2:]) - (boxes[:, :2] + boxes[:, 2:])) / 2 / size
    return np.concatenate((shift, np.log(own / size)), 1).astype(np.float32)


def _moved(boxes: Float, by: Float) -> Float:
    by = np.clip(by, -_LONGEST, _LONGEST)
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + by[:, :2] * size
    half = size * np.exp(by[:, 2:]) / 2
    return np.concatenate((middle - half, middle + half), 1).astype(np.float32)
