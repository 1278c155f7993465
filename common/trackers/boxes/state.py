"""Everything a run knows, as arrays with one row per object: nothing else needs saving."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes.filter import Complex
from common.trackers.boxes.patches import Array, Double

Flags = NDArray[np.bool_]


@dataclass
class State:
    """n objects in a picture of `size` (width, height).

    grey: uint8, the last frame as flow sees it. keys: the prompts' names. oriented: (n,) prompt was an oriented box.
    shape: (n, 2) width and height now, pixels before the turn. centre: (n, 2). angle: (n,) radians. velocity: (n, 2)
    pixels a frame beside the camera's motion. side: (n,) pixels of the search window at scale 1; scale: (n,) now.
    filters, first: complex64 (n, C, c, c / 2 + 1), now and of the prompt's frame. weight, target: see filter.py.
    level: (n, 2) usual clearness of both filters' responses when all is well. trust: (n,) smoothed confidence 0..1. hidden: (n,) not
    seen now. anchors: uint8 (n, 2, 96, 96), the object on the prompt's frame and on a later, sure one (see anchor.py);
    held: (n,) share of points that agree with either. colours: float32 (n, 2, colours), see colour.py. usual: (n,)
    usual height of the filter's response. missing: (n,) frames since it was last seen. age: frames pushed.
    """

    size: tuple[int, int]
    grey: NDArray[np.uint8]
    keys: list[str]
    oriented: Flags
    shape: Double
    centre: Double
    angle: Double
    velocity: Double
    side: Double
    scale: Double
    filters: Complex
    first: Complex
    weight: Array
    target: Array
    level: Double
    trust: Double
    hidden: Flags
    missing: NDArray[np.int64]
    anchors: NDArray[np.uint8]
    held: Double
    colours: Array
    usual: Double
    age: int = 0

    def to_tree(self) -> dict[str, Any]:
        """Plain values for `pack`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> State:
        """From `to_tree`. Raises ValueError when it is another tracker's."""
        if not isinstance(tree, dict) or set(tree) != {f.name for f in fields(cls)}:
            raise ValueError("this state was not saved by the correlation tracker")
        values: dict[str, Any] = {
            k: np.array(v, order="C") if isinstance(v, np.ndarray) else v for k, v in tree.items()
        }
        return cls(**values)

    def corners(self) -> Double:
        """Corners (n, 4, 2) of the objects, top-left, top-right, bottom-right, bottom-left before the turn."""
        local = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])[None] * self.shape[:, None]
        cos, sin = np.cos(self.angle)[:, None], np.sin(self.angle)[:, None]
        x, y = local[..., 0], local[..., 1]
        corners: Double = np.stack((x * cos - y * sin, x * sin + y * cos), -1) + self.centre[:, None]
        return corners
