"""What a detector found in a video, as objects and figures of the video."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from common.detection.contract import DetectorCard
from common.geometry.supervisely import geometry_type, to_json
from common.serving.detection_output import object_classes, value_of
from common.serving.detection_video import Seen
from common.serving.outputs import GRACE_S
from common.supervisely_io.classes import ProjectClasses
from common.supervisely_io.projects import add_objects
from common.supervisely_io.records import NewFigure, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.writer import Confirmed, FigureWriter, WriteReport


class VideoUpload:
    """Objects of a video for tracks that appear, and their figures. Owned by one thread; use as a context manager. What was
    found before an error or a stop is kept: it is still written, at once, unless the server is away.

    Holds one number per identity. track_id: of the request, noted on each figure. suffix: is put behind a class name that
    the project uses for another shape. on_confirmed: called once per frame that is stored. report: at the end, what became
    of the figures.
    """

    def __init__(
        self,
        server: Server,
        video: VideoRecord,
        card: DetectorCard,
        track_id: str,
        suffix: str,
        stop: threading.Event,
        on_confirmed: Callable[[Confirmed], None] | None = None,
    ) -> None:
        self._server, self._video, self._card, self._stop = server, video, card, stop
        self._writer = FigureWriter(server, video, mode="append", on_confirmed=on_confirmed, stop=stop, grace_s=GRACE_S)
        self.report: WriteReport | None = None
        self._track_id = track_id
        self._objects: dict[int, int] = {}
        self._wanted = object_classes(card)
        self._classes = ProjectClasses(server, video.project_id, suffix)

    def __enter__(self) -> VideoUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.report = self._writer.close(drop=self._stop.is_set())

    def put(self, seen: Seen) -> None:
        """One frame's things; those without identity are left out. Raises what the server answers."""
        figures = []
        tracks = seen.tracks
        if tracks is not None and len(tracks):
            self._add([(int(i), int(c)) for i, c in zip(tracks.ids, tracks.classes, strict=True)])
            for ident, row in zip(tracks.ids, tracks.rows, strict=True):
                value = value_of(seen.detections, int(row), self._card) if row >= 0 else None
                if value is None:
                    continue
                geometry = to_json(value, self._video.width or None, self._video.height or None)
                figures.append(
                    NewFigure(
                        self._objects[int(ident)],
                        seen.frame,
                        geometry_type(value),
                        geometry,
                        self._track_id,
                        score=float(seen.detections.scores[int(row)]),
                        visible=True,
                    )
                )
        self._writer.put(seen.frame, figures)

    def _add(self, tracks: Sequence[tuple[int, int]]) -> None:
        new = [(ident, number) for ident, number in tracks if ident not in self._objects]
        if not new:
            return
        known = [self._classes.record(self._wanted[number]).id for _, number in new]
        made = add_objects(self._server, self._video, known)
        for (ident, _), object_id in zip(new, made, strict=True):
            self._objects[ident] = object_id
