"""A look at what the settings would do: the first seconds of a video, labelled, as a clip. Nothing reaches the server."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from apps.cli.overlay import Overlay
from apps.cli.predict_job import ResultsView
from apps.predict.pictures import Looker
from apps.predict.remote import ConnectedDetector
from apps.predict.schema import RunParameters
from common.detection import registry as detectors
from common.detection.contract import Detector, DetectorSettings
from common.errors import FrameUnreadable, PromptInvalid
from common.geometry.covering import covered
from common.geometry.shapes import Value, to_geometry
from common.geometry.types import Mask
from common.prediction.journal import Journal
from common.prediction.looks import make_looks
from common.prediction.results import Results
from common.prediction.video import predict_video
from common.serving.access import Caller
from common.serving.detection_images import predictions
from common.serving.intake import decode
from common.serving.replies import Rejected
from common.serving.settings import ServingSettings
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.image_labels import labels
from common.supervisely_io.images import content, image
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.tracking.contract import Prediction
from common.tracking.journal import Result
from common.video.contract import FrameSource, Image
from common.video.numbered import numbered
from common.video.writer import VideoWriter


@dataclass(frozen=True)
class Preview:
    """clip: the file's bytes. objects, frames: what is in it. mime: of the file."""

    clip: bytes
    objects: int
    frames: int
    mime: str = "video/mp4"


class _Beginning:
    """The first frames of a source."""

    def __init__(self, source: FrameSource, frames: int) -> None:
        self._source = source
        self.info = replace(source.info, frames=min(frames, source.info.frames))

    def read(self, index: int) -> Image:
        return self._source.read(index)

    def stream(self, start: int, stop: int) -> Iterator[Image]:
        return self._source.stream(start, stop)

    def close(self) -> None: ...


def preview(
    server: Server,
    caller: Caller,
    record: VideoRecord,
    parameters: RunParameters,
    checkpoint: str | None,
    folder: Path,
    serving: ServingSettings,
    seconds: float,
) -> Preview:
    """Raises `UserError`."""
    settings = parameters.prediction(checkpoint)
    cache = VideoCache(folder / "videos", serving.cache_bytes)
    frames = max(1, round(seconds * (record.fps or 25.0)))
    try:
        with tempfile.TemporaryDirectory(dir=folder) as place, cache.open(server, record) as whole:
            source = _Beginning(whole, frames)
            with Journal(Path(place) / "preview.sqlite", "preview") as journal:
                detector: Detector
                if parameters.model.mode == "connect":
                    assert parameters.model.session_id is not None
                    wanted: dict[str, Any] = {"confidence_threshold": settings.thresholds.low}
                    if parameters.classes:
                        wanted["classes"] = parameters.classes
                    stop = threading.Event()
                    detector = ConnectedDetector(
                        parameters.model.session_id, caller, record, wanted, stop, settings.every
                    )
                else:
                    detector = detectors.make(
                        settings.detector, settings.options, DetectorSettings(batch=settings.batch)
                    )
                looks = make_looks(settings.looks, settings.options)
                predict_video(source, detector, settings, journal, looks=looks, keep=True)
                results = Results(journal, settings, source.info)
                clip = Path(place) / "preview.mp4"
                _draw(source, ResultsView(results, journal), clip)
                return Preview(clip.read_bytes(), len(results.identities), source.info.frames)
    finally:
        cache.close()


def _draw(source: _Beginning, view: ResultsView, clip: Path) -> None:
    info = source.info
    labels = view.prompts(info).labels
    overlay = Overlay({key: label.name for key, label in labels.items()}, info.fps, info.frames)
    rows: dict[int, list[Result]] = {found[0].frame: found for found in view.results()}
    with VideoWriter(clip, info.width, info.height, info.fps or 25.0) as video:
        for number, image in numbered(source, 0, info.frames):
            if not isinstance(image, FrameUnreadable):
                video.write(overlay.draw(image, number, rows.get(number, [])))


_GAP = 8


def image_preview(
    server: Server, caller: Caller, ident: int, parameters: RunParameters, checkpoint: str | None
) -> Preview:
    """One image as it is, labels and all, and beside it as it would be. Raises `UserError`."""
    record = image(server, ident)
    looker = Looker(parameters, parameters.prediction(checkpoint), caller)
    ((found,),) = looker.look(server, [record], 1, threading.Event())
    if found is None:
        raise Rejected(f"The image {record.name} cannot be read.")
    picture = decode(content(server, ident), record.name)
    there: list[tuple[str, Value, float]] = []
    for label in labels(server, record.dataset_id, [ident]).get(ident, ()):
        with contextlib.suppress(PromptInvalid):
            there.append((label.class_name, label.value(record.width, record.height), 1.0))
    new = [(one.object_class.name, one.value, one.score or 0.0) for one in predictions(found, looker.card)]
    settings = parameters.settings
    if settings.predictions_mode == "iou_merge":
        named = [(name, value) for name, value, _ in there]
        same = covered([(name, value) for name, value, _ in new], named, settings.existing_objects_iou_thresh)
        new = [one for one, known in zip(new, same, strict=True) if not known]
    kept = [] if settings.predictions_mode == "replace" else there
    before, after = _labelled(picture, there), _labelled(picture, [*kept, *new])
    gap = np.full((picture.shape[0], _GAP, 3), 255, np.uint8)
    both = np.concatenate((before, gap, after), 1)
    return Preview(encode(np.ascontiguousarray(both)), len(new), 1, "image/jpeg")


def encode(picture: Image) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return data.tobytes()


def _labelled(picture: Image, things: list[tuple[str, Value, float]]) -> Image:
    overlay = Overlay({str(n): name for n, (name, *_) in enumerate(things)}, 0.0, 1)
    rows = [
        Result(0, Prediction(str(n), v if isinstance(v, Mask) else to_geometry(v), score, True), score == 1.0)
        for n, (_, v, score) in enumerate(things)
    ]
    return overlay.draw(picture, 0, rows)
