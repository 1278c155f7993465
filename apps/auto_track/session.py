"""One track of the annotation tool: a thread that applies what people do, in order, and tracks in between.

Everything about a track happens on its one thread; requests only put updates into its queue. So updates never overlap,
there is one writer, and a stop is seen before the next frame.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from apps.auto_track import messages
from apps.auto_track.discovery import Engines
from apps.auto_track.engines import Scene
from apps.auto_track.frames import Frames
from apps.auto_track.journal import Journal
from apps.auto_track.loading import Loader, Seed, key_of
from apps.auto_track.newcomers import Lookout
from apps.auto_track.ranges import union
from apps.auto_track.settings import Settings
from apps.auto_track.timeline import Key, Timeline
from apps.auto_track.tracking import Options, Tracking
from apps.auto_track.updates import (
    Continue,
    FiguresRemoved,
    KeyChanged,
    MetaChanged,
    Switched,
    TagsChanged,
    TrackContext,
    TrackMore,
    Update,
)
from common.errors import Interrupted, UserError
from common.serving.access import Caller
from common.serving.jobs import StopSignal
from common.serving.replies import sentence
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.figures import figures_by_id
from common.supervisely_io.progress import ProgressChannel
from common.supervisely_io.projects import project
from common.supervisely_io.records import NewFigure, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.supervisely_io.writer import Confirmed, FigureWriter
from common.tracking.journal import SAVING_SHARE

log = logging.getLogger(__name__)

LINGER_S = 30.0
_SAVE_EVERY_S = 5.0
_GRACE_S = 5.0


@dataclass(frozen=True)
class Means:
    """What sessions share. linger_s: how long a finished one waits for "continue"."""

    videos: VideoCache
    journal: Journal
    engines: Callable[[Settings], Engines] = Engines
    linger_s: float = LINGER_S
    save_every_s: float = _SAVE_EVERY_S


class Session:
    """One track. `offer` and `stop` may be called from any thread; everything else happens on the session's own."""

    def __init__(
        self,
        context: TrackContext,
        server: Server,
        caller: Caller,
        settings: Settings,
        means: Means,
        on_end: Callable[[Session], None] = lambda session: None,
        resume: bool = False,
    ) -> None:
        """resume: take up all that was asked for before a crash; otherwise only what was finished is remembered."""
        self.context, self.settings = context, settings
        self.project_id = 0
        self._caller, self._means, self._on_end = caller, means, on_end
        self._stop = StopSignal()
        self._stop.on_set(self._hurry)
        self._abandon = threading.Event()
        self._resume = resume
        self._after: Session | None = None
        self._tracking: Tracking
        self._prepared = threading.Event()
        self._server = server.to(session_id=context.session_id, stop=self._stop)
        self._updates: queue.SimpleQueue[Update] = queue.SimpleQueue()
        self._open, self._lock = True, threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"track-{context.track_id}", daemon=True)
        # of the thread
        self._channel: ProgressChannel | None = None
        self._told_total = self._promised = 0
        self._told_refused = 0
        self._gave = False
        self._warnings: deque[str] = deque(maxlen=100)
        self._steps: deque[tuple[int, int, bool]] = deque()
        self._look_again: set[tuple[int, int]] = set()
        self._writer: FigureWriter | None = None
        self._next_save = 0.0

    # --- the callers' side ---------------------------------------------------------------------------------------------

    def start(self, after: Session | None = None) -> None:
        """after: an earlier session of the same track, which ends first: a track has one writer."""
        self._after = after
        self._thread.start()

    def offer(self, update: Update) -> bool:
        """Puts an update into the queue; False when the session has ended meanwhile."""
        with self._lock:
            if not self._open or self._stop.is_set():
                return False
            self._updates.put(update)
            return True

    def stop(self) -> None:
        """No further frame is begun."""
        self._stop.set()

    def join(self, timeout_s: float | None = None) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """Whether there is anything left to do; otherwise it waits for more."""
        return self._channel is not None

    def has(self, object_id: int) -> bool:
        """Whether the session tracks that object, as far as it has got."""
        return not self._prepared.is_set() or object_id in self._tracking.object_ids

    # --- Outbox ----------------------------------------------------------------------------------------------------------

    def put(self, frame: int, object_id: int, figures: Sequence[NewFigure], steps: int, version: int) -> None:
        self._promised += steps
        self._gave = True
        self._send(frame, object_id, figures, steps, version)

    def protect(self, object_id: int, frames: tuple[int, int], version: int) -> None:
        if self._writer is not None:
            self._writer.protect(object_id, frames, version)

    def clear(self, object_id: int, frames: tuple[int, int], version: int) -> None:
        for frame in range(frames[0], frames[1] + 1):
            if self._stop.is_set():
                return
            self._send(frame, object_id, (), 0, version)

    def warn(self, message: str) -> None:
        log.info("track %s: %s", self.context.track_id, message)
        if self._channel is not None:
            self._channel.warn(message)
        else:
            self._warnings.append(message)

    def _send(self, frame: int, object_id: int, figures: Sequence[NewFigure], steps: int, version: int) -> None:
        assert self._writer is not None
        self._steps.append((frame, steps, bool(figures)))
        self._writer.put(frame, figures, [object_id], made_at=version)

    def _confirmed(self, confirmed: Confirmed) -> None:
        """On the writer's thread: a frame is stored."""
        frame, steps, had_figures = self._steps.popleft()
        channel = self._channel
        if channel is not None and steps:
            channel.advance(frame, steps)
        for object_id in confirmed.objects:
            # Something kept the figure out: a person's figure stands there, of which nobody told. It is a key figure.
            if had_figures and not confirmed.written.get(object_id) and (object_id, frame) not in self._look_again:
                self._look_again.add((object_id, frame))
                self._updates.put(KeyChanged(object_id, frame))

    def _hurry(self) -> None:
        """What is finished may still be written after a stop, but not for long when the server is away."""
        timer = threading.Timer(_GRACE_S, self._abandon.set)
        timer.daemon = True
        timer.start()

    # --- the session's thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            if self._after is not None:
                self._after.stop()
                self._after.join(60.0)
                self._after = None
            self._burst_begins()
            error = self._guarded()
            self._burst_ends(error)
        finally:
            with self._lock:
                self._open = False
            self._on_end(self)

    def _guarded(self) -> str | None:
        """Does it all; what a labeler is told when it failed."""
        track = self.context.track_id
        try:
            self._means.journal.begin(track, self._caller.address, self.context.kept())
            record = video(self._server, self.context.video_id)
            self.project_id = record.project_id
            frames = Frames(self._means.videos.open(self._server, record))
            try:
                self._prepare(record, frames)
                self._work()
            finally:
                frames.close()
            self._means.journal.end(track)
        except Interrupted:
            self._means.journal.end(track)
        except UserError as error:
            log.warning("track %s ended: %s", track, error)
            self._means.journal.end(track)
            return sentence(error)
        except Exception as error:  # a fault of ours: the labeler is told, and other tracks go on
            log.exception("track %s failed", track)
            return sentence(error)
        return None

    def _prepare(self, record: VideoRecord, frames: Frames) -> None:
        found = project(self._server, record.project_id)
        self._loader = Loader(self._server, record, found, self.warn)
        self._scene = Scene(self._server, self._caller, record, frames, self._stop, self.warn)
        self._engines = self._means.engines(self.settings)
        options = Options(self.context.track_id, self._engines.of, two_sided=self.settings.two_sided)
        self._tracking = Tracking(options, self._scene, self._loader, self, self._means.journal)
        self._lookout: Lookout | None = None
        self._switch(self.context.by_detection, self.context.off_screen)
        self._prepared.set()

    def _switch(self, by_detection: bool, off_screen: bool) -> None:
        """Sets the tool's check boxes; for the frames from here on."""
        self.context = self.context.model_copy(update={"by_detection": by_detection, "off_screen": off_screen})
        hide = self.settings.disappear.enabled and off_screen
        self._tracking.options = replace(self._tracking.options, hide=hide)
        detector = self._engines.detector() if by_detection and self._lookout is None else None
        if not by_detection:
            self._lookout = None
        elif detector is not None:
            choice = self._engines.detector_choice
            self._lookout = Lookout(detector, choice, self._scene, self._loader, self.context.track_id)

    def _work(self) -> None:
        record = self._scene.video
        with FigureWriter(
            # Once stopped, what is finished is still written, so the writer has an event of its own.
            self._server.to(stop=self._abandon),
            record,
            on_confirmed=self._confirmed,
            stop=self._abandon,
        ) as writer:
            self._writer = writer
            self._restore()
            self._tell_total()
            asked = False
            try:
                while not self._stop.is_set():
                    asked = self._apply_all() or asked
                    if asked:
                        self._check_usable()
                        self._tell_total()
                        asked = False
                    if self._one_frame():
                        if time.monotonic() >= self._next_save:
                            self._save()
                        continue
                    # Updates may come from the writer: a figure of a person that was in the way.
                    if writer.flush() and self._updates.empty():
                        self._finish_burst()
                        if not self._linger():
                            break
                        asked = True
            finally:
                self._save(_GRACE_S)
                self._tell_refused()

    def _one_frame(self) -> bool:
        """One frame of tracking, or one look for new objects; False when there is nothing to do."""
        upcoming = self._tracking.next_frame()
        look = None if self._lookout is None else self._lookout.next
        if look is not None and (upcoming is None or upcoming[0] < 0 or look < upcoming[1]):
            self._look(look)
            return True
        if upcoming is None:
            return False
        self._tracking.advance()
        return True

    def _look(self, frame: int) -> None:
        lookout = self._lookout
        assert lookout is not None
        for found in lookout.look(frame, self._tracking.boxes(frame), self.warn):
            key = key_of([found.seed], adopted=True)
            line = Timeline(found.object_id, self._scene.video.frames)
            change = line.asked(frame, lookout.end - frame, "forward", {frame: key})
            self._tracking.change(found.object_id, change, {frame: [found.seed]})
            self._send(frame, found.object_id, [found.figure], 0, self._tracking.version)
            self._tell_total()

    # --- updates -----------------------------------------------------------------------------------------------------------

    def _apply_all(self, wait_s: float = 0.0) -> bool:
        """Applies what is in the queue; whether there was anything. wait_s: for the first."""
        done = False
        while not self._stop.is_set():
            try:
                update = self._updates.get(timeout=wait_s) if wait_s else self._updates.get_nowait()
            except queue.Empty:
                break
            if wait_s and self._channel is None and not isinstance(update, MetaChanged):
                self._means.journal.begin(self.context.track_id, self._caller.address, self.context.kept())
                self._burst_begins()
            wait_s, done = 0.0, True
            self._apply(update)
        if done:
            self._save()
        return done

    def _apply(self, update: Update) -> None:
        match update:
            case Switched(by_detection=by_detection, off_screen=off_screen):
                context = self.context
                self._switch(
                    context.by_detection if by_detection is None else by_detection,
                    context.off_screen if off_screen is None else off_screen,
                )
            case TrackMore():
                self._track_more(update)
            case Continue():
                self._continue(update)
            case FiguresRemoved(object_id=ident, frames=frames):
                line = self._tracking.line(ident)
                if line is not None and ident not in self._loader.objects([ident]):
                    self._tracking.forget(ident)
                elif line is not None:
                    seeds = {f: s for f, s in self._tracking.seeds(ident).items() if not frames[0] <= f <= frames[1]}
                    self._tracking.change(ident, line.figures_removed(frames), seeds)
            case KeyChanged(object_id=ident, frame=frame):
                self._key_changed(ident, frame)
            case TagsChanged(object_id=ident):
                line = self._tracking.line(ident)
                found = self._loader.objects([ident]).get(ident) if line is not None else None
                if line is not None and found is not None:
                    change = line.changed(absent=self._loader.absent(found))
                    self._tracking.change(ident, change, self._tracking.seeds(ident))
            case MetaChanged():
                self._loader = replace(self._loader, project=project(self._server, self._scene.video.project_id))
                self._tracking.loader = self._loader
                if self._lookout is not None:
                    self._lookout.loader = self._loader

    def _track_more(self, update: TrackMore) -> None:
        record = self._scene.video
        if update.frame >= record.frames:
            self.warn(messages.beyond(update.frame, record.frames))
            return
        span = _span(update.frame, update.frames, update.direction, record.frames)
        named = figures_by_id(self._server, record.dataset_id, update.figure_ids, geometry=False)
        idents = {*update.object_ids, *(figure.object_id for figure in named.values())}
        records = self._loader.objects(sorted(idents))
        gone = idents - records.keys()
        if gone:
            self.warn(messages.gone(gone))
        drawn = self._loader.drawn(list(records), span)
        adopt: list[int] = []
        for ident in records:
            line = self._tracking.line(ident)
            here = drawn.get(ident, {})
            if update.frame not in here and not (
                line is not None and line.covers(update.frame, _way(update.direction))
            ):
                adopt.append(ident)
        predicted = self._loader.any_on(adopt, update.frame) if adopt else {}
        for ident, found in records.items():
            line = self._tracking.line(ident) or Timeline(ident, record.frames, absent=self._loader.absent(found))
            old = self._tracking.seeds(ident)
            keys, seeds = self._keys(line, old, drawn.get(ident, {}), span)
            if ident in adopt:
                found_there = predicted.get(ident, {}).get(update.frame, [])
                if found_there:
                    keys[update.frame] = key_of(found_there, adopted=True)
                    seeds[update.frame] = found_there
                else:
                    self.warn(messages.no_figure(ident, update.frame))
            if keys:
                change = line.asked(update.frame, update.frames, update.direction, keys)
                self._tracking.change(ident, change, seeds)
        if self._lookout is not None and update.direction != "backward":
            self._lookout.want(update.frame, span[1])
        self._tracking.try_again()

    def _continue(self, update: Continue) -> None:
        total = self._scene.video.frames
        span = _span(update.frame, update.frames, update.direction, total)
        lines = {i: line for i in self._tracking.object_ids if (line := self._tracking.line(i)) is not None}
        going = {i: line for i, line in lines.items() if line.covers(update.frame, _way(update.direction))}
        drawn = self._loader.drawn(list(going), span)
        for ident, line in going.items():
            keys, seeds = self._keys(line, self._tracking.seeds(ident), drawn.get(ident, {}), span)
            change = line.asked(update.frame, update.frames, update.direction, keys)
            self._tracking.change(ident, change, seeds)
        if self._lookout is not None and update.direction != "backward":
            self._lookout.want(update.frame, span[1])
        self._tracking.try_again()

    def _key_changed(self, ident: int, frame: int) -> None:
        line = self._tracking.line(ident)
        self._look_again.discard((ident, frame))
        if line is None:
            return
        here = self._loader.drawn([ident], (frame, frame)).get(ident, {}).get(frame, [])
        old = line.keys.get(frame)
        key = key_of(here) if here else None
        if key == old or (key is None and old is None):
            return
        seeds = {f: s for f, s in self._tracking.seeds(ident).items() if f != frame}
        if here:
            seeds[frame] = here
        self._tracking.change(ident, line.key_changed(frame, key), seeds)

    @staticmethod
    def _keys(
        line: Timeline, old: Mapping[int, list[Seed]], drawn: Mapping[int, list[Seed]], span: tuple[int, int]
    ) -> tuple[dict[int, Key], dict[int, list[Seed]]]:
        """Key figures after those on `span` were read anew; predictions that were tracked from stay where nobody drew."""
        kept = {
            f: key for f, key in line.keys.items() if not span[0] <= f <= span[1] or (key.adopted and f not in drawn)
        }
        keys = {**kept, **{f: key_of(seeds) for f, seeds in drawn.items()}}
        return keys, {**{f: old[f] for f in kept if f in old}, **drawn}

    def _check_usable(self) -> None:
        missing = self._tracking.unusable()
        looking = self._lookout is not None and self._lookout.next is not None
        if (
            not self._gave
            and self._tracking.steps_left() == 0
            and not looking
            and (missing or not self._tracking.object_ids)
        ):
            raise UserError(messages.NOTHING_TO_TRACK)
        if missing:
            self.warn(messages.no_engine(missing))

    # --- progress ------------------------------------------------------------------------------------------------------------

    def _burst_begins(self) -> None:
        """The bar is shown from the first moment to the end of what was asked for; while lingering there is none."""
        context = self.context
        self._channel = ProgressChannel(
            self._server,
            context.track_id,
            context.video_id,
            1,
            source_frame=context.frame_index,
            session_id=context.session_id,
            direct=context.direct and context.session_id is not None,
            stop=self._stop,
        )
        self._told_total, self._promised = 1, 0
        while self._warnings:
            self._channel.warn(self._warnings.popleft())

    def _tell_total(self) -> None:
        """The bar's length is what is done and what is left; it grows when more is asked for."""
        if self._channel is None:
            return
        left = self._tracking.steps_left()
        total = self._promised + left
        if total > self._told_total:
            self._channel.extend(total - self._told_total)
            self._told_total = total

    def _finish_burst(self) -> None:
        self._save()
        self._tell_refused()
        self._means.journal.end(self.context.track_id)
        self._burst_ends(None)

    def _tell_refused(self) -> None:
        assert self._writer is not None
        report = self._writer.report
        if report.refused > self._told_refused:
            self._told_refused = report.refused
            self.warn(messages.refused(report.refused, report.refusals[0] if report.refusals else ""))

    def _burst_ends(self, error: str | None) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.finish(error)

    def _linger(self) -> bool:
        """Waits for more to do; False when nothing came."""
        end = time.monotonic() + self._means.linger_s
        while (left := end - time.monotonic()) > 0 and not self._stop.is_set():
            if self._apply_all(wait_s=min(left, 0.2)):
                return True
        with self._lock:
            self._open = self._open and not self._updates.empty()
            return self._open

    # --- what outlives a crash --------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Goes on where an earlier session of this track ended, whether it crashed or waited long enough."""
        saved = self._means.journal.load(self.context.track_id)
        lines: dict[str, Any] = {} if saved is None else dict(saved.state.get("lines") or {})
        if saved is None or not lines or saved.context.get("videoId") != self.context.video_id:
            return
        video_record = self._scene.video
        records = self._loader.objects([int(ident) for ident in lines])
        first = None
        for ident, found in records.items():
            data = lines[str(ident)] if self._resume else _finished_only(lines[str(ident)])
            wanted = union([tuple(r) for r in data["forward"]], [tuple(r) for r in data["backward"]])
            if not wanted:
                continue
            span = (wanted[0][0], wanted[-1][1])
            seeds = self._loader.drawn([ident], span).get(ident, {})
            keys = {f: key_of(s) for f, s in seeds.items()}
            for frame in data["adopted"]:
                here = self._loader.any_on([ident], frame).get(ident, {}).get(frame, [])
                if frame not in keys and here:
                    keys[frame], seeds[frame] = key_of(here, adopted=True), here
            line = Timeline(ident, video_record.frames, keys, absent=self._loader.absent(found))
            change = line.restored(data)
            self._tracking.change(ident, change, seeds)
            ends = [frame for _, frame in change.timeline.todo()]
            first = min([*ends, *([] if first is None else [first])], default=first)
        if self._lookout is not None and self._resume and saved.state.get("look"):
            self._lookout.want(*saved.state["look"])
        self._tracking.offer(saved.legs)
        if first is not None and self._resume:
            self.warn(messages.resumed(first))

    def _save(self, timeout_s: float = 2.0) -> None:
        """Writes down how far everything is - if all of it is on the server: only that may be remembered as finished."""
        assert self._writer is not None
        self._next_save = time.monotonic() + self._means.save_every_s
        if not self._writer.flush(timeout_s) or self._abandon.is_set():
            return
        began = time.monotonic()
        state = self._tracking.state()
        if self._lookout is not None and self._lookout.next is not None:
            state["look"] = [self._lookout.next, self._lookout.end]
        self._means.journal.save(self.context.track_id, state, self._tracking.snapshots())
        ended = time.monotonic()
        self._next_save = ended + max(self._means.save_every_s, (ended - began) / SAVING_SHARE)


def _span(frame: int, frames: int, direction: str, total: int) -> tuple[int, int]:
    low = max(0, frame - frames) if direction in ("backward", "both") else frame
    high = min(total - 1, frame + frames) if direction in ("forward", "both") else frame
    return low, high


def _way(direction: str) -> str:
    return "backward" if direction == "backward" else "forward"


def _finished_only(data: dict[str, Any]) -> dict[str, Any]:
    """A saved timeline without what was asked for and not done."""
    spans: dict[int, list[tuple[int, int]]] = {1: [], -1: []}
    for start, step, _, last, _, _ in data["done"]:
        spans[step].append((min(start, last), max(start, last)))
    return {**data, "forward": union(spans[1]), "backward": union(spans[-1])}
