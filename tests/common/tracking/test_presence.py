"""Presence: exact counts, hysteresis, and a reason in words when a track ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.geometry.types import Box, Mask, Points
from common.tracking.contract import Prediction
from common.tracking.presence import Presence, PresenceSettings, State
from common.tracking.snapshot import pack, unpack

WIDTH, HEIGHT = 200, 100
MIDDLE = Box(np.array([80, 40, 120, 60]))


def seen(geometry: Box | Mask | Points | None = MIDDLE, score: float = 0.9, visible: bool = True) -> Prediction:
    return Prediction("car", geometry, score, visible)


LOST = Prediction("car", None, 0.0, False)
POOR = seen(score=0.05)
HIDDEN = seen(visible=False, score=0.9)


def states(predictions: list[Prediction], settings: PresenceSettings | None = None) -> str:
    """p present and drawn, q present but not drawn, o occluded, g gone."""
    presence = Presence(WIDTH, HEIGHT, settings)
    letters = ""
    for p in predictions:
        d = presence.update(p)
        letters += {State.PRESENT: "p" if d.draw else "q", State.OCCLUDED: "o", State.GONE: "g"}[d.state]
        assert d.draw <= (d.state is State.PRESENT and p.geometry is not None)
        assert (d.reason == "") == d.draw
    return letters


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([seen()] * 5, "ppppp"),
        ([seen(), POOR, POOR, seen(), POOR, POOR, seen()], "ppppppp"),  # brief dips do not flicker
        ([seen(), POOR, POOR, POOR, POOR, seen(), seen(), seen()], "pppoo" + "opp"),
        ([seen(), HIDDEN, HIDDEN, HIDDEN, seen(), seen()], "pppoop"),
        ([seen(), LOST, LOST, LOST, LOST, seen(), seen()], "pqqooop"),  # nothing to draw while lost
        ([seen(), POOR, POOR, POOR, *[seen(score=0.3)] * 4, seen(score=0.5), seen(score=0.5)], "pppo" + "oooo" + "op"),
        ([seen(score=0.3)] * 6, "pppppp"),  # between low and high: stays what it was
        ([seen()] + [POOR] * 60, "ppp" + "o" * 58),  # never gives up in the middle of the picture
    ],
)
def test_dips_and_returns(predictions: list[Prediction], expected: str) -> None:
    assert states(predictions) == expected


def moving(step: float, frames: int) -> list[Prediction]:
    return [seen(Box(np.array([100 + step * n, 40, 140 + step * n, 60]))) for n in range(frames)]


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_leaving_ends_the_track_after_exactly_as_many_frames_as_asked(frames: int) -> None:
    options = PresenceSettings(leave_after=frames, hide_after=3)
    got = states(moving(10, 30), options)
    # Less than 15 % inside: x1 > 200 - 6, first at n = 10.
    assert got.index("g") == 10 + frames - 1
    assert "o" not in got[:10]
    presence = Presence(WIDTH, HEIGHT, options)
    decisions = [presence.update(p) for p in moving(10, 30)]
    end = decisions[10 + frames - 1]
    assert end.reason == "left the picture on the right"
    assert end.since == frames - 1
    assert not any(d.draw for d in decisions[10:])
    assert {d.reason for d in decisions[10 + frames - 1 :]} == {end.reason}


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 40, 30, 60), "left the picture on the left"),
        ((80, 0, 120, 20), "left the picture at the top"),
        ((80, 90, 120, 100), "left the picture at the bottom"),
    ],
)
def test_lost_at_the_edge_is_gone(box: tuple[float, ...], words: str) -> None:
    presence = Presence(WIDTH, HEIGHT)
    presence.update(seen(Box(np.array(box))))
    decisions = [presence.update(LOST) for _ in range(8)]
    assert [d.state for d in decisions[:7]] == [State.PRESENT] * 2 + [State.OCCLUDED] * 5
    assert decisions[7].state is State.GONE
    assert decisions[7].reason == words
    assert presence.update(seen()).state is State.GONE  # until it is drawn again
    presence.restart()
    assert presence.update(seen()).draw


def test_an_object_at_rest_on_the_edge_stays() -> None:
    assert states([seen(Box(np.array([0, 40, 30, 60])))] * 50) == "p" * 50


def test_dipping_out_and_back() -> None:
    path = [10, 10, 5, 0, *[LOST] * 5, 0, 5, 10]
    frames = [p if isinstance(p, Prediction) else seen(Box(np.array([p - 5, 40, p + 25, 60]))) for p in path]
    assert states(frames) == "pppp" + "qqooo" + "opp"


def sized(side: float, score: float = 0.9) -> Prediction:
    return seen(Box(np.array([100 - side / 2, 50 - side / 2, 100 + side / 2, 50 + side / 2])), score)


def test_sudden_shrinking_hides_after_exactly_hide_after_frames() -> None:
    got = states([sized(40)] * 20 + [sized(10)] * 8 + [sized(40)] * 3, PresenceSettings(hide_after=5))
    assert got == "p" * 20 + "pppp" + "oooo" + "opp"


def test_slow_shrinking_is_distance_not_disappearance() -> None:
    assert set(states([sized(90 * 0.985**n) for n in range(280)])) == {"p"}


def test_one_wild_size_does_not_move_the_usual_one() -> None:
    assert set(states([sized(30)] * 5 + [sized(95)] + [sized(30)] * 20 + [sized(95)] * 2 + [sized(30)] * 20)) == {"p"}


def test_giving_up() -> None:
    got = states([seen()] + [LOST] * 12, PresenceSettings(give_up_after=10))
    assert got == "p" + "qq" + "o" * 7 + "ggg"


def test_masks_and_points() -> None:
    empty = Mask.from_array(np.zeros((HEIGHT, WIDTH)))
    assert states([seen(empty)] * 4)[-1] in "og"
    leaving = [seen(Points(np.array([[180 + 9 * n, 50], [190 + 9 * n, 55]]))) for n in range(20)]
    assert states(leaving)[-1] == "g"
    one = [seen(Points(np.array([[100, 50]]), np.array([n % 20 < 10]))) for n in range(40)]
    assert states(one) == "p" * 40


def test_an_empty_mask_is_not_drawn() -> None:
    empty = Mask.from_array(np.zeros((HEIGHT, WIDTH)))
    assert not Presence(WIDTH, HEIGHT).update(seen(empty)).draw


event = st.one_of(
    st.just(LOST), st.just(POOR), st.just(HIDDEN), st.just(seen()), st.just(seen(score=0.3)), st.just(sized(4)),
    st.builds(lambda x: seen(Box(np.array([x, 40, x + 30, 60]))), st.integers(-60, 230)),
)  # fmt: skip


@given(st.lists(event, max_size=60), st.integers(0, 60))
@settings(max_examples=80, deadline=None)
def test_saved_and_loaded_goes_on_the_same(predictions: list[Prediction], cut: int) -> None:
    whole, first = Presence(WIDTH, HEIGHT), Presence(WIDTH, HEIGHT)
    expected = [whole.update(p) for p in predictions]
    got = [first.update(p) for p in predictions[:cut]]
    second = Presence.load(unpack(pack(first.save())))
    got += [second.update(p) for p in predictions[cut:]]
    assert got == expected


@given(st.lists(event, max_size=80))
@settings(max_examples=80, deadline=None)
def test_hidden_only_after_enough_frames_in_a_row(predictions: list[Prediction]) -> None:
    """A present object gets hidden only if the last hide_after frames all speak against it."""
    presence = Presence(WIDTH, HEIGHT)
    before = State.PRESENT
    good = seen()
    run = 0
    for p in predictions:
        state = presence.update(p).state
        run = 0 if p == good else run + 1
        if before is State.PRESENT and state is not State.PRESENT:
            assert run >= 3
        before = state


def test_seconds_follow_the_frame_rate() -> None:
    assert PresenceSettings.for_fps(25) == PresenceSettings()
    assert PresenceSettings.for_fps(0) == PresenceSettings()
    assert PresenceSettings.for_fps(100).hide_after == 12
    assert PresenceSettings.for_fps(2).hide_after == 1
    assert PresenceSettings.for_fps(30, give_up_after_s=10).give_up_after == 300


@pytest.mark.parametrize("bad", [{"low": 0.5, "high": 0.4}, {"hide_after": 0}, {"shrunk": 1.0}, {"give_up_after": 0}])
def test_settings_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        PresenceSettings(**bad)  # type: ignore[arg-type]
