"""Predictions of one video onto the server: each object and each figure once, whatever breaks in between."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.predict.ledger import Ledger
from apps.predict.merging import Continued, Existing, Predicted, by_frame, covered
from apps.predict.schema import RunParameters
from common.errors import Interrupted, PromptInvalid
from common.geometry.clip import clip_to_frame
from common.geometry.measures import bounds
from common.geometry.meta import ObjectClass
from common.geometry.shapes import Skeleton, Value, to_geometry, with_points
from common.geometry.supervisely import from_json, geometry_type, to_json
from common.geometry.types import Mask, Points
from common.prediction.results import Results, Seen
from common.supervisely_io.figures import figures
from common.supervisely_io.projects import (
    NewTag,
    ProjectRecord,
    add_objects,
    ensure,
    objects,
    project,
    remove_objects,
    tag_objects,
)
from common.supervisely_io.records import ClassRecord, NewFigure, ObjectRecord, TagDefinition, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.writer import Confirmed, FigureWriter

_TRACKS = uuid.UUID("0a4a3f54-7a8a-5a0d-9df6-6f6a9a1f6a55")
_SLICE = 256
_NOTE_EVERY = 64
_AT_ONCE = 500

Frame = tuple[int, list[Seen]]


@dataclass(frozen=True)
class Uploaded:
    """objects: made here. continued: identities that went on with objects that were there. figures: written. covered:
    predictions that were labels already. kept: left out because a person's figure stands there. refused: by the server.
    removed: objects that were replaced."""

    objects: int
    continued: int
    figures: int
    covered: int
    kept: int
    refused: int
    removed: int


class Upload:
    """Of one video. template: what objects look like that the detector finds. model: who found them."""

    def __init__(
        self,
        server: Server,
        target: VideoRecord,
        results: Results,
        template: Value,
        parameters: RunParameters,
        ledger: Ledger,
        job: str,
        model: str,
        stop: threading.Event,
    ) -> None:
        self._server, self._target, self._results, self._template = server, target, results, template
        self._parameters, self._ledger, self._job, self._model, self._stop = parameters, ledger, job, model, stop
        self._size = (target.width, target.height)
        self._covered = 0
        # without tracking there are no identities: one object for each class, as the platform does it
        self._by_class = not parameters.settings.tracking
        self._group: dict[int, int] = {}

    def run(self, report: Callable[[int], None]) -> Uploaded:
        """report: frames whose figures are stored. Raises `Interrupted`, `ServerUnreachable`, `ServerRefused`."""
        mode, ledger = self._parameters.settings.predictions_mode, self._ledger
        if ledger.get("before") is None:
            ledger.note("before", [one.id for one in objects(self._server, self._target)])
        before: list[int] = ledger.get("before")
        seeded = self._go_on()
        record, classes = self._classes()
        idents = self._groups()
        if mode == "iou_merge" and ledger.get("continued") is None:
            going_on = self._continued(before, record)
            ledger.note_objects(going_on, ours=False)
            ledger.note("continued", len(going_on))
        self._make_objects(idents, classes, before)
        known = {identity: ident for identity, (ident, _) in ledger.objects().items()}
        report_of = self._write(known, record, before if seeded or mode == "iou_merge" else (), report)
        self._tag({identity: ident for identity, (ident, ours) in ledger.objects().items() if ours}, record)
        removed = self._remove(before) if mode == "replace" else 0
        continued = int(ledger.get("continued") or 0)
        return Uploaded(
            len(known) - continued, continued, report_of["written"], report_of["covered"], report_of["kept"],
            report_of["refused"], removed,
        )  # fmt: skip

    def _go_on(self) -> bool:
        """Notes which identities are objects that were labelled before; whether there are any."""
        ledger = self._ledger
        seeds: list[int] = ledger.get("seeds") or []
        if seeds and ledger.get("continued") is None:
            copies: dict[str, int] = ledger.get("copies") or {}
            repaired = self._results.repaired
            renamed = {} if repaired is None else repaired.renamed
            finals = ((renamed.get(n, n), copies.get(str(ident), ident)) for n, ident in enumerate(seeds, 1))
            going_on = {final: ident for final, ident in finals if final in self._results.identities}
            ledger.note_objects(going_on, ours=False)
            ledger.note("continued", len(going_on))
        return bool(seeds)

    # -- classes -----------------------------------------------------------------------------------------------------------

    def _classes(self) -> tuple[ProjectRecord, dict[str, ClassRecord]]:
        """The project's class for each of the model's: the one of that name if it takes such figures, else one with the
        suffix."""
        there = project(self._server, self._target.project_id)
        names: dict[str, str] = {}
        suffix = self._parameters.settings.model_prediction_suffix or "_model"
        theirs = {identity for identity, (_, ours) in self._ledger.objects().items() if not ours}
        new_ones = (one for one in self._results.identities.values() if one.id not in theirs)
        for name in sorted({identity.class_name for identity in new_ones}):
            chosen, number = name, 1
            while (found := there.class_named(chosen)) is not None and not found.object_class.accepts(self._template):
                chosen = f"{name}{suffix}" + ("" if number == 1 else str(number))
                number += 1
            names[name] = chosen
        new = [ObjectClass.of(chosen, self._template) for chosen in dict.fromkeys(names.values())]
        there = ensure(self._server, self._target.project_id, classes=new)
        found_classes = {}
        for name, chosen in names.items():
            record = there.class_named(chosen)
            assert record is not None
            found_classes[name] = record
        return there, found_classes

    # -- objects -----------------------------------------------------------------------------------------------------------

    def _groups(self) -> dict[int, str]:
        """Class name by identity; without tracking by the first identity of each class, which stands for all."""
        identities = self._results.identities
        if not self._by_class:
            return {identity.id: identity.class_name for identity in identities.values()}
        first: dict[str, int] = {}
        for identity in identities.values():
            self._group[identity.id] = first.setdefault(identity.class_name, identity.id)
        return {number: name for name, number in first.items()}

    def _make_objects(
        self, wanted: Mapping[int, str], classes: Mapping[str, ClassRecord], before: Sequence[int]
    ) -> None:
        known = self._ledger.objects()
        missing = [identity for identity in sorted(wanted) if identity not in known]
        if not missing:
            return
        if self._ledger.get("making"):
            missing = self._adopt(missing, wanted, classes, {*before, *(ident for ident, _ in known.values())})
        self._ledger.note("making", True)
        for start in range(0, len(missing), _AT_ONCE):
            self._check()
            part = missing[start : start + _AT_ONCE]
            made = add_objects(self._server, self._target, [classes[wanted[identity]].id for identity in part])
            self._ledger.note_objects(dict(zip(part, made, strict=True)), ours=True)

    def _adopt(
        self, missing: list[int], wanted: Mapping[int, str], classes: Mapping[str, ClassRecord], known: set[int]
    ) -> list[int]:
        """Objects that were made before a crash and never noted: without figures, in the order of what is missing."""
        strays = [one for one in objects(self._server, self._target) if one.id not in known]
        if strays:
            used = {f.object_id for f in figures(self._server, self._target, [s.id for s in strays], geometry=False)}
            strays = [one for one in strays if one.id not in used]
        left = list(missing)
        for stray in strays:
            if left and classes[wanted[left[0]]].id == stray.class_id:
                self._ledger.note_objects({left.pop(0): stray.id}, ours=True)
        return left

    # -- figures -----------------------------------------------------------------------------------------------------------

    def _write(
        self,
        known: Mapping[int, int],
        record: ProjectRecord,
        before: Sequence[int],
        report: Callable[[int], None],
    ) -> dict[str, int]:
        ledger = self._ledger
        reached, written = ledger.get("stored") or (-1, 0)
        noted = [reached, written]

        def confirmed(frame: Confirmed) -> None:
            noted[1] += sum(frame.written.values())
            if frame.frame - noted[0] >= _NOTE_EVERY:
                noted[0] = frame.frame
                ledger.note("stored", noted)
                report(frame.frame)

        with FigureWriter(
            self._server, self._target, mode="replace", on_confirmed=confirmed, stop=self._stop
        ) as writer:
            last = reached
            for frame, rows, there in self._frames(before, record):
                self._check()
                new = self._figures(frame, rows, there, known)
                if frame > reached:
                    writer.put(frame, new)
                    last = frame
            writer.flush()
            self._check()
            done = writer.report
        noted[1] = written + done.written  # without those that were taken back after they were confirmed
        ledger.note("stored", [last, noted[1]])
        report(self._target.frames)
        return {"written": noted[1], "kept": done.kept, "refused": done.refused, "covered": self._covered}

    def _figures(
        self, frame: int, rows: Sequence[Seen], there: Sequence[Existing], known: Mapping[int, int]
    ) -> list[NewFigure]:
        """Nothing where an object that was there before has a label of its own."""
        same = self._same(rows, there) if self._parameters.settings.predictions_mode == "iou_merge" else {}
        labelled = {one.object_id for one in there}
        made: list[NewFigure] = []
        parts: dict[int, int] = {}
        for row in rows:
            identity = self._group.get(row.id, row.id)
            ident = known[identity]
            if row.id in same or ident in labelled:
                self._covered += 1
                continue
            for piece in self._pieces(row):
                part = parts.get(ident, 0)
                parts[ident] = part + 1
                track = track_id(self._job, self._target.id, identity)
                drawn = to_json(piece, *self._size)
                made.append(
                    NewFigure(
                        ident, frame, geometry_type(piece), drawn, track, part=part, score=row.score, visible=True
                    )
                )
        return made

    def _pieces(self, row: Seen) -> list[Value]:
        geometry = row.geometry
        if geometry is None:
            return []
        value: Value
        if isinstance(geometry, Points):
            assert isinstance(self._template, Skeleton)
            value = with_points(self._template, geometry)
        else:
            value = geometry
        return [p for p in clip_to_frame(value, *self._size) if not (isinstance(p, Mask) and p.area == 0)]

    # -- labels that were there --------------------------------------------------------------------------------------------

    def _frames(self, before: Sequence[int], record: ProjectRecord) -> Iterator[tuple[int, list[Seen], list[Existing]]]:
        """Predictions frame by frame, with the labels that were there; some hundred frames in memory."""
        there: dict[int, list[Existing]] = {}
        until = -1
        names = self._names(before, record)
        for frame, rows in self._results.frames():
            if names and frame > until:
                until = frame + _SLICE - 1
                there = by_frame(self._existing(names, frame, until))
            yield frame, rows, there.get(frame, [])

    def _names(self, before: Sequence[int], record: ProjectRecord) -> dict[int, str]:
        """Class name of each object that was there."""
        if not before:
            return {}
        found: Iterator[ObjectRecord] = objects(self._server, self._target, list(before), record)
        return {one.id: one.class_name for one in found}

    def _existing(self, names: Mapping[int, str], first: int, last: int) -> Iterator[tuple[int, Existing]]:
        ours = self._own_tracks()
        for figure in figures(self._server, self._target, list(names), (first, last)):
            if figure.track_id in ours:
                continue
            try:
                value = from_json(figure.geometry_type, figure.geometry, *self._size)
            except PromptInvalid:
                continue  # a shape that nothing here could overlap with
            box = bounds(value if isinstance(value, Mask) else to_geometry(value))
            if box is not None:
                yield figure.frame, Existing(figure.object_id, names[figure.object_id], box.xyxy)

    def _own_tracks(self) -> set[str]:
        return {track_id(self._job, self._target.id, identity) for identity in self._results.identities}

    def _same(self, rows: Sequence[Seen], there: Sequence[Existing]) -> dict[int, int]:
        names = self._results.identities
        predicted = [Predicted(row.id, names[row.id].class_name, row.box.xyxy) for row in rows]
        return covered(predicted, there, self._parameters.settings.existing_objects_iou_thresh)

    def _continued(self, before: Sequence[int], record: ProjectRecord) -> dict[int, int]:
        if self._by_class:
            return {}
        counted = Continued()
        for _, rows, there in self._frames(before, record):
            self._check()
            counted.add(self._same(rows, there))
        return counted.objects()

    # -- the rest ----------------------------------------------------------------------------------------------------------

    def _tag(self, known: Mapping[int, int], record: ProjectRecord) -> None:
        wanted = self._parameters.output.tags
        if not wanted or self._by_class:
            return
        kinds = {"confidence": "any_number", "model": "any_string"}
        tags = [TagDefinition(0, name, kinds[name]) for name in wanted]
        record = ensure(self._server, self._target.project_id, tags=tags)
        scores = self._mean_scores() if "confidence" in wanted else {}
        new: list[NewTag] = []
        for name in wanted:
            tag = record.tag_named(name)
            if tag is None or tag.value_type != kinds[name]:
                continue  # the project has a tag of that name for something else
            for identity, ident in known.items():
                value: Any = round(scores.get(identity, 0.0), 4) if name == "confidence" else self._model
                new.append(NewTag(ident, tag.id, None, value))
        tag_objects(self._server, self._target.project_id, self._target, new)

    def _mean_scores(self) -> dict[int, float]:
        total: dict[int, list[float]] = {}
        for _, rows in self._results.frames():
            for row in rows:
                one = total.setdefault(row.id, [0.0, 0.0])
                one[0] += row.score
                one[1] += 1
        return {identity: score / count for identity, (score, count) in total.items()}

    def _remove(self, before: Sequence[int]) -> int:
        """What the predictions replace goes last: a crash leaves the old labels beside the new ones, never none."""
        there = {one.id for one in objects(self._server, self._target)}
        old = [ident for ident in before if ident in there]
        for start in range(0, len(old), _AT_ONCE):
            remove_objects(self._server, old[start : start + _AT_ONCE])
        return len(before)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Interrupted("Stopped while labels were uploaded; what is there stays.")


def track_id(job: str, video: int, identity: int) -> str:
    """The same for the same identity of the same job, in every process."""
    return str(uuid.uuid5(_TRACKS, f"{job}/{video}/{identity}"))


def is_annotated(server: Server, video: VideoRecord) -> bool:
    """Whether it has any label."""
    return next(figures(server, video, geometry=False), None) is not None
