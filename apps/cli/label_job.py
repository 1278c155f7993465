"""One video through the labeling assistant into its result files; killed anywhere, the same command goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from apps.cli.job import JOURNAL, _identity, _prepare, _unwritable
from apps.cli.memory import release
from apps.cli.progress import Reporter
from apps.cli.prompts import Label, Prompts
from apps.cli.results import write_results
from common.cluster.contract import Executor
from common.geometry.annotation import AnnotatedObject, Annotation
from common.geometry.meta import ObjectClass, ProjectMeta
from common.geometry.shapes import Shape, Value, to_geometry, to_points
from common.geometry.supervisely import geometry_type
from common.geometry.types import Box, Mask, Points
from common.labeling.chunks import label_in_chunks
from common.labeling.plan import Plan
from common.labeling.queue import review_queue
from common.labeling.run import LabelledVideo, fingerprint, label_video
from common.labeling.support import Labelled, SupportSet
from common.prediction.journal import Journal
from common.prediction.results import Results
from common.tracking.contract import Prediction
from common.tracking.journal import Result
from common.video.contract import FrameSource
from common.weights.options import EngineOptions

_BOX = Box(np.array([0, 0, 1, 1], np.float32))
_MASK = Mask.from_array(np.ones((1, 1), bool))


@dataclass(frozen=True)
class Drawn:
    """What people drew on a video. given: by frame. partial: frames on which they did not label everything."""

    given: Mapping[int, tuple[Labelled, ...]]
    partial: frozenset[int]
    objects: Mapping[str, AnnotatedObject]
    meta: ProjectMeta


NOTHING = Drawn({}, frozenset(), {}, ProjectMeta())


def drawn_on(annotation: Annotation, complete: Sequence[int], meta: ProjectMeta) -> Drawn:
    """complete: frames on which everything is labelled."""
    given = {
        frame: tuple(Labelled(f.key, annotation.objects[f.key].class_name, f.geometry) for f in figures)
        for frame, figures in annotation.key_figures().items()
    }
    return Drawn(given, frozenset(given) - set(complete), annotation.objects, meta)


@dataclass(frozen=True)
class Spread:
    """A video in chunks on so many workers at most."""

    executor: Executor
    workers: int


@dataclass(frozen=True)
class Done:
    """stopped: it was interrupted and can be gone on with."""

    stopped: bool
    frames: int = 0
    objects: int = 0
    new: int = 0
    seconds: float = 0.0
    damage: str | None = None
    review: int = 0


def label_one(
    video: Path,
    source: FrameSource,
    plan: Plan,
    support: SupportSet,
    drawn: Drawn,
    out: Path,
    reporter: Reporter,
    stop: threading.Event,
    *,
    options: EngineOptions,
    overlay: bool,
    about: Mapping[str, Any],
    spread: Spread | None = None,
) -> Done:
    """about: goes into summary.json. spread: over several workers. Raises `UserError` when the results cannot be written."""
    _prepare(out)
    # chunks are tracked by themselves: what other workers, or one alone, have begun cannot be gone on with
    mark = fingerprint(_identity(video), plan, support, source) + ("" if spread is None else f" in {spread.workers}")
    with Journal(out / JOURNAL, mark) as journal:
        frames = source.info.frames
        if journal.next_frame:
            reporter.say(f"Continuing {video.name} at frame {journal.next_frame}.")
        with reporter.stage("Labeling", frames, journal.next_frame) as stage:
            at = [journal.next_frame]

            def on_frame(done: int) -> None:
                for _ in range(at[0], done):
                    stage.advance()
                at[0] = max(at[0], done)

            if spread is None:
                through = label_video(source, plan, support, journal, options=options, stop=stop, on_frame=on_frame)
            else:
                through = label_in_chunks(
                    video.absolute(), source, plan, support, journal, spread.executor, spread.workers,
                    folder=out.absolute(), fingerprint=mark, options=options, stop=stop, on_frame=on_frame,
                )  # fmt: skip
            if not through:
                return Done(True)
        release()
        results = Results(journal, plan.settings(options), source.info)
        labelled = LabelledVideo(results, drawn.given, drawn.partial, source.info)
        damage = source.info.damage or journal.damage
        view = _View(labelled, drawn, plan.masks)
        try:
            write_results(
                cast(Any, view), source, view.prompts(), out, reporter,
                overlay=overlay, complete=True, damage=damage, stop=stop,
            )  # fmt: skip
            suggestions = results.repaired.suggestions if results.repaired is not None else ()
            queue = review_queue(labelled.frames(), source.info, suggestions)
            add_to_summary(out, {**about, **view.told(queue)})
        except OSError as error:
            raise _unwritable(out, error) from error
        if stop.is_set():
            return Done(True)
        spans = labelled.objects()
        done = Done(
            False, frames, len(spans), sum(not span.labelled for span in spans), round(journal.seconds, 3), damage, len(queue)
        )  # fmt: skip
    for leftover in (*out.glob(JOURNAL + "*"), *out.glob("*.chunk*.sqlite*")):
        leftover.unlink()
    return done


class _View:
    """A labelled video as the writer of result files wants it. Objects are numbered: people's first, then the new ones."""

    def __init__(self, labelled: LabelledVideo, drawn: Drawn, masks: bool) -> None:
        self._labelled, self._drawn, self._masks = labelled, drawn, masks
        self._spans = labelled.objects()
        order = {key: number for number, key in enumerate(drawn.objects)}
        known = [span for span in self._spans if span.key in order]
        new = [span for span in self._spans if span.key not in order]
        self._order = [*sorted(known, key=lambda span: order[span.key]), *new]
        self._number = {span.key: str(number) for number, span in enumerate(self._order, 1)}

    @property
    def seconds(self) -> float:
        return self._labelled.results.seconds

    def results(self) -> Iterator[list[Result]]:
        for frame, found in self._labelled.frames():
            yield [
                Result(
                    frame,
                    Prediction(self._number[one.key], one.geometry or one.box, one.score, one.geometry is not None),
                    one.labelled,
                )
                for one in found
            ]

    def prompts(self) -> Prompts:
        """Labels and classes."""
        values: dict[str, list[Value]] = {}
        for labels in self._drawn.given.values():
            for label in labels:
                values.setdefault(label.key, []).append(label.value)
        usual: Value = _MASK if self._masks else _BOX
        predicted = self._predicted()
        labels_by_key: dict[str, Label] = {}
        types: dict[str, set[str]] = {}
        examples: dict[str, Value] = {}
        for span in self._order:
            number, own = self._number[span.key], values.get(span.key, [])
            annotated = self._drawn.objects.get(span.key) or AnnotatedObject(number, span.class_name)
            name = annotated.class_name
            points = next((v for v in own if isinstance(to_geometry(v), Points)), None)
            made = Label(f"{name} {number}", name, points or usual, annotated)
            for value in own:
                if isinstance(value, Shape):
                    points_of = to_points(value)
                    made.templates.setdefault((len(points_of.xy), points_of.edges), value)
                types.setdefault(name, set()).add(geometry_type(value))
                examples.setdefault(name, value)
            types.setdefault(name, set())
            if span.key in predicted:
                types[name].add(geometry_type(usual))
            labels_by_key[number] = made
        classes = [self._class(name, kinds, examples.get(name, usual)) for name, kinds in types.items()]
        return Prompts([], labels_by_key, ProjectMeta.of(classes))

    def _predicted(self) -> set[str]:
        """Keys of objects that are on more frames than people drew them on."""
        drawn: dict[str, int] = {}
        for labels in self._drawn.given.values():
            for key in {label.key for label in labels}:
                drawn[key] = drawn.get(key, 0) + 1
        return {span.key for span in self._spans if span.frames > drawn.get(span.key, 0)}

    def _class(self, name: str, kinds: set[str], value: Value) -> ObjectClass:
        known = self._drawn.meta.classes.get(name)
        if known is not None and (known.shape == "any" or kinds <= {known.shape}):
            return known
        if len(kinds) == 1:
            made = ObjectClass.of(name, value if geometry_type(value) in kinds else (_MASK if self._masks else _BOX))
        else:
            made = ObjectClass(name, "any")
        if known is None:
            return made
        return ObjectClass(name, made.shape, known.color, made.template, known.extra)

    def told(self, queue: Sequence[Any]) -> dict[str, Any]:
        """For summary.json."""
        entries = []
        for item in queue:
            keys = [self._number[key] for key in item.keys if key in self._number]
            why = item.why
            for key in sorted(item.keys, key=len, reverse=True):
                if key in self._number:
                    why = why.replace(key, self._number[key])
            entries.append({**item.to_json(), "keys": keys, "why": why})
        return {"review_queue": entries}


def add_to_summary(out: Path, more: Mapping[str, Any]) -> None:
    """Adds to summary.json."""
    path = out / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps({**summary, **more}, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
