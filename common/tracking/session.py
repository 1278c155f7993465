"""One pass over a video: every leg's tracker fed frame by frame, confidence attached, stopped or resumed anywhere.

`TrackingSession` is the pure part: give it the next frame, get what became final. `execute` is the loop around it that
reads frames ahead, hands results to a sink, reports progress, and stops within one frame when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from common.errors import FrameUnreadable
from common.tracking.contract import Exemplar, Tracker
from common.tracking.live import LiveTrack, Tracked
from common.tracking.plan import Leg, Pass
from common.tracking.snapshot import Tree, pack, unpack
from common.video.contract import FrameSource, Image
from common.video.numbered import numbered

Concurrently = Callable[
    [Callable[[tuple[Leg, LiveTrack]], list[Tracked]], list[tuple[Leg, LiveTrack]]], Iterable[list[Tracked]]
]
"""Applies a function to every active leg, in any order; results in the order of the legs."""


class TrackingSession:
    """The legs of one pass, advanced together. Owned by one thread.

    engine: gives the tracker of a name; asked once per leg. fps: of the video, 0 = unknown. concurrently: `map`, or the map
    of a pool of threads, for legs that are active on the same frame; results do not depend on it. Memory: the legs that are
    active, and the frames that their trackers hold back; nothing that was given out is kept.
    """

    def __init__(
        self,
        work: Pass,
        engine: Callable[[str], Tracker],
        fps: float = 0.0,
        concurrently: Concurrently = map,
    ) -> None:
        self._work = work
        self._engine = engine
        self._fps = fps
        self._concurrently = concurrently
        self._active: list[tuple[Leg, LiveTrack]] = []
        self._stretches = work.intervals()
        self._next: int | None = self._stretches[0][0]

    @property
    def frames_total(self) -> int:
        """Frames of the video that the pass streams."""
        return sum(abs(last - first) + 1 for first, last in self._stretches)

    @property
    def frames_done(self) -> int:
        """Frames of the video that were given to `step`."""
        done = 0
        for first, last in self._stretches:
            if self._next is None or self._next * self._work.step > last * self._work.step:
                done += abs(last - first) + 1
            elif self._next * self._work.step > first * self._work.step:
                done += abs(self._next - first)
        return done

    def remaining(self) -> Iterator[tuple[int, int]]:
        """Stretches still to be streamed, as (start, stop) of `FrameSource.stream`."""
        step = self._work.step
        for first, last in self._stretches:
            if self._next is None or self._next * step > last * step:
                continue
            yield max(first, self._next, key=lambda frame: frame * step), last + step

    def step(self, frame: int, image: Image | None, read: Callable[[int], Image]) -> list[Tracked]:
        """Frame `frame` of the video is `image`: what became final, ordered by frame within each leg.

        image: None = the frame cannot be had; legs under way go on with the next one, a leg that should start here does
        not run. read: any frame of the video, for the exemplars of a leg that starts here.
        """

        def advance(active: tuple[Leg, LiveTrack]) -> list[Tracked]:
            leg, live = active
            given = live.push(frame, image) if image is not None else []
            given += live.flush() if frame == leg.end else []
            return [t for t in given if t.frame * leg.step <= leg.ends[t.prediction.key] * leg.step]

        final = list(chain.from_iterable(self._concurrently(advance, self._active)))
        self._active = [(leg, live) for leg, live in self._active if leg.end != frame]
        if image is not None:
            self._active += [(leg, self._start(leg, image, read)) for leg in self._work.legs if leg.start == frame]
        self._next = self._successor(frame)
        return final

    def save(self) -> bytes:
        """Bounded snapshot: `restore` and the remaining frames give what this session would give."""
        active: list[Tree] = [(self._work.legs.index(leg), live.save()) for leg, live in self._active]
        return pack({"next": self._next, "active": active})

    def restore(self, snapshot: bytes) -> None:
        """Continue where `save` was called on a session over the same pass. Raises ValueError, and changes nothing, when the
        snapshot is none that today's trackers can read."""
        try:
            tree = unpack(snapshot)
            legs = [(self._work.legs[number], state) for number, state in tree["active"]]
            active = [(leg, LiveTrack.load(self._engine(leg.engine), state)) for leg, state in legs]
            self._next, self._active = tree["next"], active
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"the snapshot cannot be read: {error!r}") from error

    def _start(self, leg: Leg, image: Image, read: Callable[[int], Image]) -> LiveTrack:
        exemplars = []
        for frame, prompts in leg.exemplars:
            with suppress(FrameUnreadable):  # counted when the stream comes to it
                exemplars.append(Exemplar(read(frame), prompts))
        return LiveTrack.start(self._engine(leg.engine), image, leg.prompts, exemplars, self._fps)

    def _successor(self, frame: int) -> int | None:
        step = self._work.step
        for first, last in self._stretches:
            if frame * step < first * step:
                return first
            if first * step <= frame * step < last * step:
                return frame + step
        return None


class Sink(Protocol):
    """Where results go: a journal on disk, a Supervisely server, a list in a test."""

    def put(self, results: Sequence[Tracked], snapshot: Callable[[], bytes]) -> None:
        """Results of one step (may be empty). `snapshot` saves the session as of now; called only when it is wanted."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a pass ended. stopped: somebody asked for it. damage: why frames could not be had, or None."""

    stopped: bool
    damage: str | None


def execute(
    session: TrackingSession,
    source: FrameSource,
    sink: Sink,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    on_frame: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run the pass to its end, or until `stop_requested` says so (asked once per frame, before the frame is tracked).

    Frames are decoded ahead of the tracker. A frame that cannot be decoded is left out: it has no results, and tracking goes
    on behind it. Errors of trackers and sinks pass through.
    """
    first: FrameUnreadable | None = None
    missing = 0

    def outcome(stopped: bool) -> Outcome:
        more = f" {missing - 1} more cannot be had." if missing > 1 else ""
        return Outcome(stopped, f"{first}{more}" if first else None)

    for start, stop in session.remaining():
        with closing(numbered(source, start, stop)) as frames:
            for frame, image in frames:
                if stop_requested():
                    return outcome(True)
                if isinstance(image, FrameUnreadable):
                    first, missing = first or image, missing + 1
                found = session.step(frame, None if isinstance(image, FrameUnreadable) else image, source.read)
                sink.put(found, session.save)
                on_frame()
    return outcome(False)
