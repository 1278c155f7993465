"""Timelines: which tracklets there are, and what every change makes of what was done. No server, no pictures."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.auto_track.ranges import common, subtract, union, within
from apps.auto_track.timeline import Change, Done, Key, Slot, Timeline

TOTAL = 100


def key(name: str = "a", figures: int = 1) -> Key:
    return Key(name, figures)


def line(keys: Iterable[int] = (0,), forward=((0, 20),), **more) -> Timeline:
    return Timeline(7, TOTAL, {frame: key(f"k{frame}") for frame in keys}, forward=tuple(forward), **more)


def spans(timeline: Timeline) -> list[tuple[int, int, int | None]]:
    """(start, end, facing) of every tracklet."""
    return [(t.slot.start, t.end, t.facing) for t in timeline.tracklets()]


@pytest.mark.parametrize(
    ("timeline", "expected"),
    [
        (line(), [(0, 20, None)]),
        (line([5]), [(5, 20, None)]),  # nothing is drawn before it, and nobody asked for backward
        (line([0, 10]), [(0, 9, 10), (10, 20, None), (10, 1, 0)]),
        (line([0, 1, 2]), [(2, 20, None)]),  # neighbours leave nothing between them
        (line([], forward=[(0, 20)]), []),
        (line([30]), []),  # a key figure that nobody asked about
        (line([20], forward=[], backward=((10, 20),)), [(20, 10, None)]),
        (line([15], forward=[(15, 18)], backward=((12, 15),)), [(15, 18, None), (15, 12, None)]),
        (line(absent=((8, 10),)), [(0, 7, None)]),
        (line([0, 15], absent=((8, 10),)), [(0, 7, None), (15, 20, None), (15, 11, None)]),
        (line(removed=((5, 50),)), [(0, 4, None)]),
        (line([0, 9], absent=((9, 12),)), [(0, 8, None)]),  # a key figure where the object is said to be away
        (line(forward=[(0, 500)]), [(0, TOTAL - 1, None)]),
        (line([0, 40], forward=[(0, 20), (40, 50)]), [(0, 20, None), (40, 50, None)]),
        (line([0], forward=[(0, 20), (21, 30)]), [(0, 30, None)]),
        (line(absent=((0, TOTAL - 1),)), []),
    ],
)
def test_tracklets_follow_from_what_people_say(timeline, expected):
    assert spans(timeline) == expected


def finished(timeline: Timeline, until: dict[tuple[int, int], int] | None = None) -> Timeline:
    """The timeline with all tracklets done, or done up to a frame."""
    for tracklet in timeline.tracklets():
        last = (until or {}).get((tracklet.slot.start, tracklet.slot.step), tracklet.end)
        timeline = timeline.advanced(tracklet, last)
    return timeline


def left(timeline: Timeline) -> list[tuple[int, int, int]]:
    """(start, next frame, end) of everything still to do."""
    return [(t.slot.start, frame, t.end) for t, frame in timeline.todo()]


CHANGES = {
    "a correction splits a tracklet; the frames before it get a second side": (
        finished(line()),
        lambda t: t.key_changed(8, key("new")),
        [(8, 9, 20), (8, 7, 1)],
        ((8, 20),),
        ((8, 8),),
    ),
    "a correction while it runs": (
        finished(line(), {(0, 1): 12}),
        lambda t: t.key_changed(8, key("new")),
        [(8, 9, 20), (8, 7, 1)],
        ((8, 12),),
        ((8, 8),),
    ),
    "an edited first figure starts its tracklet again": (
        finished(line()),
        lambda t: t.key_changed(0, key("edited")),
        [(0, 1, 20)],
        ((0, 20),),
        ((0, 0),),
    ),
    "the same figure again changes nothing": (
        finished(line()),
        lambda t: t.key_changed(0, key("k0")),
        [],
        (),
        (),
    ),
    "a deleted key figure gives its frames back": (
        finished(line([0, 10])),
        lambda t: t.key_changed(10, None),
        [(0, 1, 20)],
        ((1, 9), (11, 20)),
        (),
    ),
    "the only key figure takes its predictions along": (
        finished(line()),
        lambda t: t.key_changed(0, None),
        [],
        ((1, 20),),
        ((1, 20),),
    ),
    "a no-objects tag cuts, and its predictions go": (
        finished(line()),
        lambda t: t.changed(absent=((10, 15),)),
        [],
        ((10, 20),),
        ((10, 20),),
    ),
    "a no-objects tag that is removed lets tracking go on": (
        finished(line(absent=((10, 15),))),
        lambda t: t.changed(absent=()),
        [(0, 10, 20)],
        (),
        (),
    ),
    "a tracklet that starts in a no-objects range goes": (
        finished(line([0, 12])),
        lambda t: t.changed(absent=((12, 14),)),
        [(0, 1, 11)],
        ((1, 20),),
        ((12, 20),),
    ),
    "removed figures stay away": (
        finished(line()),
        lambda t: t.figures_removed((5, 8)),
        [],
        ((5, 20),),
        ((5, 20),),
    ),
    "continue extends": (
        finished(line()),
        lambda t: t.asked(20, 15, "forward", t.keys),
        [(0, 21, 35)],
        (),
        (),
    ),
    "continue within what was asked for already": (
        finished(line()),
        lambda t: t.asked(10, 5, "forward", t.keys),
        [],
        (),
        (),
    ),
    "continue takes up key figures further on": (
        finished(line()),
        lambda t: t.asked(20, 20, "forward", {**t.keys, 30: key("new")}),
        [(0, 21, 29), (30, 31, 40), (30, 29, 1)],
        ((30, 30),),
        ((30, 30),),
    ),
    "backward from the same figure": (
        finished(line([40], forward=[(40, 60)])),
        lambda t: t.asked(40, 10, "backward", t.keys),
        [(40, 39, 30)],
        (),
        (),
    ),
    "asking again takes removal back": (
        finished(line(removed=((5, 50),))),
        lambda t: t.asked(0, 10, "forward", t.keys),
        [(0, 5, 10)],
        (),
        (),
    ),
    "an edited far side is fused anew": (
        finished(line([0, 10])),
        lambda t: t.key_changed(10, key("edited")),
        [(10, 11, 20), (10, 9, 1)],
        ((1, 20),),
        ((10, 10),),
    ),
    "a figure between two others divides the gap": (
        finished(line([0, 10])),
        lambda t: t.key_changed(5, key("new")),
        [(5, 6, 9), (10, 9, 6), (5, 4, 1)],
        ((1, 9),),
        ((5, 5),),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes(name):
    before, change, todo, stale, clear = CHANGES[name]
    result: Change = change(before)
    assert sorted(left(result.timeline)) == sorted(todo)
    assert (union(result.stale), union(result.clear)) == (stale, clear)


ranges = st.lists(
    st.tuples(st.integers(0, TOTAL - 1), st.integers(0, 12)).map(lambda r: (r[0], min(r[0] + r[1], 99))), max_size=4
)
keys = st.dictionaries(st.integers(0, TOTAL - 1), st.sampled_from("abc").map(key), max_size=6)
timelines = st.builds(
    lambda k, absent, removed, forward, backward: Timeline(
        1, TOTAL, k, union(absent), union(removed), union(forward), union(backward)
    ),
    keys,
    ranges,
    ranges,
    ranges,
    ranges,
)


def frames_of(found) -> set[int]:
    return {f for first, last in found for f in range(first, last + 1)}


@given(timelines)
def test_tracklets_keep_to_the_rules(timeline):
    blocked = frames_of(timeline.absent) | frames_of(timeline.removed)
    wanted = frames_of(timeline.wanted)
    for tracklet in timeline.tracklets():
        covered = frames_of([tracklet.frames])
        assert covered <= wanted - blocked - set(timeline.keys)
        assert tracklet.slot.start in timeline.keys
        assert abs(tracklet.slot.start - (tracklet.slot.start + tracklet.slot.step)) == 1
        if tracklet.facing is not None:
            assert tracklet.end + tracklet.slot.step == tracklet.facing
    for step in (1, -1):
        every = [f for t in timeline.tracklets() if t.slot.step == step for f in frames_of([t.frames])]
        assert len(every) == len(set(every))


@given(timelines, timelines, st.data())
def test_a_change_leaves_nothing_wrong_and_nothing_undone(before, after, data):
    for tracklet in before.tracklets():
        last = data.draw(st.integers(*sorted((tracklet.slot.start + tracklet.slot.step, tracklet.end))))
        before = before.advanced(tracklet, last)
    change = before.changed(
        keys=after.keys, absent=after.absent, removed=after.removed, forward=after.forward, backward=after.backward
    )
    new = change.timeline
    good = {t.slot: t for t in new.tracklets()}
    covered = frames_of(t.frames for t in new.tracklets())
    had = frames_of(_made(slot, done) for slot, done in before.done.items())
    # what is remembered as done belongs to a tracklet, was made from the same figures, and ends within it
    for slot, done in new.done.items():
        assert slot in good
        assert done.digest == good[slot].key.digest
        assert frames_of([_made(slot, done)]) <= frames_of([good[slot].frames])
    # predictions that nothing covers any more are cleared; what is covered is never cleared unless a person drew there
    assert had - covered <= frames_of(change.clear)
    assert not frames_of(change.clear) & covered
    # what must be made again must not be written from before
    remade = {f for t, frame in new.todo() for f in frames_of([tuple(sorted((frame, t.end)))])}
    kept = frames_of(_made(slot, done) for slot, done in new.done.items())
    assert (had & remade) - kept <= frames_of(change.stale)
    # doing it all leaves nothing to do
    assert finished(new).todo() == []


def _made(slot: Slot, done: Done) -> tuple[int, int]:
    first, last = sorted((slot.start + slot.step, done.last))
    return first, last


@given(timelines, st.data())
def test_what_is_written_down_brings_it_back(timeline, data):
    for tracklet in timeline.tracklets():
        last = data.draw(st.integers(*sorted((tracklet.slot.start + tracklet.slot.step, tracklet.end))))
        timeline = timeline.advanced(tracklet, last)
    fresh = Timeline(1, TOTAL, timeline.keys, absent=timeline.absent)
    change = fresh.restored(timeline.to_json())
    assert change.timeline.done == timeline.done
    assert change.timeline.todo() == timeline.todo()
    assert change.clear == ()


@given(ranges, ranges)
def test_ranges_are_sets_of_frames(a, b):
    assert frames_of(union(a, b)) == frames_of(a) | frames_of(b)
    assert frames_of(subtract(a, b)) == frames_of(a) - frames_of(b)
    assert frames_of(common(a, b)) == frames_of(a) & frames_of(b)
    for found in (union(a, b), subtract(a, b)):
        assert all(x[1] + 1 < y[0] for x, y in pairwise(found))
    for frame in range(0, TOTAL, 7):
        assert (within(union(a), frame) is not None) == (frame in frames_of(a))
