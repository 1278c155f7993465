"""Camera motion in BoT-SORT's text format: frame from 0 and six numbers a b tx c d ty, previous pixels to this frame's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.association.contract import Affine
from common.errors import UserError

_FLAT = 1e-6
"""Share of its area that a picture keeps at least; what keeps nothing cannot be undone."""


def read(path: Path) -> dict[int, Affine]:
    """Affines float64 (2, 3) by frame, from 0. Raises `UserError` naming the first line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not a text file"
        raise UserError(f"{path} cannot be read: {why}.") from None
    found: dict[int, Affine] = {}
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.zeros(0)
        if len(values) != 7 or not np.isfinite(values).all() or values[0] < 0 or values[0] != int(values[0]):
            raise UserError(
                f"{path}, line {number}: expected a frame (from 0) and six numbers a b tx c d ty: {line.strip()[:80]!r}."
            )
        motion = values[1:].reshape(2, 3)
        if abs(np.linalg.det(motion[:, :2])) < _FLAT:
            raise UserError(f"{path}, line {number}: a motion that makes the picture flat: {line.strip()[:80]!r}.")
        found[int(values[0])] = motion
    return found


def between(motions: dict[int, Affine], last: int, frame: int) -> Affine | None:
    """From the pixels of frame `last` to those of `frame`, in either direction; frames without a motion stand still. None
    when nothing is known of the way.

    >>> step = np.array([[1.0, 0, 2], [0, 1, 0]])
    >>> between({1: step, 2: step}, 2, 0)[:, 2].tolist()
    [-4.0, 0.0]
    """
    low, high = min(last, frame), max(last, frame)
    if not any(k in motions for k in range(low + 1, high + 1)):
        return None
    whole = np.eye(3)
    for k in range(low + 1, high + 1):
        if k in motions:
            whole = np.vstack((motions[k], (0, 0, 1))) @ whole
    return np.asarray(whole if frame > last else np.linalg.inv(whole), np.float64)[:2]
