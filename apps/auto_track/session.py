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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from apps.auto_track import messages
from apps.auto_track.asks import Desk
from apps.auto_track.bar import Bar
from apps.auto_track.billing import Account, Bill, Cloud, cloud_of
from apps.auto_track.discovery import Engines
from apps.auto_track.engines import Scene
from apps.auto_track.frames import Frames
from apps.auto_track.journal import Journal
from apps.auto_track.lines import Options
from apps.auto_track.loading import Loader, key_of
from apps.auto_track.newcomers import Lookout
from apps.auto_track.resuming import restore
from apps.auto_track.settings import Settings
from apps.auto_track.timeline import Timeline
from apps.auto_track.tracking import Tracking
from apps.auto_track.updates import Billed, MetaChanged, Switched, TrackContext, Update
from common.errors import Interrupted, UserError
from common.serving.access import Caller
from common.serving.jobs import StopSignal
from common.serving.replies import sentence
from common.supervisely_io.cache import VideoCache
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
_WAITING = 256
"""Frames of single objects on their way to the server; those of a hundred objects at once still travel together."""


@dataclass(frozen=True)
class Means:
    """What sessions share. linger_s: how long a finished one waits for "continue". cloud: finds who is paid, if anybody."""

    videos: VideoCache
    journal: Journal
    engines: Callable[[Settings], Engines] = Engines
    linger_s: float = LINGER_S
    save_every_s: float = _SAVE_EVERY_S
    cloud: Callable[[Account | None, Caller, Server], Cloud | None] = cloud_of


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
        self._bar = Bar(self._server, context.track_id, self._stop)
        self._bill = Bill(self.warn, lambda owed: means.journal.owe(context.track_id, owed))
        self._desk: Desk
        self._told_refused = 0
        self._gave = False
        self._steps: deque[tuple[int, int, bool]] = deque()
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
        return self._bar.shown

    def has(self, object_id: int) -> bool:
        """Whether the session tracks that object, as far as it has got."""
        return not self._prepared.is_set() or object_id in self._tracking.object_ids

    # --- Outbox ----------------------------------------------------------------------------------------------------------

    def put(self, frame: int, object_id: int, figures: Sequence[NewFigure], steps: int, version: int) -> None:
        self._bar.promise(steps)
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
        self._bar.warn(message)

    def _send(self, frame: int, object_id: int, figures: Sequence[NewFigure], steps: int, version: int) -> None:
        assert self._writer is not None
        self._bill.given(steps)
        self._steps.append((frame, steps, bool(figures)))
        self._writer.put(frame, figures, [object_id], made_at=version)

    def _confirmed(self, confirmed: Confirmed) -> None:
        """On the writer's thread: a frame is stored."""
        frame, steps, had_figures = self._steps.popleft()
        self._bill.stored(steps, sum(confirmed.written.values()))
        self._bar.advance(frame, steps)
        for object_id in confirmed.objects:
            if had_figures and not confirmed.written.get(object_id):
                self._yielded(object_id, frame)

    def _yielded(self, object_id: int, frame: int) -> None:
        """On the writer's thread: a person's figure stands there, and none of ours."""
        self._bar.changed(frame)
        again = self._desk.look_again(object_id, frame)
        if again is not None:
            self._updates.put(again)

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
            self._bar.begin(self.context)
            error = self._guarded()
            self._bar.end(error)
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
        loader = Loader(self._server, record, found, self.warn)
        self._scene = Scene(self._server, self._caller, record, frames, self._stop, self.warn)
        self._engines = self._means.engines(self.settings)
        options = Options(self.context.track_id, self._engines.of, two_sided=self.settings.two_sided)
        self._tracking = Tracking(options, self._scene, loader, self, self._means.journal)
        self._desk = Desk(self._tracking, loader, record, self.warn)
        self._switch(self.context.by_detection, self.context.off_screen)
        self._prepared.set()

    def _switch(self, by_detection: bool, off_screen: bool) -> None:
        """Sets the tool's check boxes; for the frames from here on."""
        self.context = self.context.model_copy(update={"by_detection": by_detection, "off_screen": off_screen})
        hide = self.settings.disappear.enabled and off_screen
        self._tracking.lines.options = replace(self._tracking.lines.options, hide=hide)
        desk = self._desk
        detector = self._engines.detector() if by_detection and desk.lookout is None else None
        if not by_detection:
            desk.lookout = None
        elif detector is not None:
            choice = self._engines.detector_choice
            desk.lookout = Lookout(detector, choice, self._scene, desk.loader, self.context.track_id)

    def _work(self) -> None:
        record = self._scene.video
        with FigureWriter(
            # Once stopped, what is finished is still written, so the writer has an event of its own.
            self._server.to(stop=self._abandon),
            record,
            on_confirmed=self._confirmed,
            on_yielded=self._yielded,
            queue_frames=_WAITING,
            stop=self._abandon,
        ) as writer:
            self._writer = writer
            self._restore()
            self._bar.extend(self._tracking.lines.steps_left())
            asked = False
            try:
                while not self._stop.is_set():
                    asked = self._apply_all() or asked
                    if asked:
                        self._check_usable()
                        self._bar.extend(self._tracking.lines.steps_left())
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
                self._bill.settle()
                self._tell_refused()

    def _one_frame(self) -> bool:
        """One frame of tracking, or one look for new objects; False when there is nothing to do."""
        upcoming = self._tracking.next_frame()
        look = None if self._desk.lookout is None else self._desk.lookout.next
        if look is not None and (upcoming is None or upcoming[0] < 0 or look < upcoming[1]):
            self._look(look)
            return True
        if upcoming is None:
            return False
        self._bill.ahead(lambda: self._tracking.figures_at(upcoming), self._tracking.lines.steps_left)
        self._tracking.advance()
        return True

    def _look(self, frame: int) -> None:
        lookout = self._desk.lookout
        assert lookout is not None
        self._bill.ahead(lambda: 1, lambda: 1)
        for found in lookout.look(frame, self._tracking.lines.boxes(frame), self.warn):
            key = key_of([found.seed], adopted=True)
            line = Timeline(found.object_id, self._scene.video.frames)
            change = line.asked(frame, lookout.end - frame, "forward", {frame: key})
            self._tracking.change(found.object_id, change, {frame: [found.seed]})
            self._send(frame, found.object_id, [found.figure], 0, self._tracking.version)
            self._bar.extend(self._tracking.lines.steps_left())
        self._bill.given(1)
        self._bill.stored(1, 1)

    # --- updates -----------------------------------------------------------------------------------------------------------

    def _apply_all(self, wait_s: float = 0.0) -> bool:
        """Applies what is in the queue; whether there was anything. wait_s: for the first."""
        done = False
        while not self._stop.is_set():
            try:
                update = self._updates.get(timeout=wait_s) if wait_s else self._updates.get_nowait()
            except queue.Empty:
                break
            if isinstance(update, Billed):  # what it is for comes next
                self._bill.charge(self._means.cloud(update.account, self._caller, self._server))
                continue
            if wait_s and not self._bar.shown and not isinstance(update, MetaChanged):
                self._means.journal.begin(self.context.track_id, self._caller.address, self.context.kept())
                self._bar.begin(self.context)
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
            case _:
                self._desk.apply(update)

    def _check_usable(self) -> None:
        missing = self._tracking.lines.unusable()
        looking = self._desk.lookout is not None and self._desk.lookout.next is not None
        if (
            not self._gave
            and self._tracking.lines.steps_left() == 0
            and not looking
            and (missing or not self._tracking.object_ids)
        ):
            raise UserError(messages.NOTHING_TO_TRACK)
        if missing:
            self.warn(messages.no_engine(missing))

    def _finish_burst(self) -> None:
        self._bill.settle()
        self._save()
        self._tell_refused()
        self._means.journal.end(self.context.track_id)
        self._bar.end()

    def _tell_refused(self) -> None:
        assert self._writer is not None
        report = self._writer.report
        if report.refused > self._told_refused:
            self._told_refused = report.refused
            self.warn(messages.refused(report.refused, report.refusals[0] if report.refusals else ""))

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
        self._bill.inherit(self._means.journal.owed(self.context.track_id))
        saved = self._means.journal.load(self.context.track_id)
        if saved is None:
            return
        if not saved.state.get("lines") or saved.context.get("videoId") != self.context.video_id:
            return
        first = restore(saved, self._tracking, self._desk.loader, self._scene.video, self._resume)
        lookout = self._desk.lookout
        if lookout is not None and self._resume and saved.state.get("look"):
            lookout.want(*saved.state["look"])
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
        lookout = self._desk.lookout
        if lookout is not None and lookout.next is not None:
            state["look"] = [lookout.next, lookout.end]
        self._bill.write_down()
        self._means.journal.save(self.context.track_id, state, self._tracking.snapshots())
        ended = time.monotonic()
        self._next_save = ended + max(self._means.save_every_s, (ended - began) / SAVING_SHARE)
