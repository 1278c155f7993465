"""A detector app that runs, as a detector of ours: asked for the frames of a batch, by video and number."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apps.auto_track.engines import EngineFailed
from apps.auto_track.remote import Address
from common.detection.contract import Detections, DetectorCard, Finds
from common.errors import EngineUnavailable, PromptInvalid
from common.geometry.measures import bounds
from common.geometry.meta import Template
from common.geometry.shapes import Polygon, Skeleton, to_geometry
from common.geometry.supervisely import from_json, known_type
from common.geometry.types import Mask, OrientedBox, Points
from common.serving.access import Caller
from common.supervisely_io.images import ImageRecord
from common.supervisely_io.records import VideoRecord
from common.video.contract import Image

CONFIDENCE_TAGS = ("confidence", "conf")
_FINDS: Mapping[str, Finds] = {"bitmap": "mask", "oriented_bbox": "oriented_box"}


class ConnectedDetector:
    """A `Detector` for one video, which is asked for by `detect_frames`. Identities are ours, whatever the app can do: it is
    asked for detections alone."""

    def __init__(
        self,
        session_id: int,
        caller: Caller,
        video: VideoRecord,
        settings: Mapping[str, Any],
        stop: threading.Event,
        every: int = 1,
    ) -> None:
        self._address, self._caller, self._video = Address(task_id=session_id), caller, video
        self._settings, self._stop, self._every = dict(settings), stop, every
        self.card = connected_card(session_id, caller)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        raise EngineUnavailable("A connected detector is asked for frames of a video, not for pictures.")

    def detect_frames(self, numbers: Sequence[int], images: Sequence[Image]) -> list[Detections]:
        """One for each number. Raises `EngineUnavailable` when the app does not answer, `Interrupted`."""
        state = {
            "videoId": self._video.id,
            "startFrameIndex": numbers[0],
            "framesCount": numbers[-1] - numbers[0] + 1,
            "stride": self._every,
            "settings": self._settings,
        }
        reply = _ask(self._address, self._caller, "inference_video_id", state, self._stop)
        entries = reply.get("ann", reply.get("annotations")) if isinstance(reply, dict) else reply
        if not isinstance(entries, list):
            raise EngineUnavailable("The connected detector answered no annotations.")
        by_frame: dict[int, Any] = {}
        for place, entry in enumerate(entries):
            frame = entry.get("frame_index") if isinstance(entry, dict) else None
            by_frame[numbers[0] + place * self._every if frame is None else int(frame)] = entry
        missing = [number for number in numbers if number not in by_frame]
        if missing:
            raise EngineUnavailable(f"The connected detector answered nothing for frame {missing[0]}.")
        size = (self._video.width, self._video.height)
        return [read(by_frame[number], self.card, size) for number in numbers]


class ConnectedImages:
    """A detector app that runs, asked for images of the server by id."""

    def __init__(self, session_id: int, caller: Caller, settings: Mapping[str, Any]) -> None:
        self._address, self._caller, self._settings = Address(task_id=session_id), caller, dict(settings)
        self.card = connected_card(session_id, caller)

    def detect_images(self, images: Sequence[ImageRecord], stop: threading.Event) -> list[Detections | None]:
        """One for each image; None for one that the app cannot read, while it can read others. Raises `EngineUnavailable`
        when the app does not answer, `Interrupted`."""
        try:
            return [*self._asked(images, stop)]
        except EngineUnavailable:
            if len(images) < 2:
                raise
        found: list[Detections | None] = []
        failures = []
        for one in images:
            try:
                found += self._asked([one], stop)
            except EngineUnavailable as error:
                failures.append(error)
                found.append(None)
        if len(failures) == len(images):
            raise failures[0]
        return found

    def _asked(self, images: Sequence[ImageRecord], stop: threading.Event) -> list[Detections]:
        state = {"batch_ids": [one.id for one in images], "batch_size": len(images), "settings": self._settings}
        entries = _ask(self._address, self._caller, "inference_batch_ids", state, stop)
        if not isinstance(entries, list) or len(entries) != len(images):
            raise EngineUnavailable("The connected detector did not answer one annotation for each image.")
        return [read(entry, self.card, (one.width, one.height)) for one, entry in zip(images, entries, strict=True)]


def read(entry: Mapping[str, Any], card: DetectorCard, size: tuple[int, int]) -> Detections:
    """What a detector app answered for one picture. size: its width and height."""
    number = {name: n for n, name in enumerate(card.classes)}
    annotation = entry.get("annotation", entry)
    rows: list[tuple[Any, float, int]] = []
    for label in annotation.get("objects") or ():
        name = str(label.get("classTitle") or "")
        if name not in number:
            continue
        try:
            value = from_json(str(label["geometryType"]), label, *size)
        except (PromptInvalid, KeyError):
            continue  # a shape that this suite does not know
        geometry = value
        if card.finds == "mask" and isinstance(value, Polygon):
            geometry = _filled(value, *size)
        if isinstance(value, Skeleton) and not value.disabled.all():
            box = bounds(Points(value.xy[~value.disabled]))  # where hidden nodes are is a guess
        else:
            box = bounds(geometry if isinstance(geometry, Mask) else to_geometry(value))
        if box is not None:
            rows.append(((geometry, box), _score(label), number[name]))
    xyxy = np.array([box.xyxy for (_, box), *_ in rows], np.float32).reshape(-1, 4)
    scores, classes = np.array([r[1] for r in rows], np.float32), np.array([r[2] for r in rows], np.int64)
    masks = oriented = keypoints = None
    if card.finds == "mask":
        masks = tuple(g if isinstance(g, Mask) else _boxed(b, size) for (g, b), *_ in rows)
    if card.finds == "oriented_box":
        oriented = np.array([_turned(g, b) for (g, b), *_ in rows], np.float32).reshape(-1, 5)
    if card.finds == "keypoints":
        keypoints = np.array([_nodes(g, b, card.keypoints) for (g, b), *_ in rows], np.float32)
        keypoints = keypoints.reshape(-1, len(card.keypoints), 3)
    return Detections(xyxy, scores, classes, masks, None, oriented, keypoints)


def connected_card(session_id: int, caller: Caller) -> DetectorCard:
    """What the app says that it finds. Raises `EngineUnavailable`."""
    meta = _ask(Address(task_id=session_id), caller, "get_output_classes_and_tags", {}, None)
    classes = meta.get("classes") if isinstance(meta, dict) else None
    if not isinstance(classes, list) or not classes:
        raise EngineUnavailable(f"Session {session_id} says of no classes that it finds them. Is it a detector?")
    nodes, bones = _template(classes)
    shapes = [known_type(str(entry.get("shape"))) or "" for entry in classes]
    if "polygon" in shapes:
        shapes.append("bitmap")
    finds: Finds = next((found for shape, found in _FINDS.items() if shape in shapes), "box")
    if nodes:
        finds = "keypoints"
    return DetectorCard(
        "connected",
        f"session {session_id}",
        tuple(str(entry["title"]) for entry in classes),
        "NOASSERTION",
        "the app's own",
        finds=finds,
        keypoints=nodes,
        bones=bones,
    )


def _template(classes: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Nodes and bones when all classes are skeletons of the same nodes, else none: things of several kinds are boxes."""
    if any(known_type(str(entry.get("shape"))) != "graph" for entry in classes):
        return (), ()
    try:
        templates = [Template.from_json(entry["geometry_config"]) for entry in classes]
    except (KeyError, TypeError):
        return (), ()
    nodes = templates[0].nodes
    if not nodes or any(set(one.nodes) != set(nodes) for one in templates):
        return (), ()
    place = {node: n for n, node in enumerate(nodes)}
    return nodes, tuple((place[a], place[b]) for a, b in templates[0].bones if a in place and b in place)


