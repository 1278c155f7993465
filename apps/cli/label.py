"""`label`: a few labelled frames in, whole videos labelled; which algorithm does it is found out by measurement."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from apps.cli.job import _identity, _interruptible, _prepare, _spare, _unwritable, _version
from apps.cli.label_job import NOTHING, Drawn, Spread, add_to_summary, drawn_on, label_one
from apps.cli.predict import _jobs, _videos
from apps.cli.predict_job import VideoJob
from apps.cli.progress import Reporter
from common.association import registry as associators
from common.cluster import NAMES, make_executor
from common.errors import EngineUnavailable, PromptInvalid, UserError
from common.geometry.annotation import Annotation, find_meta, read_annotation, read_meta
from common.geometry.meta import ProjectMeta
from common.labeling import areas
from common.labeling.candidates import Candidate, available
from common.labeling.plan import Plan, make_plan
from common.labeling.scoring import Score
from common.labeling.selection import select
from common.labeling.support import SupportSet, from_annotation
from common.video.contract import FrameSource
from common.video.reader import open_source
from common.weights.options import Device, EngineOptions

PLAN = "unfinished.plan"
"""Where the plan of an unfinished job lies, in the output folder."""
CHART = "scores.png"


def label(
    videos: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEO...", help="Video files, folders of images, folders of videos or of such folders."
        ),
    ],
    examples: Annotated[
        Path,
        typer.Option(metavar="ANNOTATION.json", help="Frames on which everything is labelled.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder for the results; one below it for each of several videos.", show_default=False
        ),
    ],
    on: Annotated[
        Path | None,
        typer.Option(
            metavar="VIDEO", help="What the examples were drawn on; default: the first VIDEO.", show_default=False
        ),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            metavar="0,25,...",
            help="Frames that are labelled completely; default: all that a person drew on.",
            show_default=False,
        ),
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Try only this candidate; repeat for more.", show_default=False),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=WORDS", help="Other words for a class, for open-vocabulary detectors.", show_default=False
        ),
    ] = None,
    budget: Annotated[float, typer.Option(min=0, help="Seconds for trying candidates.")] = 60.0,
    every: Annotated[
        int | None,
        typer.Option(min=1, max=30, help="Look on each so-manieth frame; default: measured.", show_default=False),
    ] = None,
    masks: Annotated[
        bool | None,
        typer.Option("--masks/--boxes", help="What is drawn; default: as the examples.", show_default=False),
    ] = None,
    segmenter: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"Who draws masks: {', '.join(areas.NAMES)}; default: the best that is here."
        ),
    ] = None,
    still: Annotated[bool, typer.Option("--still", help="The pictures are no video: nothing is tracked.")] = False,
    tracker: Annotated[str, typer.Option(help=" or ".join(associators.names()))] = associators.names()[0],
    no_repair: Annotated[bool, typer.Option("--no-repair", help="Leave out the repair after the run.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Label each long video in so many chunks at once, see --executor.")
    ] = 1,
    executor: Annotated[
        str,
        typer.Option(
            metavar="|".join(NAMES), help="Where the chunks go: this process, one of its own each, a cluster."
        ),
    ] = "processes",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where networks run.")] = "auto",
    overlay: Annotated[bool, typer.Option(help="Render overlay.mp4.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="Warnings and errors only.")] = False,
) -> int:
    """Label whole videos after a few labelled frames: find out what works, find new objects, follow them, say what to review."""
    if device not in ("auto", "cpu", "cuda"):
        raise EngineUnavailable(f"--device {device}: choose auto, cpu or cuda.")
    if tracker not in associators.names():
        raise EngineUnavailable(
            f"There is no tracker {tracker!r} for detections. Known: {', '.join(associators.names())}."
        )
    options = EngineOptions(None, cast(Device, device))
    paths = list(dict.fromkeys(path for given in videos for path in _videos(given)))
    drawn_path = _videos(on)[0] if on is not None else paths[0]
    jobs = _jobs(paths, out, overlay)
    source = open_source(drawn_path)
    try:
        material = _material(examples, drawn_path, source, frames, text or ())
        _spare([*paths, drawn_path, *material.files], out)
        _prepare(out)
        wanted = _candidates(material.support, candidate, still)
        shape = {"every": every, "masks": masks, "still": still, "tracker": tracker, "repair": not no_repair}
        shape["segmenter"] = None if segmenter is None else areas.known(segmenter)
        mark = material.mark([[one.to_json() for one in wanted], shape, budget])
        with Reporter(quiet) as reporter, _interruptible() as stop, _spread(executor, workers) as spread:
            if len(jobs) > 1 and (out / "summary.json").exists() and all(_told(job, mark) for job in jobs):
                reporter.say(f"All {len(jobs)} videos are done already.")
                return 0
            plan = _planned(out, mark, material.support, wanted, budget, shape, options, reporter, stop)
            if plan is None or stop.is_set():
                return 130
            told: list[dict[str, Any]] = []
            failed: list[UserError] = []
            for job in jobs:
                video = Path(job.video)
                own = video == drawn_path.absolute()
                try:
                    result = _told(job, mark) if len(jobs) > 1 else None
                    if result is not None:
                        reporter.say(f"{video.name} is done already.")
                    else:
                        result = _one(
                            job, source if own else None, plan, material.support, material.drawn if own else NOTHING,
                            reporter, stop, options, mark, spread,
                        )  # fmt: skip
                except UserError as error:
                    if len(jobs) == 1:
                        raise
                    failed.append(error)
                    reporter.warn(str(error))
                    continue
                if result is None:
                    return 130
                told.append({"video": video.name, "folder": Path(job.out).name, **result})
            if len(jobs) > 1:
                _summarise(out, plan, told, not failed)
            if failed:
                raise UserError(
                    f"{len(failed)} of {len(jobs)} videos could not be labelled; the others are done. {failed[0]}"
                )
            (out / PLAN).unlink(missing_ok=True)
    finally:
        source.close()
    return 0


@contextmanager
def _spread(executor: str, workers: int) -> Iterator[Spread | None]:
    if workers == 1:
        yield None
        return
    with closing(make_executor(executor, workers)) as runs:
        yield Spread(runs, workers)


@dataclass(frozen=True, eq=False)
class _Material:
    """What people gave. head: what makes the examples themselves."""

    support: SupportSet
    drawn: Drawn
    files: tuple[Path, ...]
    head: bytes

    def mark(self, rest: Any) -> str:
        """Equal for equal examples, candidates and wishes."""
        plain = json.dumps([rest, self.support.classes, sorted(self.support.text.items()), _version()], sort_keys=True)
        return hashlib.sha256(self.head + plain.encode()).hexdigest()


def _material(path: Path, video: Path, source: FrameSource, frames: str | None, text: Sequence[str]) -> _Material:
    if not path.is_file():
        raise PromptInvalid(f"--examples {path}: there is no such file.")
    annotation: Annotation = read_annotation(path)
    meta_path = find_meta(path)
    meta = read_meta(meta_path) if meta_path else ProjectMeta()
    chosen = None if frames is None else _numbers(frames)
    support = from_annotation(annotation, source, chosen, _words(text))
    unknown = [name for name in support.text if name not in support.classes]
    if unknown:
        raise PromptInvalid(f"--text {unknown[0]}: the examples have no such class, only {', '.join(support.classes)}.")
    complete = [example.frame for example in support.examples if example.frame is not None]
    head = _identity(video) + path.read_bytes() + json.dumps(complete).encode()
    files = (path,) if meta_path is None else (path, meta_path)
    return _Material(support, drawn_on(annotation, complete, meta), files, head)


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise PromptInvalid(f"--frames {text}: give numbers of frames with commas between them, such as 0,25.")
    return [int(part) for part in parts]


def _words(text: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for entry in text:
        name, equals, words = entry.partition("=")
        phrases = tuple(phrase.strip() for phrase in words.split(",") if phrase.strip())
        if not equals or not phrases:
            raise PromptInvalid(f"--text {entry}: write CLASS=WORDS, such as car=automobile,vehicle.")
        found[name.strip()] = (*found.get(name.strip(), ()), *phrases)
    return found


def _candidates(support: SupportSet, names: Sequence[str] | None, still: bool) -> list[Candidate]:
    everyone = available(support, video=not still)
    if not names:
        return everyone
    known = {one.name: one for one in everyone}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise EngineUnavailable(f"There is no candidate {unknown[0]!r} here. There are: {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(names)]


def _planned(
    out: Path,
    mark: str,
    support: SupportSet,
    candidates: Sequence[Candidate],
    budget_s: float,
    shape: dict[str, Any],
    options: EngineOptions,
    reporter: Reporter,
    stop: threading.Event,
) -> Plan | None:
    """The plan of the unfinished job, or a new one; None when it was interrupted."""
    kept = out / PLAN
    try:
        if kept.exists():
            data = kept.read_bytes()
            if data[:64] == mark.encode():
                plan = Plan.load(data[64:])
                reporter.say(f"Going on with {plan.choice.names}.")
                return plan
        reporter.say(
            f"{len(support.examples)} examples with {support.count} objects of {len(support.classes)} classes; "
            f"{len(candidates)} candidates."
        )
        with reporter.stage("Trying", len(candidates), unit="candidates") as stage:

            def scored(score: Score) -> None:
                stage.advance()
                shown = f"F1 {score.f1:.2f}" if score.state == "tried" else score.state
                reporter.say(f"  {score.name}: {shown}. {score.why}")

            choice = select(
                support, candidates, budget_s=budget_s, options=options, near=not shape["still"], stop=stop, on_score=scored
            )  # fmt: skip
        if stop.is_set():
            return None
        reporter.say(f"Chosen: {choice.text}")
        plan = make_plan(support, choice, options=options, **shape)
        part = kept.with_name(f".{kept.name}.part")
        part.write_bytes(mark.encode() + plan.save())
        part.replace(kept)
        _chart(choice.scores, out / CHART)
    except OSError as error:
        raise _unwritable(out, error) from error
    return plan


def _mark(job: VideoJob, mark: str) -> str:
    """Equal for equal jobs on the same video."""
    return hashlib.sha256(_identity(Path(job.video)) + mark.encode()).hexdigest()


def _told(job: VideoJob, mark: str) -> dict[str, Any] | None:
    """What was told of a video that is done."""
    summary = Path(job.out) / "summary.json"
    if not summary.exists():
        return None
    known = json.loads(summary.read_text(encoding="utf-8"))
    told: dict[str, Any] | None = known.get("told") if known.get("job") == _mark(job, mark) else None
    return told


def _one(
    job: VideoJob,
    source: FrameSource | None,
    plan: Plan,
    support: SupportSet,
    drawn: Drawn,
    reporter: Reporter,
    stop: threading.Event,
    options: EngineOptions,
    mark: str,
    spread: Spread | None,
) -> dict[str, Any] | None:
    """What to tell of a video; None when it was interrupted."""
    video, out = Path(job.video), Path(job.out)
    opened = source or open_source(video)
    try:
        done = label_one(
            video, opened, plan, support, drawn, out, reporter, stop,
            options=options, overlay=job.overlay, about=_about(plan), spread=spread,
        )  # fmt: skip
    finally:
        if source is None:
            opened.close()
    if done.stopped:
        return None
    if done.damage:
        reporter.warn(f"{done.damage} The frames that exist were labelled.")
    speed = f", {done.frames / done.seconds:.1f} frames/s" if done.seconds else ""
    reporter.say(
        f"{video.name}: {done.objects} objects, {done.new} of them new, in {done.frames} frames{speed}; "
        f"{done.review} places to review."
    )
    told = {
        "frames": done.frames,
        "objects": done.objects,
        "new": done.new,
        "damage": done.damage,
        "review": done.review,
    }
    add_to_summary(out, {"job": _mark(job, mark), "told": told})
    return told


def _about(plan: Plan) -> dict[str, Any]:
    choice = plan.choice
    return {
        "chosen": {
            "candidates": [one.name for one in choice.candidates],
            "rules": [
                {
                    "class": choice.classes[rule.label],
                    "candidates": [choice.candidates[m].name for m in rule.members],
                    "thresholds": [round(t, 4) for t in rule.thresholds],
                }
                for rule in choice.rules
            ],
            "why": choice.text,
            "every": plan.every,
            "masks": plan.masks,
            "tracker": None if plan.still else plan.tracker,
        },
        "scores": [score.to_json() for score in choice.scores],
    }


def _summarise(out: Path, plan: Plan, told: Sequence[dict[str, Any]], complete: bool) -> None:
    part = out / ".summary.json.part"
    part.write_text(
        json.dumps({"complete": complete, "videos": list(told), **_about(plan)}, indent=1) + "\n", encoding="utf-8"
    )
    part.replace(out / "summary.json")


def _chart(scores: Sequence[Score], path: Path) -> None:
    """The score table as bars with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to load
    from matplotlib.figure import Figure

    rows = [score for score in scores if score.state == "tried"][::-1]
    figure = Figure(figsize=(8, 0.6 + 0.42 * max(len(rows), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    values = [score.f1 for score in rows]
    errors = [
        [max(0.0, score.f1 - score.low) for score in rows],
        [max(0.0, score.high - score.f1) for score in rows],
    ]
    axes.barh(range(len(rows)), values, xerr=errors, color="#4c78a8", ecolor="#333333", capsize=3)
    axes.set_yticks(range(len(rows)), [f"{score.title}  {score.ms:.0f} ms" for score in rows])
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1 on pictures that were not learned from, with 90 % interval")
    figure.savefig(path, dpi=110)
