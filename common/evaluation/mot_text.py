"""MOTChallenge text files: frame, id, x, y, w, h, then confidence or flag, class, visibility, as far as they are given.

Source: Leal-Taixe et al., "MOTChallenge 2015", arXiv:1504.01942; Milan et al., "MOT16", arXiv:1603.00831.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError


@dataclass(frozen=True, eq=False)
class MotRows:
    """The rows of one file as arrays of equal length.

    frame: int64, from 1. id: int64. xywh: float64 (n, 4), pixels. flag: float64, the seventh column, 1 when it is missing:
    a confidence in results, "count this" in ground truth. label: int64, the class column, -1 when missing or not a
    number. columns: how many columns the file has, 0 for an empty one.
    """

    frame: NDArray[np.int64]
    id: NDArray[np.int64]
    xywh: NDArray[np.float64]
    flag: NDArray[np.float64]
    label: NDArray[np.int64]
    columns: int

    @property
    def frames(self) -> int:
        """The last frame's number, 0 without rows."""
        return int(self.frame.max(initial=0))

    def chosen(self, keep: NDArray[np.bool_]) -> MotRows:
        """The rows where `keep` is true."""
        return MotRows(
            self.frame[keep], self.id[keep], self.xywh[keep], self.flag[keep], self.label[keep], self.columns
        )


def read(path: Path) -> MotRows:
    """The rows of a file, separated by commas, blanks or tabs. Raises `UserError` naming the first line that is wrong."""
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    rows = [line.replace(",", " ").split() if "," not in line else line.split(",") for _, line in lines]
    columns = len(rows[0]) if rows else 0
    values = np.ones((len(rows), 8))
    values[:, 7] = -1
    for target, (row, (number, _)) in enumerate(zip(rows, lines, strict=True)):
        if len(row) < 6 or len(row) != columns:
            wanted = "at least 6 (frame,id,x,y,w,h)" if len(row) < 6 else f"{columns} as in the first line"
            raise UserError(f"{path}, line {number}: {len(row)} columns, expected {wanted}.")
        try:
            values[target, : min(columns, 7)] = [float(v) for v in row[:7]]
        except ValueError:
            raise UserError(f"{path}, line {number}: not all numbers: {','.join(row)[:80]!r}.") from None
        if columns > 7:
            values[target, 7] = _class_number(row[7])
    _check(path, values, lines)
    return MotRows(
        values[:, 0].astype(np.int64),
        values[:, 1].astype(np.int64),
        values[:, 2:6].copy(),
        values[:, 6].copy(),
        values[:, 7].astype(np.int64),
        columns,
    )


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Raises `UserError` when it is missing, a folder, or not text."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file.") from None


def _class_number(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        return -1
    return int(number) if np.isfinite(number) and abs(number) < 2**31 else -1


def _check(path: Path, values: NDArray[np.float64], lines: list[tuple[int, str]]) -> None:
    def refuse(wrong: NDArray[np.bool_], why: str) -> None:
        if wrong.any():
            number, line = lines[int(np.argmax(wrong))]
            raise UserError(f"{path}, line {number}: {why}: {line.strip()[:80]!r}.")

    refuse(~np.isfinite(values.sum(1)), "not all numbers are finite")
    whole = values[:, :2]
    refuse(
        (np.abs(whole - np.floor(whole)).max(1) > 0) | (np.abs(whole).max(1) > 2**31),
        "frame and id must be whole numbers",
    )
    refuse(values[:, 0] < 1, "frames count from 1")
    refuse(values[:, 4:6].min(1) < 0, "width and height cannot be negative")