def _ask(address: Address, caller: Caller, command: str, state: Mapping[str, Any], stop: threading.Event | None) -> Any:
    try:
        return address.ask(caller, command, {}, state, stop)
    except EngineFailed as error:
        raise EngineUnavailable(f"The connected detector failed: {error}") from error


def _score(label: Mapping[str, Any]) -> float:
    scores = [tag.get("value") for tag in label.get("tags") or () if tag.get("name") in CONFIDENCE_TAGS]
    score = float(scores[0]) if scores and isinstance(scores[0], int | float) else 1.0
    return min(max(score, 0.0), 1.0)


def _nodes(value: Any, box: Any, nodes: Sequence[str]) -> np.ndarray[Any, Any]:
    """float32 (k, 3), x, y and 1 where the node is seen; what is not known lies in the middle with 0."""
    middle = (box.xyxy[:2] + box.xyxy[2:]) / 2
    found = np.array([[*middle, 0.0]] * len(nodes), np.float32)
    if isinstance(value, Skeleton):
        place = {node: n for n, node in enumerate(nodes)}
        for ident, xy, disabled in zip(value.ids, value.xy, value.disabled, strict=True):
            if ident in place:
                found[place[ident]] = (*xy, float(not disabled))
    return found


def _filled(polygon: Polygon, width: int, height: int) -> Mask:
    from common.geometry.raster import fill

    return fill(polygon, width, height)


def _boxed(box: Any, size: tuple[int, int]) -> Mask:
    full = np.zeros(size[::-1], bool)
    x1, y1, x2, y2 = np.clip(box.xyxy.round().astype(int), 0, size * 2)
    full[y1:y2, x1:x2] = True
    return Mask.from_array(full)


def _turned(geometry: Any, box: Any) -> list[float]:
    if isinstance(geometry, OrientedBox):
        return [*geometry.cxcywh.tolist(), geometry.angle_rad]
    x1, y1, x2, y2 = box.xyxy.tolist()
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.0]
