"""A tracking job on this machine: tracks into a journal, then writes the result files; killed anywhere, it continues."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from apps.cli.memory import keep_compact, release
from apps.cli.progress import Reporter
from apps.cli.prompts import Prompts, kind_of
from apps.cli.results import FILES, MASKS, write_results
from common.errors import EngineUnavailable, OutputUnusable
from common.geometry import codec
from common.trackers import registry
from common.tracking.contract import GeometryKind
from common.tracking.journal import Journal
from common.tracking.plan import Direction, KeyFigure, Pass, plan
from common.tracking.session import Outcome, TrackingSession, execute
from common.video.contract import FrameSource
from common.video.image_folder import SUFFIXES
from common.weights.options import DEFAULT, EngineOptions

JOURNAL = "unfinished.sqlite"
"""Where an unfinished job keeps its results, in the output folder; gone when the job is done."""


@dataclass(frozen=True)
class TrackJob:
    """What to track.

    video: path. prompts: what was drawn. trackers: name per geometry kind that occurs. frames: how many to predict beyond
    the outermost key figures, None = all. overlay: whether to render overlay.mp4. options: for trackers that
    are networks.
    """

    video: Path
    source: FrameSource
    prompts: Prompts
    trackers: Mapping[GeometryKind, str]
    direction: Direction = Direction.FORWARD
    frames: int | None = None
    overlay: bool = True
    options: EngineOptions = DEFAULT

    def passes(self) -> list[Pass]:
        """What runs where."""
        return plan(
            self.prompts.key_figures,
            frames_total=self.source.info.frames,
            direction=self.direction,
            engine_of=lambda prompt: self.trackers[kind_of(prompt.geometry)],
            frames=self.frames,
        )

    def fingerprint(self) -> str:
        """Equal for equal jobs on the same video; any difference that changes results changes it."""
        digest = hashlib.sha256(_identity(self.video))
        for figure in self.prompts.key_figures:
            head = [figure.frame, figure.prompt.key, self.prompts.labels[figure.prompt.key].class_name]
            digest.update(json.dumps(head).encode() + codec.encode(figure.prompt.geometry))
        engines = [sorted(self.trackers.items()), self.options.weights, self.options.device]
        digest.update(json.dumps([engines, self.direction, self.frames, _version()]).encode())
        return digest.hexdigest()


def choose_trackers(figures: Sequence[KeyFigure], name: str | None) -> dict[GeometryKind, str]:
    """The tracker for every geometry kind drawn: the named one where it can, the default elsewhere.

    Raises `EngineUnavailable` when the named tracker does not exist or can track nothing of what was drawn.
    """
    kinds = dict.fromkeys(kind_of(figure.prompt.geometry) for figure in figures)
    if name is None:
        return {kind: registry.DEFAULTS[kind] for kind in kinds}
    able = registry.make(name).card.geometries
    if not able & kinds.keys():
        drawn, tracked = (" and ".join(sorted(k.replace("_", " ") for k in some)) for some in (kinds, able))
        raise EngineUnavailable(f"{name} tracks {tracked}, but a {drawn} was drawn. See: python -m apps models list")
    return {kind: name if kind in able else registry.DEFAULTS[kind] for kind in kinds}


def run_job(job: TrackJob, out: Path, reporter: Reporter) -> int:
    """Track and write the results to `out`. Returns the exit code: 0, or 130 when the person interrupted."""
    keep_compact()
    _spare((job.video, *job.prompts.files), out)
    _prepare(out)
    engine = lru_cache(maxsize=None)(partial(registry.make, options=job.options))
    with Journal(out / JOURNAL, job.fingerprint(), job.prompts.key_figures) as journal, _interruptible() as stop:
        if journal.resumed:
            reporter.say(f"Continuing the job in {out}.")
        outcome = _track(job, journal, engine, reporter, stop)
        if outcome.damage:
            reporter.warn(f"{outcome.damage} The frames that exist were tracked.")
        release()
        try:
            write_results(
                journal, job.source, job.prompts, out, reporter,
                overlay=job.overlay and not outcome.stopped, complete=not outcome.stopped,
                damage=job.source.info.damage or outcome.damage, stop=stop,
            )  # fmt: skip
        except OSError as error:
            raise _unwritable(out, error) from error
        if outcome.stopped or stop.is_set():
            return 130
    for leftover in out.glob(JOURNAL + "*"):
        leftover.unlink()
    return 0


def _track(
    job: TrackJob, journal: Journal, engine: registry.Factory, reporter: Reporter, stop: threading.Event
) -> Outcome:
    outcome = Outcome(False, None)
    # Trackers of different geometries work on a frame at the same time: one thread per processor.
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="tracker") as pool:
        for work in job.passes():
            if not journal.is_done(work.step):
                session = TrackingSession(work, engine, job.source.info.fps, pool.map)
                result = _run_pass(session, work.step, job.source, journal, reporter, stop)
                outcome = Outcome(result.stopped, outcome.damage or result.damage)
                if result.stopped:
                    break
    return outcome


def _run_pass(
    session: TrackingSession,
    step: int,
    source: FrameSource,
    journal: Journal,
    reporter: Reporter,
    stop: threading.Event,
) -> Outcome:
    name = "Tracking" if step > 0 else "Backward"
    if (snapshot := journal.snapshot(step)) is not None:
        try:
            session.restore(snapshot)
        except ValueError:
            reporter.warn(f"What {name.lower()} had kept in memory cannot be read any more; it begins anew.")
    sink = journal.sink(step)
    with reporter.stage(name, session.frames_total, session.frames_done) as stage:
        outcome = execute(session, source, sink, stop_requested=stop.is_set, on_frame=stage.advance)
    sink.save(session.save)
    if not outcome.stopped:
        journal.finish(step)
    return outcome


def _prepare(out: Path) -> None:
    masks = out / MASKS
    try:
        if out.exists() and not out.is_dir():
            raise OutputUnusable(f"The results cannot be written to {out}: it is a file, and a folder is needed.")
        ours = (out / JOURNAL).exists() or (out / "summary.json").exists()
        if not ours and masks.is_dir() and any(masks.iterdir()):
            raise OutputUnusable(f"{masks} holds pictures that are no results of a run before; choose another folder.")
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> OutputUnusable:
    return OutputUnusable(f"The results cannot be written to {out}: {error.strerror or error}.")


def _spare(inputs: Iterable[Path], out: Path) -> None:
    """Raises `OutputUnusable` where results would take the place of what they are made from."""
    for path in (path.resolve() for path in inputs):
        if path.is_relative_to((out / MASKS).resolve()) or path in [(out / name).resolve() for name in FILES]:
            raise OutputUnusable(
                f"The results in {out} would replace {path.name}, which is needed; choose another folder."
            )


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C (and a polite kill) once sets the event; a second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _identity(video: Path) -> bytes:
    """What makes a video itself: name, size and time of every image, or the content of a file's head and tail."""
    if video.is_dir():  # only images: the results may be written into the same folder
        images = (p for p in video.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        return json.dumps(sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in images)).encode()
    with video.open("rb") as file:
        head = file.read(1 << 20)
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 20)))
        return json.dumps([video.name, size]).encode() + head + file.read()


def _version() -> str:
    try:
        return version("video-labeling-by-tracking")
    except PackageNotFoundError:
        return "checkout"
