"""One process of Predict behind its endpoints: settings, the queue of jobs, and the thread that works it off."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from apps.auto_track.discovery import DETECTOR_TAGS, Running, running
from apps.predict.chosen import chosen_images, chosen_videos, kind_of
from apps.predict.pictures import ImageTask, ImageWorker
from apps.predict.preview import Preview, image_preview, preview
from apps.predict.remote import connected_card
from apps.predict.schema import Input, RunParameters
from apps.predict.store import OVER, Job, JobStore, VideoStatus
from apps.predict.targets import Targets
from apps.predict.upload import is_annotated
from apps.predict.worker import Done, VideoTask, VideoWorker
from common.cluster import make_executor
from common.cluster.contract import Executor, Outcome, Task
from common.detection import registry as detectors
from common.errors import EngineUnavailable, UserError
from common.serving.access import Caller
from common.serving.envelope import Envelope
from common.serving.replies import Rejected, sentence
from common.serving.servers import Servers
from common.serving.settings import ServingSettings
from common.supervisely_io.images import image
from common.supervisely_io.listing import entities
from common.supervisely_io.server import Server
from common.supervisely_io.videos import video, videos

log = logging.getLogger(__name__)

_SHOWN_EVERY = 0.01


class Service:
    """Made once per process. Methods may be called from any thread."""

    title, place = "Predict", "predict"
    """Name of the app; its folder, and the kind of its task."""

    def __init__(
        self,
        settings: ServingSettings,
        *,
        end: Callable[[], None] | None = None,
        executor: Callable[[str], Executor] = make_executor,
    ) -> None:
        """end: ends this process, asked for with `stop_after_run`. executor: others than usual, for tests."""
        self.settings = settings
        self.folder = settings.data / self.place
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.store = JobStore(self.folder / "jobs.sqlite")
        self.end = end or (lambda: os.kill(os.getpid(), signal.SIGTERM))
        self._executor = executor
        self._servers = Servers()
        self._parameters = RunParameters()
        self._lock = threading.Lock()
        self._queue: deque[tuple[str, Caller]] = deque()
        self._wake = threading.Condition(self._lock)
        self._stops: dict[str, threading.Event] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._work_off, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends what runs within a batch; it is taken up at the next start."""
        with self._wake:
            self._closing = True
            for stop in self._stops.values():
                stop.set()
            self._wake.notify_all()
        self._thread.join(60)
        self._servers.close()
        self.store.close()

    def resume(self) -> int:
        """Takes up jobs that ran or waited when the app ended, with the app's own token; how many."""
        access = self.settings.access
        jobs = self.store.unfinished()
        for job in jobs:
            if job.status == "stopping":
                self.store.set_status(job.id, "stopped")
            elif access.token and job.address == access.address:
                self._enqueue(job.id, access.caller(None, None))
            else:
                self.store.set_status(
                    job.id, "stopped", "The app was restarted, and it does not keep tokens of others. Run it again."
                )
        return len(jobs)

    # -- who asks ----------------------------------------------------------------------------------------------------------

    def caller(self, call: Envelope) -> Caller:
        return self.settings.access.caller(call.server_address, call.token)

    def server(self, caller: Caller) -> Server:
        return self._servers.of(caller)

    # -- parameters --------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> RunParameters:
        with self._lock:
            return self._parameters

    def load(self, changes: dict[str, Any]) -> RunParameters:
        """Raises pydantic's ValidationError, `EngineUnavailable`."""
        with self._lock:
            merged = self._parameters.merged(changes)
            merged.prediction()
            self._parameters = merged
            return merged

    def card(self, model: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """What a model finds: classes and shape. Raises `EngineUnavailable`."""
        chosen = RunParameters.model_validate({"model": model}).model
        if chosen.mode == "connect":
            assert chosen.session_id is not None
            card = connected_card(chosen.session_id, caller)
        else:
            card = detectors.make(chosen.name).card
        return {
            "name": card.name,
            "title": card.title,
            "classes": [name or "object" for name in card.classes],
            "finds": card.finds,
            "licence": card.licence,
            "weights": card.weights,
        }

    def sessions(self, call: Envelope) -> list[Running]:
        """Detector apps that run."""
        server = self.server(self.caller(call))
        team = call.context.get("teamId") or call.state.get("teamId")
        found = running(server, int(team) if team else 1, self.settings.task_id)
        return [one for one in found if any(tag in DETECTOR_TAGS for tag in one.tags)]

    def choices(self, call: Envelope) -> list[dict[str, Any]]:
        """Projects of videos and of images; or with `project_id` its videos, or its datasets of images."""
        server = self.server(self.caller(call))
        project = call.state.get("project_id")
        if project is None:
            workspace = call.state.get("workspace_id") or call.context.get("workspaceId") or 1
            rows = entities(server, "projects.list", {"workspaceId": int(workspace)})
            kinds = ((r, str(r.get("type") or "videos")) for r in rows)
            known = [(r, kind) for r, kind in kinds if kind in ("videos", "images")]
            return [{"id": int(r["id"]), "name": str(r["name"]), "type": kind} for r, kind in known]
        found = []
        of_images = kind_of(server, Input(project_id=int(project))) == "images"
        for row in entities(server, "datasets.list", {"projectId": int(project), "recursive": True}):
            if of_images:
                count = int(row.get("imagesCount") or row.get("itemsCount") or 0)
                found.append({"dataset_id": int(row["id"]), "name": str(row["name"]), "images": count})
                continue
            for one in videos(server, int(row["id"])):
                about = {"frames": one.frames, "size": f"{one.width} x {one.height}", "fps": round(one.fps, 2)}
                found.append({"id": one.id, "name": one.name, "dataset": str(row["name"]), **about})
        return found

    def preview(self, call: Envelope) -> Preview:
        """The first seconds of the first video, or some image, as the settings at hand would label it. Nothing is written."""
        caller = self.caller(call)
        server = self.server(caller)
        changes = {key: value for key, value in call.state.items() if key in RunParameters.model_fields}
        parameters = self.parameters.merged(changes)
        if kind_of(server, parameters.input) == "images":
            idents = [ident for portion in chosen_images(server, parameters.input) for ident in portion.images]
            checkpoint = self._checkpoint(parameters, caller)
            return image_preview(server, caller, random.choice(idents), parameters, checkpoint)
        record = chosen_videos(server, parameters.input)[0]
        seconds = min(max(float(call.state.get("seconds", 2.0)), 0.1), 10.0)
        return preview(
            server,
            caller,
            record,
            parameters,
            self._checkpoint(parameters, caller),
            self.folder,
            self.settings,
            seconds,
        )

    # -- jobs --------------------------------------------------------------------------------------------------------------

    def run(self, call: Envelope) -> str:
        """Queues a job, or takes up a stopped one (`job_id`); its id. Raises `UserError`, ValidationError."""
        caller = self.caller(call)
        self.server(caller).call("users.me")
        ident = call.state.get("job_id")
        if ident is not None:
            job = self.found(str(ident))
            if job.status not in ("stopped", "failed"):
                return job.id
            if job.address != caller.address:
                raise Rejected("This job belongs to another server.", 403)
            self._enqueue(job.id, caller)
            return job.id
        changes = {key: value for key, value in call.state.items() if key in RunParameters.model_fields}
        parameters = self.parameters.merged(changes)
        parameters.prediction()
        if not parameters.input.given:
            raise Rejected(
                "Say what is to be labelled: input.video_ids, image_ids, collection_ids, dataset_ids or project_id."
            )
        stop_after = bool(call.state.get("stop_after_run"))
        made = self.store.create(parameters.model_dump(mode="json"), caller.address, stop_after)
        self._enqueue(made, caller)
        return made

    def stop(self, ident: str) -> Job:
        """Within a batch of frames. What is done stays; running it again goes on from there."""
        job = self.found(ident)
        with self._wake:
            waiting = [entry for entry in self._queue if entry[0] == ident]
            for entry in waiting:
                self._queue.remove(entry)
            stop = self._stops.get(ident)
            if stop is not None:
                stop.set()
        if waiting:
            self.store.set_status(ident, "stopped")
        elif stop is not None and job.status not in OVER:
            self.store.set_status(ident, "stopping")
        return self.found(ident)

    def found(self, ident: str) -> Job:
        """Raises `Rejected` (404)."""
        job = self.store.job(ident)
        if job is None:
            raise Rejected("There is no such job.", 404)
        return job

    def latest(self) -> str:
        """Id of the newest job. Raises `Rejected` (404)."""
        jobs = self.store.jobs(1)
        if not jobs:
            raise Rejected("There are no jobs yet.", 404)
        return jobs[0].id

    def status(self, ident: str) -> dict[str, Any]:
        """How a job and its videos are."""
        job = self.found(ident)
        kept = self.store.videos(ident)
        rows = [row.to_json() for row in kept]
        kind = "images" if self.store.of_images(ident) else "videos"
        ended = [row for row in kept if row.status in ("done", "skipped")]
        current, total = len(ended), len(kept)
        if kind == "images":
            current, total = sum(row.frames for row in ended), sum(row.frames for row in kept)
            rows = [_of_images(row) for row in rows]
        frames = sum(row.frames for row in kept)
        shares = (row["share"] * max(one.frames, 1) for row, one in zip(rows, kept, strict=True))
        share = sum(shares) / max(frames, 1) if rows else 0.0
        return {
            "job_id": job.id,
            "status": job.status,
            "message": job.message,
            "kind": kind,
            "progress": {"current": current, "total": total},
            "share": round(min(share, 1.0), 4),
            "project_id": job.project,
            "videos": rows,
        }

    def result(self, ident: str) -> dict[str, Any]:
        """What came of a job that is over. Raises `Rejected` (409) while it is not."""
        job = self.found(ident)
        if job.status not in OVER:
            raise Rejected(f"The job is {job.status}; ask again when it is over.", 409)
        return {**self.status(ident), "parameters": job.parameters}

    # -- the thread --------------------------------------------------------------------------------------------------------

    def _enqueue(self, ident: str, caller: Caller) -> None:
        with self._wake:
            if self._closing:
                raise Rejected("The app is ending.", 503)
            if all(entry[0] != ident for entry in self._queue) and ident not in self._stops:
                self.store.set_status(ident, "queued")
                self._queue.append((ident, caller))
                self._wake.notify_all()

    def _work_off(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if self._closing:
                    return
                ident, caller = self._queue.popleft()
                stop = self._stops[ident] = threading.Event()
            try:
                self._run(ident, caller, stop)
            except UserError as error:
                self.store.set_status(ident, "failed", str(error))
            except Exception as error:
                log.exception("job %s failed", ident)
                self.store.set_status(ident, "failed", sentence(error))
            finally:
                with self._wake:
                    del self._stops[ident]
            job = self.store.job(ident)
            if job is not None and job.stop_after and job.status in ("finished", "failed"):
                self.end()

    def _run(self, ident: str, caller: Caller, stop: threading.Event) -> None:
        job = self.found(ident)
        parameters = RunParameters.model_validate(job.parameters)
        self.store.set_status(ident, "running")
        with Server(caller.address, caller.token, stop=stop) as server:
            if not self.store.videos(ident):
                self._choose(ident, server, parameters)
            checkpoint = self._checkpoint(parameters, caller)
            given = (parameters.model_dump(mode="json"), checkpoint, caller.address, caller.token)
            folder = str(self.folder.absolute())
            make: Any = partial(VideoWorker, *given, folder, self.settings.cache_bytes)
            tasks: Iterator[Task[Any]] = self._tasks(ident, server, parameters)
            if self.store.of_images(ident):
                make, tasks = partial(ImageWorker, *given, folder), self._image_tasks(ident, server, parameters)
            executor = self._executor(parameters.settings.executor)
            try:
                shown = _Shown(self.store, ident)
                for outcome in executor.run(make, tasks, stop=stop, on_progress=shown.show):
                    self._settle(ident, outcome)
            finally:
                executor.close()
        self._conclude(ident, stop)

    def _choose(self, ident: str, server: Server, parameters: RunParameters) -> None:
        if kind_of(server, parameters.input) == "images":
            portions = chosen_images(server, parameters.input, parameters.output.skip_annotated)
            self.store.add_portions(ident, [(one.name, one.images) for one in portions])
        else:
            chosen = chosen_videos(server, parameters.input)
            self.store.add_videos(ident, [(one.id, one.name, one.frames) for one in chosen])

    def _image_tasks(self, ident: str, server: Server, parameters: RunParameters) -> Iterator[Task[ImageTask]]:
        """One for each portion that is not done."""
        targets = Targets(server, parameters, self.store, ident, "images")
        portions = self.store.portions(ident)
        for row in self.store.videos(ident):
            if row.status == "done":
                continue
            try:
                project, dataset = targets.dataset(image(server, row.video))
            except UserError as error:
                self._set(ident, row.video, "failed", message=str(error))
                continue
            self.store.set_video(ident, row.video, status="working", target=dataset, message="")
            yield Task(str(row.video), ImageTask(ident, portions[row.video], project, dataset))

    def _tasks(self, ident: str, server: Server, parameters: RunParameters) -> Iterator[Task[VideoTask]]:
        """One for each video that is not done; what it needs on the server is made when its turn comes."""
        targets = Targets(server, parameters, self.store, ident, "videos")
        fresh = not parameters.output.upload_to_source_project
        for row in self.store.videos(ident):
            if row.status in ("done", "skipped"):
                continue
            try:
                source = video(server, row.video)
                if parameters.output.skip_annotated and row.status == "waiting" and is_annotated(server, source):
                    self._set(ident, row.video, "skipped", message="It has labels.")
                    continue
                target = targets.of(source)
            except UserError as error:
                self._set(ident, row.video, "failed", message=str(error))
                continue
            self.store.set_video(ident, row.video, status="working", target=target.id, message="")
            yield Task(str(row.video), VideoTask(ident, row.video, target.id, fresh))

    def _settle(self, ident: str, outcome: Outcome[Done]) -> None:
        number = int(outcome.key)
        if outcome.error is not None:
            self._set(ident, number, "failed", message=sentence(outcome.error))
        elif outcome.answer is None or outcome.answer.stopped:
            self._set(ident, number, "stopped")
        else:
            self.store.set_video(ident, number, status="done", told=dict(outcome.answer.told), message="")

    def _conclude(self, ident: str, stop: threading.Event) -> None:
        rows = self.store.videos(ident)
        failed = [row for row in rows if row.status == "failed"]
        if stop.is_set():
            # the app's own end is no wish of the person's: the job is taken up at the next start
            self.store.set_status(ident, "running" if self._closing else "stopped")
            return
        if failed:
            what = "portions of images" if self.store.of_images(ident) else "videos"
            says = f"{len(failed)} of {len(rows)} {what} failed; the others are done. {failed[0].message}"
            self.store.set_status(ident, "failed", says)
            return
        shutil.rmtree(self.folder / "jobs" / ident, ignore_errors=True)
        self.store.set_status(ident, "finished")

    def _set(self, ident: str, number: int, status: VideoStatus, message: str = "") -> None:
        self.store.set_video(ident, number, status=status, message=message)

    def _checkpoint(self, parameters: RunParameters, caller: Caller) -> str | None:
        """A custom model's file on this machine, out of the team's files. Raises `EngineUnavailable`."""
        model = parameters.model
        if model.mode != "custom":
            return None
        assert model.checkpoint is not None
        server = self.server(caller)
        folder = self.folder / "checkpoints"
        folder.mkdir(exist_ok=True, mode=0o700)
        team = int(server.call("users.me").get("teamId") or 1)
        mark = hashlib.sha256(f"{caller.address} {team} {model.checkpoint}".encode()).hexdigest()[:16]
        place = folder / f"{mark}-{Path(model.checkpoint).name}"
        if not place.is_file():
            part = place.with_name(place.name + ".part")
            try:
                asked = {"teamId": team, "path": model.checkpoint}
                with server.stream("file-storage.download", asked) as reply, part.open("wb") as file:
                    for piece in reply.iter_raw():
                        file.write(piece)
            except UserError as error:
                raise EngineUnavailable(f"The checkpoint {model.checkpoint} cannot be had: {error}") from error
            part.replace(place)
        return str(place)


def _of_images(row: dict[str, Any]) -> dict[str, Any]:
    """A portion as status tells it."""
    out = {"images": row["frames"], "result_dataset_id": row["result_video_id"]}
    return {key: value for key, value in row.items() if key not in ("video_id", "frames", "result_video_id")} | out


class _Shown:
    """Progress of videos into the store, a hundred times for each at most."""

    def __init__(self, store: JobStore, ident: str) -> None:
        self._store, self._ident = store, ident
        self._last: dict[str, float] = {}

    def show(self, key: str, done: int, whole: int) -> None:
        share = done / max(whole, 1)
        if share - self._last.get(key, -1.0) >= _SHOWN_EVERY or done >= whole:
            self._last[key] = share
            self._store.set_video(self._ident, int(key), done=done, whole=whole)
