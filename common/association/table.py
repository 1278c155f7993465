"""Everything that is known of the tracks at one time, as arrays with one row for each track."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.association.kalman import Float, Motion

Int = NDArray[np.int64]

GRID = 32
"""Cells along each side of a remembered mask."""


@dataclass
class Table:
    """motion: where and how fast. ids: int64, 0 until confirmed. gap: float64, ticks since last seen, 0 = seen now.
    hits: int64, how often seen. born: int64, number of the update. score: float64, of the last detection. votes: float64
    (n, classes), summed scores. looks: float32 (n, d) or (n, 0), unit vectors, 0 = none yet. angle: float64, radians.
    grid: bool (n, GRID, GRID) or (n, 0, 0), the last mask in its box. human: bool, last seen in what a person labelled.
    ripe: bool, once seen well enough for a birth. waiting: int64 (n, k, 3), rows not given out yet as frame, row, class;
    waiting_boxes: float32 (n, k, 10), xyxy, score and the turned box; the first `waits` of them count.
    """

    motion: Motion
    ids: Int
    gap: Float
    hits: Int
    born: Int
    score: Float
    votes: Float
    looks: NDArray[np.float32]
    angle: Float
    grid: NDArray[np.bool_]
    human: NDArray[np.bool_]
    ripe: NDArray[np.bool_]
    waits: Int
    waiting: Int
    waiting_boxes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def rows(motion: Motion, waiting: int) -> Table:
        """New, unseen rows for these motions; room for `waiting` rows each."""
        n = len(motion)
        return Table(
            motion,
            np.zeros(n, np.int64),
            np.zeros(n),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            np.zeros(n),
            np.zeros((n, 1)),
            np.zeros((n, 0), np.float32),
            np.zeros(n),
            np.zeros((n, 0, 0), bool),
            np.zeros(n, bool),
            np.zeros(n, bool),
            np.zeros(n, np.int64),
            np.zeros((n, waiting, 3), np.int64),
            np.zeros((n, waiting, 10), np.float32),
        )

    def keep(self, index: NDArray[np.generic]) -> Table:
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "motion"}
        return Table(self.motion.keep(index), **{name: column[index] for name, column in columns.items()})

    def joined(self, other: Table) -> Table:
        """These rows, then those. Columns of another width are widened with zeros."""
        self.widen(other)
        other.widen(self)
        names = [f.name for f in fields(self) if f.name != "motion"]
        columns = {name: np.concatenate((getattr(self, name), getattr(other, name))) for name in names}
        return Table(self.motion.joined(other.motion), **columns)

    def widen(self, other: Table) -> None:
        """Room for the classes, looks and masks that `other` has."""
        self.room(other.votes.shape[1], other.looks.shape[1], other.grid.shape[1])

    def room(self, classes: int, looks: int, grid: int) -> None:
        n = len(self)
        if self.votes.shape[1] < classes:
            self.votes = np.concatenate((self.votes, np.zeros((n, classes - self.votes.shape[1]))), 1)
        if self.looks.shape[1] < looks:
            self.looks = np.zeros((n, looks), np.float32)
        if self.grid.shape[1] < grid:
            self.grid = np.zeros((n, grid, grid), bool)

    def state(self) -> dict[str, Any]:
        """As a tree for a snapshot."""
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "motion"}
        return {"motion": {name: getattr(self.motion, name) for name in Motion.NAMES}, **columns}

    @staticmethod
    def from_state(state: dict[str, Any]) -> Table:
        columns = {name: column for name, column in state.items() if name != "motion"}
        return Table(Motion(np.concatenate([state["motion"][name].T for name in Motion.NAMES])), **columns)
