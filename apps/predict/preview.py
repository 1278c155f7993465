"""A look at what the settings would do: the first seconds of a video, labelled, as a clip. Nothing reaches the server."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apps.cli.overlay import Overlay
from apps.cli.predict_job import ResultsView
from apps.predict.remote import ConnectedDetector
from apps.predict.schema import RunParameters
from common.detection import registry as detectors
from common.detection.contract import Detector, DetectorSettings
from common.errors import FrameUnreadable
from common.prediction.journal import Journal
from common.prediction.looks import make_looks
from common.prediction.results import Results
from common.prediction.video import predict_video
from common.serving.access import Caller
from common.serving.settings import ServingSettings
from common.supervisely_io.cache import VideoCache
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.tracking.journal import Result
from common.video.contract import FrameSource, Image
from common.video.numbered import numbered
from common.video.writer import VideoWriter


@dataclass(frozen=True)
class Preview:
    """clip: an MP4 file's bytes. objects, frames: what is in it."""

    clip: bytes
    objects: int
    frames: int


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
                predict_video(source, detector, settings, journal, looks=make_looks(settings.looks, settings.options))
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
