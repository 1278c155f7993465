"""Sizes, overlaps and frame limits of geometries.

Two grids meet here. Points count from pixel centres: (0, 0) is the centre of the top-left pixel. Boxes count from pixel
edges: the top-left pixel is the box (0, 0, 1, 1), so a box's x1 is its first column and x2 - x1 its number of columns.
`bounds` and `centre` convert between the two; everything that compares geometries of one kind needs no conversion.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.geometry.types import Box, Float, Geometry, Mask, OrientedBox, Points

Float64 = NDArray[np.float64]


def bounds(geometry: Geometry) -> Box | None:
    """Smallest axis-aligned box around the pixels of a geometry; None for an empty mask.

    A point counts as the pixel it is the centre of, hidden points count too. The box may reach over the frame.

    >>> bounds(Points(np.array([[3, 4], [5, 9]]))).xyxy.tolist()
    [3.0, 4.0, 6.0, 10.0]
    """
    match geometry:
        case Box():
            return geometry
        case OrientedBox():
            corners = geometry.corners()
            return Box(np.concatenate((corners.min(0), corners.max(0))))
        case Mask():
            h, w = geometry.window
            if h == 0:
                return None
            return Box(np.array([geometry.x, geometry.y, geometry.x + w, geometry.y + h], np.float32))
        case Points():
            return Box(np.concatenate((geometry.xy.min(0), geometry.xy.max(0) + 1)))


def centre(geometry: Geometry) -> Float | None:
    """Middle of a geometry as a point, float32 (2,), counted from pixel centres; None for an empty mask.

    Boxes: where the diagonals cross. Masks: mean of the pixels. Points: mean of the visible ones, of all when none is.

    >>> centre(Box(np.array([3, 3, 6, 6]))).tolist()
    [4.0, 4.0]
    """
    result: Float
    match geometry:
        case Box():
            result = np.asarray((geometry.xyxy[:2] + geometry.xyxy[2:] - 1) / 2, np.float32)
        case OrientedBox():
            result = geometry.cxcywh[:2] - np.float32(0.5)
        case Mask():
            crop = geometry.crop()
            total = np.count_nonzero(crop)
            if total == 0:
                return None
            column = (crop.sum(0) @ np.arange(crop.shape[1])) / total + geometry.x
            row = (crop.sum(1) @ np.arange(crop.shape[0])) / total + geometry.y
            result = np.array([column, row], np.float32)
        case Points():
            chosen = geometry.xy[geometry.visible] if geometry.visible.any() else geometry.xy
            result = np.asarray(chosen.mean(0, dtype=np.float64), np.float32)
    return result


def area(geometry: Geometry) -> float:
    """Pixels covered: side by side for boxes, a count for masks, 0 for points (which enclose nothing by themselves)."""
    match geometry:
        case Box():
            x1, y1, x2, y2 = (float(v) for v in geometry.xyxy)
            return (x2 - x1) * (y2 - y1)
        case OrientedBox():
            return float(geometry.cxcywh[2]) * float(geometry.cxcywh[3])
        case Mask():
            return float(geometry.area)
        case Points():
            return 0.0


def hull(box: OrientedBox) -> Box:
    """Smallest axis-aligned box around an oriented one."""
    corners = box.corners()
    return Box(np.concatenate((corners.min(0), corners.max(0))))


def oriented(box: Box, angle_rad: float = 0.0) -> OrientedBox:
    """The oriented box whose hull is `box` when `angle_rad` is 0; otherwise the same box turned about its centre."""
    xyxy = box.xyxy.astype(np.float64)
    return OrientedBox(np.concatenate(((xyxy[:2] + xyxy[2:]) / 2, xyxy[2:] - xyxy[:2])), angle_rad)


def unhull(box: Box, angle_rad: float, aspect: float) -> OrientedBox:
    """The oriented box of a given turn whose hull is nearest to `box`: how a tracker that follows hulls gives back a
    turned box.

    aspect: width / height of the oriented box, > 0, kept. The size is the largest whose hull fits into `box`.
    """
    if not aspect > 0:
        raise ValueError(f"the aspect of a box is positive, got {aspect}")
    xyxy = box.xyxy.astype(np.float64)
    (w, h), (cx, cy) = xyxy[2:] - xyxy[:2], (xyxy[:2] + xyxy[2:]) / 2
    c, s = abs(np.cos(angle_rad)), abs(np.sin(angle_rad))
    # A box of height 1 and width `aspect` has a hull of (aspect c + s) by (aspect s + c).
    height = min(w / (aspect * c + s), h / (aspect * s + c))
    return OrientedBox(np.array([cx, cy, aspect * height, height]), angle_rad)


def box_iou(a: ArrayLike, b: ArrayLike) -> Float64:
    """Intersection over union of every box of `a` (N, 4) with every box of `b` (M, 4), xyxy: float64 (N, M), 0..1.

    Boxes without area overlap nothing.
    """
    first, second = _rows(a, 4), _rows(b, 4)
    common = _shared(first, second)
    return _ratio(common, _areas(first)[:, None] + _areas(second) - common)


def box_within(a: ArrayLike, b: ArrayLike) -> Float64:
    """Share of every box of `a` (N, 4) that lies in every box of `b` (M, 4), xyxy: float64 (N, M), 0..1.

    A box without area lies in none.

    >>> box_within([[0, 0, 10, 10]], [[5, 0, 50, 50], [-5, -5, 20, 20]]).tolist()
    [[0.5, 1.0]]
    """
    first, second = _rows(a, 4), _rows(b, 4)
    common = _shared(first, second)
    return _ratio(common, np.broadcast_to(_areas(first)[:, None], common.shape))


def oriented_corners(boxes: ArrayLike) -> Float64:
    """Corners (N, 4, 2) of rotated boxes (N, 5): cx, cy, w, h, angle in radians; order as `OrientedBox.corners`."""
    rows = _rows(boxes, 5)
    c, s = np.cos(rows[:, 4])[:, None], np.sin(rows[:, 4])[:, None]
    x = rows[:, 2:3] / 2 * np.array([-1, 1, 1, -1])
    y = rows[:, 3:4] / 2 * np.array([-1, -1, 1, 1])
    return np.stack((x * c - y * s, x * s + y * c), 2) + rows[:, None, :2]


def oriented_iou(a: ArrayLike, b: ArrayLike) -> Float64:
    """Exact intersection over union of rotated boxes `a` (N, 5) with `b` (M, 5): float64 (N, M), 0..1.

    Rows are cx, cy, w, h, angle in radians. The intersection of two convex quadrilaterals is the convex hull of the
    corners of each that lie in the other and of the points where their edges cross.
    """
    first, second = _rows(a, 5), _rows(b, 5)
    p, q = oriented_corners(first), oriented_corners(second)
    low = np.maximum(p.min(1)[:, None], q.min(1)[None])
    high = np.minimum(p.max(1)[:, None], q.max(1)[None])
    area_a, area_b = np.prod(first[:, 2:4], 1), np.prod(second[:, 2:4], 1)
    # Most pairs are far apart: only those whose hulls overlap are clipped.
    i, j = np.nonzero((high > low).all(2) & (area_a[:, None] > 0) & (area_b[None] > 0))
    common = np.zeros((len(first), len(second)))
    common[i, j] = _quadrilateral_intersection(p[i], q[j])
    return _ratio(common, area_a[:, None] + area_b[None] - common)


def mask_intersection(a: Mask, b: Mask) -> int:
    """Pixels in both masks. Only the overlap of the two windows is compared. ValueError when the pictures differ in size."""
    if (a.height, a.width) != (b.height, b.width):
        raise ValueError(f"masks of different pictures: {a.width}x{a.height} and {b.width}x{b.height}")
    x, y = max(a.x, b.x), max(a.y, b.y)
    x_end = min(a.x + a.window[1], b.x + b.window[1])
    y_end = min(a.y + a.window[0], b.y + b.window[0])
    if x >= x_end or y >= y_end:
        return 0
    first = a.crop()[y - a.y : y_end - a.y, x - a.x : x_end - a.x]
    second = b.crop()[y - b.y : y_end - b.y, x - b.x : x_end - b.x]
    return int(np.count_nonzero(first & second))


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union, 0..1; two empty masks agree (1.0), as in the DAVIS benchmark."""
    common = mask_intersection(a, b)
    total = a.area + b.area - common
    return common / total if total else 1.0


