"""Prediction of videos on this machine's disk: one video into its result files, in this process or in a worker of others."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from apps.cli.job import JOURNAL, _identity, _prepare, _spare, _version
from apps.cli.memory import release
from apps.cli.progress import Reporter
from apps.cli.prompts import Label, Prompts
from apps.cli.results import write_results
from common.detection import registry as detectors
from common.detection.contract import Detector, DetectorSettings, Finds
from common.errors import Interrupted, OutputUnusable
from common.geometry.annotation import AnnotatedObject
from common.geometry.meta import ObjectClass, ProjectMeta
from common.geometry.shapes import Shape, Skeleton, Value, to_points
from common.geometry.types import Box, Mask, OrientedBox
from common.prediction.journal import Journal
from common.prediction.looks import Looks, make_looks
from common.prediction.results import Identity, Results
from common.prediction.settings import PredictionSettings
from common.prediction.video import predict_video
from common.tracking.contract import Prediction
from common.tracking.journal import Result
from common.video.contract import VideoInfo
from common.video.reader import open_source


@dataclass(frozen=True)
class VideoJob:
    """One video on disk, and where its results go. Plain values: it may travel to another process."""

    video: str
    out: str
    overlay: bool = True


@dataclass(frozen=True)
class Predicted:
    """What became of one video. stopped: it was interrupted and can be gone on with. damage: frames that were unreadable."""

    stopped: bool
    frames: int = 0
    objects: int = 0
    seconds: float = 0.0
    damage: str | None = None
    repair: str | None = None


class Worker:
    """Predicts one video after another; weights are read once. Lives in one process, used by one thread."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """settings: `PredictionSettings.to_json`."""
        self._settings = PredictionSettings.from_json(settings)
        self._detector: Detector | None = None
        self._looks: Looks | None = None
        self._looks_made = False

    def __call__(
        self,
        job: VideoJob,
        stop: threading.Event,
        report: Callable[[int, int], None],
        reporter: Reporter | None = None,
    ) -> Predicted:
        """Raises `UserError` when the video cannot be opened, or the results cannot be written."""
        video, out = Path(job.video), Path(job.out)
        _spare([video], out)
        _prepare(out)
        source = open_source(video)
        try:
            with Journal(out / JOURNAL, fingerprint(_identity(video), self._settings)) as journal:
                report(journal.next_frame, source.info.frames)
                done = journal.done or predict_video(
                    source, self._ready(), self._settings, journal,
                    looks=self._looks, stop=stop, on_frame=lambda n: report(n, source.info.frames), keep=True,
                )  # fmt: skip
                if not done:
                    return Predicted(True)
                release()
                try:
                    results = Results(journal, self._settings, source.info, stop)
                except Interrupted:
                    return Predicted(True)
                damage = source.info.damage or journal.damage
                view = ResultsView(results, journal)
                try:
                    write_results(
                        cast(Any, view), source, view.prompts(source.info), out, reporter or Reporter(quiet=True),
                        overlay=job.overlay, complete=True, damage=damage, stop=stop,
                    )  # fmt: skip
                except OSError as error:
                    raise OutputUnusable(
                        f"The results cannot be written to {out}: {error.strerror or error}."
                    ) from error
                if stop.is_set():
                    return Predicted(True)
                repaired = None if results.repaired is None else results.repaired.summary() + (results.note or "")
                _write_suggestions(out, results)
                found = Predicted(
                    False, source.info.frames, len(results.identities), round(journal.seconds, 3), damage, repaired
                )
        finally:
            source.close()
        for leftover in out.glob(JOURNAL + "*"):
            leftover.unlink()
        return found

    def _ready(self) -> Detector:
        """A detector that compares pictures is made anew for every video."""
        if self._detector is None or self._detector.card.temporal:
            wanted = DetectorSettings(batch=self._settings.batch)
            self._detector = detectors.make(self._settings.detector, self._settings.options, wanted)
        if not self._looks_made:
            self._looks = make_looks(self._settings.looks, self._settings.options)
            self._looks_made = True
        return self._detector


def fingerprint(identity: bytes, settings: PredictionSettings) -> str:
    """Equal for equal jobs on the same video."""
    plain = json.dumps([settings.to_json(), _version()], sort_keys=True)
    return hashlib.sha256(identity + plain.encode()).hexdigest()


class ResultsView:
    """Predictions as the writer of result files wants them: what a tracking job's journal gives."""

    def __init__(self, results: Results, journal: Journal) -> None:
        self._results, self._journal = results, journal

    @property
    def seconds(self) -> float:
        return self._results.seconds

    def results(self) -> Iterator[list[Result]]:
        for frame, seen in self._results.frames():
            yield [
                Result(
                    frame, Prediction(str(one.id), one.geometry or one.box, one.score, one.geometry is not None), False
                )
                for one in seen
            ]

    def prompts(self, info: VideoInfo) -> Prompts:
        """Classes and objects. Nothing was drawn."""
        value = template(self._results.finds, self._journal.skeleton)
        identities = self._results.identities.values()
        names = sorted({identity.class_name for identity in identities})
        meta = ProjectMeta.of(ObjectClass.of(name, value) for name in names)
        return Prompts([], {str(one.id): _label(one, value) for one in identities}, meta)


def template(finds: Finds, skeleton: tuple[Sequence[str], Sequence[tuple[int, int]]]) -> Value:
    """What objects look like that such a detector finds."""
    if finds == "oriented_box":
        return OrientedBox(np.array([0, 0, 1, 1], np.float32), 0.0)
    if finds == "mask":
        return Mask.from_array(np.ones((1, 1), bool))
    if finds == "keypoints":
        names, bones = skeleton
        xy = np.stack((np.arange(len(names)), np.arange(len(names)) % 2), 1).astype(np.float32)
        return Skeleton(tuple(names), xy, edges=tuple(bones))
    return Box(np.array([0, 0, 1, 1], np.float32))


def _label(one: Identity, value: Value) -> Label:
    key = str(one.id)
    templates: dict[tuple[int, tuple[tuple[int, int], ...]], Shape] = {}
    if isinstance(value, Skeleton):
        points = to_points(value)
        templates = {(len(points.xy), points.edges): value}
    return Label(f"{one.class_name} {key}", one.class_name, value, AnnotatedObject(key, one.class_name), templates)


def _write_suggestions(out: Path, results: Results) -> None:
    """What repair did and is not sure of goes into summary.json, for people to look at."""
    path = out / "summary.json"
    if results.repaired is None or not path.exists():
        return
    summary = json.loads(path.read_text(encoding="utf-8"))
    done = results.repaired
    summary["repair"] = [decision.text() for decision in done.decisions if decision.kind in ("link", "drop")][:200]
    summary["suggestions"] = [
        {"kind": s.kind, "objects": list(s.ids), "frame": s.frame, "score": round(s.score, 4)}
        for s in done.suggestions[:200]
    ]
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
