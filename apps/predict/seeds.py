"""A video's labels as what prediction begins with: an object that a person labelled goes on, with what is found of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from apps.predict.ledger import Ledger
from common.association.contract import Given
from common.detection.contract import DetectorCard
from common.errors import PromptInvalid
from common.geometry.measures import bounds
from common.geometry.shapes import to_geometry
from common.geometry.supervisely import from_json
from common.geometry.types import Box, Mask, OrientedBox
from common.prediction.results import UNNAMED
from common.prediction.seeds import Seeds
from common.supervisely_io.figures import figures
from common.supervisely_io.projects import objects, project
from common.supervisely_io.records import FigureRecord, VideoRecord
from common.supervisely_io.server import Server

_SLICE = 256


def video_seeds(server: Server, video: VideoRecord, ledger: Ledger, card: DetectorCard, begun: bool) -> Seeds | None:
    """Objects of the video whose class the detector knows; None when there are none. Which ones is noted at the start, in the
    order of their identities, so that a job that goes on has the same. begun: the job began without a note."""
    names = project(server, video.project_id)
    numbers = {name or UNNAMED: number for number, name in enumerate(card.classes)}
    chosen: list[int] | None = ledger.get("seeds")
    if chosen is None:
        there = [] if begun else [one for one in objects(server, video, names=names) if one.class_name in numbers]
        chosen = [one.id for one in there]
        ledger.note("seeds", chosen)
    if not chosen:
        return None
    known = {
        one.id: numbers[one.class_name] for one in objects(server, video, chosen, names) if one.class_name in numbers
    }
    identities = {ident: number for number, ident in enumerate(chosen, 1) if ident in known}
    return Seeds(len(chosen), _Labelled(server, video, identities, known).at)


class _Labelled:
    """Labels by frame, some hundred frames in memory. identities, classes: by object."""

    def __init__(
        self, server: Server, video: VideoRecord, identities: Mapping[int, int], classes: Mapping[int, int]
    ) -> None:
        self._server, self._video, self._identities, self._classes = server, video, identities, classes
        self._until = -1
        self._frames: dict[int, dict[int, list[np.ndarray]]] = {}

    def at(self, frame: int) -> Given | None:
        if not self._until - _SLICE < frame <= self._until:
            self._until = frame + _SLICE - 1
            self._frames = {}
            for figure in figures(self._server, self._video, list(self._identities), (frame, self._until)):
                box = _box(figure, self._video)
                if box is not None:
                    self._frames.setdefault(figure.frame, {}).setdefault(figure.object_id, []).append(box)
        found = self._frames.get(frame)
        if not found:
            return None
        # an object may have several figures on a frame: one box around them
        boxes = [np.concatenate((np.min(b, 0)[:2], np.max(b, 0)[2:])) for b in map(np.stack, found.values())]
        return Given(
            np.array([self._identities[ident] for ident in found], np.int64),
            np.stack(boxes).astype(np.float32),
            np.array([self._classes[ident] for ident in found], np.int64),
        )


def _box(figure: FigureRecord, video: VideoRecord) -> np.ndarray | None:
    try:
        value = from_json(figure.geometry_type, figure.geometry, video.width, video.height)
    except PromptInvalid:
        return None  # a shape that no detection could be
    box = bounds(value if isinstance(value, Box | OrientedBox | Mask) else to_geometry(value))
    if box is None or (box.xyxy[2:] - box.xyxy[:2]).min() < 1:
        return None
    return box.xyxy.astype(np.float64)
