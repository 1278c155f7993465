"""The geometries that trackers speak: boxes, oriented boxes, masks and point sets, as small immutable values.

Pixels: x to the right, y down, (0, 0) is the centre of the top-left pixel. A box (x1, y1, x2, y2) spans the continuous
area between its corners, so a box around pixel columns 3..5 is x1 = 3, x2 = 6 - the usual w = x2 - x1 convention of
MOTChallenge and COCO.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]


def _frozen(array: NDArray[np.generic]) -> None:
    array.setflags(write=False)


@dataclass(frozen=True, eq=False)
class Box:
    """Axis-aligned box. xyxy: float32 (4,), pixels, x1 <= x2 and y1 <= y2, all finite."""

    xyxy: Float

    def __post_init__(self) -> None:
        value = np.array(self.xyxy, np.float32)
        if value.shape != (4,) or not np.isfinite(value).all() or value[0] > value[2] or value[1] > value[3]:
            raise ValueError(f"a box is x1,y1,x2,y2 with x1 <= x2 and y1 <= y2, got {np.asarray(self.xyxy).tolist()}")
        _frozen(value)
        object.__setattr__(self, "xyxy", value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and np.array_equal(self.xyxy, other.xyxy)

    def __hash__(self) -> int:
        return hash(self.xyxy.tobytes())


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """Box of a size, turned about its centre.

    cxcywh: float32 (4,): centre x, centre y, width, height in pixels before the turn (width, height >= 0).
    angle_rad: turn in radians, positive from the x axis towards the y axis (clockwise on screen), as Supervisely stores it.
    """

    cxcywh: Float
    angle_rad: float

    def __post_init__(self) -> None:
        value = np.array(self.cxcywh, np.float32)
        if (
            value.shape != (4,)
            or not np.isfinite(value).all()
            or (value[2:] < 0).any()
            or not np.isfinite(self.angle_rad)
        ):
            raise ValueError(f"an oriented box is cx,cy,w,h and an angle, got {np.asarray(self.cxcywh).tolist()}")
        _frozen(value)
        object.__setattr__(self, "cxcywh", value)
        object.__setattr__(self, "angle_rad", float(self.angle_rad))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, OrientedBox)
            and np.array_equal(self.cxcywh, other.cxcywh)
            and self.angle_rad == other.angle_rad
        )

    def __hash__(self) -> int:
        return hash((self.cxcywh.tobytes(), self.angle_rad))

    def corners(self) -> Float:
        """Corners float32 (4, 2), in the order top-left, top-right, bottom-right, bottom-left before the turn."""
        cx, cy, w, h = (float(v) for v in self.cxcywh)
        c, s = float(np.cos(self.angle_rad)), float(np.sin(self.angle_rad))
        local = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
        corners: Float = (local @ np.array([[c, s], [-s, c]]) + (cx, cy)).astype(np.float32)
        return corners


@dataclass(frozen=True, eq=False)
class Mask:
    """Binary mask at rest: run lengths of the tight window around its pixels.

    height, width: the picture's size. x, y: top-left pixel of the window. window: (height, width) of the window, (0, 0)
    for an empty mask. runs: uint32 (n,), lengths of alternating runs of 0 and 1 along the rows of the window, starting
    with 0 (first entry may be 0).
    """

    height: int
    width: int
    x: int
    y: int
    window: tuple[int, int]
    runs: NDArray[np.uint32]

    @classmethod
    def from_array(cls, mask: NDArray[np.generic]) -> Mask:
        """From a 2-D array; every non-zero pixel belongs to the mask."""
        array = np.asarray(mask)
        if array.ndim != 2:
            raise ValueError(f"a mask has 2 dimensions, got shape {array.shape}")
        array = array.astype(bool, copy=False)
        height, width = array.shape
        rows = np.flatnonzero(array.any(1))
        if rows.size == 0:
            return cls(height, width, 0, 0, (0, 0), np.zeros(0, np.uint32))
        y, y_end = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(array[y:y_end].any(0))
        x, x_end = int(columns[0]), int(columns[-1]) + 1
        flat = array[y:y_end, x:x_end].ravel()
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        runs = np.diff(np.concatenate(([0], edges, [flat.size])))
        if flat[0]:
            runs = np.concatenate(([0], runs))
        return cls(height, width, x, y, (y_end - y, x_end - x), runs.astype(np.uint32))

    def __post_init__(self) -> None:
        h, w = self.window
        if int(self.runs.sum()) != h * w:
            raise ValueError(f"run lengths sum to {int(self.runs.sum())}, the window has {h * w} pixels")
        if self.x < 0 or self.y < 0 or self.x + w > self.width or self.y + h > self.height:
            raise ValueError("the mask's window reaches over the picture's edge")
        _frozen(self.runs)

    def to_array(self) -> Bool:
        """Bool (height, width), a fresh array."""
        full = np.zeros((self.height, self.width), bool)
        h, w = self.window
        full[self.y : self.y + h, self.x : self.x + w] = self.crop()
        return full

    def crop(self) -> Bool:
        """Bool (window height, window width): only the window, whose top-left pixel is (x, y)."""
        bits = np.arange(len(self.runs)) % 2 == 1
        return np.repeat(bits, self.runs).reshape(self.window)

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(self.runs[1::2].sum())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Mask)
            and (self.height, self.width, self.x, self.y, self.window)
            == (other.height, other.width, other.x, other.y, other.window)
            and np.array_equal(self.runs, other.runs)
        )

    def __hash__(self) -> int:
        return hash((self.height, self.width, self.x, self.y, self.window, self.runs.tobytes()))


@dataclass(frozen=True, eq=False)
class Points:
    """A set of points that belongs to one object: a single point, or the vertices of a polygon, line or skeleton.

    xy: float32 (n, 2), n >= 1, finite. visible: bool (n,), False = hidden or off-screen, position is then a best guess;
    all True when left out. edges: pairs of point indices that hold the shape together (outline segments, bones); empty
    for loose points. Trackers give back the same number of points, in the same order, with the same edges.
    """

    xy: Float
    visible: Bool = field(default_factory=lambda: np.ones(0, bool))
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        xy = np.array(self.xy, np.float32)
        if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0 or not np.isfinite(xy).all():
            raise ValueError(f"points are n x 2 finite numbers with n >= 1, got shape {xy.shape}")
        visible = np.array(self.visible, bool) if np.size(self.visible) else np.ones(len(xy), bool)
        if visible.shape != (len(xy),):
            raise ValueError(f"{len(xy)} points need {len(xy)} visibilities, got shape {visible.shape}")
        edges = tuple((int(a), int(b)) for a, b in self.edges)
        if any(not (0 <= a < len(xy) and 0 <= b < len(xy)) for a, b in edges):
            raise ValueError("an edge names a point that does not exist")
        _frozen(xy)
        _frozen(visible)
        object.__setattr__(self, "xy", xy)
        object.__setattr__(self, "visible", visible)
        object.__setattr__(self, "edges", edges)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Points)
            and np.array_equal(self.xy, other.xy)
            and np.array_equal(self.visible, other.visible)
            and self.edges == other.edges
        )

    def __hash__(self) -> int:
        return hash((self.xy.tobytes(), self.visible.tobytes(), self.edges))


Geometry = Box | OrientedBox | Mask | Points
"""What trackers take and give. Polygons, lines and skeletons travel as `Points` with edges (see shapes.py)."""
