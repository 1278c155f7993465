"""A prior on shape: the vertices of a polygon, line or skeleton move as rigidly as possible.

Alternates between the best rotation of each vertex's surroundings and the positions that agree with them (Sorkine & Alexa,
"As-rigid-as-possible surface modeling", SGP 2007), in the plane, with measured positions as soft constraints. One uniform
scale of the whole shape is carried along, so that an object that comes nearer keeps its form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TRIED = 128
"""Measurements that are asked where the shape is, at most; the others only agree or not."""
TURN_DOUBT = 0.05
"""How far off what most surroundings say of a shape's turn (radians) and scale (share) may be."""


def springs(rest: F64, edges: tuple[tuple[int, int], ...]) -> I64:
    """Pairs (e, 2) that hold a shape together: its edges, and pairs two edges apart, which give corners their stiffness.

    rest: (n, 2) the shape as drawn. An outline of hundreds of vertices hangs on its opposite parts, too: each vertex is
    also tied to a few vertices a quarter, a half and so on along the list.
    """
    n = len(rest)
    around: list[set[int]] = [set() for _ in range(n)]
    for a, b in edges:
        if a != b:
            around[a].add(b)
            around[b].add(a)
    pairs = {(min(a, b), max(a, b)) for a, b in edges if a != b}
    for hub in around:
        if len(hub) <= 4:
            pairs |= {(a, b) for a in hub for b in hub if a < b}
    members = [i for i in range(n) if around[i]]
    count = len(members)
    for step in {count // 8, count // 4, count // 2} - {0}:
        pairs |= {tuple(sorted((members[i], members[(i + step) % count]))) for i in range(count)}  # type: ignore[misc]
    return np.array(sorted(p for p in pairs if p[0] != p[1]), np.int64).reshape(-1, 2)


def meshed(rest: F64, drawn: I64) -> I64:
    """Pairs (e, 2) of `drawn` and of the triangles between all places rest (n, 2): what holds a filled shape together."""
    from scipy.spatial import Delaunay, QhullError  # slow to load

    try:
        corners = Delaunay(rest).simplices.astype(np.int64)
    except QhullError:  # all on one line
        return drawn
    sides = np.concatenate([drawn, corners[:, :2], corners[:, 1:], corners[:, ::2]])
    pairs: I64 = np.unique(np.sort(sides, 1), axis=0)
    return pairs


def similarity(rest: F64, xy: F64, weight: F64, usual: F64 | None = None, stiffness: float = 0.0) -> tuple[F64, F64]:
    """Least-squares turn, scale and shift: matrix (2, 2) and shift (2,) with xy ~ rest @ matrix.T + shift.

    weight: (n,) >= 0. usual: matrix (2, 2) that is expected, none = no turn and no scale; it counts as much as places that
    lie `stiffness` square pixels, weight times squared distance, about their mean. With no stiffness and the weight on
    fewer than two places the usual one comes back.
    """
    expected = np.eye(2) if usual is None else usual
    total = weight.sum() + 1e-12
    from_, to = (weight @ rest) / total, (weight @ xy) / total
    p, q = rest - from_, xy - to
    size = float(weight @ (p * p).sum(1)) + stiffness
    if size < 1e-9:
        return expected, to - expected @ from_
    a = (float(weight @ (p * q).sum(1)) + stiffness * expected[0, 0]) / size
    b = (float(weight @ (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])) + stiffness * expected[1, 0]) / size
    matrix = np.array([[a, -b], [b, a]])
    return matrix, to - matrix @ from_


