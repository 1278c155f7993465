"""Objects made with the Smart Tool: their box and their clicks are followed, and the Smart Tool is asked anew on each frame.

Every object is asked for by itself as far as failures go: one without a mask on a frame has none there, the others do.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from apps.auto_track import messages
from apps.auto_track.engines import Engine, EngineFailed, EngineRun, Row, Scene, Sighting, Start
from apps.auto_track.legs import parsed_key
from apps.auto_track.remote import Address
from common.errors import PromptInvalid
from common.geometry.measures import bounds, centre
from common.geometry.shapes import SinglePoint, Value
from common.geometry.supervisely import from_json
from common.geometry.types import Box, Mask
from common.serving.smart_tool import Hints, SmartSegmenter
from common.tracking.snapshot import pack, unpack

log = logging.getLogger(__name__)

Clicks = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Ask:
    """One question to the Smart Tool. crop: x1, y1, x2, y2 in pixels."""

    crop: tuple[float, float, float, float]
    positive: Clicks = field(default=())
    negative: Clicks = field(default=())

    def to_meta(self) -> dict[str, Any]:
        """`smartToolInput` of the figure's meta."""
        x1, y1, x2, y2 = (round(v) for v in self.crop)
        return {
            "crop": [[x1, y1], [max(x1, x2 - 1), max(y1, y2 - 1)]],
            "positive": [[round(x), round(y)] for x, y in self.positive],
            "negative": [[round(x), round(y)] for x, y in self.negative],
            "visible": True,
        }


class Segmenter(Protocol):
    def masks(self, scene: Scene, frame: int, asks: Sequence[Ask]) -> list[Mask | None]:
        """One answer per question, None where there is no mask. Raises `EngineFailed` when there are none at all."""
        ...


class LocalSegmenter:
    def __init__(self, segmenter: SmartSegmenter) -> None:
        self._segmenter = segmenter

    def masks(self, scene: Scene, frame: int, asks: Sequence[Ask]) -> list[Mask | None]:
        image = scene.frames.get(frame)
        found: list[Mask | None] = []
        for ask in asks:
            x1, y1, x2, y2 = (round(v) for v in ask.crop)
            crop = (max(0, x1), max(0, y1), min(image.shape[1], x2), min(image.shape[0], y2))
            if crop[0] >= crop[2] or crop[1] >= crop[3]:
                found.append(None)
                continue
            clicks = [np.array(c, np.float32).reshape(-1, 2) for c in (ask.positive, ask.negative)]
            try:
                mask = self._segmenter.segment(image, Hints(crop, clicks[0], clicks[1]))
            except Exception as error:
                raise EngineFailed(f"{type(error).__name__}: {error}") from error
            found.append(mask if mask.area else None)
        return found


