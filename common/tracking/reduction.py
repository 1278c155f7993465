"""Fewer key figures: keep the frames from which interpolation rebuilds all others within an error bound.

The bound is a promise, not an estimate: a frame is dropped only after `interpolation` itself was run between the kept
frames around it and came close enough. Streaming; memory depends on `max_gap`, never on the number of frames.

Source: the opening-window scheme of line simplification (Keogh et al. 2001, "An online algorithm for segmenting time
series"), with galloping search for the window's end instead of one step at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from common.geometry.measures import mask_iou
from common.geometry.types import Box, Geometry, Mask, OrientedBox, Points
from common.tracking.interpolation import Between


@dataclass(frozen=True)
class Figure:
    """One object on one frame. geometry: None = no figure there. visible: as in `Prediction`. human: drawn or edited by
    a person (a key figure): always kept.
    """

    frame: int
    geometry: Geometry | None
    visible: bool = True
    human: bool = False


@dataclass(frozen=True)
class Kept:
    """A figure that stays. joined: the frames between it and the `Kept` before it are rebuilt by interpolation (there
    may be none); False at the beginning and after frames without a figure.
    """

    figure: Figure
    joined: bool


@dataclass(frozen=True)
class ErrorBound:
    """How far a rebuilt figure may be off.

    pixels: largest distance of any corner or vertex (boxes, oriented boxes, points). Raising it keeps fewer figures.
    iou: smallest intersection over union of a mask. Lowering it keeps fewer figures.
    max_gap: most frames from one kept figure to the next, also the number of figures held in memory. Raising it keeps
    fewer figures of still objects.
    """

    pixels: float = 2.0
    iou: float = 0.9
    max_gap: int = 100

    def __post_init__(self) -> None:
        if self.pixels < 0 or not 0 <= self.iou <= 1 or self.max_gap < 1:
            raise ValueError(f"pixels >= 0, 0 <= iou <= 1, max_gap >= 1, got {self}")

    def allows(self, true: Geometry, rebuilt: Geometry) -> bool:
        """Whether `rebuilt` is near enough to `true`. Different kinds, point numbers or visibilities never are."""
        match true, rebuilt:
            case Box(), Box():
                # The largest distance of a corner: of two opposite corners each coordinate serves two corners.
                off = np.abs(true.xyxy.astype(np.float64) - rebuilt.xyxy)
                return float(np.hypot(max(off[0], off[2]), max(off[1], off[3]))) <= self.pixels
            case OrientedBox(), OrientedBox():
                corners, others = (g.corners().astype(np.float64) for g in (true, rebuilt))
                turns = [np.roll(others, k, 0) for k in range(4)]
                return min(float(np.linalg.norm(corners - o, axis=1).max()) for o in turns) <= self.pixels
            case Points(), Points():
                if true.edges != rebuilt.edges or not np.array_equal(true.visible, rebuilt.visible):
                    return False
                return float(np.linalg.norm(true.xy.astype(np.float64) - rebuilt.xy, axis=1).max()) <= self.pixels
            case Mask(), Mask():
                same = (true.height, true.width) == (rebuilt.height, rebuilt.width)
                return same and mask_iou(true, rebuilt) >= self.iou
        return False


def reduce_figures(figures: Iterable[Figure], bound: ErrorBound | None = None) -> Iterator[Kept]:
    """The figures to keep, in order, at most `bound.max_gap` figures late.

    figures: one object's, on strictly increasing or strictly decreasing frames (backward tracking). Kept whatever the
    bound: human figures, figures next to a frame without a figure (geometry None, or a number left out), figures on
    both sides of a change of visibility or of the kind of geometry. Figures without geometry are not given back.
    Raises ValueError when the frames are out of order.

    >>> figures = [Figure(n, Box(np.array([n, 0, n + 5, 5]))) for n in range(50)]
    >>> [kept.figure.frame for kept in reduce_figures(figures)]
    [0, 49]
    """
    bound = bound or ErrorBound()
    held: list[Figure] = []  # held[0] was given out; the rest is undecided
    last: int | None = None
    step = 0
    for figure in figures:
        if last is not None:
            step = step or int(np.sign(figure.frame - last))
            if step == 0 or (figure.frame - last) * step <= 0:
                raise ValueError(f"frame {figure.frame} follows frame {last}: frames must go one way")
        if held and (figure.geometry is None or figure.frame != held[-1].frame + step):
            yield from _close(held, bound)
            held = []
        last = figure.frame
        if figure.geometry is None:
            continue
        if held and not _alike(held[-1], figure):
            yield from _close(held, bound)
            held = [figure]
            yield Kept(figure, joined=True)  # neighbours: nothing lies between to be rebuilt
            continue
        joined = bool(held)
        held.append(figure)
        if not joined:
            yield Kept(figure, joined=False)
        elif figure.human:
            yield from _close(held, bound)
            held = [figure]
        elif len(held) > bound.max_gap:
            end = _furthest(held, bound)
            yield Kept(held[end], joined=True)
            held = held[end:]
    yield from _close(held, bound)


def rebuild(kept: Iterable[Kept]) -> Iterator[Figure]:
    """The inverse of `reduce_figures`: every frame that had a figure, the dropped ones interpolated."""
    before: Figure | None = None
    for one in kept:
        after = one.figure
        if one.joined and before is not None and before.geometry is not None and after.geometry is not None:
            span = after.frame - before.frame
            if abs(span) > 1:
                between = Between(before.geometry, after.geometry)
                for k in range(1, abs(span)):
                    frame = before.frame + (k if span > 0 else -k)
                    yield Figure(frame, between(k / abs(span)), before.visible)
        yield after
        before = after


def _alike(a: Figure, b: Figure) -> bool:
    """Whether interpolation between the two means anything."""
    if a.visible != b.visible or type(a.geometry) is not type(b.geometry):
        return False
    if isinstance(a.geometry, Points) and isinstance(b.geometry, Points):
        return len(a.geometry.xy) == len(b.geometry.xy) and a.geometry.edges == b.geometry.edges
    if isinstance(a.geometry, Mask) and isinstance(b.geometry, Mask):
        return (a.geometry.height, a.geometry.width) == (b.geometry.height, b.geometry.width)
    return True


def _close(held: list[Figure], bound: ErrorBound) -> Iterator[Kept]:
    """Everything still undecided, ending with the last figure."""
    while len(held) > 1:
        end = _furthest(held, bound)
        yield Kept(held[end], joined=True)
        held = held[end:]


def _furthest(held: list[Figure], bound: ErrorBound) -> int:
    """A far index (>= 1) such that held[0] and held[index] rebuild all between them within the bound."""
    last = len(held) - 1
    good, step = 1, 2
    while good < last:
        end = min(good + step, last)
        if not _rebuilds(held, end, bound):
            break
        good, step = end, 2 * step
    else:
        return good
    bad = end
    while bad - good > 1:
        middle = (good + bad) // 2
        if _rebuilds(held, middle, bound):
            good = middle
        else:
            bad = middle
    return good


def _rebuilds(held: list[Figure], end: int, bound: ErrorBound) -> bool:
    first, last = held[0].geometry, held[end].geometry
    assert first is not None
    assert last is not None
    between = Between(first, last)
    # From the middle outwards: a bad span nearly always fails there first.
    for k in sorted(range(1, end), key=lambda k: abs(2 * k - end)):
        true = held[k].geometry
        assert true is not None
        if not bound.allows(true, between(k / end)):
            return False
    return True
