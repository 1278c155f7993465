"""From what engines saw to what is written. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

from apps.auto_track.engines import Sighting, value_of
from common.geometry.clip import clip_to_frame
from common.geometry.codec import decode, encode
from common.geometry.shapes import Value, to_geometry
from common.geometry.supervisely import geometry_type, to_json
from common.geometry.types import Geometry, Mask
from common.supervisely_io.records import NewFigure
from common.tracking.contract import Prediction
from common.tracking.fusion import fuse

Sightings = Mapping[int, Sighting]
"""By number of the figure among those of its object on the key frame."""


def figures_of(
    sightings: Sightings,
    object_id: int,
    frame: int,
    track_id: str,
    size: tuple[int, int],
    sources: Mapping[int, int],
    hide: bool,
    traced: Mapping[int, Sequence[Value]] | None = None,
) -> list[NewFigure]:
    """The figures of one object on one frame: cut to the picture, none where there is nothing of it.

    size: width, height. sources: id of the key figure by number. hide: no figure for what is hidden or gone. traced: what
    is written instead of a sighting's value, by number.
    """
    made: list[NewFigure] = []
    for number, sighting in sorted(sightings.items()):
        if sighting.value is None or (hide and not sighting.visible):
            continue
        values = (traced or {}).get(number, (sighting.value,))
        for piece in (piece for value in values for piece in clip_to_frame(value, *size)):
            if isinstance(piece, Mask) and piece.area == 0:
                continue
            made.append(
                NewFigure(
                    object_id,
                    frame,
                    geometry_type(piece),
                    to_json(piece, *size),
                    track_id,
                    sources.get(number),
                    part=len(made),
                    score=sighting.score,
                    visible=sighting.visible,
                    meta=sighting.meta,
                )
            )
    return made


def fused(
    ahead: Sequence[Prediction | None], back: Sightings, drawn: Mapping[int, Value], position: float
) -> Sightings:
    """What the two sides of a gap say together.

    ahead: from the key figure before, by number, None where there is nothing. back: from the one after it. position: 0..1,
    where between them the frame lies.
    """
    together: dict[int, Sighting] = {}
    for number, sighting in back.items():
        other = ahead[number] if number < len(ahead) else None
        if other is None:
            together[number] = sighting
            continue
        geometry = None if sighting.value is None else to_geometry(sighting.value)
        score = 1.0 if sighting.score is None else sighting.score
        mine = Prediction(str(number), geometry, 0.0 if geometry is None else score, sighting.visible)
        try:
            both = fuse(other, mine, position)
            value = value_of(both.geometry, drawn[number])
        except ValueError:  # other kinds of geometry or numbers of points: nothing between them
            if position >= 0.5 or other.geometry is None:
                together[number] = sighting
                continue
            both, value = other, None
        if value is None and both.geometry is not None:
            together[number] = sighting
        else:
            together[number] = Sighting(value, both.score, both.visible, sighting.meta)
    return together


def write_row(sightings: Sightings) -> bytes:
    """One frame of one object for the journal."""
    rows = []
    for number, sighting in sorted(sightings.items()):
        geometry: Geometry | None = None if sighting.value is None else to_geometry(sighting.value)
        text = None if geometry is None else base64.b64encode(encode(geometry)).decode()
        rows.append([number, sighting.score, sighting.visible, text])
    return json.dumps(rows).encode()


def read_row(data: bytes | None) -> list[Prediction | None]:
    """What `write_row` wrote, by number."""
    found: list[Prediction | None] = []
    for number, score, visible, text in json.loads(data) if data else []:
        found += [None] * (number + 1 - len(found))
        geometry = None if text is None else decode(base64.b64decode(text))
        known = 1.0 if score is None else score
        found[number] = Prediction(str(number), geometry, 0.0 if geometry is None else known, visible)
    return found
