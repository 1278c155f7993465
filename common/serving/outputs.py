"""Where a job's finished frames go: figures on the server, or results that the caller fetches."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from common.geometry.clip import clip_to_frame
from common.geometry.shapes import Value
from common.geometry.supervisely import geometry_type, to_json
from common.serving.jobs import Job
from common.serving.results import ResultStore
from common.serving.targets import Target
from common.supervisely_io.records import NewFigure, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.writer import Confirmed, FigureWriter, WriteReport
from common.tracking.contract import Prediction

Found = Sequence[tuple[Target, Prediction]]
"""The predictions of one frame, hidden and lost objects among them."""

OnStored = Callable[[int, int, list[int]], None]
"""frame, steps (targets that the frame was about), ids of the source figures that got a figure on it."""

GRACE_S = 5.0
"""How long the end of a stopped job waits for a server that does not take the frames that are finished."""


class Output(Protocol):
    def put(self, frame: int, found: Found) -> None: ...

    def close(self, *, drop: bool) -> str | None:
        """Finishes; a sentence about what could not be stored. drop: forget what is not stored yet."""
        ...


def drawn(found: Found, width: int, height: int) -> Iterator[tuple[Target, Prediction, Value]]:
    """What is drawn of a frame: the part in the picture of every object that is visible; a line may have several."""
    for target, prediction in found:
        if prediction.geometry is None or not prediction.visible:
            continue
        for part in clip_to_frame(target.like(prediction.geometry), width, height):
            yield target, prediction, part


def untold(report: WriteReport) -> str | None:
    """A sentence about the figures that could not be stored; None when all were."""
    told = []
    if report.refused:
        told.append(f"The server refused {report.refused} of the figures. The first: {'; '.join(report.refusals[:1])}")
    if report.dropped:
        told.append(f"{report.dropped} of the figures that were finished could not be stored before the end.")
    return " ".join(told) or None


class FigureOutput:
    """Writes to the server. on_stored is called from the writer's thread, in order, once a frame is there, and with no steps
    when a figure of it was taken back for a person's. What is finished when the job is stopped is still written, at once,
    unless the server is away."""

    def __init__(
        self,
        server: Server,
        video: VideoRecord,
        size: tuple[int, int],
        track_id: str,
        job: Job,
        on_stored: OnStored,
        expected: tuple[Collection[int], int, int] | None = None,
    ) -> None:
        """expected: see `FigureWriter`."""
        self._size, self._track_id = size, track_id
        self._on_stored = on_stored
        self._sources: dict[int, list[int]] = {}
        self._writer = FigureWriter(
            server,
            video,
            on_confirmed=self._confirmed,
            on_yielded=lambda _, frame: on_stored(frame, 0, []),
            stop=job.stop,
            grace_s=GRACE_S,
            expected=expected,
        )

    def put(self, frame: int, found: Found) -> None:
        parts: Counter[int] = Counter()
        figures = []
        for target, prediction, value in drawn(found, *self._size):
            figures.append(
                NewFigure(
                    target.object_id,
                    frame,
                    geometry_type(value),
                    to_json(value, *self._size),
                    self._track_id,
                    target.figure_id,
                    parts[target.object_id],
                    round(prediction.score, 4),
                    prediction.visible,
                )
            )
            parts[target.object_id] += 1
        for target, _ in found:
            sources = self._sources.setdefault(target.object_id, [])
            if target.figure_id is not None and target.figure_id not in sources:
                sources.append(target.figure_id)
        self._writer.put(frame, figures, [target.object_id for target, _ in found])

    def close(self, *, drop: bool) -> str | None:
        return untold(self._writer.close(drop=drop))

    def _confirmed(self, confirmed: Confirmed) -> None:
        steps = sum(max(1, len(self._sources.get(ident, ()))) for ident in confirmed.objects)
        tracked = [source for ident in confirmed.written for source in self._sources.get(ident, ())]
        self._on_stored(confirmed.frame, steps, tracked)


class FetchedOutput:
    """Keeps figures until the caller fetches them (`/pop_tracking_results`)."""

    def __init__(
        self, store: ResultStore, size: tuple[int, int], track_id: str | None, job: Job, on_stored: OnStored
    ) -> None:
        self._store, self._size, self._track_id = store, size, track_id
        self._job, self._on_stored = job, on_stored

    def put(self, frame: int, found: Found) -> None:
        shown = list(drawn(found, *self._size))
        self._store.put(frame, [self._figure(frame, *one) for one in shown], self._job.stop)
        tracked = {target.figure_id for target, _, _ in shown if target.figure_id is not None}
        self._on_stored(frame, len(found), sorted(tracked))

    def close(self, *, drop: bool) -> str | None:
        return None

    def _figure(self, frame: int, target: Target, prediction: Prediction, value: Value) -> dict[str, Any]:
        meta: dict[str, Any] = {"frame": frame}
        if target.figure_id is not None:
            meta["sourceFigureId"] = target.figure_id
        return {
            "id": uuid.uuid4().hex,
            "objectId": target.object_id,
            "geometryType": geometry_type(value),
            "geometry": to_json(value, *self._size),
            "meta": meta,
            "trackId": self._track_id,
            "nnCreated": True,
            "nnUpdated": True,
            "score": round(prediction.score, 4),
            "visible": prediction.visible,
        }
