"""Where an object's box really ends: found boxes are shifted and scaled by what a finer look at them says.

Learned from the labelled objects themselves: each is looked at through boxes that are off a little, and a linear map from
what is seen there to how far the box is off is fitted. Whether it helps on objects that it has not learned from is measured by
leaving each object out in turn; where it does not, boxes stay as they are. Source: Xiong and De la Torre 2013, "Supervised
descent method and its applications to face alignment"; ridge regression in its dual form, Saunders et al. 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from common.detection.exemplar import channels
from common.detection.exemplar.settings import ExemplarPicture, ExemplarSettings
from common.video.contract import Image

Float = NDArray[np.float32]

_SIDE = 64
"""Pixels of the finer look's side."""
_MARGIN = 0.25
"""Share of the box's size that it shows around it, on each side."""
_OFF = (0.09, 0.05)
"""How far boxes are off that the first and the second look learn from, standard deviation, as a share of their size."""
_MOST, _EACH = 480, 48
"""Looks that are learned from, of a class and of an object."""
_LEAST = 4
"""Looks of an object that is learned from; of so many objects that this is too much only some are."""
_LONGEST = 0.25
"""A box is moved by at most this share of its size at once."""
_RIDGE = 0.05
_BETTER = 0.85
"""Of the error of boxes of left-out objects at most this must be left."""
_EDGE = 2.0
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
    return tuple(one for off in _OFF for one in _of_offsets(off, pictures, classes, settings, table))


def _of_offsets(
    off: float, pictures: Sequence[ExemplarPicture], classes: int, settings: ExemplarSettings, table: Float
) -> list[Refiner]:
    """One look: learned from boxes that are off so much."""
    rng = np.random.default_rng(_SEED)
    count = np.zeros(classes, np.int64)
    for picture in pictures:
        count += np.bincount(picture.classes, minlength=classes)
    looks: list[list[Float]] = [[] for _ in range(classes)]
    targets: list[list[Float]] = [[] for _ in range(classes)]
    owners: list[list[int]] = [[] for _ in range(classes)]
    number = 0
    apart = np.maximum(-(-_LEAST * count // _MOST), 1)  # every how manieth object of a class is taken
    met = np.zeros(classes, np.int64)
    for picture in pictures:
        image = picture.read()
        rows, columns = image.shape[:2]
        for box, label in zip(picture.boxes.astype(np.float32), picture.classes.tolist(), strict=True):
            number += 1
            if (box[:2] <= _EDGE).any() or box[2] >= columns - _EDGE or box[3] >= rows - _EDGE:
                continue
            met[label] += 1
            if (met[label] - 1) % apart[label]:
                continue
            times = int(np.clip(_MOST // max(int(count[label]), 1), _LEAST, _EACH))
            shaken = _moved(np.repeat(box[None], times, 0), rng.normal(0, off, (times, 4)).astype(np.float32))
            seen, wanted = _looks(image, shaken, settings, table), _target(shaken, box)
            looks[label].append(seen)
            targets[label].append(wanted)
            owners[label] += [number] * times
    made = []
    for label in range(classes):
        if len(set(owners[label])) >= 2:
            one = _fitted(label, np.concatenate(looks[label]), np.concatenate(targets[label]), np.array(owners[label]))
            if one is not None:
                made.append(one)
    return made


def _fitted(label: int, looks: Float, targets: Float, owners: NDArray[np.int64]) -> Refiner | None:
    """None where objects that are left out are not put better."""
    mean = looks.mean(0)
    rows = looks - mean
    kernel = (rows @ rows.T).astype(np.float64)
    ridge = _RIDGE * float(np.trace(kernel)) / len(kernel)
    kept: list[float] = []
    names = np.unique(owners)
    for name in names[:: max(1, len(names) // 6)]:
        out = owners == name
        inner = kernel[np.ix_(~out, ~out)]
        inner[np.diag_indices_from(inner)] += ridge
        answer = linalg.solve(inner, targets[~out], assume_a="pos", check_finite=False)
        left = targets[out] - kernel[np.ix_(out, ~out)] @ answer
        kept.append(float(np.abs(left).mean() / max(np.abs(targets[out]).mean(), 1e-9)))
    if np.mean(kept) > _BETTER:
        return None
    kernel[np.diag_indices_from(kernel)] += ridge
    weights = rows.T @ linalg.solve(kernel, targets, assume_a="pos", check_finite=False)
    return Refiner(label, mean.astype(np.float32), weights.astype(np.float32))


def _looks(image: Image, boxes: Float, settings: ExemplarSettings, table: Float) -> Float:
    """What is seen in each box and around it, float32 (n, d)."""
    found = []
    for x1, y1, x2, y2 in boxes.astype(np.float64):
        across, down = (1 + 2 * _MARGIN) * max(x2 - x1, 1.0), (1 + 2 * _MARGIN) * max(y2 - y1, 1.0)
        fx, fy = _SIDE / across, _SIDE / down
        left, top = (x1 + x2 - across) / 2, (y1 + y2 - down) / 2
        matrix = np.array([[fx, 0, -left * fx + (fx - 1) / 2], [0, fy, -top * fy + (fy - 1) / 2]])
        view = cv2.warpAffine(image, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found.append(channels.level(np.asarray(view, np.uint8), (_SIDE, _SIDE), settings, table).ravel())
    return np.stack(found)


def _target(boxes: Float, real: Float) -> Float:
    size, own = boxes[:, 2:] - boxes[:, :2], real[2:] - real[:2]
    shift = ((real[:2] + real[2:]) - (boxes[:, :2] + boxes[:, 2:])) / 2 / size
    return np.concatenate((shift, np.log(own / size)), 1).astype(np.float32)


def _moved(boxes: Float, by: Float) -> Float:
    by = np.clip(by, -_LONGEST, _LONGEST)
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + by[:, :2] * size
    half = size * np.exp(by[:, 2:]) / 2
    return np.concatenate((middle - half, middle + half), 1).astype(np.float32)
