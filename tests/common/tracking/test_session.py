"""Sessions and journals: every frame once, any stop, any kill, same rows."""

import random

import numpy as np
import pytest

from common.errors import OutputUnusable
from common.geometry.types import Box, Points
from common.tracking.contract import Prediction, Prompt
from common.tracking.journal import Journal
from common.tracking.live import Tracked
from common.tracking.plan import Direction, KeyFigure, plan
from common.tracking.session import TrackingSession, execute
from tests.common.tracking.toys import DotTracker, DotVideo


def key_figures(**frames: list[int]) -> list[KeyFigure]:
    return [
        KeyFigure(f, Prompt(key, Box(np.array([f % 50, 7, f % 50 + 9, 16])))) for key, at in frames.items() for f in at
    ]


class ListSink:
    def __init__(self) -> None:
        self.rows: list[tuple[int, str]] = []

    def put(self, results, snapshot):
        self.rows += [(r.frame, r.prediction.key) for r in results]


def passes(figures, video, direction="forward", frames=None):
    return plan(
        figures,
        frames_total=video.info.frames,
        direction=Direction(direction),
        engine_of=lambda prompt: "dot",
        frames=frames,
    )


@pytest.mark.parametrize("lookahead", [0, 3, 100])
def test_every_wanted_frame_comes_out_once_whatever_the_tracker_holds_back(lookahead):
    video, sink, tracker = DotVideo(40), ListSink(), DotTracker(lookahead)
    figures = key_figures(a=[0], b=[5, 20])
    for work in passes(figures, video):
        outcome = execute(TrackingSession(work, lambda name: tracker), video, sink)
        assert not outcome.stopped
    assert sorted(sink.rows) == sorted(
        [(f, "a") for f in range(1, 40)]
        + [(f, "b") for f in range(6, 20)] * 2  # from both sides
        + [(f, "b") for f in range(21, 40)]
    )


def test_other_key_figures_reach_the_tracker_as_exemplars():
    video, tracker = DotVideo(40), DotTracker()
    for work in passes(key_figures(a=[0, 10, 20]), video):
        execute(TrackingSession(work, lambda name: tracker), video, ListSink())
    assert tracker.exemplars == [2, 2, 2, 2, 2]  # three starts forward, two backward


def test_stops_before_the_next_frame():
    video, sink = DotVideo(100), ListSink()
    (work,) = passes(key_figures(a=[0]), video)
    outcome = execute(
        TrackingSession(work, lambda name: DotTracker()), video, sink, stop_requested=lambda: len(sink.rows) == 7
    )
    assert outcome.stopped
    assert sink.rows[-1] == (7, "a")


@pytest.mark.parametrize("lookahead", [0, 3])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ([30], "frame 30 cannot be read"),
        ([0, 59], "cannot be read"),  # where legs end
        ([30, 31, 32], "cannot be read 2 more cannot be had."),
        (range(31, 60), "28 more"),
    ],
)
def test_frames_that_cannot_be_read_are_left_out_and_the_rest_is_tracked(broken, says, direction, lookahead):
    video, sink = DotVideo(60, broken), ListSink()
    start = 1 if direction == "forward" else 29
    (work,) = passes(key_figures(a=[start]), video, direction)
    outcome = execute(TrackingSession(work, lambda name: DotTracker(lookahead)), video, sink)
    way = range(start + 1, 60) if direction == "forward" else range(start - 1, -1, -1)
    if met := set(way) & set(broken):
        assert outcome.damage is not None
        assert says in outcome.damage or len(met) < len(broken)
    assert not outcome.stopped
    assert sink.rows == [(f, "a") for f in way if f not in broken]


def test_a_leg_that_starts_on_a_broken_frame_costs_only_itself():
    video, sink, tracker = DotVideo(40, [10]), ListSink(), DotTracker()
    for work in passes(key_figures(a=[0], b=[10], c=[0, 10, 20], d=[15]), video):
        execute(TrackingSession(work, lambda name: tracker), video, sink)
    after = {key: [f for f, k in sink.rows if k == key and f > 20] for key in "abcd"}
    assert after == {"a": [*range(21, 40)], "b": [], "c": [*range(21, 40)], "d": [*range(21, 40)]}
    assert 10 not in {f for f, _ in sink.rows}
    assert {f for f, k in sink.rows if k == "c"} >= {*range(1, 10), *range(11, 20)}


