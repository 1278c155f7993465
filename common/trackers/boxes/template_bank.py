"""Pictures of objects from their sure frames, spread over as many frames as wanted, in bounded memory.

The published bank holds the last 500 sure frames and is asked for a few evenly spaced ones now and then. This one holds
every k-th of them in a fixed number of slots, and gives the nearest to the one asked for: the same where the bank fits
into the slots, a few frames beside it where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.trackers.boxes.siamese_crop import Crops, Index

SLOTS = 64
"""Most pictures kept of an object."""


@dataclass
class TemplateBank:
    """first, first_box: the prompt's crops uint8 (n, s, s, 3) and boxes in them float32 (n, 4), entries 0..start-1 of the
    bank. crops, boxes: (n, slots, ...) ring of kept entries. entered: int64 (n,) entries so far, start included. most:
    entries that the bank is said to hold. every: k.
    """

    first: Crops
    first_box: NDArray[np.float32]
    crops: Crops
    boxes: NDArray[np.float32]
    entered: NDArray[np.int64]
    start: int
    most: int
    every: int

    @classmethod
    def begin(cls, first: Crops, first_box: NDArray[np.float32], start: int, most: int) -> TemplateBank:
        """A bank of `start` equal entries. Raises ValueError when most < start."""
        if most < start:
            raise ValueError(f"a bank that begins with {start} entries cannot be limited to {most}")
        every = -(-most // (SLOTS - 1)) if most > SLOTS else 1
        n, slots = len(first), -(-most // every) + 1
        crops = np.zeros((n, slots, *first.shape[1:]), np.uint8)
        boxes = np.zeros((n, slots, 4), np.float32)
        return cls(first, first_box, crops, boxes, np.full(n, start, np.int64), start, most, every)

    @property
    def length(self) -> NDArray[np.int64]:
        """Entries (n,) that the bank is said to hold now."""
        return np.minimum(self.entered, self.most)

    def add(self, who: Index, crops: Crops, boxes: NDArray[np.float32]) -> None:
        """One entry for each object of who (m,): crops (m, s, s, 3), boxes (m, 4)."""
        number = self.entered[who] - self.start
        kept = number % self.every == 0
        slot = (number[kept] // self.every) % self.crops.shape[1]
        self.crops[who[kept], slot], self.boxes[who[kept], slot] = crops[kept], boxes[kept]
        self.entered[who] += 1

    def spread(self, parts: int) -> tuple[Crops, NDArray[np.float32]]:
        """The entries at 1/parts, 2/parts ... of the bank, oldest first: crops (n, parts - 1, s, s, 3), boxes."""
        oldest = self.entered - self.length
        wanted = oldest[:, None] + (self.length // parts)[:, None] * np.arange(1, parts)
        newest = (self.entered - self.start - 1) // self.every
        place = np.rint((wanted - self.start) / self.every).astype(np.int64)
        slot = np.minimum(place, newest[:, None]) % self.crops.shape[1]
        rows = np.arange(len(slot))[:, None]
        drawn = (wanted < self.start)[..., None]
        crops = np.where(drawn[..., None, None], self.first[:, None], self.crops[rows, slot])
        return crops, np.where(drawn, self.first_box[:, None], self.boxes[rows, slot])

    def to_tree(self) -> dict[str, Any]:
        """Plain values for `pack`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_tree(cls, tree: dict[str, Any]) -> TemplateBank:
        """From `to_tree`, with arrays of its own."""
        values: dict[str, Any] = {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in tree.items()}
        return cls(**values)
