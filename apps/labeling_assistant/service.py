"""One process of the assistant behind its endpoints: the queue of Predict, with selections and labelings as its jobs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apps.labeling_assistant.corrections import mend_video
from apps.labeling_assistant.earlier import Earlier
from apps.labeling_assistant.examples import Drawn, complete, drawn, labels, support_set, told
from apps.labeling_assistant.pictures import drawn_on_images, label_portion, support_of_images
from apps.labeling_assistant.schema import Examples, Labeling, Mending, Selection
from apps.labeling_assistant.worker import Examined, Told, label_one
from apps.predict.chosen import chosen_images
from apps.predict.schema import Input
from apps.predict.service import Service
from common.errors import EngineUnavailable, Interrupted, UserError
from common.labeling.candidates import Candidate, available
from common.labeling.plan import Plan, make_plan
from common.labeling.scoring import Score
from common.labeling.selection import Choice, select
from common.labeling.support import SupportSet
from common.serving.access import Caller
from common.serving.envelope import Envelope
from common.serving.replies import Rejected
from common.serving.settings import ServingSettings
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video
from common.trackers import registry as trackers

_PLAN, _EXAMPLES, _CHOICE = "plan", "examples.json", "choice"
_JOBS = 1000


class Assistant(Service):
    """Made once per process. Methods may be called from any thread.

    A selection keeps its score table and its choice in the job store, under the video of its examples. A labeling keeps the
    examples and the plan in the job's folder, so that it goes on with what it began with, whatever is drawn meanwhile.
    """

    title, place = "Labeling Assistant", "labeling_assistant"

    def __init__(self, settings: ServingSettings, **more: Any) -> None:
        # before the queue's thread begins
        self._videos = VideoCache(settings.data / self.place / "videos", settings.cache_bytes)
        super().__init__(settings, **more)

    def close(self) -> None:
        super().close()
        self._videos.close()

    # -- what can be asked -------------------------------------------------------------------------------------------------

    def support(self, call: Envelope) -> dict[str, Any]:
        """What the support set would hold, and who could be tried on it. Raises `UserError`, ValidationError."""
        server = self.server(self.caller(call))
        wishes = Examples.model_validate(call.state)
        place = _place(server, wishes)
        kept = _drawn(server, wishes)
        with self._support(server, wishes, kept, wishes.text) as made:
            known = available(made, video=wishes.project_id is None)
            everyone = [{"name": one.name, "title": one.title} for one in known]
            about = {"project_id": wishes.project_id} if wishes.video_id is None else {"video_id": wishes.video_id}
            return {**about, "name": place[1], **told(made), "candidates": everyone}

    def select(self, call: Envelope) -> str:
        """Queues a selection; its id."""
        caller = self.caller(call)
        self.server(caller).call("users.me")
        wishes = Selection.model_validate(call.state)
        return self._queued(wishes, caller)

    def mend(self, call: Envelope) -> str:
        """Queues the tracking again of what depends on corrections; its id."""
        caller = self.caller(call)
        self.server(caller).call("users.me")
        return self._queued(Mending.model_validate(call.state), caller)

    def run(self, call: Envelope) -> str:
        """Queues a labeling, or takes up a stopped job (`job_id`); its id. With `selection` the examples are those of that job,
        unless the call says otherwise."""
        if call.state.get("job_id") is not None:
            return super().run(call)
        caller = self.caller(call)
        self.server(caller).call("users.me")
        state = dict(call.state)
        if state.get("selection") is not None:
            kept = self._selection(str(state["selection"]), caller)
            state = {**{name: kept.get(name) for name in Examples.model_fields if kept.get(name)}, **state}
        return self._queued(Labeling.model_validate(state), caller)

    def status(self, ident: str) -> dict[str, Any]:
        job = self.found(ident)
        now = super().status(ident)
        rows = [{key: value for key, value in row.items() if key != _CHOICE} for row in now["videos"]]
        of = "images" if job.parameters.get("project_id") else "videos"
        return {**now, "kind": job.parameters["kind"], "of": of, "project_id": None, "videos": rows} | (
            {"selection": job.parameters["selection"]} if job.parameters.get("selection") else {}
        )

    def result(self, ident: str) -> dict[str, Any]:
        """With the review queue of all videos, the most rewarding place first."""
        found = super().result(ident)
        link = self.found(ident).address
        queue = [
            {
                **item,
                "video_id": row["video_id"],
                "name": row["name"],
                "link": f"{link}/#video={row['video_id']}&frame={item['frame']}",
            }
            for row in found["videos"]
            for item in row.pop("review", ())
        ]
        return {**found, "review": sorted(queue, key=lambda item: -float(item["gain"]))}

    def _queued(self, wishes: Selection | Labeling | Mending, caller: Caller) -> str:
        made = self.store.create(wishes.model_dump(mode="json"), caller.address)
        self._enqueue(made, caller)
        return made

    def _selection(self, ident: str, caller: Caller) -> dict[str, Any]:
        """Parameters of a selection that is over."""
        job = self.found(ident)
        if job.address != caller.address:
            raise Rejected("This job belongs to another server.", 403)
        if job.parameters["kind"] != "select" or job.status != "finished":
            raise Rejected("This job is no selection that has finished.", 409)
        return job.parameters

    # -- the thread --------------------------------------------------------------------------------------------------------

    def _run(self, ident: str, caller: Caller, stop: threading.Event) -> None:
        job = self.found(ident)
        self.store.set_status(ident, "running")
        try:
            with Server(caller.address, caller.token, stop=stop) as server:
                if job.parameters["kind"] == "select":
                    self._select(ident, Selection.model_validate(job.parameters), server, stop)
                elif job.parameters["kind"] == "mend":
                    self._mend(ident, Mending.model_validate(job.parameters), server, stop)
                else:
                    self._label(ident, Labeling.model_validate(job.parameters), server, stop)
        except Interrupted:
            if not stop.is_set():
                raise
        self._conclude(ident, stop)

    def _select(self, ident: str, wishes: Selection, server: Server, stop: threading.Event) -> None:
        place = _place(server, wishes)
        self.store.add_videos(ident, [place])
        kept = _drawn(server, wishes)
        with self._support(server, wishes, kept, wishes.text) as support:
            choice = self._try(ident, place[0], support, wishes, stop)
        if stop.is_set():
            self._set(ident, place[0], "stopped")
            return
        about = {**_table(choice), **self._changed(wishes, choice), "support": told(support)}
        self.store.set_video(ident, place[0], status="done", told={**about, _CHOICE: choice.to_json()})

    def _mend(self, ident: str, wishes: Mending, server: Server, stop: threading.Event) -> None:
        record = video(server, wishes.video_id)
        self.store.add_videos(ident, [(record.id, record.name, record.frames)])
        self.store.set_video(ident, record.id, status="working", target=record.id)

        def report(done: int, whole: int) -> None:
            self.store.set_video(ident, record.id, done=done, whole=whole)

        with self._videos.open(server, record) as source:
            tracks = Earlier(self.store, ident, record.id).tracks
            done = mend_video(server, record, source, tracks, trackers.make(wishes.tracker), stop, report)
        if done is None:
            self._set(ident, record.id, "stopped")
        else:
            self.store.set_video(ident, record.id, status="done", told=done)

    def _changed(self, wishes: Selection | Labeling, choice: Choice) -> Told:
        """What the newest labeling from the same examples was done with, where corrections have changed the ranking."""
        place = wishes.video_id or wishes.project_id
        for job in self.store.jobs(_JOBS):
            plain = job.parameters
            if plain.get("kind") == "run" and place in (plain.get("video_id"), plain.get("project_id")):
                if job.status != "finished":
                    continue
                before = next((row.told.get("chosen") for row in self.store.videos(job.id)), None)
                return {"before": before} if before not in (None, choice.names) else {}
        return {}

    def _try(
        self, ident: str, row: int, support: SupportSet, wishes: Selection | Labeling, stop: threading.Event
    ) -> Choice:
        """Tells each score under that video of the job as soon as it is known."""
        of_video = wishes.project_id is None
        wanted = _candidates(support, wishes.candidates, of_video)
        rows: list[Score] = []

        def scored(score: Score) -> None:
            rows.append(score)
            self.store.set_video(
                ident, row, done=len(rows), whole=len(wanted) + 1, told={"table": [_row(one, set()) for one in rows]}
            )

        self.store.set_video(ident, row, status="working", done=0, whole=len(wanted) + 1)
        return select(support, wanted, budget_s=wishes.budget_s, near=of_video, stop=stop, on_score=scored)

    def _label(self, ident: str, wishes: Labeling, server: Server, stop: threading.Event) -> None:
        place = self.folder / "jobs" / ident
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        of_images = wishes.project_id is not None
        if of_images:
            first = self._portions(ident, wishes, server, place)
        else:
            chosen = [video(server, one) for one in wishes.video_ids or [wishes.video_id] if one is not None]
            self.store.add_videos(ident, [(one.id, one.name, one.frames) for one in chosen])
            first = chosen[0].id
        examples, plan = self._plan(ident, wishes, first, server, place, stop)
        if plan is None:
            return
        about: Told = {"chosen": plan.choice.names, "every": plan.every}
        tried: Told = {} if wishes.selection is not None and not wishes.candidates else _table(plan.choice)
        tried |= self._changed(wishes, plan.choice)
        portions = self.store.portions(ident)
        for row in self.store.videos(ident):
            if row.status == "done" or stop.is_set():
                continue
            try:
                self.store.set_video(ident, row.video, status="working", target=row.video, message="", done=0)
                if of_images:
                    assert wishes.project_id is not None
                    report = self._reporter(ident, row.video, about)
                    done = label_portion(
                        server, wishes.project_id, portions[row.video], plan, self.folder, stop, report
                    )  # fmt: skip
                else:
                    done = self._one(ident, video(server, row.video), plan, examples, place, server, stop, about)
                if done is not None:
                    done |= {**about, **(tried if row.video == first else {})}
            except Interrupted:
                done = None
            except UserError as error:
                self._set(ident, row.video, "failed", str(error))
                continue
            if done is None:
                self._set(ident, row.video, "stopped")
            else:
                self.store.set_video(ident, row.video, status="done", told=done)

    def _one(
        self,
        ident: str,
        record: VideoRecord,
        plan: Plan,
        examples: Examined,
        place: Path,
        server: Server,
        stop: threading.Event,
        about: Told,
    ) -> Told | None:
        def report(done: int, whole: int, so_far: Told) -> None:
            self.store.set_video(ident, record.id, done=done, whole=whole, told={**about, **so_far})

        with self._videos.open(server, record) as source:
            earlier = Earlier(self.store, ident, record.id)
            return label_one(server, record, source, plan, examples, earlier, place, ident, stop, report)

    def _plan(
        self, ident: str, wishes: Labeling, row: int, server: Server, place: Path, stop: threading.Event
    ) -> tuple[Examined, Plan | None]:
        """The examples as they were when the job began, and what was planned then; None when it was stopped before."""
        rows = _begun(place, server, wishes)
        examples = Examined(wishes.video_id or 0, rows, complete(rows, wishes.complete))
        if (place / _PLAN).exists():
            return examples, Plan.load((place / _PLAN).read_bytes())
        choice = self._choice(ident, wishes, row, rows, server, stop)
        if stop.is_set():
            return examples, None
        with self._support(server, wishes, rows, None, choice.classes) as support:
            plan = make_plan(
                support, choice, every=wishes.every, masks=wishes.masks, still=wishes.project_id is not None,
                tracker=wishes.tracker, repair=wishes.repair,
            )  # fmt: skip
        _write(place / _PLAN, plan.save())
        return examples, plan

    def _choice(
        self, ident: str, wishes: Labeling, row: int, rows: Drawn, server: Server, stop: threading.Event
    ) -> Choice:
        """Of the selection, else a new one."""
        if wishes.selection is not None and not wishes.candidates:
            (kept,) = self.store.videos(wishes.selection)
            return Choice.from_json(kept.told[_CHOICE])
        with self._support(server, wishes, rows, wishes.text) as support:
            return self._try(ident, row, support, wishes, stop)

    def _portions(self, ident: str, wishes: Labeling, server: Server, place: Path) -> int:
        """Notes the images that are to be labelled: all but those on which people labelled everything. The first one's id."""
        if not self.store.portions(ident):
            done = set(complete(_begun(place, server, wishes), wishes.complete))
            given = {"dataset_ids": wishes.dataset_ids} if wishes.dataset_ids else {"project_id": wishes.project_id}
            found: list[tuple[str, tuple[int, ...]]] = []
            for portion in chosen_images(server, Input.model_validate(given)):
                left = tuple(image for image in portion.images if image not in done)
                if left:
                    found.append((portion.name, left))
            if not found:
                raise UserError("People labelled everything on all these images: there is nothing to do.")
            self.store.add_portions(ident, found)
        return self.store.videos(ident)[0].video

    def _reporter(self, ident: str, row: int, about: Told) -> Callable[[int, int], None]:
        def report(done: int, whole: int) -> None:
            self.store.set_video(ident, row, done=done, whole=whole, told=about)

        return report

    @contextmanager
    def _support(
        self,
        server: Server,
        wishes: Examples,
        kept: Drawn,
        text: dict[str, list[str]] | None,
        classes: tuple[str, ...] | None = None,
    ) -> Iterator[SupportSet]:
        """The examples, with their pictures at hand."""
        chosen = complete(kept, wishes.complete)
        if wishes.video_id is None:
            yield support_of_images(server, kept, chosen, text, classes)
            return
        record = video(server, wishes.video_id)
        with self._videos.open(server, record) as source:
            yield support_set(labels(kept, record), source, chosen, text, classes)


