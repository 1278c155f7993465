"""Figures for the tests of the writer, and what is on the server afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.supervisely_io.records import FigureRecord, NewFigure, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.writer import Confirmed, FigureWriter, Mode, WriteReport
from tests.apps.workbench.harness import Served, rectangle
from tests.common.supervisely_io.conftest import QUICK

FRAMES = 12
TRACK = "7d3e6c0e-0000-4000-8000-000000000001"


def new(object_id: int, frame: int, left: int = 5, track: str = TRACK, **more: object) -> NewFigure:
    return NewFigure(object_id, frame, "rectangle", rectangle(left=left), track, **more)  # type: ignore[arg-type]


def drawn(served: Served, record: VideoRecord, object_id: int, frame: int, **more: object) -> int:
    """A figure that a person drew (or, with a trackId, that some tracker wrote)."""
    body = {"objectId": object_id, "geometryType": "rectangle", "geometry": rectangle(), "meta": {"frame": frame}}
    reply = served.call("figures.bulk.add", {"entityId": record.id, "figures": [body | more]})
    return int(reply.json()[0]["id"])


def write(
    server: Server, record: VideoRecord, objects: Sequence[int], mode: Mode = "replace", left: int = 5
) -> tuple[WriteReport, list[Confirmed]]:
    confirmed: list[Confirmed] = []
    with FigureWriter(server, record, mode=mode, on_confirmed=confirmed.append, retry=QUICK) as writer:
        for frame in range(1, FRAMES):
            writer.put(frame, [new(ident, frame, left, source_figure_id=77) for ident in objects])
        assert writer.flush(20)
        return writer.close(), confirmed


def places(found: Sequence[FigureRecord]) -> Counter[tuple[int, int]]:
    return Counter((f.object_id, f.frame) for f in found)


def all_once(objects: Sequence[int]) -> Counter[tuple[int, int]]:
    return Counter((ident, frame) for ident in objects for frame in range(1, FRAMES))
