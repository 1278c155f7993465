"""Which tracker runs where: from key figures and a direction to the legs that fill the frames around and between them.

Pure: no images, no trackers, no clock. A *leg* is one run of one tracker: it starts on a frame where its objects were
labelled and goes one way until each object's last wanted frame. Between two key figures of an object there is a leg from
either side, so that both can be fused; outside them there is one leg, in the direction that was asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from common.tracking.contract import Prompt

MAX_EXEMPLARS = 4
"""A leg gets at most this many other labelled frames of its objects, the nearest ones: what trackers keep is bounded."""


class Direction(StrEnum):
    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"


@dataclass(frozen=True)
class KeyFigure:
    """What a person drew on one frame. frame: 0-based."""

    frame: int
    prompt: Prompt


@dataclass(frozen=True)
class Leg:
    """One run of one tracker.

    engine: tracker name. start: the labelled frame. step: +1 forward, -1 backward. prompts: the objects, as labelled on
    `start`. ends: last wanted frame of each object (inclusive, in direction of travel). exemplars: other labelled frames
    of the same objects with what was drawn there, nearest first.
    """

    engine: str
    start: int
    step: int
    prompts: tuple[Prompt, ...]
    ends: Mapping[str, int]
    exemplars: tuple[tuple[int, tuple[Prompt, ...]], ...] = ()

    @property
    def end(self) -> int:
        """Last frame of the leg, inclusive."""
        return max(self.ends.values(), key=lambda frame: frame * self.step)


@dataclass(frozen=True)
class Pass:
    """All legs of one direction: the video is streamed once for them, over the frames where any leg is active."""

    step: int
    legs: tuple[Leg, ...]

    def intervals(self) -> list[tuple[int, int]]:
        """Stretches (first, last), inclusive, in the order of travel, that do not touch each other."""
        spans = sorted(((leg.start, leg.end) for leg in self.legs), key=lambda span: span[0] * self.step)
        merged: list[tuple[int, int]] = []
        for first, last in spans:
            if merged and first * self.step <= merged[-1][1] * self.step:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last, key=lambda frame: frame * self.step))
            else:
                merged.append((first, last))
        return merged


def plan(
    key_figures: Sequence[KeyFigure],
    *,
    frames_total: int,
    direction: Direction,
    engine_of: Callable[[Prompt], str],
    frames: int | None = None,
) -> list[Pass]:
    """The passes to run, forward before backward; a pass without legs is left out.

    frames: how many frames to predict beyond an object's outermost key figures; None = to the end of the video.
    Raises ValueError for a key figure outside the video, or two of one object on one frame.
    """
    by_key: dict[str, dict[int, Prompt]] = defaultdict(dict)
    for figure in key_figures:
        if not 0 <= figure.frame < frames_total:
            raise ValueError(f"key figure on frame {figure.frame} of a video of {frames_total} frames")
        if figure.frame in by_key[figure.prompt.key]:
            raise ValueError(f"two key figures of {figure.prompt.key!r} on frame {figure.frame}")
        by_key[figure.prompt.key][figure.frame] = figure.prompt

    passes = []
    for step in (+1, -1):
        spans = [
            (by_key[key][start], start, end)
            for key, figures in by_key.items()
            for start, end in _spans(sorted(figures), step, frames_total, direction, frames)
        ]
        if legs := _legs(spans, step, engine_of, by_key):
            passes.append(Pass(step, legs))
    return passes


def gaps(frames: Iterable[int]) -> list[tuple[int, int]]:
    """Pairs of neighbouring key-figure frames with at least one frame between them.

    >>> gaps([10, 0, 11])
    [(0, 10)]
    """
    ordered = sorted(frames)
    return [(a, b) for a, b in pairwise(ordered) if b - a > 1]


def _spans(
    labelled: list[int], step: int, total: int, direction: Direction, frames: int | None
) -> list[tuple[int, int]]:
    """(start, end) of one object's legs in one direction, end inclusive; only legs that predict something."""
    between = [(a, b - 1) if step > 0 else (b, a + 1) for a, b in gaps(labelled)]
    reach = total if frames is None else frames
    if step > 0 and direction in (Direction.FORWARD, Direction.BOTH):
        between.append((labelled[-1], min(total - 1, labelled[-1] + reach)))
    if step < 0 and direction in (Direction.BACKWARD, Direction.BOTH):
        between.append((labelled[0], max(0, labelled[0] - reach)))
    return [(start, end) for start, end in between if end != start]


def _legs(
    spans: Sequence[tuple[Prompt, int, int]],
    step: int,
    engine_of: Callable[[Prompt], str],
    by_key: Mapping[str, Mapping[int, Prompt]],
) -> tuple[Leg, ...]:
    groups: dict[tuple[int, str], list[tuple[Prompt, int]]] = defaultdict(list)
    for prompt, start, end in spans:
        groups[start, engine_of(prompt)].append((prompt, end))
    labelled = {key: sorted(figures) for key, figures in by_key.items()}
    legs = []
    for (start, engine), members in sorted(groups.items(), key=lambda item: (item[0][0] * step, item[0][1])):
        near = {frame for prompt, _ in members for frame in _around(labelled[prompt.key], start)}
        nearest = sorted(near, key=lambda frame: (abs(frame - start), frame))[:MAX_EXEMPLARS]
        figures = [by_key[prompt.key] for prompt, _ in members]
        legs.append(
            Leg(
                engine,
                start,
                step,
                tuple(prompt for prompt, _ in members),
                {prompt.key: end for prompt, end in members},
                tuple((frame, tuple(drawn[frame] for drawn in figures if frame in drawn)) for frame in nearest),
            )
        )
    return tuple(legs)


def _around(labelled: Sequence[int], start: int) -> list[int]:
    """Of sorted frames, those that can be among the `MAX_EXEMPLARS` nearest to `start`, which is left out."""
    here = bisect_left(labelled, start)
    return [frame for frame in labelled[max(0, here - MAX_EXEMPLARS) : here + MAX_EXEMPLARS + 1] if frame != start]
