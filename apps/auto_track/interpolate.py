"""`/interpolate`: fills the frames between a figure and the nearest earlier and later figures of its object. No frame limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from apps.auto_track import messages
from apps.auto_track.engines import Sighting, value_of
from apps.auto_track.loading import Loader, Seed
from apps.auto_track.output import figures_of
from common.errors import UserError
from common.geometry.raster import contours, fill
from common.geometry.shapes import Polygon, Polyline, Value, to_geometry
from common.geometry.supervisely import geometry_type
from common.geometry.types import Mask
from common.supervisely_io.figures import figures, figures_by_id
from common.supervisely_io.progress import ProgressChannel
from common.supervisely_io.projects import project
from common.supervisely_io.records import FigureRecord, NewFigure, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.supervisely_io.writer import Confirmed, FigureWriter
from common.tracking.interpolation import Between

_FIRST_REACH = 256
_OUTLINE = 1.0
"""Pixels that an outline may be simplified by, when a polygon is carried by its area."""


@dataclass(frozen=True)
class Gap:
    """Two labelled frames of an object with frames between them."""

    object_id: int
    first: int
    last: int


def fill_gaps(
    server: Server,
    video_id: int,
    figure_ids: Sequence[int],
    track_id: str,
    session_id: str | None,
    stop: threading.Event,
) -> None:
    """Fills the gaps on both sides of each figure; tells the annotation tool how it goes and how it ended."""
    channel = ProgressChannel(server, track_id, video_id, 1, session_id=session_id, stop=stop)
    error: str | None = None
    try:
        record = video(server, video_id)
        loader = Loader(server, record, project(server, record.project_id), channel.warn)
        known = figures_by_id(server, record.dataset_id, figure_ids, geometry=False)
        chosen = [figure for figure in known.values() if figure.video_id in (0, video_id)]
        if not chosen:
            raise UserError(messages.NOTHING_TO_INTERPOLATE)
        found, alone = gaps_around(server, record, chosen)
        if alone:
            channel.warn(messages.no_destination(alone))
        channel.extend(sum(gap.last - gap.first - 1 for gap in found) - 1)
        _write(server.to(stop=stop), record, loader, found, track_id, channel, stop)
    except UserError as failure:
        error = str(failure)
    finally:
        channel.finish(error)


def gaps_around(server: Server, record: VideoRecord, chosen: Sequence[FigureRecord]) -> tuple[list[Gap], int]:
    """The gaps next to these figures, each once, and how many figures have no other on either side."""
    found: dict[Gap, None] = {}
    alone = 0
    for figure in chosen:
        before = nearest(server, record, figure.object_id, figure.frame, -1)
        after = nearest(server, record, figure.object_id, figure.frame, +1)
        alone += before is None and after is None
        if before is not None and figure.frame - before > 1:
            found[Gap(figure.object_id, before, figure.frame)] = None
        if after is not None and after - figure.frame > 1:
            found[Gap(figure.object_id, figure.frame, after)] = None
    return list(found), alone


def nearest(server: Server, record: VideoRecord, object_id: int, frame: int, step: int) -> int | None:
    """The frame nearest to `frame`, on that side, where the object has a figure. The search widens as it goes, so that a
    near one costs little and a far one is found."""
    reach, at = _FIRST_REACH, frame
    while 0 <= at + step < record.frames:
        far = min(max(at + step * reach, 0), record.frames - 1)
        span = (min(at + step, far), max(at + step, far))
        frames = [f.frame for f in figures(server, record, [object_id], span, geometry=False)]
        if frames:
            return min(frames, key=lambda f: abs(f - frame))
        at, reach = far, reach * 4
    return None


def _write(
    server: Server,
    record: VideoRecord,
    loader: Loader,
    gaps: Sequence[Gap],
    track_id: str,
    channel: ProgressChannel,
    stop: threading.Event,
) -> None:
    def confirmed(done: Confirmed) -> None:
        channel.advance(done.frame, 1)

    with FigureWriter(server.to(stop=threading.Event()), record, on_confirmed=confirmed) as writer:
        for gap in gaps:
            ends = [loader.any_on([gap.object_id], at)[gap.object_id][at] for at in (gap.first, gap.last)]
            for frame, made in between(gap, ends[0], ends[1], track_id, (record.width, record.height), channel.warn):
                if stop.is_set():
                    break
                writer.put(frame, made, [gap.object_id])
        writer.flush()
        if writer.report.refused:
            channel.warn(messages.upload_failed(writer.report.refusals[0]))


def between(
    gap: Gap,
    first: Sequence[Seed],
    last: Sequence[Seed],
    track_id: str,
    size: tuple[int, int],
    warn: Callable[[str], None],
) -> Iterator[tuple[int, list[NewFigure]]]:
    """The figures of every frame strictly between two labelled ones. Figures of one object on one frame are taken in their
    order. size: width, height."""
    pairs: list[tuple[int, Value, Callable[[float], list[Value]]]] = []
    for a, b in zip(first, last, strict=False):
        try:
            pairs.append((a.figure_id, a.value, way(a.value, b.value, size)))
        except ValueError:
            kinds = geometry_type(a.value), geometry_type(b.value)
            warn(messages.DIFFERENT_POINTS if kinds[0] == kinds[1] else messages.cannot_interpolate(*kinds))
    if not pairs:
        return
    for frame in range(gap.first + 1, gap.last):
        t = (frame - gap.first) / (gap.last - gap.first)
        seen: dict[int, Sighting] = {}
        sources: dict[int, int] = {}
        for source, _, at in pairs:
            for value in at(t):
                sources[len(seen)] = source
                seen[len(seen)] = Sighting(value)
        yield frame, figures_of(seen, gap.object_id, frame, track_id, size, sources, hide=False)


def way(a: Value, b: Value, size: tuple[int, int]) -> Callable[[float], list[Value]]:
    """From one drawn value to another: the values at t, 0..1. Polygons of unlike outlines are carried by their area, which
    may give several. ValueError when the two have nothing between them."""
    if geometry_type(a) != geometry_type(b):
        raise ValueError("values of different kinds")
    if isinstance(a, Polygon) and isinstance(b, Polygon) and [len(r) for r in a.rings] != [len(r) for r in b.rings]:
        areas = Between(fill(a, *size), fill(b, *size))

        def outlines(t: float) -> list[Value]:
            mask = areas(t)
            assert isinstance(mask, Mask)
            return [*contours(mask, _OUTLINE, 4)]

        return outlines
    if isinstance(a, Polyline) and isinstance(b, Polyline) and len(a.xy) != len(b.xy):
        raise ValueError("lines of different numbers of points")
    path = Between(to_geometry(a), to_geometry(b))

    def one(t: float) -> list[Value]:
        value = value_of(path(t), a)
        return [] if value is None else [value]

    return one
