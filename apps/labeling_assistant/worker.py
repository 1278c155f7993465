"""One video of a server labelled as planned: into a journal, then onto the server; killed anywhere, it goes on."""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from apps.cli.memory import release
from apps.cli.predict_job import template
from apps.labeling_assistant.earlier import Earlier, replaced
from apps.labeling_assistant.examples import Drawn, Given, drawn, labels, support_set
from apps.predict.ledger import Ledger
from apps.predict.schema import RunParameters
from apps.predict.upload import Upload
from common.geometry.shapes import Value
from common.labeling.plan import Plan
from common.labeling.queue import review_queue
from common.labeling.run import LabelledVideo, fingerprint, label_video
from common.prediction.journal import Journal
from common.prediction.results import Identity, Results, Seen
from common.supervisely_io.projects import objects, project
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.video.contract import FrameSource

Told = dict[str, Any]

_TELL_EVERY_S = 0.5
_UPLOADS = RunParameters.model_validate({"output": {"upload_to_source_project": True}})


@dataclass(frozen=True)
class Examined:
    """The examples of a job, as they were when it began: of that video; frames on which everything is labelled."""

    video: int
    drawn: Drawn
    frames: list[int]


def label_one(
    server: Server,
    record: VideoRecord,
    source: FrameSource,
    plan: Plan,
    examples: Examined,
    earlier: Earlier,
    place: Path,
    job: str,
    stop: threading.Event,
    report: Callable[[int, int, Told], None],
) -> Told | None:
    """What came of it; None when it was stopped. earlier: labelings whose place this one takes. place: folder for what is not
    finished. report: work done, all of it, and
    what is known so far. Raises `UserError`, `Interrupted`."""
    meter = _Meter(record.frames, report)
    with Ledger(place / f"{record.id}.upload.sqlite") as ledger:
        own = examples.video == record.id
        kept: Drawn | None = ledger.get("drawn")
        if kept is None:
            kept = examples.drawn if own else drawn(server, record)
            ledger.note("drawn", kept)
        given = labels(kept, record)
        complete = examples.frames if own else []
        support = support_set(given, source, complete, None, plan.classes) if own else None
        identity = f"{job} {record.id}".encode()
        with Journal(place / f"{record.id}.sqlite", fingerprint(identity, plan, support, source)) as journal:
            meter.begin(journal.next_frame)
            if not journal.done and not label_video(source, plan, support, journal, stop=stop, on_frame=meter.labelled):
                return None
            release()
            results = Results(journal, plan.settings(), source.info)
            labelled = LabelledVideo(results, given, frozenset(given) - set(complete), source.info)
            shape = template(results.finds, journal.skeleton)
            seeds = _seeds(server, record, given, ledger, shape)
            view = _View(labelled, seeds)
            earlier.note(len(seeds), len(view.numbers))
            upload = _Upload(
                server, record, cast(Any, view), shape, _UPLOADS, ledger, job, "Labeling Assistant", stop
            )  # fmt: skip
            upload.earlier = earlier.tracks
            written = replace(upload.run(meter.uploaded), removed=replaced(server, record, earlier.tracks))
            suggestions = results.repaired.suggestions if results.repaired is not None else ()
            queue = review_queue(labelled.frames(), source.info, suggestions)
            known = {number: ident for number, (ident, _) in ledger.objects().items()}
            names = {key: str(known[number]) for key, number in view.numbers.items() if number in known}
            done: Told = {
                **asdict(written),
                **meter.told(),
                "seconds": round(journal.seconds, 2),
                "review": [_review(item, names) for item in queue],
            }
            if (damage := source.info.damage or journal.damage) is not None:
                done["damage"] = damage
    for leftover in place.glob(f"{record.id}.*sqlite*"):
        leftover.unlink()
    return done


def _seeds(server: Server, video: VideoRecord, given: Given, ledger: Ledger, shape: Value) -> list[int]:
    """People's objects that go on, as the upload wants them noted: those whose class takes what is drawn."""
    known: list[int] | None = ledger.get("seeds")
    if known is None:
        there = project(server, video.project_id)
        wanted = sorted({int(label.key) for own in given.values() for label in own})
        known = [
            one.id
            for one in (objects(server, video, wanted) if wanted else ())
            if one.class_id in there.classes and there.classes[one.class_id].object_class.accepts(shape)
        ]
        ledger.note("seeds", known)
    return known


class _Upload(Upload):
    """Figures of earlier labelings stand in no one's way; they are replaced as they are come by."""

    earlier: Mapping[str, bool]

    def _own_tracks(self) -> set[str]:
        return super()._own_tracks() | set(self.earlier)


class _View:
    """A labelled video as the upload wants results: identities are numbers, people's objects first; without their figures."""

    repaired = None

    def __init__(self, labelled: LabelledVideo, seeds: list[int]) -> None:
        self._labelled = labelled
        self.numbers = {str(ident): number for number, ident in enumerate(seeds, 1)}
        self.identities: dict[int, Identity] = {}
        for frame, found in labelled.frames():
            for one in found:
                number = self.numbers.setdefault(one.key, len(self.numbers) + 1)
                if not one.labelled:
                    known = self.identities.get(number)
                    first, boxes = (frame, 0) if known is None else (known.first, known.boxes)
                    self.identities[number] = Identity(number, one.class_name, first, frame, boxes + 1)

    def frames(self) -> Iterator[tuple[int, list[Seen]]]:
        for frame, found in self._labelled.frames():
            rows = [
                Seen(self.numbers[one.key], one.box, one.geometry, one.score, one.filled)
                for one in found
                if not one.labelled
            ]
            if rows:
                yield frame, rows


def _review(item: Any, names: Mapping[str, str]) -> Told:
    """An entry of the queue with ids of objects on the server instead of keys."""
    why = item.why
    for key in sorted(item.keys, key=len, reverse=True):
        if key in names:
            why = why.replace(key, names[key])
    return {**item.to_json(), "why": why, "keys": [names.get(key, key) for key in item.keys]}


class _Meter:
    """Frames per second and memory while a video is worked on, told twice a second at most."""

    def __init__(self, frames: int, report: Callable[[int, int, Told], None]) -> None:
        self._frames, self._report = max(frames, 1), report
        self._first = self._at = 0
        self._began = self._told_at = time.monotonic()
        self._peak = resident_mib()
        self._pace: float | None = None

    def begin(self, frame: int) -> None:
        self._first = frame
        self._began = time.monotonic()

    def labelled(self, done: int) -> None:
        now = time.monotonic()
        self._peak = max(self._peak, resident_mib())
        self._pace = (done - self._first) / max(now - self._began, 1e-6)
        self._tell(done, now)

    def uploaded(self, frame: int) -> None:
        self._peak = max(self._peak, resident_mib())
        self._tell(self._frames + min(frame, self._frames), time.monotonic())

    def _tell(self, done: int, now: float) -> None:
        if now - self._told_at >= _TELL_EVERY_S or done >= 2 * self._frames:
            self._told_at = now
            self._report(done, 2 * self._frames, self.told())

    def told(self) -> Told:
        pace = {} if self._pace is None else {"frames_per_s": round(self._pace, 2)}
        return {**pace, "peak_memory_mib": round(self._peak, 1)}


def resident_mib() -> float:
    """Memory of this process now; 0.0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * mmap.PAGESIZE / 2**20
