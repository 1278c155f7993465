"""After corrections: only the frames that depend on them are tracked again, on the server, from people's figures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.detection.contract import Detections
from common.errors import Interrupted, PromptInvalid
from common.geometry.clip import clip_to_frame
from common.geometry.measures import bounds
from common.geometry.shapes import to_geometry
from common.geometry.supervisely import from_json, geometry_type, to_json
from common.geometry.types import Box, Mask
from common.labeling import areas
from common.labeling.mending import mended
from common.supervisely_io.figures import figures
from common.supervisely_io.records import FigureRecord, NewFigure, VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.writer import FigureWriter
from common.tracking.contract import Tracker
from common.video.contract import FrameSource

_SCORE = 0.75
"""Confidence of a figure that follows from a correction."""


@dataclass
class _Object:
    """own: figures of the assistant, people: those of people, by frame. track: whose the assistant's are."""

    own: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    people: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    track: str = ""
    drawn: bool = False


def mend_video(
    server: Server,
    video: VideoRecord,
    source: FrameSource,
    tracks: Mapping[str, bool],
    tracker: Tracker,
    stop: threading.Event,
    report: Callable[[int, int], None],
) -> dict[str, Any] | None:
    """tracks: of the figures that the assistant drew there. Objects that it drew and people corrected; what came of it, or None
    when it was stopped. Raises `UserError`."""
    known = [one for one in _objects(server, video, tracks).items() if one[1].own and one[1].people]
    drawer = areas.make(areas.preferred())
    size = (video.width, video.height)
    frames, objects = 0, 0
    try:
        with FigureWriter(server, video, mode="replace", stop=stop) as writer:
            for number, (ident, one) in enumerate(known):
                if stop.is_set():
                    return None
                changed = mended(source, tracker, one.own, one.people, stop=stop)
                objects += bool(changed)
                frames += len(changed)
                for frame, box in sorted(changed.items()):
                    if stop.is_set():
                        return None
                    value: Box | Mask = Box(box.astype(np.float32))
                    if one.drawn:
                        found = Detections(box[None].astype(np.float32), [_SCORE], [0])
                        outlined = drawer.outlined(source.read(frame), found).masks
                        value = outlined[0] if outlined else value
                    new = [
                        NewFigure(
                            ident,
                            frame,
                            geometry_type(piece),
                            to_json(piece, *size),
                            one.track,
                            score=_SCORE,
                            visible=True,
                        )
                        for piece in clip_to_frame(value, *size)
                    ]
                    writer.put(frame, new)
                report(number + 1, len(known))
            writer.flush()
    except Interrupted:
        return None
    return {"corrected": len(known), "objects": objects, "figures": frames}


def _objects(server: Server, video: VideoRecord, tracks: Mapping[str, bool]) -> dict[int, _Object]:
    """Only of objects that people and the assistant drew: geometry of no other is read."""
    ours: set[int] = set()
    theirs: set[int] = set()
    for one in figures(server, video, geometry=False):
        if one.by_person:
            theirs.add(one.object_id)
        elif one.track_id in tracks:
            ours.add(one.object_id)
    found: dict[int, _Object] = {}
    if ours & theirs:
        for one in figures(server, video, sorted(ours & theirs)):
            _add(found.setdefault(one.object_id, _Object()), one, video, tracks)
    return found


def _add(one: _Object, figure: FigureRecord, video: VideoRecord, tracks: Mapping[str, bool]) -> None:
    try:
        value = from_json(figure.geometry_type, figure.geometry, video.width, video.height)
    except PromptInvalid:
        return
    box = bounds(value if isinstance(value, Mask) else to_geometry(value))
    if box is None:
        return
    if figure.by_person:
        one.people[figure.frame] = box.xyxy.astype(np.float64)
    elif figure.track_id in tracks:
        one.own[figure.frame] = box.xyxy.astype(np.float64)
        one.track, one.drawn = figure.track_id or "", isinstance(value, Mask)
