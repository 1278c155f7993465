"""Figures on their way to a server while the tracker works on: in order, in bulk, exactly once."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from common.errors import Interrupted, ServerRefused, UserError
from common.supervisely_io.background import Background
from common.supervisely_io.bulk import MAX_FIGURES, BulkAdder
from common.supervisely_io.figures import figures_by_id, remove_figures
from common.supervisely_io.records import FigureRecord, NewFigure, Place, VideoRecord
from common.supervisely_io.retry import Retry
from common.supervisely_io.server import Server
from common.supervisely_io.standing import FRESH_S, Late, Pair, Standing

Mode = Literal["append", "replace"]

OUTAGE = Retry(total_s=300.0, longest_s=15.0)
"""How long a server may be away before the job gives up; meanwhile the tracker works on until the queue is full."""

PACE_S = 2.0
"""How long figures of a slow tracker gather before they are sent together; a person waits no longer to see them."""

_GATHER_S = 0.02
"""How long a figure that could be sent at once waits for others of its frame."""

_BRIEF = Retry(total_s=2.0)
"""For the last look of a writer that was dropped: who stops a job does not wait for a server that is away."""

_MAX_FRAMES_AT_ONCE = 256
_MAX_REASONS = 20


@dataclass(frozen=True)
class Confirmed:
    """One frame is on the server.

    objects: ids the frame was about, with or without a figure. written: how many figures of each are stored (what the
    server refused, what a person's figure stands before and what `protect` keeps out is not in it).
    """

    frame: int
    objects: tuple[int, ...]
    written: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WriteReport:
    """What became of the figures so far; none is dropped without being counted.

    written: stored. kept: not sent because a person's figure stands in its place. outdated: not sent, or taken back,
    because of `protect`. refused: the server said no to the figure itself; the first reasons are in refusals. dropped:
    given to the writer but not known to be stored, because it was stopped or the server was away too long. replaced: older
    figures of trackers that were removed. undeleted: such figures that the server would not remove. doubled: figures that arrived twice and were removed once.
    """

    written: int = 0
    kept: int = 0
    outdated: int = 0
    refused: int = 0
    dropped: int = 0
    replaced: int = 0
    undeleted: int = 0
    doubled: int = 0
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Item:
    frame: int
    figures: tuple[NewFigure, ...]
    objects: tuple[int, ...]
    made_at: float

    @property
    def pairs(self) -> Iterator[Pair]:
        return ((ident, self.frame) for ident in self.objects)


class FigureWriter:
    """Writes the figures of one video on a thread of its own. Use as a context manager, or `close` it.

    mode "append" only adds. "replace" also removes what trackers wrote before for the same objects on the same frames -
    after the new figures are stored, so that a crash between the two loses nothing and doing it again mends it - and
    leaves alone where a figure of a person stands: nothing is written there, and what was written before that figure was
    known is taken back (see `Standing`), by the end of `flush` at the latest.
    on_confirmed: called on the writer's thread, once for each frame in the order of `put`, when the frame is stored; it
    should return soon. on_yielded: called there with object and frame when a figure was taken back for a person's.
    queue_frames: `put` waits while so many frames wait. pace_s: the first frame is sent at once, those after it together
    when a hundred figures wait, `pace_s` has passed, or someone waits for them. retry: how long an outage is borne. stop:
    once set, what waits is sent at once, for `grace_s` at most, and then dropped, as with `close(drop=True)`.
    fresh_s: see `Standing`. expected: objects, first frame and last of what will be put, as far as that is known: with it
    "replace" looks what stands there before the first figure comes.
    """

    def __init__(
        self,
        server: Server,
        video: VideoRecord,
        *,
        mode: Mode = "replace",
        on_confirmed: Callable[[Confirmed], None] | None = None,
        on_yielded: Callable[[int, int], None] | None = None,
        queue_frames: int = 64,
        pace_s: float = PACE_S,
        retry: Retry | None = None,
        stop: threading.Event | None = None,
        grace_s: float = 0.0,
        fresh_s: float = FRESH_S,
        expected: tuple[Collection[int], int, int] | None = None,
    ) -> None:
        if queue_frames < 1:
            raise ValueError(f"queue_frames is 1 or more, got {queue_frames}")
        # A request under way is always finished: half a replacement would leave figures twice.
        self._server = server.to(stop=threading.Event())
        self._video, self._mode, self._on_confirmed, self._on_yielded = video, mode, on_confirmed, on_yielded
        self._limit, self._pace_s = queue_frames, pace_s
        self._next_send = 0.0
        self._stop, self._grace_s = stop or threading.Event(), grace_s
        self._standing = Standing(self._server, video, fresh_s)
        self._expected = expected if mode == "replace" else None
        self._given_up = threading.Event()
        self._adder = BulkAdder(self._server, video, retry or OUTAGE, self._given_up)
        self._queue: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._busy = self._closing = self._sweep_asked = False
        self._protected: dict[int, list[tuple[int, int, float]]] = {}
        self._report = WriteReport()
        self._thread = Background(self._run, f"figures-{video.id}")
        self._thread.when_ended(self._wake)

    def __enter__(self) -> FigureWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(drop=kind is not None)

    # --- the caller's side ---------------------------------------------------------------------------------------------

    def put(
        self, frame: int, figures: Sequence[NewFigure], objects: Sequence[int] = (), *, made_at: float = 0.0
    ) -> None:
        """All figures of one frame, of any number of objects; returns at once unless the queue is full.

        objects: ids the frame is about; needed for those without a figure (lost), so that "replace" clears them.
        made_at: the version or time of what the prediction was made from, see `protect`. Raises what ended the writer:
        `ServerUnreachable`, or `ServerRefused` when the token or the video is no good any more.
        """
        if any(figure.frame != frame for figure in figures):
            raise ValueError(f"a figure of another frame was put on frame {frame}")
        if len({figure.place for figure in figures}) != len(figures):
            raise ValueError("figures of one object on one frame differ in `part`")
        about = tuple(dict.fromkeys([*objects, *(figure.object_id for figure in figures)]))
        item = _Item(frame, tuple(figures), about, made_at)
        with self._changed:
            if self._closing:
                raise ValueError("the writer is closed")
            while len(self._queue) >= self._limit and not self._stop.is_set() and not self._thread.ended:
                self._changed.wait(0.5)
            self._thread.check()
            if self._thread.ended or (self._stop.is_set() and not self._grace_s):
                self._count(dropped=len(item.figures))
                return
            if not self._queue:
                self._next_send = max(self._next_send, time.monotonic() + _GATHER_S)
            self._queue.append(item)
            self._changed.notify_all()

    def protect(self, object_id: int, frames: tuple[int, int], since: float) -> None:
        """A person changed that object on those frames (first, last; both within): predictions with a smaller `made_at`
        are not written there from now on, and those being written at this moment are taken back."""
        first, last = frames
        with self._changed:
            marks = self._protected.setdefault(object_id, [])
            # a mark that the new one covers says nothing more
            marks[:] = [m for m in marks if not (first <= m[0] and m[1] <= last and m[2] <= since)]
            if not any(a <= first and last <= b and s >= since for a, b, s in marks):
                marks.append((first, last, since))

    @property
    def report(self) -> WriteReport:
        """So far."""
        with self._changed:
            return self._report

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until everything put so far is confirmed; False when the time ran out. Raises what ended the writer."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            self._sweep_asked = True
            self._changed.notify_all()
            while (self._queue or self._busy or self._sweep_asked) and not self._thread.ended:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        self._thread.check()
        return True

    def close(self, *, drop: bool = False) -> WriteReport:
        """Ends the writer once everything is written. Raises what ended it before.

        drop: what waits is sent for `grace_s` at most, then nothing more after the request under way; nothing is raised.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if drop and not (self._grace_s and self._thread.join(self._grace_s)):
            with self._changed:
                self._stop_now()
                self._changed.notify_all()
        self._thread.join()
        if not drop:
            self._thread.check()
        return self.report

    # --- the writer's thread -------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _stop_now(self) -> None:
        self._given_up.set()
        self._count(dropped=sum(len(item.figures) for item in self._queue))
        self._queue.clear()

    def _run(self) -> None:
        if self._expected is not None:
            with contextlib.suppress(
                UserError
            ):  # only a look ahead: the first write looks again, and counts what fails
                self._standing.expect(*self._expected)
        while True:
            batch = self._take()
            if batch is None:
                break
            try:
                if batch:
                    self._write(batch)
                else:
                    self._look_behind(last=False)
            except Interrupted:
                self._count(dropped=sum(len(item.figures) for item in batch))
            except UserError:
                self._count(dropped=sum(len(item.figures) for item in [*batch, *self._queue]))
                raise
            finally:
                with self._changed:
                    self._busy = False
                    self._sweep_asked = self._sweep_asked and bool(batch)
                    self._changed.notify_all()
        if not self._given_up.is_set():
            self._look_behind(last=True)
        else:  # nothing new is written, but what was must not stand beside a person's figure
            self._server = self._standing.server = self._server.to(retry=_BRIEF)
            with contextlib.suppress(UserError):
                self._make_way(self._standing.check(last=True))

    def _take(self) -> list[_Item] | None:
        """What goes into the next request: what waits, up to a hundred figures. [] = sweep; None = the end."""
        with self._changed:
            while True:
                if self._stop.is_set() and not self._given_up.is_set() and not self._grace_s:
                    self._stop_now()
                if self._queue and self._due():
                    break
                if self._queue:
                    self._changed.wait(min(0.1, max(0.0, self._next_send - time.monotonic())))
                    continue
                if self._closing or self._given_up.is_set():
                    return None
                if self._sweep_asked:
                    self._busy = True
                    return []
                self._changed.wait(0.1)  # the stop event is the caller's and wakes nobody
            batch: list[_Item] = []
            pairs: set[Pair] = set()
            count = 0
            while self._queue and len(batch) < _MAX_FRAMES_AT_ONCE:
                item = self._queue[0]
                if batch and (count + len(item.figures) > MAX_FIGURES or not pairs.isdisjoint(item.pairs)):
                    break
                pairs.update(item.pairs)
                count += len(item.figures)
                batch.append(self._queue.popleft())
            self._busy = True
            self._next_send = time.monotonic() + self._pace_s
            self._changed.notify_all()
            return batch

    def _due(self) -> bool:
        """Whether what waits is to be sent now."""
        hurry = self._closing or self._sweep_asked or self._stop.is_set()
        if hurry or len(self._queue) >= self._limit or time.monotonic() >= self._next_send:
            return True
        return sum(len(item.figures) for item in self._queue) >= MAX_FIGURES

    def _write(self, batch: Sequence[_Item]) -> None:
        made = {pair: item.made_at for item in batch for pair in item.pairs}
        live = {pair for pair, at in made.items() if not self._is_outdated(pair, at)}
        old, human = self._look(live) if self._mode == "replace" else ({}, set())
        waiting = [figure for item in batch for figure in item.figures]
        fresh = [f for f in waiting if (f.object_id, f.frame) in live and (f.object_id, f.frame) not in human]
        kept = sum((f.object_id, f.frame) in human for f in waiting)
        outcome = self._adder.add(fresh, old.keys())
        stored = outcome.stored

        late = {pair for pair in live if self._is_outdated(pair, made[pair])}
        taken_back = {place: ident for place, ident in stored.items() if (place.object_id, place.frame) in late}
        _, stuck = self._remove([ident for ident in taken_back.values() if ident not in old])
        stored = {place: ident for place, ident in stored.items() if place not in taken_back}

        # Where the new figure was refused the old one is better than none. A server that knows keys may have given back
        # the id of an old figure that equals the new one; that one is the new one now.
        spared = late | {(figure.object_id, figure.frame) for figure, _ in outcome.refused}
        same = set(outcome.stored.values())
        replaced, undeleted = self._replace(
            [
                figure
                for ident, figure in old.items()
                if ident not in same and (figure.object_id, figure.frame) not in spared
            ]
        )
        if self._mode == "replace":
            self._standing.wrote({p: i for p, i in stored.items() if (p.object_id, p.frame) not in spared})
        self._count(
            written=len(stored),
            kept=kept,
            outdated=len(waiting) - len(fresh) - kept + len(taken_back),
            refused=len(outcome.refused),
            replaced=replaced,
            undeleted=undeleted + stuck,
            refusals=tuple(f"frame {f.frame}, object {f.object_id}: {why}" for f, why in outcome.refused),
        )
        self._confirm(batch, stored)

    def _confirm(self, batch: Sequence[_Item], stored: dict[Place, int]) -> None:
        if self._on_confirmed is None:
            return
        counts: dict[Pair, int] = {}
        for place in stored:
            pair = (place.object_id, place.frame)
            counts[pair] = counts.get(pair, 0) + 1
        for item in batch:
            written = {ident: counts[ident, item.frame] for ident in item.objects if (ident, item.frame) in counts}
            self._on_confirmed(Confirmed(item.frame, item.objects, written))

    def _is_outdated(self, pair: Pair, made_at: float) -> bool:
        ident, frame = pair
        with self._changed:
            return any(
                first <= frame <= last and made_at < since for first, last, since in self._protected.get(ident, ())
            )

    def _look(self, pairs: set[Pair]) -> tuple[Mapping[int, FigureRecord], Collection[Pair]]:
        """Figures of trackers on those pairs by id, and the pairs where a person's figure stands."""
        with self._changed:
            ending = self._closing or self._sweep_asked
        found = self._standing.on(pairs, check_follows=ending)
        self._make_way(found.late)
        return found.old, found.human

    def _look_behind(self, *, last: bool) -> None:
        """Finds what only shows after the writing: figures that arrived twice, and those that stand before a person's."""
        self._count(doubled=self._adder.sweep())
        if self._mode == "replace":
            self._make_way(self._standing.check(last=last))

    def _make_way(self, late: Late) -> None:
        replaced, undeleted = self._replace(late.overtaken)
        kept, stuck = self._replace(late.ours)
        self._count(written=-kept, kept=kept, replaced=replaced, undeleted=undeleted + stuck)
        if self._on_yielded is not None:
            for ident, frame in dict.fromkeys((figure.object_id, figure.frame) for figure in late.ours):
                self._on_yielded(ident, frame)

    def _replace(self, old: Sequence[FigureRecord]) -> tuple[int, int]:
        """Removes figures of trackers unless someone has changed them since they were read; how many, and how many stay."""
        if not old:
            return 0, 0
        now = figures_by_id(self._server, self._video.dataset_id, [figure.id for figure in old], geometry=False)
        same = [
            figure.id
            for figure in old
            if figure.id in now and not now[figure.id].by_person and now[figure.id].updated_at == figure.updated_at
        ]
        return self._remove(same)

    def _remove(self, idents: Sequence[int]) -> tuple[int, int]:
        """How many were removed, and how many the server would not remove."""
        if not idents:
            return 0, 0
        try:
            remove_figures(self._server, idents)
            return len(idents), 0
        except ServerRefused as error:
            if error.status in (401, 403):
                raise
        stuck = 0
        for ident in idents:
            try:
                remove_figures(self._server, [ident])
            except ServerRefused as error:
                if error.status in (401, 403):
                    raise
                stuck += error.status != 404  # 404: it is gone, which is what was wanted
        return len(idents) - stuck, stuck

    def _count(self, *, refusals: tuple[str, ...] = (), **more: int) -> None:
        with self._changed:
            sums = {name: getattr(self._report, name) + value for name, value in more.items()}
            kept = (self._report.refusals + refusals)[:_MAX_REASONS]
            self._report = replace(self._report, **sums, refusals=kept)
