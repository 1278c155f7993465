"""Images from pictures to labels: fetched a batch at a time, looked at, written; killed anywhere, it goes on."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from apps.predict.ledger import Ledger
from apps.predict.remote import ConnectedImages
from apps.predict.schema import RunParameters
from apps.predict.worker import Done, make_detector
from common.detection.contract import Detections, Detector, DetectorCard
from common.detection.selection import Selection, select
from common.errors import EngineUnavailable, Interrupted
from common.prediction.settings import PredictionSettings
from common.serving.access import Caller
from common.serving.detection_images import predictions
from common.serving.intake import decode
from common.serving.replies import Rejected
from common.supervisely_io.image_writer import ImageWriter, Written
from common.supervisely_io.images import ImageRecord, copied, fetched, images_by_id
from common.supervisely_io.server import Server
from common.video.contract import Image

MOST = 300
"""Things given out of one image."""


@dataclass(frozen=True)
class ImageTask:
    """job: whose. images: ids, all of one dataset. project, dataset: where labels go; another dataset than the images' own
    gets copies of them."""

    job: str
    images: tuple[int, ...]
    project: int
    dataset: int


class Looker:
    """Detections of images, whatever finds them. Owned by one thread."""

    def __init__(self, parameters: RunParameters, settings: PredictionSettings, caller: Caller) -> None:
        self._settings = settings
        self._connected: ConnectedImages | None = None
        self._detector: Detector | None = None
        if parameters.model.mode == "connect":
            assert parameters.model.session_id is not None
            asked = parameters.settings.inference_settings.model_dump(exclude_none=True)
            asked["confidence_threshold"] = asked["conf"] = settings.thresholds.birth
            asked.pop("confidence", None)
            if parameters.classes:
                asked["classes"] = parameters.classes
            self._connected = ConnectedImages(parameters.model.session_id, caller, asked)
            self.card: DetectorCard = self._connected.card
        else:
            self._detector = make_detector(settings)
            self.card = self._detector.card
            if self.card.temporal:
                raise EngineUnavailable(
                    f"{self.card.title} compares the frames of a video; choose another model for images."
                )
        chosen = None if settings.classes is None else tuple(settings.classes)
        self._selection = Selection(threshold=settings.thresholds.birth, classes=chosen, most=MOST)

    def look(
        self, server: Server, images: Sequence[ImageRecord], size: int, stop: threading.Event
    ) -> Generator[list[Detections | None], None, None]:
        """Batch by batch; None for an image that cannot be read. Close it when it is left early."""
        names = self.card.classes
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        if self._connected is not None:
            for batch in batches:
                found = self._connected.detect_images(batch, stop)
                yield [None if one is None else select(one, names, self._selection) for one in found]
            return
        assert self._detector is not None
        with closing(fetched(server, images, _read, 2 * size)) as pictures:
            for batch in batches:
                part = list(islice(pictures, len(batch)))
                seen = iter(self._detector.detect([picture for picture in part if picture is not None]))
                yield [None if picture is None else select(next(seen), names, self._selection) for picture in part]


def _read(image: ImageRecord, data: bytes) -> Image | None:
    try:
        return decode(data, image.name)
    except Rejected:
        return None


class ImageWorker:
    """Used by one thread. Picklable before it is called: executors may send it elsewhere, to where the folder is shared.

    checkpoint: file of a custom model on this machine. folder: for what is remembered.
    """

    def __init__(
        self, parameters: Mapping[str, Any], checkpoint: str | None, address: str, token: str, folder: str
    ) -> None:
        self._parameters = RunParameters.model_validate(parameters)
        self._settings = self._parameters.prediction(checkpoint)
        self._caller = Caller(address, token)
        self._folder = Path(folder)
        self._looker: Looker | None = None

    def __repr__(self) -> str:
        return "ImageWorker()"

    def __call__(self, task: ImageTask, stop: threading.Event, report: Callable[[int, int], None]) -> Done:
        """Raises `UserError`."""
        place = self._folder / "jobs" / task.job
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (
            Server(self._caller.address, self._caller.token, stop=stop) as server,
            Ledger(place / f"{task.images[0]}.images.sqlite") as ledger,
        ):
            try:
                return self._work(server, task, ledger, stop, report)
            except Interrupted:
                return Done(True, {})

    def _work(
        self, server: Server, task: ImageTask, ledger: Ledger, stop: threading.Event, report: Callable[[int, int], None]
    ) -> Done:
        if self._looker is None:
            self._looker = Looker(self._parameters, self._settings, self._caller)
        settings, card = self._parameters.settings, self._looker.card
        records = images_by_id(server, task.images)
        writer = ImageWriter(
            server,
            task.project,
            settings.predictions_mode,
            suffix=settings.model_prediction_suffix,
            threshold=settings.existing_objects_iou_thresh,
            tags=self._parameters.output.tags,
            model=card.title,
        )
        done, so_far, damaged = ledger.get("done") or (0, {}, 0)
        total = Written(**so_far)
        with closing(self._looker.look(server, records[done:], self._settings.batch, stop)) as looked:
            for found in looked:
                if stop.is_set():
                    return Done(True, {})
                part = records[done : done + len(found)]
                targets, before = self._prepared(server, writer, task, ledger, part)
                seen = [(t, predictions(one, card)) for t, one in zip(targets, found, strict=True) if one is not None]
                if seen:
                    total = total + writer.write(task.dataset, seen, {t.id: before[str(t.id)] for t, _ in seen})
                done += len(found)
                damaged += len(found) - len(seen)
                ledger.note("done", (done, asdict(total), damaged))
                report(done, len(records))
        told: dict[str, Any] = {"objects": total.added, "figures": total.added, **asdict(total)}
        if damaged:
            told["damage"] = f"{damaged} images could not be read."
        return Done(False, told)

    def _prepared(
        self,
        server: Server,
        writer: ImageWriter,
        task: ImageTask,
        ledger: Ledger,
        part: Sequence[ImageRecord],
    ) -> tuple[list[ImageRecord], dict[str, list[int]]]:
        """The images that get the labels, and the ids of the labels that were on each before this job: noted before anything
        is written, so that what a killed attempt wrote is known again."""
        fresh = part[0].dataset_id != task.dataset
        targets = copied(server, part, task.dataset) if fresh else list(part)
        name = f"before {hashlib.sha256(str([t.id for t in targets]).encode()).hexdigest()[:16]}"
        before: dict[str, list[int]] | None = ledger.get(name)
        if before is None:
            if fresh and self._parameters.settings.predictions_mode != "replace":
                _copy_annotations(server, part, targets)
            there = writer.present(task.dataset, [target.id for target in targets])
            before = {str(ident): found for ident, found in there.items()}
            ledger.note(name, before)
        return targets, before


def _copy_annotations(server: Server, sources: Sequence[ImageRecord], targets: Sequence[ImageRecord]) -> None:
    """Everything that images carry, onto their copies; the same again gives the same."""
    asked = {
        "datasetId": sources[0].dataset_id,
        "imageIds": [one.id for one in sources],
        "integerCoords": False,
        "withCustomBigData": True,
    }
    entries = {int(e["imageId"]): e["annotation"] for e in server.call("annotations.bulk.info", asked)}
    new = []
    for source, target in zip(sources, targets, strict=True):
        annotation = dict(entries[source.id])
        if not annotation.get("objects") and not annotation.get("tags"):
            continue
        # ids are of the other project; there, names count
        annotation["objects"] = [_nameless(label) for label in annotation.get("objects") or ()]
        annotation["tags"] = [_nameless(tag) for tag in annotation.get("tags") or ()]
        new.append({"imageId": target.id, "annotation": annotation})
    if new:
        body = {"datasetId": targets[0].dataset_id, "annotations": new, "skipBoundsValidation": True}
        server.call("annotations.bulk.add", body)


def _nameless(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in entry.items() if key not in ("id", "classId", "tagId", "entityId", "imageId")}
    if "tags" in kept:
        kept["tags"] = [_nameless(tag) for tag in kept["tags"] or ()]
    return kept
