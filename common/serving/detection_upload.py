"""What a detector found in a video, as objects and figures of the video: `/tracking_by_detection`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from common.detection.contract import DetectorCard
from common.geometry.supervisely import geometry_type, to_json
from common.serving.detection_output import object_classes, value_of
from common.serving.detection_video import Seen
from common.supervisely_io.classes import ProjectClasses
from common.supervisely_io.projects import add_objects
from common.supervisely_io.records import NewFigure, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.writer import FigureWriter

log = logging.getLogger(__name__)


class VideoObjects:
    """Objects of a video for tracks that appear, and their figures. Owned by one thread.

    Holds one number per identity. suffix: is put behind a class name that the project uses for another shape.
    """

    def __init__(
        self, server: Server, video: VideoRecord, card: DetectorCard, writer: FigureWriter, track_id: str, suffix: str
    ) -> None:
        self._server, self._video, self._card, self._writer = server, video, card, writer
        self._track_id = track_id
        self._objects: dict[int, int] = {}
        self._wanted = object_classes(card)
        self._classes = ProjectClasses(server, video.project_id, suffix)

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