def mask_ious(a: Sequence[Mask], b: Sequence[Mask]) -> Float64:
    """`mask_iou` of every pair: float64 (N, M)."""
    return np.array([[mask_iou(m, n) for n in b] for m in a], np.float64).reshape(len(a), len(b))


def iou(a: Geometry, b: Geometry) -> float:
    """Intersection over union of two geometries that enclose pixels, 0..1. TypeError for points and for mixed kinds."""
    match a, b:
        case Box(), Box():
            return float(box_iou(a.xyxy, b.xyxy)[0, 0])
        case ((Box() | OrientedBox()), (Box() | OrientedBox())):
            return float(oriented_iou(_row(a), _row(b))[0, 0])
        case Mask(), Mask():
            return mask_iou(a, b)
    raise TypeError(f"no overlap is defined between {type(a).__name__} and {type(b).__name__}")


def boundary(mask: Mask) -> Mask:
    """The mask's own pixels that have one of their four neighbours outside of it; the picture's edge counts as outside."""
    crop = np.pad(mask.crop(), 1)
    inner = crop[1:-1, 1:-1] & crop[:-2, 1:-1] & crop[2:, 1:-1] & crop[1:-1, :-2] & crop[1:-1, 2:]
    # Border pixels include the window's outermost rows and columns, so the window stays as tight as it was.
    rim = crop[1:-1, 1:-1] & ~inner
    return place(rim, mask.x, mask.y, mask.width, mask.height)


