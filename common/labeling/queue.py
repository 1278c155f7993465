"""What people should look at next: places ordered by how many wrong figures a correction there is likely to mend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from common.association.offline.decisions import Suggestion
from common.labeling.run import Found
from common.video.contract import VideoInfo

_EDGE = 0.03
"""Share of the picture's size from its edge within which an object leaves."""
_DOUBT = 0.6
"""Frames whose objects score less belong to a doubtful stretch."""


@dataclass(frozen=True)
class ReviewItem:
    """One place to look at. gain: figures that a correction there is expected to mend. kind: "doubtful", "new", "ended",
    "identity". why: for people."""

    frame: int
    keys: tuple[str, ...]
    gain: float
    kind: str
    why: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Object:
    first: int
    last: int
    frames: int = 0
    total: float = 0.0
    name: str = ""
    labelled: bool = False
    edge_first: bool = False
    edge_last: bool = False
    doubt: float = 0.0
    doubt_from: int = 0
    doubt_at: int = 0
    doubt_worst: float = 1.0
    worst: list[tuple[float, int, int, int]] = field(default_factory=list)


def review_queue(
    frames: Iterable[tuple[int, Sequence[Found]]],
    info: VideoInfo,
    suggestions: Sequence[Suggestion] = (),
    limit: int = 30,
) -> list[ReviewItem]:
    """frames: as `LabelledVideo.frames`. suggestions: of the offline repair. Memory: a few numbers per object."""
    objects: dict[str, _Object] = {}
    for frame, found in frames:
        for one in found:
            _add(objects.setdefault(one.key, _Object(frame, frame, name=one.class_name)), frame, one, info)
    items: list[ReviewItem] = []
    for key, own in objects.items():
        items += _items(key, own, info)
    for suggestion in suggestions:
        items.append(_identity(suggestion, objects))
    items.sort(key=lambda item: (-item.gain, item.frame, item.keys))
    return [item for item in items if item.gain >= 0.5][:limit]


def _add(own: _Object, frame: int, one: Found, info: VideoInfo) -> None:
    x1, y1, x2, y2 = (float(v) for v in one.box.xyxy)
    side = _EDGE * max(info.width, info.height)
    edge = x1 < side or y1 < side or x2 > info.width - side or y2 > info.height - side
    if not own.frames:
        own.edge_first = edge
    own.last, own.edge_last = frame, edge
    own.frames += 1
    own.total += one.score
    own.labelled |= one.labelled
    wrong = 0.0 if one.labelled else max(0.0, 1.0 - one.score)
    if one.labelled or one.score >= _DOUBT:
        _close(own)
        return
    if own.doubt == 0.0:
        own.doubt_from, own.doubt_worst = frame, 2.0
    if one.score < own.doubt_worst:
        own.doubt_at, own.doubt_worst = frame, one.score
    own.doubt += wrong


def _close(own: _Object) -> None:
    """A stretch of doubt ends; the three worst are kept."""
    if own.doubt > 0:
        own.worst = sorted([*own.worst, (own.doubt, own.doubt_from, own.doubt_at, own.last)], reverse=True)[:3]
    own.doubt = 0.0


def _items(key: str, own: _Object, info: VideoInfo) -> list[ReviewItem]:
    _close(own)
    mean = own.total / max(own.frames, 1)
    items = []
    title = f"{own.name} {key}"
    if not own.labelled:
        # a new object that is none is wrong on all of its frames, and so is a wrong class
        gain = own.frames * float(np.clip(1.15 - mean, 0.05, 1)) ** 2
        items.append(
            ReviewItem(
                own.first, (key,), round(gain, 2), "new",
                f"{title} is new here: accept it on {own.frames} frames, or remove it ({100 * mean:.0f} % sure).",
            )
        )  # fmt: skip
    for doubt, begin, at, end in own.worst:
        items.append(
            ReviewItem(
                at, (key,), round(doubt, 2), "doubtful",
                f"{title} is doubtful from frame {begin} to {end}; correct it where it is worst.",
            )
        )  # fmt: skip
    if not own.edge_last and own.last < info.frames - 2:
        lost = min(info.frames - 1 - own.last, max(10.0, own.frames / 2.0)) * 0.4 * mean
        items.append(
            ReviewItem(
                own.last, (key,), round(float(lost), 2), "ended",
                f"{title} ends in the middle of the picture: has it gone, or was it lost?",
            )
        )  # fmt: skip
    return items


def _identity(suggestion: Suggestion, objects: dict[str, _Object]) -> ReviewItem:
    keys = tuple(f"a{identity}" for identity in suggestion.ids)
    frames = min((objects[key].frames for key in keys if key in objects), default=1)
    what = " and ".join(keys)
    why = f"{what} may be one object." if suggestion.kind == "merge" else f"{what} may be two objects."
    return ReviewItem(suggestion.frame, keys, round(float(suggestion.score) * frames, 2), "identity", why)
