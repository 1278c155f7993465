"""One batch of frames for a set of objects: the work behind `/track-api`, with or without memory of the batch before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import FrameUnreadable, Interrupted, PromptInvalid
from common.geometry.clip import clip_to_frame
from common.geometry.measures import area
from common.geometry.shapes import Polyline, Skeleton, Value, to_geometry
from common.geometry.supervisely import from_json, geometry_type, to_json
from common.serving.engine_memory import Remembered
from common.serving.engines import Engines
from common.serving.targets import Target, in_picture
from common.tracking.contract import Prediction
from common.tracking.live import LiveTrack
from common.video.contract import FrameSource, Image

MAX_CELLS = 100_000
"""Most frames x objects of one batch: its answer is held as a whole."""

Cell = dict[str, Any] | None
"""{"type", "data", "score", "visible"} of one object on one frame; None where it is lost."""


@dataclass(frozen=True)
class Wanted:
    """One column. target: None for an object that the caller has lost and only the memory knows.

    type_name: as the request wrote it, given back so.
    """

    key: str
    type_name: str
    target: Target | None


@dataclass(frozen=True)
class Batch:
    """What a batch gave. rows: frame by frame, one cell per column. memory: for the next batch. continued: how many
    columns were continued from memory."""

    rows: list[list[Cell]]
    memory: tuple[Remembered, ...]
    continued: int


@dataclass
class _Live:
    engine: str
    track: LiveTrack
    keys: frozenset[str]


def run_batch(
    source: FrameSource,
    start: int,
    step: int,
    count: int,
    columns: Sequence[Wanted],
    engines: Engines,
    memory: Sequence[Remembered] = (),
    *,
    remember: bool = False,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Batch:
    """The `count` frames after `start` in the direction of step, fewer where the video ends.

    memory: of the batch that ended on `start`. An object is continued when what the caller sends is what was given out
    last; one that was changed or is new starts afresh; all others keep their trackers.
    Raises `PromptInvalid`, `FrameUnreadable` when not even the first frame can be had, `Interrupted`.
    """
    info = source.info
    if not 0 <= start < info.frames:
        raise PromptInvalid(f"Frame {start} does not exist: the video has {info.frames} frames.")
    end = min(start + count, info.frames - 1) if step > 0 else max(start - count, 0)
    frames = range(start + step, end + step, step)
    if not frames:
        return Batch([], (), 0)
    if len(frames) * len(columns) > MAX_CELLS:
        raise PromptInvalid(
            f"{len(frames)} frames of {len(columns)} objects are too many at once; ask for fewer frames."
        )
    kept, fresh = _divide(columns, memory, start)
    live = [_Live(m.engine, LiveTrack.load(engines.tracker(m.engine), m.snapshot), keys) for m, keys in kept]
    targets = [column.target for column in fresh if column.target is not None]
    seen = [target for target in targets if in_picture(target.value, info.width, info.height)]

    found: dict[tuple[int, str], Prediction] = {}
    reached = start
    stream = source.stream(start if seen else start + step, end + step)
    try:
        if seen:
            live += _begin(next(iter(stream)), seen, engines, info.fps)
        for frame, image in zip(frames, stream, strict=False):
            if stop_requested():
                raise Interrupted("Stopped before the batch was done.")
            for one in live:
                _note(found, one, one.track.push(frame, image))
            reached = frame
    except FrameUnreadable:
        if reached == start:
            raise
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()

    snapshots = [one.track.save() for one in live] if remember else []
    for one in live:
        _note(found, one, one.track.flush())
    by_key = {column.key: column for column in columns}
    drawn: dict[str, Value] = {key: m.drawn[key] for m, keys in kept for key in keys}
    drawn |= {target.key: target.value for target in seen}
    originals = {
        column.key: Target(column.key, drawn[column.key], column.type_name) for column in columns if column.key in drawn
    }
    last: dict[str, Value] = {key: value for m, keys in kept for key, value in m.last.items() if key in keys}
    last |= {target.key: target.value for target in seen}
    rows: list[list[Cell]] = []
    for frame in range(start + step, reached + step, step):
        row: list[Cell] = []
        for key, column in by_key.items():
            prediction = found.get((frame, key))
            cell = None if prediction is None else _cell(column, originals[key], prediction, info.width, info.height)
            if cell is not None:
                last[key] = _parsed(cell, info.width, info.height, originals[key].value)
            row.append(cell)
        rows.append(row)
    remembered = tuple(
        Remembered(
            one.engine, snapshot, reached, {key: last[key] for key in one.keys}, {key: drawn[key] for key in one.keys}
        )
        for one, snapshot in zip(live, snapshots, strict=False)
    )
    return Batch(rows, remembered, sum(len(keys) for _, keys in kept))


def _divide(
    columns: Sequence[Wanted], memory: Sequence[Remembered], start: int
) -> tuple[list[tuple[Remembered, frozenset[str]]], list[Wanted]]:
    """Trackers to continue with the keys they serve, and the columns that start afresh."""
    kept = []
    served: set[str] = set()
    for remembered in memory:
        if remembered.frame != start:
            continue
        keys = frozenset(
            column.key
            for column in columns
            if column.key in remembered.last
            and column.key not in served
            and (column.target is None or column.target.value == remembered.last[column.key])
        )
        if keys:
            kept.append((remembered, keys))
            served |= keys
    return kept, [column for column in columns if column.key not in served]


def _begin(image: Image, targets: Sequence[Target], engines: Engines, fps: float) -> list[_Live]:
    groups: defaultdict[str, list[Target]] = defaultdict(list)
    for target in targets:
        groups[engines.name_for(target.value)].append(target)
    return [
        _Live(
            name,
            LiveTrack.start(engines.tracker(name), image, [target.prompt for target in members], fps=fps),
            frozenset(target.key for target in members),
        )
        for name, members in groups.items()
    ]


def _note(found: dict[tuple[int, str], Prediction], live: _Live, tracked: Sequence[Any]) -> None:
    for one in tracked:
        if one.prediction.key in live.keys:
            found[one.frame, one.prediction.key] = one.prediction


def _cell(column: Wanted, original: Target, prediction: Prediction, width: int, height: int) -> Cell:
    """What the picture shows of it, as one geometry of the type that was asked for; None when that is nothing."""
    if prediction.geometry is None:
        return None
    parts = clip_to_frame(original.like(prediction.geometry), width, height)
    if not parts:
        return None
    value = max(parts, key=_extent)
    return {
        "type": column.type_name,
        "data": to_json(value, width, height),
        "score": round(float(prediction.score), 4),
        "visible": bool(prediction.visible),
    }


def _extent(value: Value) -> float:
    """Which piece of a line that leaves the picture and comes back stands for it: the one of most vertices, then longest."""
    return float(len(value.xy)) if isinstance(value, Polyline) else area(to_geometry(value))


def _parsed(cell: dict[str, Any], width: int, height: int, like: Value) -> Value:
    """What the caller will send back, as it will be read."""
    bones = tuple((like.ids[a], like.ids[b]) for a, b in like.edges) if isinstance(like, Skeleton) else ()
    return from_json(geometry_type(like), cell["data"], width, height, bones)