def place(crop: NDArray[np.generic], x: int, y: int, width: int, height: int) -> Mask:
    """The mask of a picture of `width` x `height` in which the 2-D array `crop` lies with its top-left pixel at (x, y).

    What reaches over the picture's edge is cut off. x and y may be negative.
    """
    if crop.ndim != 2:
        raise ValueError(f"a mask has 2 dimensions, got shape {crop.shape}")
    left, top = max(0, -x), max(0, -y)
    part = crop[top : max(top, height - y), left : max(left, width - x)]
    tight = Mask.from_array(part)
    if tight.window == (0, 0):
        return Mask(height, width, 0, 0, (0, 0), tight.runs)
    return Mask(height, width, x + left + tight.x, y + top + tight.y, tight.window, tight.runs)


def crop_to_frame(geometry: Geometry, width: int, height: int) -> Geometry | None:
    """The part of a geometry inside a frame of width x height pixels; None when nothing of it is.

    Boxes are clipped. Oriented boxes come back whole when they truly overlap the frame (not only their hull or centre).
    Masks are cut to the frame; an empty one is None. Points keep their places and those outside are marked invisible; None
    is given when every point is outside and neither an edge nor the area of a closed outline reaches into the frame.
    """
    match geometry:
        case Box():
            x1, y1, x2, y2 = (float(v) for v in geometry.xyxy)
            x, y = _clip(x1, x2, width), _clip(y1, y2, height)
            return None if x is None or y is None else Box(np.array([x[0], y[0], x[1], y[1]], np.float32))
        case OrientedBox():
            frame = np.array([width / 2, height / 2, width, height, 0.0])
            if area(geometry) == 0:
                cx, cy = (float(v) for v in geometry.cxcywh[:2])
                return geometry if 0 <= cx < width and 0 <= cy < height else None
            return geometry if oriented_iou(_row(geometry), frame)[0, 0] > 0 else None
        case Mask():
            if geometry.window == (0, 0):
                return None
            if (geometry.height, geometry.width) == (height, width):
                return geometry
            cut = place(geometry.crop(), geometry.x, geometry.y, width, height)
            return None if cut.window == (0, 0) else cut
        case Points():
            inside = inside_frame(geometry.xy, width, height)
            if not inside.any() and not _reaches(geometry, width, height):
                return None
            return geometry if inside.all() else Points(geometry.xy, geometry.visible & inside, geometry.edges)


