"""Plans as tables: key figures in, legs and streamed stretches out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.geometry.types import Box
from common.tracking.contract import Prompt
from common.tracking.plan import MAX_EXEMPLARS, Direction, KeyFigure, Pass, plan

BOX = Box(np.array([1, 1, 5, 5]))


def figures(**frames: list[int]) -> list[KeyFigure]:
    return [KeyFigure(frame, Prompt(key, BOX)) for key, labelled in frames.items() for frame in labelled]


def make(key_figures: list[KeyFigure], direction: str, total: int = 100, frames: int | None = None) -> list[Pass]:
    return plan(
        key_figures, frames_total=total, direction=Direction(direction), engine_of=lambda prompt: "t", frames=frames
    )


def summary(passes: list[Pass]) -> dict[int, list[tuple[int, dict[str, int]]]]:
    return {work.step: [(leg.start, dict(leg.ends)) for leg in work.legs] for work in passes}


@pytest.mark.parametrize(
    ("key_figures", "direction", "frames", "expected"),
    [
        pytest.param(figures(a=[10]), "forward", None, {1: [(10, {"a": 99})]}, id="to the end"),
        pytest.param(figures(a=[10]), "backward", None, {-1: [(10, {"a": 0})]}, id="to the start"),
        pytest.param(figures(a=[10]), "both", 5, {1: [(10, {"a": 15})], -1: [(10, {"a": 5})]}, id="N frames both ways"),
        pytest.param(figures(a=[98]), "forward", 5, {1: [(98, {"a": 99})]}, id="N is cut at the end"),
        pytest.param(figures(a=[99]), "forward", None, {}, id="nothing after the last frame"),
        pytest.param(figures(a=[0]), "backward", None, {}, id="nothing before the first"),
        pytest.param(
            figures(a=[10, 20]),
            "forward",
            3,
            {1: [(10, {"a": 19}), (20, {"a": 23})], -1: [(20, {"a": 11})]},
            id="between two key figures from both sides",
        ),
        pytest.param(figures(a=[10, 11]), "backward", 2, {-1: [(10, {"a": 8})]}, id="neighbours leave no gap"),
        pytest.param(
            figures(a=[0], b=[0, 50]),
            "forward",
            None,
            {1: [(0, {"a": 99, "b": 49}), (50, {"b": 99})], -1: [(50, {"b": 1})]},
            id="objects that start together share a leg",
        ),
    ],
)
def test_legs(key_figures, direction, frames, expected):
    assert summary(make(key_figures, direction, frames=frames)) == expected


def test_streams_only_the_stretches_that_have_legs():
    (work,) = make(figures(a=[0], b=[3], c=[50]), "forward", frames=5)
    assert work.intervals() == [(0, 8), (50, 55)]
    (work,) = make(figures(a=[10], b=[8], c=[50]), "backward", frames=5)
    assert work.intervals() == [(50, 45), (10, 3)]


def test_geometries_of_different_trackers_do_not_share_a_leg():
    passes = plan(
        figures(a=[0], b=[0]), frames_total=9, direction=Direction.FORWARD, engine_of=lambda prompt: prompt.key.upper()
    )
    assert [(leg.engine, list(leg.ends)) for leg in passes[0].legs] == [("A", ["a"]), ("B", ["b"])]


def test_exemplars_are_the_nearest_other_key_figures_and_bounded():
    (work, _) = make(figures(a=[0, 10, 20, 30, 40, 50, 60]), "forward")
    middle = next(leg for leg in work.legs if leg.start == 30)
    assert len(middle.exemplars) == MAX_EXEMPLARS
    assert [frame for frame, _ in middle.exemplars] == [20, 40, 10, 50]


@pytest.mark.parametrize("key_figures", [figures(a=[100]), figures(a=[3, 3])])
def test_refuses(key_figures):
    with pytest.raises(ValueError, match="key figure"):
        make(key_figures, "forward")


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.lists(st.integers(0, 39), min_size=1, max_size=5, unique=True), min_size=1
    ),
    st.sampled_from(["forward", "backward", "both"]),
)
def test_every_wanted_frame_is_covered_exactly(labelled, direction):
    """Outside the key figures once, in gaps once from either side, on key figures never."""
    passes = make(figures(**labelled), direction, total=40)
    for key, own in labelled.items():
        covered = {step: [0] * 40 for step in (1, -1)}
        for work in passes:
            for leg in work.legs:
                if key in leg.ends:
                    for frame in range(leg.start + leg.step, leg.ends[key] + leg.step, leg.step):
                        covered[work.step][frame] += 1
        low, high = min(own), max(own)
        for frame in range(40):
            if frame in own:
                expected = (0, 0)
            elif low < frame < high:
                expected = (1, 1)
            elif frame > high:
                expected = (int(direction != "backward"), 0)
            else:
                expected = (0, int(direction != "forward"))
            assert (covered[1][frame], covered[-1][frame]) == expected


@given(st.dictionaries(st.sampled_from("abc"), st.sets(st.integers(0, 99), min_size=1), min_size=1))
def test_exemplars_show_every_object_of_the_leg_on_the_nearest_frames(labelled):
    for work in make(figures(**{key: sorted(frames) for key, frames in labelled.items()}), "both"):
        for leg in work.legs:
            others = {frame for key in leg.ends for frame in labelled[key]} - {leg.start}
            nearest = sorted(others, key=lambda frame: (abs(frame - leg.start), frame))[:MAX_EXEMPLARS]
            expected = [(frame, [key for key in leg.ends if frame in labelled[key]]) for frame in nearest]
            assert [(frame, [prompt.key for prompt in prompts]) for frame, prompts in leg.exemplars] == expected
