"""Pictures for a detector, and what it finds onto them on the server, in the way that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import Any

from common.detection.contract import Detections, DetectorCard
from common.detection.selection import Selection, select
from common.serving.detection_output import (
    annotation,
    class_names,
    object_classes,
    picture_labels,
    prediction,
    value_of,
)
from common.serving.detection_requests import SentImages, Stored
from common.serving.intake import decode
from common.serving.jobs import Job
from common.supervisely_io.copies import DatasetCopies, dataset_named, new_project
from common.supervisely_io.image_writer import CONFIDENCE, Found, ImageWriter, Mode
from common.supervisely_io.images import ImageRecord, copied, fetched, images_by_id
from common.supervisely_io.new_media import NewPicture, stored
from common.supervisely_io.server import Server
from common.video.contract import Image

_RECORDS_AT_ONCE = 200


Place = ImageRecord | NewPicture
"""Where labels of a picture go: an image of the server, or one that is yet to be made."""

Pictured = tuple[Image, dict[str, Any], Place | None]
"""A picture, what is known of it, and its place."""

NEW_DATASET = "Predictions"


def pictures_by_id(server: Server, ids: Sequence[int]) -> Generator[Pictured, None, None]:
    """Each with what is known of it. Raises `ServerRefused` (404), `Rejected` for one that cannot be read."""
    for start in range(0, len(ids), _RECORDS_AT_ONCE):
        records = images_by_id(server, ids[start : start + _RECORDS_AT_ONCE])
        with closing(fetched(server, records, lambda record, data: decode(data, f"Image {record.id}"))) as pictures:
            for record, picture in zip(records, pictures, strict=True):
                about = {"image_id": record.id, "name": record.name, "image_name": record.name}
                about |= {"dataset_id": record.dataset_id or None, "project_id": record.project_id or None}
                yield picture, about, record


def predictions(found: Detections, card: DetectorCard) -> list[Found]:
    """What was found as labels; what cannot be stored is left out."""
    classes = object_classes(card)
    made = []
    for row in range(len(found)):
        value = value_of(found, row, card)
        if value is not None:
            made.append(Found(classes[int(found.classes[row])], value, float(found.scores[row])))
    return made


class ImageUpload:
    """Writes one batch while the next is looked at, and never more: when the server is slow, the detector waits.

    Use as a context manager: at its end everything is written, unless an error ended it.
    """

    def __init__(self, server: Server, asked: Stored, overlap: float, ident: str) -> None:
        self._server, self._asked, self._overlap, self._ident = server, asked, overlap, ident
        mode = asked.mode
        self._mode: Mode = "append" if mode is None or mode == "create" else mode
        self._target = asked.output_project_id
        self._copies: DatasetCopies | None = None
        self._new: int | None = None
        self._writers: dict[int, ImageWriter] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._under_way: Future[list[ImageRecord]] | None = None

    @property
    def project(self) -> int | None:
        """The project that labels go to when it is not that of the images."""
        return self._target

    def __enter__(self) -> ImageUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, entries: Sequence[tuple[Place, Sequence[Found]]]) -> None:
        """Waits for what was put before. Raises what is wrong with that."""
        self.wait()
        self._under_way = self._pool.submit(self._write, list(entries))

    def wait(self) -> list[ImageRecord]:
        """The images that got what was put last, in that order; none a second time."""
        under_way, self._under_way = self._under_way, None
        return [] if under_way is None else under_way.result()

    def _write(self, entries: list[tuple[Place, Sequence[Found]]]) -> list[ImageRecord]:
        places = self._made([place for place, _ in entries if isinstance(place, NewPicture)])
        by_dataset: dict[int, list[int]] = {}
        for n, (place, _) in enumerate(entries):
            if isinstance(place, ImageRecord):
                places.insert(n, place)
            by_dataset.setdefault(places[n].dataset_id, []).append(n)
        for rows in by_dataset.values():
            self._write_dataset([(places[n], entries[n][1]) for n in rows], isinstance(entries[rows[0]][0], NewPicture))
        return places

    def _made(self, pictures: Sequence[NewPicture]) -> list[ImageRecord]:
        """Images made of pictures that were sent, all in one dataset."""
        if not pictures:
            return []
        if self._new is None:
            assert isinstance(self._asked, SentImages)
            if self._target is None:
                assert self._asked.workspace_id is not None
                self._target = self._project(self._asked.workspace_id)
            self._new = dataset_named(self._server, self._target, NEW_DATASET, None)
        assert self._target is not None
        return stored(self._server, self._target, self._new, pictures)

    def _write_dataset(self, part: Sequence[tuple[ImageRecord, Sequence[Found]]], new: bool) -> None:
        """Images of one dataset; copies of them where those are asked for. new: they were made for this."""
        project, dataset = part[0][0].project_id, part[0][0].dataset_id
        if not new and (self._asked.mode == "create" or self._target is not None):
            source, project = project, self._output(project)
            if self._copies is None:
                self._copies = DatasetCopies(self._server, project)
            dataset = self._copies.of(source, dataset)
            targets = copied(self._server, [record for record, _ in part], dataset)
            part = [(target, found) for target, (_, found) in zip(targets, part, strict=True)]
        if project not in self._writers:
            self._writers[project] = ImageWriter(
                self._server,
                project,
                self._mode,
                suffix=self._asked.suffix,
                threshold=self._overlap,
                tags=[CONFIDENCE],
            )
        self._writers[project].write(dataset, part)

    def _output(self, source: int) -> int:
        if self._target is None:
            self._target = self._project(int(self._server.call("projects.info", {"id": source})["workspaceId"]))
        return self._target

    def _project(self, workspace: int) -> int:
        mark = f"Made by the detector app, request {self._ident}."
        return new_project(self._server, workspace, "Predictions", "images", mark)


def look_through(
    job: Job,
    pictures: Iterable[Pictured],
    card: DetectorCard,
    look: Callable[[list[Image]], list[Detections]],
    chosen: Selection,
    batch: int,
    upload: ImageUpload | None,
) -> list[dict[str, Any]]:
    """Detects in batches and gives out predictions: into the job's results, or else as the list that is returned. What is
    uploaded is given out once it is written; who fetches it then gets no annotations, as with the SDK."""
    names = class_names(card)
    given: list[dict[str, Any]] = []
    waiting: list[Pictured] = []
    written: list[dict[str, Any]] = []

    def announce(made: Sequence[dict[str, Any]]) -> None:
        for one in made:
            if job.results is None:
                given.append(one)
            else:
                job.results.put(job.done, [one], job.stop)
            job.advance(job.done + 1)

    def finished(upload: ImageUpload) -> list[dict[str, Any]]:
        """What is written now; of a picture that became an image, with what the image is."""
        places = upload.wait()
        ready, written[:] = list(written), []
        if not places:
            return ready
        return [
            one
            if one["image_id"] is not None
            else one | {"image_id": place.id, "dataset_id": place.dataset_id, "project_id": place.project_id}
            for one, place in zip(ready, places, strict=True)
        ]

    def finish() -> None:
        found = [select(one, names, chosen) for one in look([image for image, *_ in waiting])]
        made = [_prediction(pictured, one, card) for pictured, one in zip(waiting, found, strict=True)]
        if upload is None:
            announce(made)
        else:
            announce(finished(upload))
            entries = zip(waiting, found, strict=True)
            upload.put([(place, predictions(one, card)) for (_, _, place), one in entries if place is not None])
            silent = [{**one, "annotation": None, "data": None} for one in made]
            written[:] = made if job.results is None else silent
        waiting.clear()

    for pictured in pictures:
        if job.stop.is_set():
            break
        waiting.append(pictured)
        if len(waiting) >= batch:
            finish()
    if waiting and not job.stop.is_set():
        finish()
    if upload is not None:
        announce(finished(upload))
    return given


def _prediction(pictured: Pictured, found: Detections, card: DetectorCard) -> dict[str, Any]:
    image, about, _ = pictured
    height, width = image.shape[:2]
    return prediction(annotation(picture_labels(found, card, width, height), width, height), **about)
