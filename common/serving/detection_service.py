"""One process of a detector app, behind its endpoints: the detector, who asks, what runs, what is kept."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from common.association import registry as associators
from common.association.contract import Associator
from common.detection import registry
from common.detection.contract import Detections, Detector, DetectorCard, DetectorSettings
from common.detection.selection import Selection
from common.errors import Interrupted, UserError, VideoUnreadable
from common.geometry.supervisely import geometry_type, to_json
from common.serving.access import Caller
from common.serving.detection_images import ImageUpload, Pictured, look_through, pictures_by_id
from common.serving.detection_output import (
    annotation,
    class_names,
    label,
    prediction,
    value_of,
    video_annotation,
)
from common.serving.detection_requests import (
    Frames,
    Images,
    Inference,
    ProjectImages,
    ServerImages,
    TrackedVideo,
    VideoFrames,
)
from common.serving.detection_upload import VideoObjects
from common.serving.detection_video import Looks, Seen, detect_video
from common.serving.envelope import Envelope
from common.serving.jobs import Job, JobQueue
from common.serving.replies import Rejected, sentence
from common.serving.results import ResultStore
from common.serving.servers import Servers
from common.serving.settings import ServingSettings
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.listing import entities
from common.supervisely_io.progress import ProgressChannel
from common.supervisely_io.projects import datasets
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.supervisely_io.writer import Confirmed, FigureWriter
from common.video.contract import FrameSource, Image
from common.video.reader import open_source
from common.weights.options import EngineOptions

log = logging.getLogger(__name__)

_SPOOLED = 4 * 1024 * 1024
_WAITING_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Setup:
    """Which detector, and how it runs."""

    name: str
    options: EngineOptions = field(default_factory=EngineOptions)
    settings: DetectorSettings = field(default_factory=DetectorSettings)


class VideoResult:
    """The tracked video of one job, kept on disk beyond a few megabytes."""

    def __init__(self, width: int, height: int, frames: int) -> None:
        self._size, self._frames = (width, height), frames
        self._lines = tempfile.SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115 - it lives as long as the job is known
        self._classes: dict[int, str] = {}

    def add(self, frame: int, figures: Sequence[tuple[int, str, str, Mapping[str, Any]]]) -> None:
        """figures: track, class name as voted so far, geometry type, geometry."""
        for track, name, _, _ in figures:
            self._classes[track] = name
        row = [frame, [(track, kind, geometry) for track, _, kind, geometry in figures]]
        self._lines.write(json.dumps(row).encode() + b"\n")

    def to_json(self) -> dict[str, Any]:
        self._lines.seek(0)
        return video_annotation(self._size, self._frames, self._classes, (json.loads(line) for line in self._lines))


@dataclass(eq=False)
class InferenceJob(Job):
    """final: what `/get_inference_result` gives once the job ended; None for pictures."""

    final: dict[str, Any] | None = None


class DetectionService:
    """Made once per process. Its methods may be called from any thread and return soon, but for `close` and `load`.

    make: makes the detector of a set-up, for tests.
    """

    def __init__(
        self,
        title: str,
        version: str,
        setup: Setup,
        settings: ServingSettings,
        make: Callable[[Setup], Detector] | None = None,
    ) -> None:
        self.title, self.version, self.settings = title, version, settings
        self._make = make or (lambda chosen: registry.make(chosen.name, chosen.options, chosen.settings))
        self.setup = setup
        self._detector: Detector | None = None
        self._looking = threading.Lock()
        self.trouble: str | None = None
        self.jobs = JobQueue("inference", settings.workers)
        self.pictures = JobQueue("pictures", settings.batch_workers, keep_s=0.0)
        self.errands = JobQueue("errand", 1, keep_s=0.0)
        self._servers = Servers()
        self._videos: VideoCache | None = None
        self._lock = threading.Lock()

    # --- the detector --------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Makes the detector and looks once, which reads its weights. What is wrong is kept in `trouble`."""
        try:
            self._detector = self._loaded(self.setup)
            self.trouble = None
        except UserError as error:
            self.trouble = str(error)
            log.error("the detector could not be made ready: %s", error)

    def deploy(self, setup: Setup) -> None:
        """Another detector from now on; jobs under way go on with theirs. Raises what is wrong with it."""
        detector = self._loaded(setup)
        self._detector, self.setup, self.trouble = detector, setup, None

    def _loaded(self, setup: Setup) -> Detector:
        detector = self._make(setup)
        if not detector.card.temporal:
            detector.detect([np.full((64, 64, 3), 114, np.uint8)])
        return detector

    @property
    def ready(self) -> bool:
        return self._detector is not None

    @property
    def detector(self) -> Detector:
        """Raises `Rejected` (503) while there is none."""
        if self._detector is None:
            raise Rejected(self.trouble or "The model is being loaded.", 503)
        return self._detector

    @property
    def card(self) -> DetectorCard:
        return self.detector.card

    def _look(self) -> tuple[DetectorCard, Looks]:
        """For one job: a detector that compares frames is its own, others are shared and used by one at a time."""
        detector = self.detector
        if detector.card.temporal:
            detector = self._make(self.setup)
            return detector.card, detector.detect

        def look(images: list[Image]) -> list[Detections]:
            with self._looking:
                return detector.detect(images)

        return detector.card, look

    # --- who asks ------------------------------------------------------------------------------------------------------

    def caller(self, envelope: Envelope) -> Caller:
        return self.settings.access.caller(envelope.server_address, envelope.token)

    def server(self, caller: Caller) -> Server:
        return self._servers.of(caller)

    @property
    def videos(self) -> VideoCache:
        with self._lock:
            if self._videos is None:
                self.settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._videos = VideoCache(self.settings.data / "videos", self.settings.cache_bytes)
            return self._videos

    def close(self) -> None:
        """Stops every job."""
        for queue in (self.errands, self.pictures, self.jobs):
            queue.close()
        with self._lock:
            if self._videos is not None:
                self._videos.close()
        self._servers.close()

    def find(self, ident: str) -> InferenceJob:
        """Raises `Rejected` (404)."""
        job = self.jobs.get(ident)
        if not isinstance(job, InferenceJob):
            raise Rejected("There is no such inference request; it may have ended long ago.", 404)
        return job

    # --- pictures ------------------------------------------------------------------------------------------------------

    def picture_job(
        self,
        asked: Inference,
        pictures: Callable[[Job], Iterable[tuple[Image, dict[str, Any]]]],
        total: int,
        wait: bool,
    ) -> InferenceJob:
        """Detects in pictures that came with the request, each given with what is known of it. wait: the caller waits for
        the answer (the outcome is the list of predictions); else it fetches them."""
        _no_upload(asked)
        return self._picture_job(
            asked, lambda job: ((picture, about, None) for picture, about in pictures(job)), total, wait, None
        )

    def _picture_job(
        self,
        asked: Inference,
        pictures: Callable[[Job], Generator[Pictured, None, None]],
        total: int,
        wait: bool,
        upload: Callable[[Job], ImageUpload] | None,
    ) -> InferenceJob:
        if self.card.temporal:
            raise Rejected(
                f"{self.card.title} compares the frames of a video; it has nothing to say of single pictures."
            )
        chosen = asked.selection(class_names(self.card))
        store = None if wait else ResultStore(_WAITING_BYTES, size=_weight)
        batch = asked.batch_size or 1

        def work(job: Job) -> list[dict[str, Any]] | None:
            job.advance(0, total)
            card, look = self._look()
            with contextlib.ExitStack() as stack:
                sink = None if upload is None else stack.enter_context(upload(job))
                source = stack.enter_context(closing(pictures(job)))
                given = look_through(job, source, card, look, chosen, batch, sink)
            if sink is not None and sink.project is not None and isinstance(job, InferenceJob):
                job.final = {"project_id": sink.project}
            return given if wait else None

        job = InferenceJob("pictures", work, results=store)
        (self.pictures if wait else self.jobs).submit(job)
        return job

    def images(self, envelope: Envelope, wait: bool) -> InferenceJob:
        asked = Images.model_validate(_state(envelope))
        return self._server_images(envelope, asked, asked.ids, wait)

    def project_images(self, envelope: Envelope) -> InferenceJob:
        """All pictures of a project, or of some of its datasets."""
        asked = ProjectImages.model_validate(_state(envelope))
        server = self.server(self.caller(envelope))
        chosen = asked.dataset_ids
        if chosen is None:
            chosen = [ident for ident, _ in datasets(server, asked.project_id)]
        ids = [int(e["id"]) for ident in chosen for e in entities(server, "images.list", {"datasetId": ident})]
        return self._server_images(envelope, asked, ids, wait=False)

    def _server_images(self, envelope: Envelope, asked: ServerImages, ids: Sequence[int], wait: bool) -> InferenceJob:
        server = self.server(self.caller(envelope))
        overlap = asked.overlap

        def upload(job: Job) -> ImageUpload:
            return ImageUpload(server.to(stop=job.stop), asked, overlap, job.uuid)

        def pictures(job: Job) -> Generator[Pictured, None, None]:
            return pictures_by_id(server.to(stop=job.stop), ids)

        return self._picture_job(asked, pictures, len(ids), wait, None if asked.mode is None else upload)

    # --- videos --------------------------------------------------------------------------------------------------------

    def video(self, envelope: Envelope, wait: bool) -> InferenceJob:
        """Frames of a video of the server."""
        asked = VideoFrames.model_validate(_state(envelope))
        server = self.server(self.caller(envelope))
        _no_upload(asked)
        self._check(asked)

        def work(job: Job) -> list[dict[str, Any]] | None:
            view = server.to(stop=job.stop)
            record = video(view, asked.video_id)
            about = {"video_id": record.id, "dataset_id": record.dataset_id, "project_id": record.project_id}
            with closing(self.videos.open(view, record)) as source:
                return self._through(job, source, asked, about, wait)

        return self._submit_video(work, asked.video_id, wait)

    def video_file(self, asked: Frames, file: BinaryIO, name: str) -> InferenceJob:
        """Frames of a video that came with the request; it is gone once the job ended."""
        _no_upload(asked)
        self._check(asked)
        folder = self.settings.data / "uploads"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=Path(name).suffix[:8], delete=False) as kept:
            path = Path(kept.name)
            while piece := file.read(1 << 20):
                kept.write(piece)

        def work(job: Job) -> list[dict[str, Any]] | None:
            try:
                if job.stop.is_set():
                    return None
                with closing(open_source(path)) as source:
                    return self._through(job, source, asked, {"name": name}, wait=False)
            finally:
                path.unlink(missing_ok=True)

        try:
            return self._submit_video(work, None, wait=False)
        except Rejected:
            path.unlink(missing_ok=True)
            raise

    def _submit_video(self, work: Callable[[Job], Any], video_id: int | None, wait: bool) -> InferenceJob:
        store = None if wait else ResultStore(_WAITING_BYTES, size=_weight)
        job = InferenceJob("video", work, video_id=video_id, results=store)
        self.jobs.submit(job)
        return job

    def _check(self, asked: Frames) -> Selection:
        """What is wrong with a request is said at once, not by the job."""
        chosen = asked.selection(class_names(self.card))
        if asked.tracker is not None and asked.tracker not in associators.names():
            raise Rejected(f"There is no tracker {asked.tracker!r}. Known: {', '.join(associators.names())}.")
        asked.association(range(0, 1), 0.0, chosen, class_names(self.card))
        return chosen

    def _seen(
        self, job: Job, source: FrameSource, asked: Frames, tracker: str | None, card: DetectorCard, look: Looks
    ) -> tuple[range, Iterator[Seen]]:
        info = source.info
        if info.frames < 1:
            raise VideoUnreadable(f"Video {info.name!r} has no frames that can be decoded.")
        frames = asked.frames(info.frames, info.fps)
        names = class_names(card)
        chosen = asked.selection(names)
        associator: Associator | None = None
        if tracker is not None:
            associator = associators.make(tracker, asked.association(frames, info.fps, chosen, names))
        job.advance(0, len(frames))
        batch = 1 if card.temporal else asked.batch_size or 1
        seen = detect_video(
            source, frames, look, names, chosen, associator, batch, job.stop.is_set, tracker is not None and asked.looks
        )
        return frames, seen

    def _through(
        self, job: Job, source: FrameSource, asked: Frames, about: dict[str, Any], wait: bool
    ) -> list[dict[str, Any]] | None:
        if job.stop.is_set():
            return None
        card, look = self._look()
        info = source.info
        _, seen = self._seen(job, source, asked, asked.tracker, card, look)
        result = None if asked.tracker is None else VideoResult(info.width, info.height, info.frames)
        names = class_names(card)
        given: list[dict[str, Any]] = []
        for one in seen:
            labels, ids, figures = [], [], []
            for row, ident, number, score in _rows(one):
                value = value_of(one.detections, row, card)
                if value is None:
                    continue
                labels.append(label(names[number], value, score, info.width, info.height))
                if ident is not None:
                    ids.append(ident)
                    geometry = to_json(value, info.width, info.height)
                    figures.append((ident, names[number], geometry_type(value), geometry))
            tracked = ids if asked.tracker is not None else None
            made = prediction(annotation(labels, info.width, info.height, tracked), frame_index=one.frame, **about)
            if result is not None:
                result.add(one.frame, figures)
            if job.results is not None:
                job.results.put(one.frame, [made], job.stop)
            else:
                given.append(made)
            job.advance(job.done + 1)
        if isinstance(job, InferenceJob):
            job.final = {"video_ann": None if result is None else result.to_json()}
        return given if wait else None

    # --- figures of the annotation tool ----------------------------------------------------------------------------------

    def tracking(self, envelope: Envelope) -> InferenceJob:
        """`/tracking_by_detection`; the same request again, while its job runs, is the same job. Raises after telling the
        annotation tool, if it can be told."""
        caller = self.caller(envelope)
        server = self.server(caller)
        asked = TrackedVideo.model_validate({**envelope.state, **envelope.context})
        for other in self.jobs.of_track(asked.track_id):
            same = other.asked == asked and other.owner == caller.fingerprint
            if isinstance(other, InferenceJob) and same and other.active and not other.stop.is_set():
                return other
        job = InferenceJob(
            "tracking_by_detection", _later, asked.track_id, asked.video_id, owner=caller.fingerprint, asked=asked
        )
        teller = ProgressChannel(
            server,
            asked.track_id,
            asked.video_id,
            1,  # how many frames there are is known once the video is open
            source_frame=asked.start or 0,
            session_id=asked.session_id,
            direct=asked.direct and asked.session_id is not None,
            stop=job.stop,
        )
        try:
            self._check(asked)
            job.work = lambda running: self._label(running, server, asked, teller)
            self.jobs.submit(job)
        except Rejected as error:
            message = str(error)
            self.errands.submit(Job("refusal", lambda _: teller.finish(message)))
            raise
        return job

    def _label(self, job: Job, server: Server, asked: TrackedVideo, teller: ProgressChannel) -> None:
        error: str | None = None
        try:
            if not job.stop.is_set():
                view = server.to(session_id=asked.session_id, stop=job.stop)
                record = video(view, asked.video_id)
                with closing(self.videos.open(view, record)) as source:
                    self._label_source(job, view, record, source, asked, teller)
        except Interrupted:
            job.stop.set()
        except Exception as caught:
            error = sentence(caught)
            raise
        finally:
            teller.finish(error)

    def _label_source(
        self,
        job: Job,
        server: Server,
        record: VideoRecord,
        source: FrameSource,
        asked: TrackedVideo,
        teller: ProgressChannel,
    ) -> None:
        card, look = self._look()
        frames, seen = self._seen(job, source, asked, asked.tracker or associators.names()[0], card, look)
        teller.extend(len(frames) - 1)

        def stored(confirmed: Confirmed) -> None:
            job.advance(job.done + 1)
            teller.advance(confirmed.frame)

        writer = FigureWriter(server, record, mode="append", on_confirmed=stored, stop=job.stop)
        finished = False
        try:
            objects = VideoObjects(server, record, card, writer, asked.track_id, asked.suffix)
            for one in seen:
                if job.stop.is_set():
                    break
                objects.put(one)
            finished = not job.stop.is_set()
        finally:
            # what was found before an error is kept; after a stop nothing more is written
            report = writer.close(drop=job.stop.is_set())
        if finished and report.refused:
            teller.warn(f"The server refused {report.refused} figures: {'; '.join(report.refusals[:3])}")


def _rows(seen: Seen) -> Iterator[tuple[int, int | None, int, float]]:
    """Row of the detections, identity, class and score of everything to be given on a frame."""
    found, tracks = seen.detections, seen.tracks
    if tracks is None:
        for row in range(len(found)):
            yield row, None, int(found.classes[row]), float(found.scores[row])
        return
    for row, ident, number in zip(tracks.rows, tracks.ids, tracks.classes, strict=True):
        if row >= 0:
            yield int(row), int(ident), int(number), float(found.scores[int(row)])


def _state(envelope: Envelope) -> dict[str, Any]:
    return {**envelope.context, **envelope.state}


def _no_upload(asked: Inference) -> None:
    if asked.upload or asked.upload_mode or asked.output_project_id is not None:
        raise Rejected("Only what is found in images of the server can be written onto them.", 501)


def _weight(made: Mapping[str, Any]) -> int:
    """About how many bytes a prediction takes."""
    objects = (made["annotation"] or {}).get("objects") or ()
    return 1000 + sum(
        800 + len((one.get("bitmap") or {}).get("data") or "") + 60 * len(one.get("nodes") or ()) for one in objects
    )


def _later(_: Job) -> None:
    raise AssertionError("a job was started before its work was known")
