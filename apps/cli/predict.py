"""`predict`: a detector and an associator label whole videos; no first-frame work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from apps.cli.job import JOURNAL, _identity, _interruptible, _unwritable
from apps.cli.predict_job import Predicted, VideoJob, Worker, fingerprint
from apps.cli.progress import Reporter, Stage
from common.association import registry as associators
from common.cluster import NAMES, make_executor
from common.cluster.contract import Outcome, Task
from common.cluster.local import LocalExecutor
from common.detection import registry as detectors
from common.errors import EngineUnavailable, OutputUnusable, UserError, VideoUnreadable
from common.prediction.settings import DESCRIPTOR, PredictionSettings
from common.tracking.job_file import open_job, storing
from common.video.image_folder import SUFFIXES as IMAGES
from common.weights.options import SEEDED, Device, EngineOptions

VIDEOS = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".mxf")
)  # fmt: skip
"""Endings, in lower case, of the files of a folder that count as videos."""


def predict(
    videos: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEO|FOLDER...", help="Video files, folders of images, folders of videos or of such folders."
        ),
    ],
    detector: Annotated[str, typer.Option(metavar="NAME", help="A detector; several joined by + are fused.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder for the results; one below it for each of several videos.", show_default=False
        ),
    ],
    tracker: Annotated[str, typer.Option(help=" or ".join(associators.names()))] = associators.names()[0],
    no_repair: Annotated[bool, typer.Option("--no-repair", help="Leave out the repair after the run.")] = False,
    executor: Annotated[str, typer.Option(help="local, or ray: on all machines of a cluster.")] = NAMES[0],
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Only this class; repeat for more.", show_default=False),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Score that begins an object; default: 0.6.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Detect on each so-manieth frame.")] = 1,
    looks: Annotated[
        str, typer.Option(metavar="none|descriptor|NAME[=FILE]", help="What tells objects apart by appearance.")
    ] = DESCRIPTOR,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|seeded", help="Weights file of the detector.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where networks run.")] = "auto",
    overlay: Annotated[bool, typer.Option(help="Render overlay.mp4.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> int:
    """Label whole videos: find objects in every frame, give them identities, repair those once the video is known."""
    settings = _settings(detector, tracker, not no_repair, classes, confidence, every, looks, weights, device)
    found = list(dict.fromkeys(path for given in videos for path in _videos(given)))
    jobs = _jobs(found, out, overlay)
    with Reporter(quiet) as reporter, closing(make_executor(executor)) as runs, _interruptible() as stop:
        _Table.check(out, several=len(jobs) > 1)
        table = _Table(out, jobs, settings) if len(jobs) > 1 else None
        try:
            todo = jobs if table is None else table.unfinished()
            if len(todo) < len(jobs):
                reporter.say(f"{len(jobs) - len(todo)} of {len(jobs)} videos are done already.")
            shown = _Shown(reporter)
            make: Any = partial(Worker, settings.to_json())
            if isinstance(runs, LocalExecutor):
                make = partial(_Speaking, settings.to_json(), reporter)
            tasks = (Task(job.video, job) for job in todo)
            failed: list[UserError] = []
            outcomes = runs.run(make, tasks, stop=stop, on_progress=shown.show)
            for outcome in cast("Iterator[Outcome[Predicted]]", outcomes):
                shown.end(outcome.key)
                if outcome.error is not None:
                    if not isinstance(outcome.error, UserError) or len(jobs) == 1:
                        raise outcome.error
                    failed.append(outcome.error)
                    reporter.warn(str(outcome.error))
                    continue
                assert outcome.answer is not None
                _tell(reporter, outcome.key, outcome.answer)
                if table is not None and not outcome.answer.stopped:
                    table.finish(outcome.key, outcome.answer)
            shown.close()
            if stop.is_set():
                return 130
            if table is not None:
                table.summarise(complete=not failed)
        finally:
            if table is not None:
                table.close()
        if table is not None and not failed:
            for leftover in out.glob(JOURNAL + "*"):
                leftover.unlink()
        if failed:
            raise UserError(
                f"{len(failed)} of {len(jobs)} videos could not be labelled; the others are done. {failed[0]}"
            )
    return 0


class _Speaking(Worker):
    """In this process a worker can show how it writes its results."""

    def __init__(self, settings: Any, reporter: Reporter) -> None:
        super().__init__(settings)
        self._reporter = reporter

    def __call__(self, job: VideoJob, stop: Any, report: Any, reporter: Reporter | None = None) -> Predicted:
        return super().__call__(job, stop, report, self._reporter)


def _settings(
    detector: str,
    tracker: str,
    repair: bool,
    classes: Sequence[str] | None,
    confidence: float | None,
    every: int,
    looks: str,
    weights: str | None,
    device: str,
) -> PredictionSettings:
    """Checked before anything is begun. Raises `EngineUnavailable`."""
    if device not in ("auto", "cpu", "cuda"):
        raise EngineUnavailable(f"--device {device}: choose auto, cpu or cuda.")
    if weights is not None and weights != SEEDED and not Path(weights).is_file():
        raise EngineUnavailable(f"--weights {weights}: there is no such file. Give a checkpoint file, or {SEEDED}.")
    options = EngineOptions(weights, cast(Device, device))
    card = detectors.make(detector, options).card
    if classes and card.classes != ("",) and not card.open_vocabulary:
        unknown = [name for name in classes if name not in card.classes]
        if unknown:
            shown = ", ".join(card.classes[:20]) + (" ..." if len(card.classes) > 20 else "")
            raise EngineUnavailable(f"{detector} does not know the class {unknown[0]!r}. It knows: {shown}.")
    return PredictionSettings(
        detector, options, tracker, repair, looks, tuple(classes) if classes else None, confidence, every
    )


def _videos(path: Path) -> list[Path]:
    """What a person means by a path. Raises `VideoUnreadable` for a folder with nothing in it."""
    path = path.expanduser()
    if not path.is_dir():
        if not path.exists():
            raise VideoUnreadable(f"There is no file or folder {path}.")
        return [path]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.suffix.lower() in VIDEOS and entry.is_file()]
    if files:
        return files
    if any(entry.suffix.lower() in IMAGES for entry in entries):
        return [path]
    folders = [e for e in entries if e.is_dir() and any(p.suffix.lower() in IMAGES for p in e.iterdir())]
    if not folders:
        raise VideoUnreadable(f"The folder {path} holds neither videos nor images.")
    return folders


def _jobs(videos: Sequence[Path], out: Path, overlay: bool) -> list[VideoJob]:
    """Where each video's results go: a folder of its name, with a number where names are the same."""
    if len(videos) == 1:
        return [VideoJob(str(videos[0].absolute()), str(out.absolute()), overlay)]
    taken: set[str] = set()
    jobs = []
    for video in videos:
        stem = video.name if video.is_dir() else video.stem
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        jobs.append(VideoJob(str(video.absolute()), str((out / name).absolute()), overlay))
    return jobs


