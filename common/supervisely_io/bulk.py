"""`figures.bulk.add` exactly once: a failure that leaves open whether figures were stored is settled by looking."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import ServerRefused, ServerUnreachable
from common.supervisely_io.figures import figures, remove_figures
from common.supervisely_io.once import once
from common.supervisely_io.records import FigureRecord, NewFigure, Place, VideoRecord
from common.supervisely_io.retry import ONCE, Retry
from common.supervisely_io.server import Server

MAX_FIGURES = 100
MAX_BYTES = 4 << 20
"""Most of either in one request, but one figure always goes."""

_MAX_DOUBTS = 32
_SLICE_FRAMES = 256


@dataclass(frozen=True)
class Encoded:
    figure: NewFigure
    text: bytes


@dataclass
class Outcome:
    """stored: id by place. refused: figures that the server will not take, and why."""

    stored: dict[Place, int] = field(default_factory=dict)
    refused: list[tuple[NewFigure, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Doubt:
    """Where a request may still arrive a second time: frames first..last of these objects."""

    first: int
    last: int
    objects: frozenset[int]


def key_of(place: Place) -> str:
    """32 hexadecimal digits, the same for the same place in every process; servers that know keys store it once.

    >>> key_of(Place("t", 1, 2)) == key_of(Place("t", 1, 2)) != key_of(Place("t", 1, 2, part=1))
    True
    """
    text = json.dumps([place.track_id, place.object_id, place.frame, place.part])
    return hashlib.blake2s(text.encode(), digest_size=16).hexdigest()


def to_json(figure: NewFigure) -> dict[str, Any]:
    """The figure as `figures.bulk.add` takes it."""
    meta: dict[str, Any] = {**figure.meta, "frame": figure.frame}
    if figure.source_figure_id is not None:
        meta["sourceFigureId"] = int(figure.source_figure_id)
    if figure.part:
        meta["part"] = figure.part
    data: dict[str, Any] = {
        "objectId": figure.object_id,
        "geometryType": figure.geometry_type,
        "geometry": figure.geometry,
        "meta": meta,
        "trackId": figure.track_id,
        "nnCreated": True,
        "nnUpdated": True,
        "key": key_of(figure.place),
    }
    custom: dict[str, Any] = {}
    if figure.score is not None:
        custom["score"] = round(float(figure.score), 4)
    if figure.visible is not None:
        custom["visible"] = bool(figure.visible)
    if custom:
        data["customData"] = custom
    return data


class BulkAdder:
    """Adds figures of one video. Used by one thread.

    retry: how long an outage is borne. stop: ends the waiting between attempts with `Interrupted`.
    """

    def __init__(self, server: Server, video: VideoRecord, retry: Retry, stop: threading.Event) -> None:
        self._server, self._video, self._retry, self._stop = server, video, retry, stop
        self._chance = random.Random()
        self._doubts: list[_Doubt] = []

    def add(self, new: Sequence[NewFigure], old: Collection[int] = ()) -> Outcome:
        """Stores figures (any number; requests are cut to size), each place at most once.

        old: ids of figures that stand in the same places and do not count as these. Raises `ServerUnreachable` after
        `retry.total_s` without progress, `ServerRefused` when the token is no good (401, 403), `Interrupted`.
        """
        outcome = Outcome()
        encoded = []
        for figure in new:
            try:
                text = json.dumps(to_json(figure), separators=(",", ":"), allow_nan=False).encode()
                encoded.append(Encoded(figure, text))
            except ValueError:
                outcome.refused.append((figure, "it holds NaN or Infinity, which JSON has no number for"))
        for chunk in _chunks(encoded):
            self._store(chunk, old, outcome)
        return outcome

    def _store(
        self, chunk: Sequence[Encoded], old: Collection[int], outcome: Outcome, refused_before: bool = False
    ) -> None:
        pending = list(chunk)
        if not pending:
            return

        def attempt() -> list[int]:
            try:
                return self._request(pending)
            except ServerUnreachable as error:
                if error.uncertain:
                    self._doubt(pending)
                raise

        def look() -> list[int] | None:
            pending[:] = self._without_present(pending, old, outcome)
            return None if pending else []

        try:
            idents = once(attempt, look, self._retry, self._stop, self._chance)
        except ServerRefused as error:
            self._settle(error, pending, old, outcome, refused_before)
            return
        for item, ident in zip(pending, idents, strict=True):
            outcome.stored[item.figure.place] = ident

    def _request(self, pending: Sequence[Encoded]) -> list[int]:
        head = b'{"entityId":%d,"figures":[' % self._video.id
        body = head + b",".join(item.text for item in pending) + b"]}"
        reply = self._server.call("figures.bulk.add", body, repeat=False, retry=ONCE)
        try:
            idents = [int(entry["id"]) for entry in reply]
        except (TypeError, KeyError, ValueError) as error:
            raise ServerUnreachable("The server's answer to figures.bulk.add holds no ids.", True) from error
        if len(idents) != len(pending):
            raise ServerUnreachable(f"{len(idents)} ids came back for {len(pending)} figures.", True)
        return idents

    def _settle(
        self, error: ServerRefused, pending: list[Encoded], old: Collection[int], outcome: Outcome, refused_before: bool
    ) -> None:
        """Finds those that are refused by halving, so that one bad figure costs a few calls and not the other 99. Each is
        refused only when the server has said no twice: a server that is going down says 400 now and then."""
        if error.status in (401, 403):
            raise error
        if error.status == 404 and self._video_is_gone():
            raise ServerRefused(
                f"The video {self._video.name} was removed from the server.", 404, error.method
            ) from error
        rest = self._without_present(pending, old, outcome)
        if len(rest) == 1 and refused_before:
            outcome.refused.append((rest[0].figure, str(error)))
            return
        middle = len(rest) // 2
        for half in (rest[:middle], rest[middle:]):
            self._store(half, old, outcome, refused_before=True)

    def _video_is_gone(self) -> bool:
        try:
            self._server.call("videos.info", {"id": self._video.id})
        except ServerRefused as error:
            return error.status == 404
        return False

    def _without_present(self, pending: list[Encoded], old: Collection[int], outcome: Outcome) -> list[Encoded]:
        """Those that are not on the server yet; the others go to `outcome.stored`."""
        objects = {item.figure.object_id for item in pending}
        frames = [item.figure.frame for item in pending]
        places = {item.figure.place for item in pending}
        for figure in self._read(objects, min(frames), max(frames)):
            place = place_of(figure)
            if place in places and figure.id not in old:
                outcome.stored.setdefault(place, figure.id)
        return [item for item in pending if item.figure.place not in outcome.stored]

    def _read(self, objects: Collection[int], first: int, last: int) -> Iterator[FigureRecord]:
        return figures(self._server, self._video, sorted(objects), (first, last), geometry=False)

    def _doubt(self, pending: Sequence[Encoded]) -> None:
        frames = [item.figure.frame for item in pending]
        self._doubts.append(_Doubt(min(frames), max(frames), frozenset(item.figure.object_id for item in pending)))
        if len(self._doubts) > _MAX_DOUBTS:
            a, b = self._doubts.pop(0), self._doubts.pop(0)
            self._doubts.insert(0, _Doubt(min(a.first, b.first), max(a.last, b.last), a.objects | b.objects))

    def sweep(self) -> int:
        """Removes figures that arrived twice after all, because a request that seemed lost was only slow; how many."""
        removed = 0
        while self._doubts:
            doubt = self._doubts[-1]
            for first in range(doubt.first, doubt.last + 1, _SLICE_FRAMES):
                seen: set[Place] = set()
                twice: list[int] = []
                for figure in self._read(doubt.objects, first, min(doubt.last, first + _SLICE_FRAMES - 1)):
                    place = place_of(figure)
                    if place in seen and not figure.by_person:
                        twice.append(figure.id)
                    if place is not None:
                        seen.add(place)
                if twice:
                    remove_figures(self._server, twice)
                    removed += len(twice)
            self._doubts.pop()
        return removed


def place_of(figure: FigureRecord) -> Place | None:
    """None for a figure without a track."""
    if figure.track_id is None:
        return None
    return Place(figure.track_id, figure.object_id, figure.frame, figure.part)


def _chunks(encoded: Sequence[Encoded]) -> Iterator[list[Encoded]]:
    chunk: list[Encoded] = []
    size = 0
    for item in encoded:
        if chunk and (len(chunk) >= MAX_FIGURES or size + len(item.text) > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += len(item.text)
    if chunk:
        yield chunk
