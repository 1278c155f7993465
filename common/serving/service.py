"""One process of a tracker app, behind its endpoints: who asks, what runs, what is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from common.errors import UserError
from common.serving.access import Caller
from common.serving.batches import Batch, Wanted, run_batch
from common.serving.engine_memory import EngineMemory, MemoryKey
from common.serving.engines import Engines
from common.serving.envelope import (
    ApiContext,
    AsyncContext,
    BatchContext,
    CacheState,
    Envelope,
    JobContext,
    Session,
    TrackContext,
)
from common.serving.jobs import Job, JobQueue
from common.serving.models import Models
from common.serving.outputs import FetchedOutput, FigureOutput
from common.serving.pictures import Pictures
from common.serving.replies import Rejected, problem
from common.serving.results import ResultStore
from common.serving.servers import Servers
from common.serving.settings import ServingSettings, TrackerApp
from common.serving.targets import Loaded, Target, from_request, from_server, read_value
from common.serving.tracking_job import Silent, Teller, TrackingWork
from common.serving.unfinished import Unfinished
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.progress import ProgressChannel
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.video.contract import FrameSource

log = logging.getLogger(__name__)


class Service:
    """Made once per process. Its methods may be called from any thread and return soon, but for `close`."""

    def __init__(self, app: TrackerApp, settings: ServingSettings, engines: Engines | None = None) -> None:
        self.app, self.settings = app, settings
        self.engines = engines or Engines(app.engines(settings.tracker))
        self.jobs = JobQueue("tracking", settings.workers)
        self.batches = JobQueue("batch", settings.batch_workers, keep_s=0.0)
        self.errands = JobQueue("errand", 2, most_waiting=256, keep_s=0.0)
        self.pictures = Pictures()
        self.trouble: str | None = None
        """Why the trackers could not be made, once that is known."""
        self.models = Models(self.engines, settings.data / "model.json", settings.tracker, settings.options)
        self.memory = EngineMemory(max_bytes=settings.memory_bytes)
        self._servers = Servers()
        self._unfinished = Unfinished(settings.data / "unfinished")
        self._videos: VideoCache | None = None
        self._lock = threading.Lock()
        self._starting = threading.Lock()

    @property
    def videos(self) -> VideoCache:
        with self._lock:
            if self._videos is None:
                folder = self.settings.data / "videos"
                self.settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._videos = VideoCache(folder, self.settings.cache_bytes)
            return self._videos

    def close(self) -> None:
        """Stops every job; each says its last message."""
        self.models.close()
        for queue in (self.errands, self.batches, self.jobs):
            queue.close()
        with self._lock:
            if self._videos is not None:
                self._videos.close()
        self._servers.close()

    # --- who asks ----------------------------------------------------------------------------------------------------------

    def caller(self, envelope: Envelope) -> Caller:
        return self.settings.access.caller(envelope.server_address, envelope.token)

    def server(self, caller: Caller) -> Server:
        return self._servers.of(caller)

    # --- tracking jobs -----------------------------------------------------------------------------------------------------

    def track(self, envelope: Envelope) -> Job:
        """`/track`; the same request again, while its job runs, is the same job. Raises `Rejected`, ValidationError - after telling the annotation tool, if it can be told."""
        caller = self.caller(envelope)
        server = self.server(caller)
        try:
            asked = TrackContext.model_validate(envelope.context)
        except ValidationError as error:
            self._tell_refusal(server, envelope, problem(error))
            raise
        with self._starting:
            twin = self._twin("track", asked, asked.track_id, caller)
            if twin is not None:
                return twin
            return self._start_track(asked, server, caller)

    def resume(self) -> int:
        """Begins again what was under way when the app died, with the app's own token; how many jobs."""
        access = self.settings.access
        if not access.address or not access.token:
            return 0
        caller = access.caller(None, None)
        server, resumed = self.server(caller), 0
        for uuid, context in self._unfinished.left_over():
            try:
                asked = TrackContext.model_validate(context)
                with self._starting:
                    self._start_track(asked, server, caller, "The tracker was restarted; it begins this track again.")
            except (ValidationError, Rejected) as error:
                log.warning("a job from before the restart was left out: %s", error)
            else:
                resumed += 1
            self._unfinished.end(uuid)
        return resumed

    def _start_track(self, asked: TrackContext, server: Server, caller: Caller, notice: str | None = None) -> Job:
        job = Job("track", _later, asked.track_id, asked.video_id, owner=caller.fingerprint, asked=asked)
        first, last = asked.frame_index + asked.step, max(0, asked.frame_index + asked.step * asked.frames)
        self._submit(
            job,
            server,
            asked,
            asked.track_id,
            len(asked.figure_ids),
            lambda srv, record: from_server(asked, srv, record, self.app.shapes),
            lambda record, size, stored: FigureOutput(
                server, record, size, asked.track_id, job, stored, (set(asked.object_ids), first, last)
            ),
            notice=notice,
        )
        if caller.address == self.settings.access.address:
            self._unfinished.begin(job.uuid, asked.model_dump(mode="json"))
            job.ended.add_done_callback(lambda _: self._unfinished.end(job.uuid))
        return job

    def _twin(self, kind: str, asked: Session, track_id: str, caller: Caller) -> Job | None:
        """The job of the same request, when that is under way: a caller who got no answer sends it again."""
        for job in self.jobs.of_track(track_id):
            same = job.kind == kind and job.asked == asked and job.owner == caller.fingerprint
            if same and job.active and not job.stop.is_set():
                return job
        return None

    def track_async(self, envelope: Envelope, teller: Teller | None = None) -> Job:
        """`/track_async`; `/track_stream` brings a teller of its own. Raises as `track` does."""
        caller = self.caller(envelope)
        server = self.server(caller)
        try:
            asked = AsyncContext.model_validate(envelope.context)
        except ValidationError as error:
            self._tell_refusal(server, envelope, problem(error))
            raise
        arrays = self.settings.arrays if asked.result_format is None else asked.result_format == "array"
        store = ResultStore()
        job = Job(
            "track_async",
            _later,
            asked.track_id,
            asked.video_id,
            results=store,
            arrays=arrays,
            owner=caller.fingerprint,
        )
        self._submit(
            job,
            server,
            asked,
            asked.track_id,
            len(asked.figures),
            lambda srv, record: from_request(asked, srv, record, self.app.shapes),
            lambda record, size, stored: FetchedOutput(store, size, asked.track_id, job, stored),
            teller,
        )
        return job

    def _submit(
        self,
        job: Job,
        server: Server,
        asked: Session,
        track_id: str | None,
        announced: int,
        load: Callable[..., Loaded],
        output: Callable[..., Any],
        teller: Teller | None = None,
        notice: str | None = None,
    ) -> None:
        # The tool is told before the job's turn comes: it shows the bar at once, and can stop a job that still waits.
        if teller is None:
            teller = Silent() if track_id is None else self._channel(server, asked, track_id, announced, job)
        if notice is not None:
            teller.warn(notice)
        job.total = announced
        job.work = TrackingWork(asked, server, self.videos, self.engines, teller, announced, load, output)
        try:
            self.jobs.submit(job)
        except Rejected as error:
            message, told = str(error), teller
            self._errand("refusal", lambda: told.finish(message))
            raise

    def _channel(self, server: Server, asked: Session, track_id: str, total: int, job: Job) -> ProgressChannel:
        return ProgressChannel(
            server,
            track_id,
            asked.video_id,
            total,
            source_frame=asked.frame_index,
            session_id=asked.session_id,
            direct=asked.direct and asked.session_id is not None,
            stop=job.stop,
        )

    def _tell_refusal(self, server: Server, envelope: Envelope, message: str) -> None:
        """The annotation tool looks at notifications, not at the reply."""
        context = envelope.context
        track_id, video_id = context.get("trackId"), context.get("videoId", context.get("video_id"))
        if track_id is None or not str(video_id).isdecimal():
            return
        session = context.get("sessionId")
        direct = bool(context.get("useDirectProgressMessages")) and session is not None
        self._errand(
            "refusal",
            lambda: ProgressChannel(
                server,
                str(track_id),
                int(str(video_id)),
                1,
                session_id=None if session is None else str(session),
                direct=direct,
            ).finish(message),
        )

    def _errand(self, kind: str, work: Callable[[], object]) -> Job | None:
        try:
            return self.errands.submit(Job(kind, lambda _: work()))
        except Rejected as error:
            log.warning("%s was left out: %s", kind, error)
            return None

    # --- jobs that were started --------------------------------------------------------------------------------------------

    def find(self, asked: JobContext) -> list[Job]:
        """The job of a uuid, or the jobs of a track. Raises `Rejected` (400, 404)."""
        if asked.uuid is not None:
            job = self.jobs.get(asked.uuid)
            found = [] if job is None else [job]
        elif asked.track_id is not None:
            found = self.jobs.of_track(asked.track_id)
        else:
            raise Rejected("Name the job: inference_request_uuid, or trackId.")
        if not found:
            raise Rejected("There is no such job; it may have ended long ago.", 404)
        return found

    # --- batches -----------------------------------------------------------------------------------------------------------

    def batch(self, envelope: Envelope) -> Job:
        """`/track-api`: the job's outcome is a `Batch`."""
        caller = self.caller(envelope)
        server = self.server(caller)
        asked = ApiContext.model_validate(envelope.context)

        def work(job: Job) -> Batch:
            view = server.to(stop=job.stop)
            record = video(view, asked.video_id)
            source = self.videos.open(view, record)
            try:
                key = None
                if asked.session is not None:
                    key = MemoryKey(caller.fingerprint, asked.session, asked.video_id, asked.step)
                return self._run_batch(source, asked, key, job)
            finally:
                source.close()

        return self.batches.submit(Job("track-api", work, video_id=asked.video_id))

    def files_batch(self, asked: BatchContext, source: FrameSource) -> Job:
        """`/track-api-files`."""
        return self.batches.submit(Job("track-api-files", lambda job: self._run_batch(source, asked, None, job)))

    def _run_batch(self, source: FrameSource, asked: BatchContext, key: MemoryKey | None, job: Job) -> Batch:
        info = source.info
        columns = []
        for number, column in enumerate(asked.input_geometries):
            name = str(number) if column.key is None else column.key
            target = None
            if column.data is not None:
                value = read_value(column.type, column.data, info.width, info.height, self.app.shapes, column.bones)
                target = Target(name, value, column.type)
            columns.append(Wanted(name, column.type, target))
        if len({column.key for column in columns}) != len(columns):
            raise Rejected("Two objects have the same key.")
        memory = () if key is None else self.memory.get(key)
        batch = run_batch(
            source,
            asked.frame_index,
            asked.step,
            asked.frames,
            columns,
            self.engines,
            memory,
            remember=key is not None,
            stop_requested=job.stop.is_set,
        )
        if key is not None:
            # What this batch began from is kept too: a caller who got no answer sends it again.
            began = tuple(before for before in memory if before.frame == asked.frame_index)
            self.memory.put(key, batch.memory + began)
        return batch

    # --- cache -------------------------------------------------------------------------------------------------------------

    def warm(self, envelope: Envelope) -> None:
        """`/smart_cache`."""
        asked = CacheState.model_validate(envelope.state or envelope.context)
        caller = self.settings.access.caller(
            asked.server_address or envelope.server_address, asked.token or envelope.token
        )
        if asked.video_id is None:
            if not asked.image_ids and not asked.image_hashes:
                raise Rejected("Name what to cache: video_id, image_ids or image_hashes.")
            return  # trackers need no single images
        ident, server = asked.video_id, self.server(caller)
        ranges = [*asked.frame_ranges, *((index, index) for index in asked.frame_indexes)]

        def fetch() -> None:
            try:
                self.videos.warm(server, video(server, ident), ranges)
            except UserError as error:
                log.warning("video %d was not fetched ahead: %s", ident, error)

        if self._errand("cache", fetch) is None:
            raise Rejected("Too much is being cached already; try again later.", 503)


def _later(_: Job) -> None:
    raise RuntimeError("the job was given no work")