def _tell(reporter: Reporter, video: str, done: Predicted) -> None:
    if done.stopped:
        return
    if done.damage:
        reporter.warn(f"{done.damage} The frames that exist were labelled.")
    speed = f", {done.frames / done.seconds:.1f} frames/s" if done.seconds else ""
    repair = f" {done.repair}" if done.repair else ""
    reporter.say(f"{Path(video).name}: {done.objects} objects in {done.frames} frames{speed}.{repair}")


class _Shown:
    """One stage for each video under way."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._stages: dict[str, tuple[Any, Stage, int]] = {}

    def show(self, key: str, done: int, whole: int) -> None:
        if key not in self._stages:
            context = self._reporter.stage(Path(key).name[:24], whole, done)
            self._stages[key] = (context, context.__enter__(), done)
            return
        context, stage, before = self._stages[key]
        for _ in range(before, done):
            stage.advance()
        self._stages[key] = (context, stage, max(before, done))
        if done >= whole:
            self.end(key)

    def end(self, key: str) -> None:
        found = self._stages.pop(key, None)
        if found is not None:
            found[0].__exit__(None, None, None)

    def close(self) -> None:
        for key in list(self._stages):
            self.end(key)


_SCHEMA = """
CREATE TABLE job (id INTEGER PRIMARY KEY CHECK (id = 1), fingerprint TEXT NOT NULL);
CREATE TABLE videos (mark TEXT PRIMARY KEY, video TEXT, told TEXT);
"""


class _Table:
    """Which of several videos are done, in the output folder until all are."""

    def __init__(self, out: Path, jobs: Sequence[VideoJob], settings: PredictionSettings) -> None:
        self._out, self._jobs = out, jobs
        self._marks = {}
        for job in jobs:
            try:
                identity = _identity(Path(job.video))
            except OSError:
                identity = job.video.encode()
            self._marks[job.video] = fingerprint(identity + str(job.overlay).encode(), settings)
        whole = hashlib.sha256("".join(sorted(self._marks.values())).encode()).hexdigest()
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(out, error) from error
        with storing(out):
            self._db, _ = open_job(out / JOURNAL, whole, _SCHEMA)

    @staticmethod
    def check(out: Path, several: bool) -> None:
        if several and out.exists() and not out.is_dir():
            raise OutputUnusable(f"The results cannot be written to {out}: it is a file, and a folder is needed.")

    def unfinished(self) -> list[VideoJob]:
        done = {mark for (mark,) in self._db.execute("SELECT mark FROM videos")}
        return [
            job
            for job in self._jobs
            if self._marks[job.video] not in done or not (Path(job.out) / "summary.json").exists()
        ]

    def finish(self, video: str, done: Predicted) -> None:
        told = json.dumps(
            {"frames": done.frames, "objects": done.objects, "seconds": done.seconds, "damage": done.damage}
        )
        self._db.execute("REPLACE INTO videos VALUES (?, ?, ?)", (self._marks[video], video, told))
        self._db.commit()

    def summarise(self, complete: bool) -> None:
        """summary.json of all videos, in the order in which they were given."""
        told = {video: json.loads(text) for _, video, text in self._db.execute("SELECT * FROM videos")}
        rows = [
            {"video": Path(job.video).name, "folder": Path(job.out).name, **told[job.video]}
            for job in self._jobs
            if job.video in told
        ]
        part = self._out / ".summary.json.part"
        part.write_text(json.dumps({"complete": complete, "videos": rows}, indent=1) + "\n", encoding="utf-8")
        part.replace(self._out / "summary.json")

    def close(self) -> None:
        self._db.close()