def intersects_frame(geometry: Geometry, width: int, height: int) -> bool:
    """Whether anything of a geometry lies in a frame of width x height pixels."""
    return crop_to_frame(geometry, width, height) is not None


def inside_frame(xy: ArrayLike, width: int, height: int) -> NDArray[np.bool_]:
    """Which points (..., 2) lie on a pixel of the frame: -0.5 <= x < width - 0.5, because x counts from pixel centres."""
    array = np.asarray(xy)
    inside: NDArray[np.bool_] = np.all((array >= -0.5) & (array < np.array([width, height]) - 0.5), axis=-1)
    return inside


def segments_inside(start: Float64, step: Float64, width: int, height: int) -> tuple[Float64, Float64]:
    """Where along segments start + t step, both (n, 2), t in 0..1, each enters and leaves the frame: (n,), (n,).

    Enter >= leave for a segment that has no stretch inside (Liang and Barsky 1984). Coordinates are of pixel centres.
    """
    low, high = np.full(2, -0.5), np.array([width, height]) - 0.5
    still = step == 0
    divisor = np.where(still, 1.0, step)
    with np.errstate(over="ignore"):  # a step of almost nothing: infinity is the right answer
        a, b = (low - start) / divisor, (high - start) / divisor
    outside = still & ((start < low) | (start > high))
    enter = np.where(still, np.where(outside, np.inf, 0.0), np.minimum(a, b)).max(1).clip(0, None)
    leave = np.where(still, 1.0, np.maximum(a, b)).min(1).clip(None, 1)
    return enter, leave


def _reaches(points: Points, width: int, height: int) -> bool:
    """Whether a shape without a vertex in the frame crosses it, or encloses it as a closed outline."""
    if not points.edges:
        return False
    xy, edges = points.xy.astype(np.float64), np.array(points.edges)
    start, end = xy[edges[:, 0]], xy[edges[:, 1]]
    enter, leave = segments_inside(start, end - start, width, height)
    if (enter < leave).any():
        return True
    if (np.bincount(edges.ravel(), minlength=len(xy)) != 2).any():
        return False  # an open line or a skeleton
    # Nothing crosses the frame, so it is inside or outside as a whole: count the edges above its middle.
    x, y = (width - 1) / 2, (height - 1) / 2
    straddles = (start[:, 0] <= x) != (end[:, 0] <= x)
    run = np.where(straddles, end[:, 0] - start[:, 0], 1.0)
    crossing = start[:, 1] + (x - start[:, 0]) / run * (end[:, 1] - start[:, 1])
    return bool(np.count_nonzero(straddles & (crossing < y)) % 2)


def _clip(low: float, high: float, size: int) -> tuple[float, float] | None:
    """[low, high] within [0, size]; None when outside, or when only the end of something longer touches the edge."""
    start, stop = max(low, 0.0), min(high, float(size))
    if stop < start or start >= size or (stop == start and high > low):
        return None
    return start, stop


def _rows(values: ArrayLike, columns: int) -> Float64:
    return np.asarray(values, np.float64).reshape(-1, columns)


def _row(box: Box | OrientedBox) -> Float64:
    turned = oriented(box) if isinstance(box, Box) else box
    return np.append(turned.cxcywh.astype(np.float64), turned.angle_rad)