class RemoteSegmenter:
    """A Smart Tool app, asked once per frame for all objects."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def masks(self, scene: Scene, frame: int, asks: Sequence[Ask]) -> list[Mask | None]:
        states = [
            {
                "crop": _places(ask.to_meta()["crop"]),
                "positive": _places(ask.positive),
                "negative": _places(ask.negative),
                "video": {"video_id": scene.video.id, "frame_index": frame},
                "request_uid": f"{scene.video.id}-{frame}-{number}",
            }
            for number, ask in enumerate(asks)
        ]
        reply = self._address.ask(scene.caller, "smart_segmentation_batch", {"states": states}, stop=scene.stop)
        if not isinstance(reply, list) or len(reply) != len(asks):
            raise EngineFailed("the Smart Tool did not answer one mask per object")
        return [self._read(scene, entry) for entry in reply]

    @staticmethod
    def _read(scene: Scene, entry: Any) -> Mask | None:
        if not isinstance(entry, dict) or not entry.get("origin") or not entry.get("bitmap"):
            return None
        data = {"bitmap": {"origin": [entry["origin"]["x"], entry["origin"]["y"]], "data": entry["bitmap"]}}
        try:
            mask = from_json("bitmap", data, scene.video.width, scene.video.height)
        except PromptInvalid as error:
            log.warning("a mask of the Smart Tool is left out: %s", error)
            return None
        return mask if isinstance(mask, Mask) and mask.area else None


def moved(ask: Ask, crop: Box, positive: Clicks) -> Ask:
    """The question on a later frame: the crop as it was tracked, clicks on the object as they were tracked but held inside
    it, clicks beside the object moved in proportion with the crop. Pure."""
    x1, y1, x2, y2 = ask.crop
    u1, v1, u2, v2 = (float(v) for v in crop.xyxy)
    sx, sy = (u2 - u1) / max(x2 - x1, 1e-6), (v2 - v1) / max(y2 - y1, 1e-6)
    held = [(min(max(x, u1), max(u1, u2 - 1)), min(max(y, v1), max(v1, v2 - 1))) for x, y in positive]
    negative = [(u1 + (x - x1) * sx, v1 + (y - y1) * sy) for x, y in ask.negative]
    return Ask((u1, v1, u2, v2), held, negative)


class SmartEngine:
    """boxes, points: engines for the crop and for the clicks."""

    def __init__(self, boxes: Engine, points: Engine, segmenter: Segmenter) -> None:
        self._boxes, self._points, self._segmenter = boxes, points, segmenter

    def start(self, scene: Scene, start: Start) -> EngineRun:
        asks = _asks(start)
        crops = self._boxes.start(scene, _part(start, _crops(asks)))
        clicks = _clicks(asks)
        points = self._points.start(scene, _part(start, clicks)) if clicks else None
        return _SmartRun(scene, asks, crops, points, self._segmenter)

    def load(self, scene: Scene, start: Start, snapshot: bytes) -> EngineRun:
        asks, tree = _asks(start), unpack(snapshot)
        crops = self._boxes.load(scene, _part(start, _crops(asks)), tree["crops"])
        points = None
        if tree["points"] is not None:
            points = self._points.load(scene, _part(start, _clicks(asks)), tree["points"])
        return _SmartRun(scene, asks, crops, points, self._segmenter)


class _SmartRun:
    def __init__(
        self,
        scene: Scene,
        asks: Mapping[str, Ask],
        crops: EngineRun,
        points: EngineRun | None,
        segmenter: Segmenter,
    ) -> None:
        self._scene, self._asks, self._segmenter = scene, asks, segmenter
        self._crops, self._points = crops, points
        # frames that one of the two engines still holds back: as many as its lookahead
        self._boxes: OrderedDict[int, Mapping[str, Sighting]] = OrderedDict()
        self._places: dict[int, Mapping[str, Sighting]] = {}

    def advance(self, frame: int, until: int) -> list[Row]:
        self._take(
            self._crops.advance(frame, until), [] if self._points is None else self._points.advance(frame, until)
        )
        return self._ready()

    def flush(self) -> list[Row]:
        self._take(self._crops.flush(), [] if self._points is None else self._points.flush())
        return self._ready()

    def save(self) -> bytes:
        return pack({"crops": self._crops.save(), "points": None if self._points is None else self._points.save()})

    def _take(self, boxes: Sequence[Row], places: Sequence[Row]) -> None:
        self._boxes.update(boxes)
        self._places.update(places)

    def _ready(self) -> list[Row]:
        rows: list[Row] = []
        while self._boxes:
            frame = next(iter(self._boxes))
            if self._points is not None and frame not in self._places:
                break
            rows.append((frame, self._segment(frame, self._boxes.pop(frame), self._places.pop(frame, {}))))
        return rows

    def _segment(
        self, frame: int, boxes: Mapping[str, Sighting], places: Mapping[str, Sighting]
    ) -> Mapping[str, Sighting]:
        asks: dict[str, Ask] = {}
        for key, before in self._asks.items():
            box = boxes[key].value
            if isinstance(box, Box) and boxes[key].visible:
                asks[key] = moved(before, box, _followed(key, before, box, places))
        masks = (
            dict(zip(asks, self._segmenter.masks(self._scene, frame, list(asks.values())), strict=True)) if asks else {}
        )
        row: dict[str, Sighting] = {}
        for key in self._asks:
            mask = masks.get(key)
            if key in asks and mask is None:
                self._scene.warn(messages.smart_failed(parsed_key(key)[0], frame))
            meta = {"smartToolInput": asks[key].to_meta(), "tool": "smart"} if mask is not None else {}
            row[key] = Sighting(mask, boxes[key].score, mask is not None, meta)
        return row


def _followed(key: str, ask: Ask, box: Box, places: Mapping[str, Sighting]) -> Clicks:
    """Where the clicks on the object are now; one that was lost is moved with the box."""
    found = []
    for number, click in enumerate(ask.positive):
        sighting = places.get(f"{key}#{number}")
        if sighting is not None and isinstance(sighting.value, SinglePoint) and sighting.visible:
            found.append((float(sighting.value.xy[0]), float(sighting.value.xy[1])))
        else:
            as_negative = moved(Ask(ask.crop, (), (click,)), box, ())
            found.append(as_negative.negative[0])
    return found


def _asks(start: Start) -> dict[str, Ask]:
    """The questions that made the figures. A figure without clicks gets one in its middle."""
    asks = {}
    for key, value in start.values.items():
        given = start.extra.get(key, {}).get("smartToolInput")
        given = given if isinstance(given, dict) else {}
        positive, negative = (_pairs(given.get(name)) for name in ("positive", "negative"))
        corners = _pairs(given.get("crop"))
        if len(corners) == 2:
            (x1, y1), (x2, y2) = corners
            crop = (min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1)
        else:
            assert isinstance(value, Mask)
            box = bounds(value)
            if box is None:
                raise PromptInvalid("The Smart Tool's mask is empty.")
            x1, y1, x2, y2 = (float(v) for v in box.xyxy)
            crop = (x1, y1, x2, y2)
        if not positive and isinstance(value, Mask) and (middle := centre(value)) is not None:
            positive = [(float(middle[0]), float(middle[1]))]
        asks[key] = Ask(crop, positive, negative)
    return asks


def _pairs(given: object) -> list[tuple[float, float]]:
    if not isinstance(given, list):
        return []
    pairs = [(p["x"], p["y"]) if isinstance(p, dict) else (p[0], p[1]) for p in given]
    return [(float(x), float(y)) for x, y in pairs]


def _crops(asks: Mapping[str, Ask]) -> dict[str, Value]:
    return {key: Box(np.array(ask.crop, np.float32)) for key, ask in asks.items()}


def _clicks(asks: Mapping[str, Ask]) -> dict[str, Value]:
    return {
        f"{key}#{number}": SinglePoint(np.array(click, np.float32))
        for key, ask in asks.items()
        for number, click in enumerate(ask.positive)
    }


def _part(start: Start, values: Mapping[str, Value]) -> Start:
    return Start(start.frame, start.step, values)


def _places(pairs: Sequence[Sequence[float]]) -> list[dict[str, int]]:
    return [{"x": round(x), "y": round(y)} for x, y in pairs]
