"""`/tracking_by_detection`: what is found becomes objects and figures of the video, and the annotation tool is told."""

from __future__ import annotations

from contextlib import closing

from common.association import registry as associators
from common.errors import Interrupted
from common.serving.detection_frames import check, frames_seen
from common.serving.detection_requests import TrackedVideo
from common.serving.detection_service import DetectionService, InferenceJob
from common.serving.detection_upload import VideoUpload
from common.serving.envelope import Envelope
from common.serving.jobs import Job
from common.serving.outputs import untold
from common.serving.replies import Rejected, sentence
from common.supervisely_io.progress import ProgressChannel
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.supervisely_io.writer import Confirmed
from common.video.contract import FrameSource


def start(service: DetectionService, envelope: Envelope) -> InferenceJob:
    """The same request again, while its job runs, is the same job. Raises after telling the annotation tool, if it can be
    told."""
    caller = service.caller(envelope)
    server = service.server(caller)
    asked = TrackedVideo.model_validate({**envelope.state, **envelope.context})
    for other in service.jobs.of_track(asked.track_id):
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
        check(service, asked)
        job.work = lambda running: _label(service, running, server, asked, teller)
        service.jobs.submit(job)
    except Rejected as error:
        message = str(error)
        service.errands.submit(Job("refusal", lambda _: teller.finish(message)))
        raise
    return job


def _label(service: DetectionService, job: Job, server: Server, asked: TrackedVideo, teller: ProgressChannel) -> None:
    error: str | None = None
    try:
        if not job.stop.is_set():
            view = server.to(session_id=asked.session_id, stop=job.stop)
            record = video(view, asked.video_id)
            with closing(service.videos.open(view, record)) as source:
                _label_source(service, job, view, record, source, asked, teller)
    except Interrupted:
        job.stop.set()
    except Exception as caught:
        error = sentence(caught)
        raise
    finally:
        teller.finish(error)


def _label_source(
    service: DetectionService,
    job: Job,
    server: Server,
    record: VideoRecord,
    source: FrameSource,
    asked: TrackedVideo,
    teller: ProgressChannel,
) -> None:
    card, look = service.model.look()
    frames, seen = frames_seen(job, source, asked, asked.tracker or associators.names()[0], card, look)
    teller.extend(len(frames) - 1)

    def stored(confirmed: Confirmed) -> None:
        job.advance(job.done + 1)
        teller.advance(confirmed.frame)

    with VideoUpload(server, record, card, asked.track_id, asked.suffix, job.stop, stored) as upload:
        for one in seen:
            if job.stop.is_set():
                break
            upload.put(one)
    warning = None if upload.report is None else untold(upload.report)
    if warning is not None:
        teller.warn(warning)


def _later(_: Job) -> None:
    raise AssertionError("a job was started before its work was known")
