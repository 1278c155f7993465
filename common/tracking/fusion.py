"""One answer from two trackings of a gap: forward from the key figure before it and backward from the one after it.

Each side is trusted by its score and by how near it is to its own key figure. Where both agree the geometries are blended
and the result is surer than either; where they contradict each other the more trusted one is taken as it is, because the
mean of two different places is a third, wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.geometry.measures import iou
from common.geometry.types import Geometry, Mask, Points
from common.tracking.contract import Prediction
from common.tracking.interpolation import blend_masks, interpolate


@dataclass(frozen=True)
class FusionSettings:
    """agree: overlap (IoU) from which two geometries are blended in full. differ: overlap below which the more trusted one is
    taken alone; in between the blend leans towards it. Raising both blends less. point_reach: pixels of disagreement that
    count as an overlap of one half for a point; raising it blends points that are further apart.
    """

    agree: float = 0.6
    differ: float = 0.3
    point_reach: float = 6.0

    def __post_init__(self) -> None:
        if not 0 <= self.differ < self.agree <= 1 or self.point_reach <= 0:
            raise ValueError(f"0 <= differ < agree <= 1 and point_reach > 0, got {self}")


def blendable(a: Geometry | None, b: Geometry | None) -> bool:
    """False for two point sets of different make: a person who adds a vertex on one key figure leaves nothing to blend."""
    return not (isinstance(a, Points) and isinstance(b, Points)) or (len(a.xy), a.edges) == (len(b.xy), b.edges)


def fuse(
    forward: Prediction, backward: Prediction, position: float, settings: FusionSettings | None = None
) -> Prediction:
    """The fused prediction of one object on one frame.

    forward, backward: what the two trackings say. position: 0..1, where the frame lies between the key figure that forward
    started from (0) and the one that backward started from (1). At 0 and 1 the prediction of that side comes back.
    Swapping the sides and taking 1 - position gives the same region and score. Raises ValueError for different keys,
    kinds of geometry or point numbers, masks of different pictures, or a position outside 0..1.
    """
    settings = settings or FusionSettings()
    if forward.key != backward.key:
        raise ValueError(f"cannot fuse {forward.key!r} with {backward.key!r}")
    if not 0 <= position <= 1:
        raise ValueError(f"a position is 0..1, got {position}")
    if position == 0:
        return forward
    if position == 1:
        return backward
    a, b = forward.geometry, backward.geometry
    if a is None and b is None:
        return Prediction(forward.key, None, 0.0, False)
    if a is None or b is None or _empty(a) != _empty(b):
        # One side lost it. The other may be right, the less likely the further it is from its key figure.
        forward_found = b is None or (a is not None and not _empty(a))
        found, near = (forward, 1 - position) if forward_found else (backward, position)
        score = found.score * (0.5 + 0.5 * near)
        return Prediction(found.key, found.geometry, score, found.visible)

    trust = np.array([max(forward.score, 1e-6) * (1 - position), max(backward.score, 1e-6) * position])
    share = float(trust[1] / trust.sum())  # of backward
    geometry: Geometry
    if isinstance(a, Points) and isinstance(b, Points):
        geometry, agreement = _fuse_points(a, b, share, settings)
    else:
        if type(a) is not type(b):
            raise ValueError(f"cannot fuse a {type(a).__name__} with a {type(b).__name__}")
        agreement = iou(a, b)
        lean = _lean(np.array(share), np.array(agreement), settings)
        geometry = _mixed(a, b, float(lean))

    more = forward if share <= 0.5 else backward
    together = float(_agreed(np.array(agreement), settings))
    mixed = (1 - share) * forward.score + share * backward.score
    both = 1 - (1 - forward.score) * (1 - backward.score)  # two ways to the same place: wrong only if both are
    certain = mixed + (both - mixed) * agreement
    doubtful = more.score * max(share, 1 - share)  # at most one can be right, and which one is a bet
    score = float(np.clip(together * certain + (1 - together) * doubtful, 0, 1))
    return Prediction(forward.key, geometry, score, more.visible)


def _fuse_points(a: Points, b: Points, share: float, settings: FusionSettings) -> tuple[Points, float]:
    """Point by point: blended where both are near, else the more trusted side; a hidden point yields to a visible one."""
    if not blendable(a, b):
        raise ValueError(f"cannot fuse {len(a.xy)} points with {len(b.xy)}, or with points joined by other edges")
    off = np.linalg.norm(a.xy.astype(np.float64) - b.xy, axis=1)
    overlap = 1 / (1 + (off / settings.point_reach) ** 2)
    shares = np.full(len(off), share)
    shares[a.visible & ~b.visible] = share / 4
    shares[~a.visible & b.visible] = 1 - (1 - share) / 4
    lean = _lean(shares, overlap, settings)[:, None]
    xy = (1 - lean) * a.xy + lean * b.xy
    visible = np.where(a.visible == b.visible, a.visible, np.where(share <= 0.5, a.visible, b.visible))
    both = a.visible & b.visible
    return Points(xy.astype(np.float32), visible, a.edges), float(
        overlap[both].mean() if both.any() else overlap.mean()
    )


def _agreed(overlap: NDArray[np.float64], settings: FusionSettings) -> NDArray[np.float64]:
    """0 where the sides contradict each other, 1 where they agree, smooth in between."""
    t = np.clip((overlap - settings.differ) / (settings.agree - settings.differ), 0, 1)
    result: NDArray[np.float64] = t * t * (3 - 2 * t)
    return result


def _lean(share: NDArray[np.float64], overlap: NDArray[np.float64], settings: FusionSettings) -> NDArray[np.float64]:
    """How far to go towards backward: its share where both agree, all or nothing where they do not."""
    together = _agreed(overlap, settings)
    result: NDArray[np.float64] = together * share + (1 - together) * (share > 0.5)
    return result


def _mixed(a: Geometry, b: Geometry, lean: float) -> Geometry:
    if isinstance(a, Mask) and isinstance(b, Mask):
        return blend_masks(a, b, lean)
    return interpolate(a, b, lean)


def _empty(geometry: Geometry) -> bool:
    return isinstance(geometry, Mask) and geometry.area == 0
