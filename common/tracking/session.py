"""One pass over a video: every leg's tracker fed frame by frame, confidence attached, stopped or resumed anywhere.

`TrackingSession` is the pure part: give it the next frame, get what became final. `execute` is the loop around it that
reads frames ahead, hands results to a sink, reports progress, and stops within one frame when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from common.errors import FrameUnreadable
from common.tracking.contract import Exemplar, Tracker
from common.tracking.live import LiveTrack, Tracked
from common.tracking.plan import Leg, Pass
from common.tracking.snapshot import Tree, pack, unpack
from common.video.contract import FrameSource, Image
from common.video.prefetch import prefetch


class TrackingSession:
    """The legs of one pass, advanced together. Owned by one thread.

    engine: gives the tracker of a name; asked once per leg. fps: of the video, 0 = unknown. Memory: the legs that are active, and the frames that their
    trackers hold back; nothing that was given out is kept.
    """

    def __init__(self, work: Pass, engine: Callable[[str], Tracker], fps: float = 0.0) -> None:
        self._work = work
        self._engine = engine
        self._fps = fps
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

    def step(self, frame: int, image: Image, read: Callable[[int], Image]) -> list[Tracked]:
        """Frame `frame` of the video is `image`: what became final, ordered by frame within each leg.

        read: any frame of the video, for the exemplars of a leg that starts here.
        """
        final: list[Tracked] = []
        for leg, live in self._active:
            given = live.push(frame, image) + (live.flush() if frame == leg.end else [])
            final += [t for t in given if t.frame * leg.step <= leg.ends[t.prediction.key] * leg.step]
        self._active = [(leg, live) for leg, live in self._active if leg.end != frame]
        self._active += [(leg, self._start(leg, image, read)) for leg in self._work.legs if leg.start == frame]
        self._next = self._successor(frame)
        return final

    def cut(self) -> list[Tracked]:
        """The next frame of this stretch cannot be had: what was held back. The legs under way end here."""
        final: list[Tracked] = []
        for leg, live in self._active:
            final += [t for t in live.flush() if t.frame * leg.step <= leg.ends[t.prediction.key] * leg.step]
        self._active = []
        return final

    def save(self) -> bytes:
        """Bounded snapshot: `restore` and the remaining frames give what this session would give."""
        active: list[Tree] = [(self._work.legs.index(leg), live.save()) for leg, live in self._active]
        return pack({"next": self._next, "active": active})

    def restore(self, snapshot: bytes) -> None:
        """Continue where `save` was called on a session over the same pass."""
        tree = unpack(snapshot)
        self._next = tree["next"]
        legs = [(self._work.legs[number], state) for number, state in tree["active"]]
        self._active = [(leg, LiveTrack.load(self._engine(leg.engine), state)) for leg, state in legs]

    def _start(self, leg: Leg, image: Image, read: Callable[[int], Image]) -> LiveTrack:
        exemplars = [Exemplar(read(frame), prompts) for frame, prompts in leg.exemplars]
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
    """How a pass ended. stopped: somebody asked for it. damage: why frames at its far end could not be had, or None."""

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

    Frames are decoded ahead of the tracker. A frame that cannot be decoded ends the stretch that it is in; what was
    tracked before it is kept. Errors of trackers and sinks pass through.
    """
    damage: str | None = None
    for start, stop in session.remaining():
        step = 1 if stop > start else -1
        with closing(prefetch(source.stream(start, stop))) as frames:
            try:
                for frame, image in zip(range(start, stop, step), frames, strict=False):
                    if stop_requested():
                        return Outcome(True, damage)
                    sink.put(session.step(frame, image, source.read), session.save)
                    on_frame()
            except FrameUnreadable as error:
                damage = str(error)
                sink.put(session.cut(), session.save)
    return Outcome(False, damage)