def common_turn(turns: F64, weight: F64) -> F64:
    """What most agree on of the turns and scales in matrices (n, 2, 2), as one matrix (2, 2); weight: (n,), some above 0.

    >>> quarter, double = np.array([[0.0, -1.0], [1.0, 0.0]]), 2 * np.eye(2)
    >>> common_turn(np.stack([quarter, quarter, double]), np.ones(3)).round(6).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    a = (turns[:, 0, 0] + turns[:, 1, 1]) / 2
    b = (turns[:, 1, 0] - turns[:, 0, 1]) / 2
    size = np.sqrt(np.clip(np.abs(turns[:, 0, 0] * turns[:, 1, 1] - turns[:, 0, 1] * turns[:, 1, 0]), 1e-6, 1e6))
    scale = float(np.exp(_median(np.log(size), weight)))
    angle = np.arctan2(b, a)
    # The median of angles is taken about the one that is nearest to all others.
    apart = np.abs((angle[:, None] - angle + np.pi) % (2 * np.pi) - np.pi) @ weight
    middle = float(angle[np.where(weight > 0, apart, np.inf).argmin()])
    turn = middle + _median((angle - middle + np.pi) % (2 * np.pi) - np.pi, weight)
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    return np.array([[c, -s], [s, c]])


def _median(values: F64, weight: F64) -> float:
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(share, share[-1] / 2)]])


def _agreeing(rest: F64, measured: F64, pull: F64, outlier_px: float | F64, turn: F64) -> F64:
    """Pulls (n,) of the measurements that agree where the shape is, turned like this; less the farther they are from it."""
    shift = measured - rest @ turn.T
    (able,) = np.nonzero(pull)
    tried = able[:: -(-len(able) // TRIED)]
    away = np.hypot(*(shift[tried, None] - shift).transpose(2, 0, 1))
    share = pull / (1.0 + (away / outlier_px) ** 4)
    best: F64 = share[share.sum(1).argmax()]
    return best


def hold(
    rest: F64,
    pairs: I64,
    measured: F64,
    pull: F64,
    rounds: int = 8,
    outlier_px: float | F64 = 6.0,
    usual: F64 | None = None,
) -> tuple[F64, F64]:
    """Positions (n, 2) that keep the shape and follow the measured ones, and how much of each measurement held (n,) 0..1.

    rest: (n, 2) shape as drawn. pairs: (e, 2) from `springs`. measured: (n, 2) pixels. pull: (n,) 0..1 how much each
    measurement counts, 0 for none; with no pull at all the measured positions come back. outlier_px: one for all or (n,),
    how far a vertex may leave its place in the shape, beyond what its fellows do, before its measurement loses its hold.
    usual: (2, 2) how the shape has turned and grown, where that is known from elsewhere: it keeps a few vertices that were
    left behind from being taken for a shape that grows. A rigid or similar motion of all vertices (like the usual one, if
    there is one) is given back exactly.
    """
    if len(pairs) == 0 or not (pull > 0).any():
        return measured.copy(), (pull > 0).astype(np.float64)
    weight = pull.astype(np.float64).copy()
    matrix, shift = np.eye(2), np.zeros(2)
    stiffness = 0.0
    if usual is not None:
        weight = _agreeing(rest, measured, pull, outlier_px, usual)
        stiffness = float(np.median(np.broadcast_to(outlier_px, len(rest)))) ** 2 / TURN_DOUBT**2
    for _ in range(6):
        matrix, shift = similarity(rest, measured, weight, usual, stiffness)
        away = np.hypot(*(measured - rest @ matrix.T - shift).T)
        common = float(np.median(away[pull > 0]))
        weight = pull / (1.0 + (away / (outlier_px + 2.0 * common)) ** 4)
    scale = float(np.sqrt(max(abs(np.linalg.det(matrix)), 1e-6)))
    shape = rest * scale
    a, b = pairs.T
    n = len(rest)
    span = shape[a] - shape[b]
    stiff = 1.0 / np.maximum(np.hypot(*span.T), 1e-3)
    stiff /= stiff.mean()
    laplacian = np.zeros((n, n))
    np.add.at(laplacian, (a, b), -stiff)
    np.add.at(laplacian, (b, a), -stiff)
    laplacian[np.arange(n), np.arange(n)] = -laplacian.sum(1)
    # A weak tie to the similar shape settles vertices that hang on nothing.
    anchor = 8.0 * weight + 1e-3
    inverse = np.linalg.inv(laplacian + np.diag(anchor))
    similar = rest @ matrix.T + shift
    steady = 8.0 * weight[:, None] * measured + 1e-3 * similar
    xy = similar.copy()
    for _ in range(rounds):
        edge = xy[a] - xy[b]
        cosine, sine = np.zeros(n), np.zeros(n)
        dot = stiff * (span * edge).sum(1)
        cross = stiff * (span[:, 0] * edge[:, 1] - span[:, 1] * edge[:, 0])
        for end in (a, b):
            np.add.at(cosine, end, dot)
            np.add.at(sine, end, cross)
        length = np.hypot(cosine, sine)
        cosine, sine = np.where(length > 1e-9, cosine, 1.0), np.where(length > 1e-9, sine, 0.0)
        length = np.hypot(cosine, sine)
        c, s = cosine / length, sine / length
        cm, sm = (c[a] + c[b]) / 2, (s[a] + s[b]) / 2
        turned = np.stack([cm * span[:, 0] - sm * span[:, 1], sm * span[:, 0] + cm * span[:, 1]], 1) * stiff[:, None]
        right = steady.copy()
        np.add.at(right, a, turned)
        np.add.at(right, b, -turned)
        xy = inverse @ right
    return xy, weight / np.maximum(pull, 1e-9)