def test_frames_between_stretches_are_not_decoded():
    video = DotVideo(2000)
    (work,) = passes(key_figures(a=[0], b=[1900]), video, frames=5)
    session = TrackingSession(work, lambda name: DotTracker())
    assert session.frames_total == 12
    execute(session, video, ListSink())
    assert session.frames_done == 12
    assert video.served == 12


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("lookahead", [0, 4])
def test_killed_anywhere_and_resumed_gives_the_rows_of_an_uninterrupted_run(tmp_path, direction, lookahead):
    video, figures = DotVideo(60), key_figures(a=[20], b=[10, 45])

    def work_until(path, give_up):
        """Runs the job; `give_up()` true = the process dies there, without any farewell."""
        with Journal(path, "job", figures) as journal:
            for work in passes(figures, video, direction):
                if journal.is_done(work.step):
                    continue
                session = TrackingSession(work, lambda name: DotTracker(lookahead))
                if (snapshot := journal.snapshot(work.step)) is not None:
                    session.restore(snapshot)
                sink = journal.sink(work.step)
                dice = random.Random(7)

                class Saving:
                    def put(self, results, snapshot, sink=sink, dice=dice):
                        sink.put(results, snapshot)
                        if dice.random() < 0.2:
                            sink.save(snapshot)

                if execute(session, video, Saving(), stop_requested=give_up).stopped:
                    return None
                sink.save(session.save)
                journal.finish(work.step)
            return list(journal.results())

    expected = work_until(tmp_path / "whole.sqlite", lambda: False)
    assert expected
    dice = random.Random(3)
    kills = 0
    while (killed := work_until(tmp_path / "killed.sqlite", lambda: dice.random() < 0.08)) is None:
        kills += 1
    assert kills > 2
    assert killed == expected


def test_a_journal_of_another_job_is_not_continued(tmp_path):
    path, video = tmp_path / "j.sqlite", DotVideo(9)
    figures = key_figures(a=[0])
    with Journal(path, "one job", figures) as journal:
        (work,) = passes(figures, video)
        session, sink = TrackingSession(work, lambda name: DotTracker()), journal.sink(1)
        execute(session, video, sink)
        sink.save(session.save)
        assert journal.count() == 9
    with Journal(path, "another job", figures) as journal:
        assert not journal.resumed
        assert journal.count() == 1  # the key figure


def test_a_journal_that_is_no_database_is_replaced(tmp_path):
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"garbage" * 1000)
    with Journal(path, "job", key_figures(a=[0])) as journal:
        assert not journal.resumed


def test_between_two_key_figures_both_sides_are_fused(tmp_path):
    video, figures = DotVideo(30), key_figures(a=[0, 20])
    with Journal(tmp_path / "j.sqlite", "job", figures) as journal:
        for work in passes(figures, video, frames=1):
            session, sink = TrackingSession(work, lambda name: DotTracker()), journal.sink(work.step)
            execute(session, video, sink)
            sink.save(session.save)
        rows = [row for frame in journal.results() for row in frame]
    assert [row.frame for row in rows] == list(range(22))
    assert [row.frame for row in rows if row.labelled] == [0, 20]
    for row in rows:
        np.testing.assert_allclose(row.prediction.geometry.xyxy[0], row.frame, atol=1e-4)


@pytest.mark.parametrize(("later", "fits"), [(3, True), (5, False)])
def test_key_figures_with_other_numbers_of_points_meet_in_the_middle(tmp_path, later, fits):
    def points(count: int, x: float) -> Points:
        return Points(np.column_stack((np.full(count, x), np.arange(count))))

    figures = [KeyFigure(0, Prompt("a", points(3, 0))), KeyFigure(10, Prompt("a", points(later, 0)))]
    with Journal(tmp_path / "j.sqlite", "job", figures) as journal:
        for step, count, x in ((1, 3, 0.0), (-1, later, 1.0)):
            sink = journal.sink(step)
            sink.put([Tracked(f, Prediction("a", points(count, x), 0.9, True)) for f in range(1, 10)], lambda: b"")
        counts = [len(row.prediction.geometry.xy) for (row,) in journal.results()]
        blended = [float(row.prediction.geometry.xy[0, 0]) not in (0, 1) for (row,) in journal.results()]
    assert counts == [3] * 5 + [later] * 6
    assert any(blended) == fits


def test_two_runs_do_not_write_one_journal(tmp_path):
    figures = key_figures(a=[0])
    with Journal(tmp_path / "j.sqlite", "job", figures):
        for job in ("job", "another"):
            with pytest.raises(OutputUnusable, match="another run"):
                Journal(tmp_path / "j.sqlite", job, figures)
    with Journal(tmp_path / "j.sqlite", "job", figures) as journal:
        assert journal.resumed