def _place(server: Server, wishes: Examples) -> tuple[int, str, int]:
    """Id, name and length of what the examples are on."""
    if wishes.video_id is not None:
        record = video(server, wishes.video_id)
        return record.id, record.name, record.frames
    info = server.call("projects.info", {"id": wishes.project_id})
    if info.get("type") != "images":
        raise UserError(f"The project {info.get('name')} holds no images: name a video of it.")
    return int(info["id"]), str(info["name"]), int(info.get("imagesCount") or info.get("itemsCount") or 0)


def _drawn(server: Server, wishes: Examples) -> Drawn:
    if wishes.video_id is not None:
        return drawn(server, video(server, wishes.video_id))
    assert wishes.project_id is not None
    return drawn_on_images(server, wishes.project_id)


def _begun(place: Path, server: Server, wishes: Examples) -> Drawn:
    """The examples as they were when the job began."""
    kept = place / _EXAMPLES
    if not kept.exists():
        _write(kept, json.dumps(_drawn(server, wishes)).encode())
    rows: Drawn = json.loads(kept.read_text())
    return rows


def _candidates(support: SupportSet, names: Sequence[str], of_video: bool) -> list[Candidate]:
    everyone = {one.name: one for one in available(support, video=of_video)}
    unknown = [name for name in names if name not in everyone]
    if unknown:
        raise EngineUnavailable(f"There is no candidate {unknown[0]!r} here. There are: {', '.join(everyone)}.")
    return [everyone[name] for name in dict.fromkeys(names)] if names else list(everyone.values())


def _table(choice: Choice) -> Told:
    used = set()
    for rule in choice.rules:
        names = [choice.candidates[member].name for member in rule.members]
        used.add(names[0] if len(names) == 1 else f"{'+'.join(names)}/{choice.classes[rule.label]}")
    return {"table": [_row(score, used) for score in choice.scores], "chosen": choice.names, "why": choice.text}


def _row(score: Score, chosen: set[str]) -> Told:
    """A score for people: shares with three digits."""
    plain = score.to_json()
    for name in ("f1", "low", "high", "ap", "ms"):
        plain[name] = round(plain[name], 3)
    return {**plain, "chosen": score.name in chosen}


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
