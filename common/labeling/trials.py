"""On what candidates are tried: labelled pictures they have not learned from.

With several labelled pictures each is left out in turn. With one, the frames around it are used, where the labels are
carried by optical flow; its own objects, half of them held out; and, where there is nothing else, a changed copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from common.detection.exemplar.settings import ExemplarPicture
from common.errors import FrameUnreadable
from common.labeling.counting import Truth
from common.labeling.propagation import Carrier
from common.labeling.support import SupportSet
from common.video.contract import FrameSource, Image

Float = NDArray[np.float32]

FOLDS = 4
"""Left-out groups at most: with more pictures several are left out together."""
_NEAR = (5, 11)
"""Frames before and after a labelled one that labels are carried to."""
_LEAST_OBJECTS = 4
"""Labelled objects from which half of them can be held out."""


@dataclass(frozen=True, eq=False)
class TestPicture:
    """read: gives it. frame, source: where it is in a video, for detectors that need the frames before. about: how the
    truth is known, for people."""

    read: Callable[[], Image]
    truth: Truth
    about: str
    frame: int | None = None
    source: FrameSource | None = None


@dataclass(frozen=True, eq=False)
class Fold:
    """train: what candidates may learn from. tests: what they are tried on. learners: whether only candidates that learn
    are tried: the others see the same in another fold."""

    train: tuple[ExemplarPicture, ...]
    tests: tuple[TestPicture, ...]
    learners: bool = False


def folds(support: SupportSet, near: bool = True) -> list[Fold]:
    """near: whether frames around a lone labelled one may be used."""
    drawn = [n for n, e in enumerate(support.examples) if any(label.box is not None for label in e.labels)]
    used = [n for n in drawn if not support.examples[n].partial]
    corrected = tuple(_test(support, n, "corrected") for n in drawn if support.examples[n].partial)
    found = _with_all(support, used, near)
    if corrected:  # nobody has learned from them
        at = next((n for n, fold in enumerate(found) if fold.train), 0)
        found[at] = replace(found[at], tests=(*found[at].tests, *corrected))
    return found


def _with_all(support: SupportSet, used: Sequence[int], near: bool) -> list[Fold]:
    """Of pictures on which everything is labelled."""
    if len(used) > 1:
        groups = [used[start::FOLDS] for start in range(min(FOLDS, len(used)))]
        return [
            Fold(
                tuple(support.picture(n) for n in used if n not in group),
                tuple(_test(support, n, "left out") for n in group),
            )
            for group in groups
        ]
    return _of_one(support, used[0], near)


def _test(support: SupportSet, index: int, about: str) -> TestPicture:
    example, picture = support.examples[index], support.picture(index)
    return TestPicture(example.read, truth_of(picture), about, example.frame, example.source)


def truth_of(picture: ExemplarPicture) -> Truth:
    return Truth(picture.boxes, picture.classes, picture.ignore, picture.partial)


def _shown_again(test: TestPicture, numbers: NDArray[np.int64]) -> TestPicture:
    """One of several that show the same labelled objects, by their numbers."""
    return replace(test, truth=replace(test.truth, objects=numbers))


def _places(picture: ExemplarPicture) -> NDArray[np.int64]:
    return np.arange(len(picture.boxes))


def _of_one(support: SupportSet, index: int, near: bool) -> list[Fold]:
    example, whole = support.examples[index], support.picture(index)
    around: list[TestPicture] = []
    if near and example.source is not None and example.frame is not None:
        around = _around(whole, example.source, example.frame)
    found = [Fold((whole,), tuple(around))] if around else []
    halves = _halves(support, index, again=bool(around))
    found += halves
    if not found:
        itself = _test(support, index, "the labelled picture itself")
        found.append(Fold((whole,), (_shown_again(itself, _places(whole)), *_changed(whole))))
    elif halves:
        # what does not learn is tried on the picture itself
        itself = _test(support, index, "the labelled picture")
        found.append(Fold((), (_shown_again(itself, _places(whole)) if around else itself,)))
    return found


def _around(picture: ExemplarPicture, source: FrameSource, frame: int) -> list[TestPicture]:
    """Frames before and after, with the labels where flow says that they went; what flow loses is somewhere, and not wanted."""
    found: list[TestPicture] = []
    for way in (1, -1):
        end = min(max(frame + way * max(_NEAR), 0), source.info.frames - 1)
        carrier = Carrier(picture.boxes)
        try:
            carrier.follow(picture.read())
            for number in range(frame + way, end + way, way):
                image = source.read(number)
                carrier.follow(image)
                if abs(number - frame) in _NEAR:
                    sure = carrier.trust > 0.35
                    rows, columns = image.shape[:2]
                    boxes = np.clip(carrier.boxes, 0, np.array([columns, rows, columns, rows], np.float32))
                    shown = (boxes[:, 2:] - boxes[:, :2]).min(
                        1, initial=np.inf, where=np.ones((len(boxes), 2), bool)
                    ) > 6
                    kept = sure & shown
                    truth = Truth(
                        boxes[kept],
                        picture.classes[kept],
                        boxes[~kept],
                        objects=_places(picture)[kept],
                        lost=picture.classes[~sure & shown],
                    )
                    about = f"frame {number}, labels carried from frame {frame}"
                    found.append(TestPicture(_reader(source, number), truth, about, number, source))
        except FrameUnreadable:
            continue
    return found


def _halves(support: SupportSet, index: int, again: bool) -> list[Fold]:
    """Half of each class's objects are learned, the other half is to be found, and the other way round. again: whether other
    pictures show the same objects."""
    labels = support.examples[index].labels
    drawn = [n for n, label in enumerate(labels) if label.box is not None]
    if len(drawn) < _LEAST_OBJECTS:
        return []
    first: list[int] = []
    for name in support.classes:
        own = [n for n in drawn if labels[n].class_name == name]
        if len(own) > 1:
            first += own[::2]
        else:
            first += []
    single = [n for n in drawn if sum(labels[m].class_name == labels[n].class_name for m in drawn) == 1]
    second = [n for n in drawn if n not in first and n not in single]
    if not first or not second:
        return []
    example = support.examples[index]
    found = []
    for hidden in (first, second):
        learned = support.picture(index, held_out=hidden)
        asked = support.picture(index, held_out=[n for n in drawn if n not in hidden])
        numbers = np.array([place for place, n in enumerate(drawn) if n in hidden]) if again else None
        truth = replace(truth_of(asked), objects=numbers)
        test = TestPicture(example.read, truth, "held-out objects", example.frame, example.source)
        found.append(Fold((learned,), (test,), learners=True))
    return found


def _changed(picture: ExemplarPicture) -> list[TestPicture]:
    """Copies that are smaller and darker, larger and brighter."""
    image = picture.read()
    found = []
    for scale, light in ((0.88, 0.8), (1.12, 1.2)):
        matrix = np.array([[scale, 0, 0], [0, scale, 0]], np.float64)
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        made = cv2.convertScaleAbs(cv2.warpAffine(image, matrix, size), alpha=light)
        copy = np.asarray(made, np.uint8)
        factor = np.float32(scale)
        truth = Truth(picture.boxes * factor, picture.classes, picture.ignore * factor, objects=_places(picture))
        found.append(TestPicture(lambda copy=copy: copy, truth, "a changed copy"))  # type: ignore[misc]
    return found


def _reader(source: FrameSource, frame: int) -> Callable[[], Image]:
    return lambda: source.read(frame)
