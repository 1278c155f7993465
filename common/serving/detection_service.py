"""One process of a detector app, behind its endpoints: its detector, who asks, what runs, what is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from common.detection.contract import Detector
from common.serving.access import Caller
from common.serving.detection_model import Model, Setup
from common.serving.detection_remote import RULES
from common.serving.envelope import Envelope
from common.serving.jobs import Job, JobQueue
from common.serving.replies import Rejected
from common.serving.results import ResultStore
from common.serving.servers import Servers
from common.serving.settings import ServingSettings
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.server import Server
from common.weights.transfer import Rules

WAITING_BYTES = 32 * 1024 * 1024
"""Of results that wait for whoever asked; then the detector waits, too."""


@dataclass(eq=False)
class InferenceJob(Job):
    """final: what `/get_inference_result` gives once the job ended; None while there is nothing of that kind."""

    final: dict[str, Any] | None = None


class DetectionService:
    """Made once per process. Its methods may be called from any thread and return soon, but for `close`.

    make: makes the detector of a set-up, for tests. rules: which addresses pictures are fetched from.
    """

    def __init__(
        self,
        title: str,
        version: str,
        setup: Setup,
        settings: ServingSettings,
        make: Callable[[Setup], Detector] | None = None,
        rules: Rules = RULES,
    ) -> None:
        self.title, self.version, self.settings, self.rules = title, version, settings, rules
        self.model = Model(setup, make)
        self.jobs = JobQueue("inference", settings.workers)
        self.pictures = JobQueue("pictures", settings.batch_workers, keep_s=0.0)
        self.errands = JobQueue("errand", 1, keep_s=0.0)
        self._servers = Servers()
        self._videos: VideoCache | None = None
        self._lock = threading.Lock()

    def caller(self, envelope: Envelope) -> Caller:
        return self.settings.access.caller(envelope.server_address, envelope.token)

    def server(self, caller: Caller) -> Server:
        return self._servers.of(caller)

    @property
    def videos(self) -> VideoCache:
        with self._lock:
            if self._videos is None:
                self.settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._videos = VideoCache(self.settings.data / "videos", self.settings.cache_bytes)
            return self._videos

    def close(self) -> None:
        """Stops every job."""
        for queue in (self.errands, self.pictures, self.jobs):
            queue.close()
        with self._lock:
            if self._videos is not None:
                self._videos.close()
        self._servers.close()

    def find(self, ident: str) -> InferenceJob:
        """Raises `Rejected` (404)."""
        job = self.jobs.get(ident)
        if not isinstance(job, InferenceJob):
            raise Rejected("There is no such inference request; it may have ended long ago.", 404)
        return job


def results_for(wait: bool) -> ResultStore | None:
    """Where a job's predictions wait to be fetched; None when the caller waits for the answer instead."""
    return None if wait else ResultStore(WAITING_BYTES, size=_weight)


def asked_for(envelope: Envelope) -> dict[str, Any]:
    """What a call says; the state counts more than the context."""
    return {**envelope.context, **envelope.state}


def _weight(made: Mapping[str, Any]) -> int:
    """About how many bytes a prediction takes."""
    objects = (made["annotation"] or {}).get("objects") or ()
    return 1000 + sum(
        800 + len((one.get("bitmap") or {}).get("data") or "") + 60 * len(one.get("nodes") or ()) for one in objects
    )
