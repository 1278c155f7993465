"""All tracks of this process: each id has one session at a time, and updates find theirs."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from apps.auto_track.billing import Account
from apps.auto_track.session import Means, Session
from apps.auto_track.settings import SettingsStore
from apps.auto_track.updates import Billed, Continue, MetaChanged, TrackContext, TrackMore, Update
from common.errors import UserError
from common.serving.access import Caller
from common.serving.replies import Rejected
from common.supervisely_io.server import Server

log = logging.getLogger(__name__)

MOST_SESSIONS = 64


class Tracks:
    """Thread-safe. Every method returns at once, but for `close`."""

    def __init__(self, means: Means, settings: SettingsStore, server_of: Callable[[Caller], Server]) -> None:
        self._means, self._settings, self._server_of = means, settings, server_of
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._closing = False

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    def busy(self) -> list[str]:
        """Tracks with something left to do."""
        with self._lock:
            return sorted(track for track, session in self._sessions.items() if session.busy)

    def track(self, context: TrackContext, caller: Caller, payer: Account | None = None) -> None:
        """`/track`: more for a running session, or a new one. payer: who pays for what is tracked from then on."""
        figures = () if context.object_ids else tuple(context.figure_ids)
        objects = tuple(context.object_ids or ())
        more = TrackMore(objects, context.frame_index, context.frames, context.direction, figures)
        self._deliver(context, caller, more, payer)

    def go_on(self, context: TrackContext, caller: Caller, payer: Account | None = None) -> None:
        """`/continue_track`: a session that has ended is taken up again from what is remembered of it."""
        with self._lock:
            known = context.track_id in self._sessions
        saved = None if known else self._means.journal.load(context.track_id)
        remembered = saved is not None and bool(saved.state.get("lines"))
        if known or (remembered and not context.object_ids):
            self._deliver(context, caller, Continue(context.frame_index, context.frames, context.direction), payer)
        else:
            if context.object_ids is None and not context.figure_ids:
                raise Rejected("This track is not running and nothing is remembered of it; objectIds are needed.")
            self.track(context, caller, payer)

    def resume(self, track_id: str, caller: Caller) -> bool:
        """Takes up a session that was running when the app died; False when nothing is known of it."""
        saved = self._means.journal.load(track_id)
        if saved is None or saved.server != caller.address:
            return False
        context = TrackContext.model_validate(saved.context)
        with self._lock:
            if track_id in self._sessions or self._closing:
                return True
            self._begin(context, caller, (), resume=True)
        return True

    def tell(self, update: Update, *, video_id: int | None = None, object_id: int | None = None) -> int:
        """An update for every session it concerns; how many there are."""
        told = 0
        for session in self._all():
            if video_id is not None and session.context.video_id != video_id:
                continue
            if object_id is not None and not session.has(object_id):
                continue
            told += session.offer(update)
        return told

    def meta_changed(self, project_id: int) -> None:
        for session in self._all():
            if session.project_id in (0, project_id):
                session.offer(MetaChanged())

    def stop(self, track_id: str) -> bool:
        with self._lock:
            session = self._sessions.get(track_id)
        if session is None:
            return False
        session.stop()
        return True

    def close(self, timeout_s: float = 15.0) -> None:
        """Stops every session; what they have finished is on the server, and they can be taken up again."""
        with self._lock:
            self._closing = True
        sessions = self._all()
        for session in sessions:
            session.stop()
        for session in sessions:
            session.join(timeout_s)

    def _all(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())

    def _deliver(self, context: TrackContext, caller: Caller, update: Update, payer: Account | None) -> None:
        updates = [update] if payer is None else [Billed(payer), update]
        with self._lock:
            if self._closing:
                raise Rejected("Auto Track is being stopped.", 503)
            session = self._sessions.get(context.track_id)
            if session is not None and session.context.video_id == context.video_id:
                switched = context.switched()
                if switched is not None:
                    session.offer(switched)
                if all(session.offer(one) for one in updates):
                    return
            if session is None and len(self._sessions) >= MOST_SESSIONS:
                raise Rejected(f"{MOST_SESSIONS} tracks are running already; wait until one has ended.", 503)
            self._begin(context, caller, updates, after=session)

    def _begin(
        self,
        context: TrackContext,
        caller: Caller,
        updates: Sequence[Update],
        after: Session | None = None,
        resume: bool = False,
    ) -> None:
        settings = self._settings.get(context.session_id)
        server = self._server_of(caller)
        session = Session(context, server, caller, settings, self._means, self._ended, resume)
        for update in updates:
            session.offer(update)
        self._sessions[context.track_id] = session
        session.start(after)

    def _ended(self, session: Session) -> None:
        with self._lock:
            if self._sessions.get(session.context.track_id) is session:
                del self._sessions[session.context.track_id]


class Errands:
    """Short work in the background, one after another on one thread. Thread-safe."""

    def __init__(self, most_waiting: int = 256) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(most_waiting)
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Raises `Rejected` when too much waits."""
        try:
            self._queue.put_nowait(work)
        except queue.Full:
            raise Rejected("Too much is waiting to be done; try again later.", 503) from None

    def close(self) -> None:
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except UserError as error:
                log.warning("an errand failed: %s", error)
            except Exception:
                log.exception("an errand failed")
