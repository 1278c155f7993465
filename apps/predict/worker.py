"""One video of a server from pictures to labels: fetched, predicted into a journal, uploaded; killed anywhere, it goes on."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from apps.cli.memory import release
from apps.cli.predict_job import template
from apps.predict.copying import copy_labels
from apps.predict.ledger import Ledger
from apps.predict.remote import ConnectedDetector
from apps.predict.schema import RunParameters
from apps.predict.seeds import video_seeds
from apps.predict.upload import Upload
from common.detection import registry as detectors
from common.detection.contract import Detector, DetectorSettings
from common.errors import Interrupted
from common.prediction.journal import Journal
from common.prediction.looks import Looks, make_looks
from common.prediction.results import Results
from common.prediction.settings import PredictionSettings
from common.prediction.video import predict_video
from common.serving.access import Caller
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.video.contract import FrameSource

DetectorMaker = Callable[[str, Any, DetectorSettings], Detector]


@dataclass(frozen=True)
class VideoTask:
    """job: whose. source: the video that is looked at. target: the one that gets the labels. fresh: the target is a copy
    that was made for this job; labels of the source are copied onto it unless they are to be replaced."""

    job: str
    source: int
    target: int
    fresh: bool


@dataclass(frozen=True)
class Done:
    """stopped: it can be gone on with. told: numbers for people."""

    stopped: bool
    told: Mapping[str, Any]


class VideoWorker:
    """Used by one thread. Picklable before it is called: executors may send it elsewhere, to where the folder is shared.

    checkpoint: file of a custom model on this machine. folder: for journals and videos.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        checkpoint: str | None,
        address: str,
        token: str,
        folder: str,
        cache_bytes: int,
    ) -> None:
        self._parameters = RunParameters.model_validate(parameters)
        self._settings = self._parameters.prediction(checkpoint)
        self._caller = Caller(address, token)
        self._folder = Path(folder)
        self._videos = VideoCache(self._folder / "videos", cache_bytes)
        self._detector: Detector | None = None
        self._looks: Looks | None = None
        self._looks_made = False

    def __repr__(self) -> str:
        return "VideoWorker()"

    def __call__(self, task: VideoTask, stop: threading.Event, report: Callable[[int, int], None]) -> Done:
        """Raises `UserError`."""
        place = self._folder / "jobs" / task.job
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with Server(self._caller.address, self._caller.token, stop=stop) as server:
            try:
                return self._work(server, task, place, stop, report)
            except Interrupted:
                return Done(True, {})

    def _work(
        self,
        server: Server,
        task: VideoTask,
        place: Path,
        stop: threading.Event,
        report: Callable[[int, int], None],
    ) -> Done:
        record = video(server, task.source)
        whole = 2 * max(record.frames, 1)
        with (
            self._videos.open(server, record) as source,
            Journal(place / f"{record.id}.sqlite", self._fingerprint(task)) as journal,
            Ledger(place / f"{record.id}.upload.sqlite") as ledger,
        ):
            done = journal.done or self._predict(server, task, record, source, journal, ledger, stop, report)
            if not done:
                return Done(True, {})
            release()
            target = record if task.target == task.source else video(server, task.target)
            if task.fresh and self._parameters.settings.predictions_mode != "replace":
                copy_labels(server, record, target, ledger)
            results = self._results(journal, ledger, source, stop)
            shape = template(results.finds, journal.skeleton)
            upload = Upload(server, target, results, shape, self._parameters, ledger, task.job, journal.detector, stop)
            written = upload.run(lambda n: report(record.frames + min(n, record.frames), whole))
            told: dict[str, Any] = asdict(written)
            told["seconds"] = round(journal.seconds, 2)
            if (damage := source.info.damage or journal.damage) is not None:
                told["damage"] = damage
            if results.note is not None:
                told["repair"] = results.note.strip()
            if results.repaired is not None:
                told["suggestions"] = [
                    {"kind": s.kind, "identities": list(s.ids), "frame": s.frame, "score": round(s.score, 3)}
                    for s in results.repaired.suggestions[:20]
                ]
        for leftover in place.glob(f"{record.id}.sqlite*"):
            leftover.unlink()
        return Done(False, told)

    def _predict(
        self,
        server: Server,
        task: VideoTask,
        record: VideoRecord,
        source: FrameSource,
        journal: Journal,
        ledger: Ledger,
        stop: threading.Event,
        report: Callable[[int, int], None],
    ) -> bool:
        detector = self._detector_for(server, task, stop)
        seeds = None
        settings = self._parameters.settings
        if settings.predictions_mode == "append" and settings.tracking and settings.tracking_settings.continue_labels:
            prepare = getattr(detector, "prepare", None)  # what it knows may be in its weights
            if prepare is not None:
                prepare()
            seeds = video_seeds(server, record, ledger, detector.card, journal.next_frame > 0)
        return predict_video(
            source,
            detector,
            self._settings,
            journal,
            looks=self._ready_looks(),
            stop=stop,
            on_frame=lambda n: report(n, 2 * max(record.frames, 1)),
            seeds=seeds,
            keep=True,
        )

    def _results(self, journal: Journal, ledger: Ledger, source: FrameSource, stop: threading.Event) -> Results:
        """As they were found when repair would take two labelled objects for one: people said that they are two."""
        results = Results(journal, self._settings, source.info, stop)
        if results.repaired is not None:
            seeds = [results.repaired.renamed.get(n, n) for n in range(1, len(ledger.get("seeds") or ()) + 1)]
            if len(set(seeds)) < len(seeds):
                return Results(journal, replace(self._settings, repair=False), source.info)
        return results

    def _fingerprint(self, task: VideoTask) -> str:
        plain = json.dumps([task.job, task.source, self._settings.to_json()], sort_keys=True)
        return hashlib.sha256(plain.encode()).hexdigest()

    def _detector_for(self, server: Server, task: VideoTask, stop: threading.Event) -> Detector:
        model = self._parameters.model
        if model.mode == "connect":
            assert model.session_id is not None
            settings = self._parameters.settings.inference_settings.model_dump(exclude_none=True)
            if self._parameters.classes:
                settings["classes"] = self._parameters.classes
            # trackers use weak detections, too; what is sure enough to be an object is decided here
            settings["confidence_threshold"] = settings["conf"] = self._settings.thresholds.low
            settings.pop("confidence", None)
            return ConnectedDetector(
                model.session_id, self._caller, video(server, task.source), settings, stop, self._settings.every
            )
        if self._detector is None or self._detector.card.temporal:
            self._detector = make_detector(self._settings)
        return self._detector

    def _ready_looks(self) -> Looks | None:
        if not self._looks_made:
            self._looks, self._looks_made = make_looks(self._settings.looks, self._settings.options), True
        return self._looks


def make_detector(settings: PredictionSettings) -> Detector:
    return detectors.make(settings.detector, settings.options, DetectorSettings(batch=settings.batch))
