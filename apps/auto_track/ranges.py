"""Sets of frames as sorted, separate ranges (first, last), both within. Pure."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]
Ranges = tuple[Range, ...]


def union(*groups: Iterable[Range]) -> Ranges:
    """All frames of any of them; ranges that touch become one.

    >>> union([(0, 4), (9, 9)], [(5, 6)])
    ((0, 6), (9, 9))
    """
    merged: list[Range] = []
    for first, last in sorted(r for group in groups for r in group):
        if last < first:
            continue
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def subtract(ranges: Iterable[Range], taken: Iterable[Range]) -> Ranges:
    """Frames of `ranges` that are not in `taken`.

    >>> subtract([(0, 9)], [(3, 4), (9, 20)])
    ((0, 2), (5, 8))
    """
    gaps = union(taken)
    left: list[Range] = []
    for first, last in union(ranges):
        start = first
        for a, b in gaps:
            if b < start or a > last:
                continue
            if a > start:
                left.append((start, a - 1))
            start = b + 1
        if start <= last:
            left.append((start, last))
    return tuple(left)


def common(ranges: Iterable[Range], other: Iterable[Range]) -> Ranges:
    """Frames in both.

    >>> common([(0, 9)], [(5, 12)])
    ((5, 9),)
    """
    ranges = tuple(ranges)
    return subtract(ranges, subtract(ranges, other))


def within(ranges: Iterable[Range], frame: int) -> Range | None:
    """The range that holds the frame."""
    return next((r for r in ranges if r[0] <= frame <= r[1]), None)


def size(ranges: Iterable[Range]) -> int:
    """Number of frames."""
    return sum(last - first + 1 for first, last in union(ranges))
