"""What a person draws, corrects or removes while figures are written stays as the person left it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter

import httpx
import pytest

from common.supervisely_io.figures import figure, figures
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.writer import Confirmed, FigureWriter, WriteReport
from tests.apps.workbench.harness import Served, rectangle
from tests.common.supervisely_io.conftest import Arm, Wire
from tests.common.supervisely_io.writing import FRAMES, drawn, new, places


def test_what_a_person_changed_meanwhile_is_protected(server: Server, record: VideoRecord, objects: list[int]) -> None:
    a, b, _ = objects
    with FigureWriter(server, record) as writer:
        writer.put(2, [new(a, 2), new(b, 2)], made_at=1)
        writer.flush()
        writer.protect(a, (3, 5), since=2)
        for frame in range(2, 8):
            writer.put(frame, [new(a, frame), new(b, frame)], made_at=1)
        writer.put(8, [new(a, 8)], made_at=1)
        writer.flush()
        writer.put(4, [new(a, 4)], made_at=2)  # made with the change in view
    found = places(list(figures(server, record)))
    assert {frame for ident, frame in found if ident == a} == {2, 4, 6, 7, 8}
    assert {frame for ident, frame in found if ident == b} == set(range(2, 8))
    assert set(found.values()) == {1}
    assert writer.report.outdated == 3


def test_protection_during_the_request_takes_figures_back(
    server: Server, record: VideoRecord, objects: list[int], wire: Wire
) -> None:
    def edit(method: str, _: httpx.Request) -> None:
        if method == "figures.bulk.add":
            writer.protect(objects[0], (0, 3), since=5)

    wire.after = edit
    confirmed: list[Confirmed] = []
    with FigureWriter(server, record, on_confirmed=confirmed.append) as writer:
        writer.put(2, [new(objects[0], 2), new(objects[1], 2)], made_at=4)
    assert places(list(figures(server, record))) == Counter([(objects[1], 2)])
    assert (writer.report.outdated, writer.report.written) == (1, 1)
    assert confirmed == [Confirmed(2, tuple(objects[:2]), {objects[1]: 1})]


def test_one_list_serves_many_writes(server: Server, record: VideoRecord, objects: list[int], wire: Wire) -> None:
    expected = (objects, 1, FRAMES)
    with FigureWriter(server, record, pace_s=0.0, fresh_s=60, expected=expected) as writer:
        for frame in range(1, FRAMES):
            before = writer.report.written
            writer.put(frame, [new(ident, frame) for ident in objects])
            while writer.report.written == before:
                time.sleep(0.005)
        assert (wire.calls["figures.bulk.add"], wire.calls["figures.list"]) == (FRAMES - 1, 1)
    # and one behind them
    assert wire.calls["figures.list"] == 2
    assert writer.report == WriteReport(written=3 * (FRAMES - 1))


@pytest.mark.parametrize("how", ["drawn", "corrected"])
def test_a_person_who_was_quicker_than_the_list_keeps_the_place(
    server: Server, served: Served, record: VideoRecord, objects: list[int], wire: Wire, how: str
) -> None:
    """The list is older than what the person did: the figure that was written meanwhile goes, and nobody need tell."""
    a, b, _ = objects
    old = drawn(served, record, a, 3, trackId="t", nnCreated=True, nnUpdated=True)
    people: list[int] = []
    yielded: list[tuple[int, int]] = []

    def edit(method: str, _: httpx.Request) -> None:
        if method == "figures.list" and not people:
            if how == "drawn":
                people.append(drawn(served, record, a, 2))
            else:
                assert served.call("figures.editInfo", {"id": old, "geometry": rectangle(), "trackId": None}).ok
                people.append(old)

    wire.after = edit
    place = (a, 2 if how == "drawn" else 3)
    with FigureWriter(server, record, on_yielded=lambda *where: yielded.append(where)) as writer:
        for frame in (1, 2, 3):
            writer.put(frame, [new(a, frame), new(b, frame)])
        assert writer.flush(20)
        found = list(figures(server, record))
    assert places(found) == Counter((ident, frame) for ident in (a, b) for frame in (1, 2, 3))
    assert [f.id for f in found if (f.object_id, f.frame) == place] == people
    assert yielded == [place]
    assert (writer.report.written, writer.report.kept) == (5, 1)


@pytest.mark.parametrize("how", ["stop", "exception"])
def test_what_was_written_beside_a_persons_figure_goes_when_the_writer_is_dropped(
    server: Server, served: Served, record: VideoRecord, objects: list[int], how: str
) -> None:
    ident = objects[0]
    stop = threading.Event()

    def job() -> None:
        with FigureWriter(server, record, pace_s=0.0, fresh_s=60, stop=stop) as writer:
            for frame in (1, 2):
                writer.put(frame, [new(ident, frame)])  # the first list shows frame 2 too
                while writer.report.written < frame:
                    time.sleep(0.005)
                if frame == 1:
                    people.append(drawn(served, record, ident, 2))
            assert len(list(figures(server, record))) == 3
            if how == "exception":
                raise ZeroDivisionError
            stop.set()

    people: list[int] = []
    with contextlib.suppress(ZeroDivisionError):
        job()
    assert [f.id for f in figures(server, record) if f.frame == 2] == people
    assert {f.frame for f in figures(server, record)} == {1, 2}


def test_a_failed_first_look_ends_nothing(
    server: Server, record: VideoRecord, objects: list[int], arm: Arm, wire: Wire
) -> None:
    arm("figures.list", status=404)
    with FigureWriter(server, record, expected=(objects, 1, FRAMES)) as writer:
        while not wire.calls.get("figures.list"):
            time.sleep(0.005)
        writer.put(1, [new(objects[0], 1)])
    assert writer.report == WriteReport(written=1)


def test_where_a_person_removed_a_figure_since_the_list_ours_is_written(
    server: Server, served: Served, record: VideoRecord, objects: list[int]
) -> None:
    theirs = drawn(served, record, objects[0], 3)
    with FigureWriter(server, record, pace_s=0.0) as writer:
        writer.put(2, [new(objects[0], 2)])  # the list that it is written by shows frame 3 too
        while not writer.report.written:
            time.sleep(0.005)
        assert served.call("figures.bulk.remove", {"figureIds": [theirs]}).ok
        writer.put(3, [new(objects[0], 3)])
    assert {f.frame for f in figures(server, record)} == {2, 3}
    assert writer.report == WriteReport(written=2)


def test_who_corrects_a_figure_just_written_keeps_the_correction(
    server: Server, served: Served, record: VideoRecord, objects: list[int]
) -> None:
    with FigureWriter(server, record) as writer:
        writer.put(2, [new(objects[0], 2)])
        while not writer.report.written:
            time.sleep(0.005)
        [mine] = list(figures(server, record))
        corrected = {"id": mine.id, "geometry": rectangle(left=11), "nnUpdated": False}
        assert served.call("figures.editInfo", corrected).ok
        assert figure(server, mine.id).by_person
        assert writer.flush(20)
    assert [f.id for f in figures(server, record)] == [mine.id]


def test_an_edit_between_reading_and_removing_wins(
    server: Server, served: Served, record: VideoRecord, objects: list[int], wire: Wire
) -> None:
    old = drawn(served, record, objects[0], 2, trackId="t", nnCreated=True, nnUpdated=True)

    def edit(method: str, _: httpx.Request) -> None:
        if method == "figures.bulk.add":
            assert served.call("figures.editInfo", {"id": old, "geometry": rectangle(), "trackId": None}).ok

    wire.after = edit
    with FigureWriter(server, record) as writer:
        writer.put(2, [new(objects[0], 2)])
    assert old in {f.id for f in figures(server, record)}
    assert writer.report.replaced == 0