def _shared(first: Float64, second: Float64) -> Float64:
    """Area that boxes (N, 4) and (M, 4) share: (N, M)."""
    ax1, ay1, ax2, ay2 = (column[:, None] for column in first.T)
    bx1, by1, bx2, by2 = second.T
    w = np.clip(np.minimum(ax2, bx2) - np.maximum(ax1, bx1), 0, None)
    h = np.clip(np.minimum(ay2, by2) - np.maximum(ay1, by1), 0, None)
    common: Float64 = w * h
    return common


def _areas(boxes: Float64) -> Float64:
    areas: Float64 = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _ratio(common: Float64, total: Float64) -> Float64:
    ratio: Float64 = np.divide(common, total, out=np.zeros_like(common), where=(total > 0) & (common > 0))
    return np.clip(ratio, 0.0, 1.0)


def _cross(a: Float64, b: Float64) -> Float64:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _quadrilateral_intersection(p: Float64, q: Float64) -> Float64:
    """Areas (K,) of the intersections of convex quadrilaterals p and q (K, 4, 2) that turn the same way."""
    if len(p) == 0:
        return np.zeros(0)
    origin = q.mean(1, keepdims=True)
    p, q = p - origin, q - origin  # small numbers: no loss of digits far from the picture's corner
    edge_p, edge_q = np.roll(p, -1, 1) - p, np.roll(q, -1, 1) - q
    scale = np.maximum(np.abs(edge_p).max((1, 2)), np.abs(edge_q).max((1, 2)))[:, None, None]
    margin = 1e-9 * scale * scale
    # side[k, i, j]: on which side of edge j of the other is corner i; >= 0 is inside.
    p_in_q = (_cross(edge_q[:, None], p[:, :, None] - q[:, None]) >= -margin).all(2)
    q_in_p = (_cross(edge_p[:, None], q[:, :, None] - p[:, None]) >= -margin).all(2)
    # p_i + t edge_p = q_j + u edge_q
    denominator = _cross(edge_p[:, :, None], edge_q[:, None])
    gap = q[:, None] - p[:, :, None]
    parallel = np.abs(denominator) <= margin
    safe = np.where(parallel, 1.0, denominator)
    t = _cross(gap, edge_q[:, None]) / safe
    u = _cross(gap, edge_p[:, :, None]) / safe
    crosses = ~parallel & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
    points = np.concatenate((p, q, (p[:, :, None] + t[..., None] * edge_p[:, :, None]).reshape(-1, 16, 2)), 1)
    valid = np.concatenate((p_in_q, q_in_p, crosses.reshape(-1, 16)), 1)
    count = valid.sum(1)
    points = np.where(valid[..., None], points, 0.0)
    middle = points.sum(1) / np.maximum(count, 1)[:, None]
    # Unused slots repeat the first real vertex after sorting, where they add no area.
    angle = np.where(
        valid, np.arctan2(points[..., 1] - middle[:, None, 1], points[..., 0] - middle[:, None, 0]), np.inf
    )
    order = np.argsort(angle, 1, kind="stable")
    ring = np.take_along_axis(points, order[..., None], 1)
    ring = np.where(np.take_along_axis(valid, order, 1)[..., None], ring, ring[:, :1])
    return np.where(count >= 3, np.abs(_cross(ring, np.roll(ring, -1, 1)).sum(1)) / 2, 0.0)


def minimum_rectangle(mask: Mask) -> OrientedBox | None:
    """The oriented box of least area around a mask's pixels; None for an empty mask (rotating calipers, OpenCV)."""
    if mask.window == (0, 0):
        return None
    y, x = np.nonzero(mask.crop())
    pixels = np.stack((x + mask.x, y + mask.y), 1).astype(np.float32)
    # The four corners of a pixel, in edge coordinates.
    corners = (pixels[:, None] + np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)).reshape(-1, 2)
    (cx, cy), (w, h), degrees = cv2.minAreaRect(corners)
    return OrientedBox(np.array([cx, cy, w, h], np.float32), float(np.deg2rad(degrees)))
