"""What stands on a server where figures are to be written: looked at ahead of the writer, and once more behind it.

One list serves many writes. What a person draws between that list and a write is found by the next one, which covers what was
written since; the writer then takes its own figure back, so that the person's stands alone, as if it had been known.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common.supervisely_io.figures import figures
from common.supervisely_io.records import FigureRecord, Place, VideoRecord
from common.supervisely_io.server import Server

Pair = tuple[int, int]
"""Object id, frame."""

FRESH_S = 6.0
"""How old a list may be that is written by."""

_AHEAD = 128
_GAP = 256
_MOST_OBJECTS = 256


@dataclass(frozen=True)
class Late:
    """What a look behind found. ours: figures just written where a person's stands. overtaken: figures of trackers that were
    there before those, and were not known then."""

    ours: Sequence[FigureRecord] = ()
    overtaken: Sequence[FigureRecord] = ()


@dataclass(frozen=True)
class Found:
    """old: figures of trackers on the pairs asked about, by id. human: those of the pairs where a person's figure stands.
    late: what was found behind."""

    old: Mapping[int, FigureRecord] = field(default_factory=dict)
    human: Collection[Pair] = ()
    late: Late = field(default_factory=Late)


class Standing:
    """Owned by one thread. server: is asked from now on. Memory: what stands on the frames next to those being written."""

    def __init__(self, server: Server, video: VideoRecord, fresh_s: float = FRESH_S) -> None:
        self.server, self._video, self._fresh_s = server, video, fresh_s
        self._objects: frozenset[int] = frozenset()
        self._spans: Sequence[tuple[int, int]] = ()
        self._looked_at = 0.0
        self._old: dict[Pair, list[FigureRecord]] = {}
        self._human: set[Pair] = set()
        self._touched: set[Pair] = set()
        self._written: dict[Pair, list[int]] = {}
        self._last: float | None = None
        self._step = 0.0

    def expect(self, objects: Collection[int], first: int, last: int) -> None:
        """Looks before anything is written: it will be of these objects, from frame `first` on towards `last`."""
        if not objects or len(objects) > _MOST_OBJECTS or min(first, last) < 0:
            return
        self._step = float(last - first)
        self._last = float(first)
        reach = max(-_AHEAD, min(last - first, _AHEAD))
        self._read(frozenset(objects), [(min(first, first + reach), max(first, first + reach))])

    def on(self, pairs: Collection[Pair], *, check_follows: bool = False) -> Found:
        """What stands there. check_follows: `check` is called soon, so what is known may be older."""
        if not pairs:
            return Found()
        late = Late()
        fresh = check_follows or time.monotonic() - self._looked_at < self._fresh_s
        # A person's figure keeps ours out for good, so it must be there now: it may have been removed since the list.
        if not (fresh and all(map(self._known, pairs)) and self._human.isdisjoint(pairs)):
            late = self._look(pairs)
        old = {figure.id: figure for pair in pairs for figure in self._old.get(pair, ())}
        self._touched.update(pairs)
        return Found(old, self._human.intersection(pairs), late)

    def wrote(self, stored: Mapping[Place, int]) -> None:
        """These are new on the server; the next look covers them."""
        for place, ident in stored.items():
            self._written.setdefault((place.object_id, place.frame), []).append(ident)

    def check(self, *, last: bool = False) -> Late:
        """Looks at what was written since the last look. last: nothing will be written after it."""
        return self._look((), ahead=not last) if self._written else Late()

    def _known(self, pair: Pair) -> bool:
        ident, frame = pair
        here = ident in self._objects and any(first <= frame <= last for first, last in self._spans)
        return here and pair not in self._touched

    def _look(self, pairs: Collection[Pair], *, ahead: bool = True) -> Late:
        objects = {ident for ident, _ in (*pairs, *self._written)}
        # Others of the same video are written next, as a rule.
        known = self._objects | objects
        objects = set(known) if len(known) <= _MOST_OBJECTS else objects
        self._notice_way([frame for _, frame in pairs])
        frames = [frame for _, frame in (*pairs, *self._written)]
        spans = _spans([*frames, *self._onward([f for _, f in pairs] or frames)] if ahead else frames)
        old, people = self._read(frozenset(objects), spans)
        ours: list[FigureRecord] = []
        overtaken: list[FigureRecord] = []
        for pair, idents in self._written.items():
            # A person who corrected one of ours has not drawn another.
            here = old.get(pair, ())
            if any(ident not in idents for ident in people.get(pair, ())):
                ours += [figure for figure in here if figure.id in idents]
            else:
                overtaken += [f for f in here if f.id not in idents and f.id < min(idents)]
        self._written = {}
        return Late(ours, overtaken)

    def _read(
        self, objects: frozenset[int], spans: Sequence[tuple[int, int]]
    ) -> tuple[Mapping[Pair, list[FigureRecord]], Mapping[Pair, list[int]]]:
        """Figures of trackers, and ids of those of people, by pair; they are what is known from now on."""
        began = time.monotonic()  # what comes while it is on its way is not in it
        old: dict[Pair, list[FigureRecord]] = {}
        people: dict[Pair, list[int]] = {}
        for span in spans:
            for figure in figures(self.server, self._video, sorted(objects), span, geometry=False):
                pair = (figure.object_id, figure.frame)
                if figure.by_person:
                    people.setdefault(pair, []).append(figure.id)
                else:
                    old.setdefault(pair, []).append(figure)
        self._looked_at = began
        self._objects, self._spans = objects, spans
        self._old, self._human, self._touched = old, set(people), set()
        return old, people

    def _notice_way(self, frames: Sequence[int]) -> None:
        if frames:
            middle = (min(frames) + max(frames)) / 2
            self._step = 0.0 if self._last is None else middle - self._last
            self._last = middle

    def _onward(self, frames: Sequence[int]) -> list[int]:
        """The end of what probably comes next: further the way that they went, on either side of the first."""
        after = [max(frames) + _AHEAD] if self._step >= 0 else []
        before = [max(0, min(frames) - _AHEAD)] if self._step <= 0 else []
        return after + before


def _spans(frames: Iterable[int]) -> list[tuple[int, int]]:
    """Spans (first and last, both within) that hold all frames; what lies far apart is not asked for together.

    >>> _spans([5, 300, 9, 1000])
    [(5, 9), (300, 300), (1000, 1000)]
    """
    spans: list[tuple[int, int]] = []
    for frame in sorted(set(frames)):
        if spans and frame - spans[-1][1] <= _GAP:
            spans[-1] = (spans[-1][0], frame)
        else:
            spans.append((frame, frame))
    return spans
