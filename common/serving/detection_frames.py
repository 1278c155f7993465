"""Jobs that look at frames of videos, of the server or sent as a file, and give out what was found or write it there."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from common.association import registry as associators
from common.association.contract import Associator
from common.detection.contract import DetectorCard
from common.detection.selection import Selection
from common.errors import Interrupted, UserError, VideoUnreadable
from common.geometry.supervisely import geometry_type, to_json
from common.serving.detection_images import NEW_DATASET
from common.serving.detection_output import annotation, class_names, label, prediction, value_of, video_annotation
from common.serving.detection_pictures import caller_of_form, target_of
from common.serving.detection_requests import Frames, SentVideo, VideoFrames
from common.serving.detection_service import DetectionService, InferenceJob, asked_for, results_for
from common.serving.detection_upload import VideoUpload
from common.serving.detection_video import Looks, Seen, detect_video
from common.serving.envelope import Envelope
from common.serving.jobs import Job
from common.serving.replies import Rejected
from common.supervisely_io.copies import dataset_named, new_project
from common.supervisely_io.figures import figures
from common.supervisely_io.new_videos import stored_video
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.video.contract import FrameSource
from common.video.reader import open_source

_SPOOLED = 4 * 1024 * 1024


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


def of_server(service: DetectionService, envelope: Envelope, wait: bool) -> InferenceJob:
    """Frames of a video of the server; `upload` writes what has an identity onto it."""
    asked = VideoFrames.model_validate(asked_for(envelope))
    server = service.server(service.caller(envelope))
    check(service, asked)
    writes = asked.mode is not None
    if writes and (asked.mode != "append" or asked.output_project_id is not None):
        raise Rejected(
            "Onto a video what is found is appended; the Predict App replaces, merges and makes new projects."
        )
    if writes and asked.tracker is None:
        raise Rejected("Figures of a video belong to objects: name a `tracker`, which tells them apart.")

    def work(job: Job) -> list[dict[str, Any]] | None:
        view = server.to(stop=job.stop)
        record = video(view, asked.video_id)
        about = {"video_id": record.id, "dataset_id": record.dataset_id, "project_id": record.project_id}
        with contextlib.ExitStack() as stack:
            upload = None
            if writes and not job.stop.is_set():
                made = VideoUpload(view, record, service.model.card, job.uuid, asked.suffix, job.stop)
                upload = stack.enter_context(made)
            source = stack.enter_context(closing(service.videos.open(view, record)))
            return _through(service, job, source, asked, about, wait, upload)

    return _submitted(service, work, asked.video_id, wait)


def of_file(service: DetectionService, asked: SentVideo, file: BinaryIO, name: str) -> InferenceJob:
    """Frames of a video that came with the request. The file is gone once the job ended, unless it is to be stored: then it
    is a video of the server, and what has an identity is written onto it."""
    check(service, asked)
    server = target_of(service, asked, caller_of_form(service, asked), "video")
    if asked.mode in ("replace", "iou_merge"):
        raise Rejected("A video that is sent is labelled when it is new: ask for `upload_mode` append or create.")
    if server is not None and asked.tracker is None:
        raise Rejected("Figures of a video belong to objects: name a `tracker`, which tells them apart.")
    folder = service.settings.data / "uploads"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ending = Path(name).suffix[:8]
    suffix = ending if ending[1:].isalnum() else ""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix, delete=False) as kept:
        path = Path(kept.name)
        while piece := file.read(1 << 20):
            kept.write(piece)

    def work(job: Job) -> list[dict[str, Any]] | None:
        try:
            if job.stop.is_set():
                return None
            with contextlib.ExitStack() as stack:
                source = stack.enter_context(closing(open_source(path)))  # what is no video is not stored
                about: dict[str, Any] = {"name": name}
                upload = None
                if server is not None:
                    view = server.to(stop=job.stop)
                    record = _stored(view, asked, path, name, job)
                    if next(figures(view, record, geometry=False), None) is not None:
                        raise UserError(
                            f"{name} was sent before: it is video {record.id} and has labels already, which would be there "
                            "twice. Ask for that video by its id, or remove its labels first."
                        )
                    about |= {"video_id": record.id, "dataset_id": record.dataset_id, "project_id": record.project_id}
                    made = VideoUpload(view, record, service.model.card, job.uuid, asked.suffix, job.stop)
                    upload = stack.enter_context(made)
                try:
                    return _through(service, job, source, asked, about, wait=False, upload=upload)
                except UserError as error:
                    if upload is None or isinstance(error, Interrupted):
                        raise
                    raise UserError(f"{error} The video itself is stored: video {about['video_id']}.") from error
        finally:
            path.unlink(missing_ok=True)

    try:
        return _submitted(service, work, None, wait=False)
    except Rejected:
        path.unlink(missing_ok=True)
        raise


def _stored(server: Server, asked: SentVideo, path: Path, name: str, job: Job) -> VideoRecord:
    """The file as a video of the project that was asked for, or of a new one."""
    project = asked.output_project_id
    if project is None:
        assert asked.workspace_id is not None
        mark = f"Made by the detector app, request {job.uuid}."
        project = new_project(server, asked.workspace_id, "Predictions", "videos", mark)
    return stored_video(server, dataset_named(server, project, NEW_DATASET, None), path, name)


def _submitted(service: DetectionService, work: Callable[[Job], Any], video_id: int | None, wait: bool) -> InferenceJob:
    job = InferenceJob("video", work, video_id=video_id, results=results_for(wait))
    service.jobs.submit(job)
    return job


def check(service: DetectionService, asked: Frames) -> Selection:
    """What is wrong with a request is said at once, not by the job."""
    names = class_names(service.model.card)
    chosen = asked.selection(names)
    if asked.tracker is not None and asked.tracker not in associators.names():
        raise Rejected(f"There is no tracker {asked.tracker!r}. Known: {', '.join(associators.names())}.")
    asked.association(range(0, 1), 0.0, chosen, names)
    return chosen


def frames_seen(
    job: Job, source: FrameSource, asked: Frames, tracker: str | None, card: DetectorCard, look: Looks
) -> tuple[range, Iterator[Seen]]:
    """Which frames will be looked at, and each of them, looked at."""
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
    service: DetectionService,
    job: Job,
    source: FrameSource,
    asked: Frames,
    about: dict[str, Any],
    wait: bool,
    upload: VideoUpload | None = None,
) -> list[dict[str, Any]] | None:
    if job.stop.is_set():
        return None
    card, look = service.model.look()
    info = source.info
    _, seen = frames_seen(job, source, asked, asked.tracker, card, look)
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
        if upload is not None:
            upload.put(one)
        if job.results is not None:
            job.results.put(one.frame, [made], job.stop)
        else:
            given.append(made)
        job.advance(job.done + 1)
    if isinstance(job, InferenceJob):
        places: dict[str, Any] = {key: about[key] for key in ("video_id", "project_id") if key in about}
        job.final = {"video_ann": None if result is None else result.to_json(), **places}
    return given if wait else None


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
