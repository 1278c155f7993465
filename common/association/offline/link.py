"""Which tracks are the same object seen again: one assignment over all ends and all beginnings of a video.

The cost of a link is a log-likelihood ratio in all but name: squared deviations, in units of what is usual, of place, size and
looks, and what waiting costs. Vetoes are what no score outweighs: both seen at once, too long apart, out of the picture,
faster than things of that kind move. Links by global assignment: Huang, Wu and Nevatia 2008, "Robust Object Tracking by
Hierarchical Association of Detection Responses".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.association.assignment import assign
from common.association.contract import Float, Int
from common.association.offline.tracklets import Camera, Pieces, warped

LOOKS_BONUS = 1.0
"""What the same looks speak for a link; other looks speak against it without bound."""


@dataclass(frozen=True)
class LinkSettings:
    """gap_s: longest time unseen; raised: more is linked, more of it wrongly. place, drift: deviation of a predicted place
    in box sizes, at once and for each second unseen; raised: larger jumps are linked. size: deviation of the sizes'
    logarithm. limit: largest cost of a link that is made; unsure: of one that is suggested. margin: by how much a link must
    beat the next best that either end could have; else it is suggested. looks: deviation of half the cosine distance. fastest: box sizes a second that nothing
    moves faster than."""

    gap_s: float = 2.0
    place: float = 0.2
    drift: float = 0.5
    size: float = 0.15
    limit: float = 2.0
    unsure: float = 9.0
    margin: float = 3.0
    looks: float = 0.1
    fastest: float = 4.0


@dataclass(frozen=True, eq=False)
class Links:
    """Pairs of pieces: before, after int64 (k,). cost: float64 (k,). sure: bool (k,). reasons: per pair."""

    before: Int
    after: Int
    cost: Float
    sure: NDArray[np.bool_]
    reasons: tuple[Mapping[str, float], ...]


def link(
    found: Pieces,
    fps: float,
    settings: LinkSettings,
    camera: Camera,
    size: tuple[int, int] | None = None,
    looks: Mapping[int, NDArray[np.floating]] | None = None,
) -> Links:
    """Links worth making or suggesting. fps: frames per second. size: width and height of the picture, if known. looks:
    unit vectors by identity."""
    i, j = _candidates(found, fps, settings)
    terms = _terms(found, i, j, fps, settings, camera, size, looks)
    total = np.sum(list(terms.values()), 0) if len(i) else np.zeros(0)
    # Only ends and beginnings that have anybody take part: a table of all tracks of a long video would not fit.
    worth = total < settings.unsure + settings.margin
    ends, begins = np.unique(i[worth]), np.unique(j[worth])
    table = np.full((len(ends), len(begins)), np.inf)
    number = np.full(table.shape, -1)
    at = np.searchsorted(ends, i[worth]), np.searchsorted(begins, j[worth])
    table[at], number[at] = total[worth], np.flatnonzero(worth)
    rows, columns = assign(table, settings.unsure)
    rivals = table.copy()
    rivals[rows, columns] = np.inf
    cost = table[rows, columns]
    next_best = np.minimum(rivals[rows].min(1, initial=np.inf), rivals[:, columns].min(0, initial=np.inf))
    sure = (cost < settings.limit) & (next_best - cost > settings.margin)
    reasons = tuple(
        {name: float(term[k]) for name, term in terms.items()} | {"next best": float(min(n, 99.0))}
        for k, n in zip(number[rows, columns].tolist(), next_best.tolist(), strict=True)
    )
    return Links(ends[rows], begins[columns], cost, sure, reasons)


def costs(
    found: Pieces,
    i: Int,
    j: Int,
    fps: float,
    settings: LinkSettings,
    camera: Camera,
    size: tuple[int, int] | None = None,
    looks: Mapping[int, NDArray[np.floating]] | None = None,
) -> Float:
    """Of linking pieces i with pieces j, each after its partner; float64, infinite for what cannot be."""
    total: Float = np.sum(list(_terms(found, i, j, fps, settings, camera, size, looks).values()), 0)
    return total


def _candidates(found: Pieces, fps: float, settings: LinkSettings) -> tuple[Int, Int]:
    """Pairs where one ends before the other begins, not too long before. By beginning, so that no table of all is needed."""
    order = np.argsort(found.first, kind="stable")
    begins = found.first[order]
    low = np.searchsorted(begins, found.last, side="right")
    high = np.searchsorted(begins, found.last + settings.gap_s * fps, side="right")
    count = np.maximum(high - low, 0)
    i = np.repeat(np.arange(len(found)), count)
    offset = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    j = order[np.repeat(low, count) + offset] if len(i) else i
    return i, j


def _terms(
    found: Pieces,
    i: Int,
    j: Int,
    fps: float,
    s: LinkSettings,
    camera: Camera,
    size: tuple[int, int] | None,
    looks: Mapping[int, NDArray[np.floating]] | None,
) -> dict[str, Float]:
    gap = (found.first[j] - found.last[i]).astype(np.float64)
    seconds = gap / fps
    # What is unknown fades: after a second or two nobody still walks just as before.
    reach = (1 - np.exp(-seconds / 1.5)) * 1.5 * fps
    ahead = found.end[i] + found.speed_end[i] * reach[:, None]
    back = found.begin[j] - found.speed_begin[j] * reach[:, None]
    start, stop = found.end[i].copy(), found.begin[j].copy()
    for k in range(len(i)):
        there = camera.between(int(found.last[i[k]]), int(found.first[j[k]]))
        if there is not None:
            ahead[k], start[k] = warped(np.stack((ahead[k], start[k])), there)
            stop_back = camera.between(int(found.first[j[k]]), int(found.last[i[k]]))
            back[k] = warped(back[k : k + 1], stop_back)[0]
    scale = np.sqrt(np.sqrt(found.end[i, 2] * found.end[i, 3] * found.begin[j, 2] * found.begin[j, 3]))
    deviation = scale * (s.place + s.drift * seconds)
    forward = (stop - ahead)[:, :2] / deviation[:, None]
    backward = (found.end[i] - back)[:, :2] / deviation[:, None]
    terms = {"place": ((forward**2).sum(1) + (backward**2).sum(1)) / 2}
    sizes = np.log(np.maximum(stop[:, 2:], 1e-3) / np.maximum(start[:, 2:], 1e-3))
    terms["size"] = ((sizes / (s.size * (1 + seconds[:, None]))) ** 2).sum(1) / 2
    terms["time"] = seconds
    terms["class"] = np.where(found.classes[i] == found.classes[j], 0.0, 3.0)
    if looks is not None:
        terms["looks"] = _looks(found, i, j, s, looks)
    speed = np.hypot(*(stop - start)[:, :2].T) / scale / np.maximum(seconds, 1 / fps)
    terms["veto"] = np.where(speed > s.fastest + 0.5 / np.maximum(seconds, 1 / fps), np.inf, 0.0)
    if size is not None:
        outside = ((ahead[:, :2] < 0) | (ahead[:, :2] > np.array(size))).any(1)
        terms["veto"] = np.where(outside, np.inf, terms["veto"])
    return terms


def _looks(found: Pieces, i: Int, j: Int, s: LinkSettings, looks: Mapping[int, NDArray[np.floating]]) -> Float:
    """0 where looks are not known for both."""
    width = len(next(iter(looks.values()), np.zeros(1)))
    table = np.array([looks.get(int(identity), np.zeros(width)) for identity in found.ids]).reshape(-1, width)
    known = np.any(table, axis=1)
    distance = 0.5 * (1 - (table[i] * table[j]).sum(1))
    return np.where(known[i] & known[j], (distance / s.looks) ** 2 / 2 - LOOKS_BONUS, 0.0)
