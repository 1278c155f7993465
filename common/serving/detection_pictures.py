"""Jobs that look at pictures: of the server by id, sent as files, or fetched from an address."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from common.serving.access import Caller
from common.serving.detection_images import ImageUpload, Pictured, look_through, pictures_by_id
from common.serving.detection_output import class_names
from common.serving.detection_remote import fetched
from common.serving.detection_requests import (
    ImageAddress,
    Images,
    ProjectImages,
    Sent,
    SentImages,
    Stored,
)
from common.serving.detection_service import DetectionService, InferenceJob, asked_for, results_for
from common.serving.envelope import Envelope
from common.serving.intake import decode
from common.serving.jobs import Job
from common.serving.replies import Rejected
from common.supervisely_io.listing import entities
from common.supervisely_io.new_media import NewPicture
from common.supervisely_io.projects import datasets
from common.supervisely_io.server import Server

Pictures = Callable[[Job], Generator[Pictured, None, None]]


def by_id(service: DetectionService, envelope: Envelope, wait: bool) -> InferenceJob:
    """wait: the caller waits for the answer (the outcome is the list of predictions); else it fetches them."""
    asked = Images.model_validate(asked_for(envelope))
    return _of_server(service, envelope, asked, asked.ids, wait)


def of_project(service: DetectionService, envelope: Envelope) -> InferenceJob:
    """All pictures of a project, or of some of its datasets."""
    asked = ProjectImages.model_validate(asked_for(envelope))
    server = service.server(service.caller(envelope))
    chosen = asked.dataset_ids
    if chosen is None:
        chosen = [ident for ident, _ in datasets(server, asked.project_id)]
    ids = [int(e["id"]) for ident in chosen for e in entities(server, "images.list", {"datasetId": ident})]
    return _of_server(service, envelope, asked, ids, wait=False)


def _of_server(
    service: DetectionService, envelope: Envelope, asked: Stored, ids: Sequence[int], wait: bool
) -> InferenceJob:
    server = service.server(service.caller(envelope))

    def pictures(job: Job) -> Generator[Pictured, None, None]:
        return pictures_by_id(server.to(stop=job.stop), ids)

    return _submitted(service, asked, pictures, len(ids), wait, None if asked.mode is None else server)


def sent(
    service: DetectionService, asked: SentImages, contents: Iterator[tuple[str, bytes]], total: int, wait: bool
) -> InferenceJob:
    """Pictures that came with the request, as (name, encoded)."""

    def pictures(_: Job) -> Generator[Pictured, None, None]:
        for number, (name, content) in enumerate(contents):
            image = decode(content, f"Picture {number}")
            title = f"image_{number}"
            yield image, {"name": title, "image_name": title}, _new(asked, name or f"{title}.png", content, image)

    return _submitted(
        service, asked, pictures, total, wait, target_of(service, asked, caller_of_form(service, asked), "picture")
    )


def at_address(service: DetectionService, envelope: Envelope) -> InferenceJob:
    """One picture from an address that is allowed; the caller waits."""
    asked = ImageAddress.model_validate(asked_for(envelope))
    caller = service.caller(envelope)

    def pictures(job: Job) -> Generator[Pictured, None, None]:
        content = fetched(asked.url, service.settings.max_upload_bytes, job.stop, service.rules)
        image = decode(content, "The picture at that address")
        name = PurePosixPath(unquote(urlsplit(asked.url).path)).name or "image"
        yield image, {"url": asked.url}, _new(asked, name, content, image)

    return _submitted(service, asked, pictures, 1, True, target_of(service, asked, lambda: caller, "picture"))


def _new(asked: SentImages, name: str, content: bytes, image: Any) -> NewPicture | None:
    return None if asked.mode is None else NewPicture(name, content, image.shape[1], image.shape[0])


def caller_of_form(service: DetectionService, asked: Sent) -> Callable[[], Caller]:
    """Who sent a form, once asked for. Raises `Rejected` (401)."""

    def caller() -> Caller:
        # Any web page can make a browser send a form: the app's own token is not lent to those who bring none.
        token = None if asked.api_token is None else asked.api_token.get_secret_value()
        if not token:
            raise Rejected("To store what was sent, put an `api_token` (and a `server_address`) into the state.", 401)
        return service.settings.access.caller(asked.server_address, token)

    return caller


def target_of(service: DetectionService, asked: Sent, caller: Callable[[], Caller], what: str) -> Server | None:
    """The server that what was sent is stored on, if it is to be. Raises `Rejected`."""
    if asked.mode is None:
        return None
    if asked.output_project_id is None and (asked.mode != "create" or asked.workspace_id is None):
        raise Rejected(
            f"Nothing on the server belongs to this {what} yet: name a project for it (`output_project_id`), or ask for a "
            "new one (`upload_mode` create, with a `workspace_id`)."
        )
    return service.server(caller())


def _submitted(
    service: DetectionService, asked: Stored, pictures: Pictures, total: int, wait: bool, target: Server | None
) -> InferenceJob:
    """target: where what is found is written to, None for nowhere."""
    model = service.model
    if model.card.temporal:
        raise Rejected(f"{model.card.title} compares the frames of a video; it has nothing to say of single pictures.")
    chosen = asked.selection(class_names(model.card))
    overlap = asked.overlap
    batch = asked.batch_size or 1

    def work(job: Job) -> list[dict[str, Any]] | None:
        job.advance(0, total)
        card, look = model.look()
        with contextlib.ExitStack() as stack:
            upload = None
            if target is not None:
                upload = stack.enter_context(ImageUpload(target.to(stop=job.stop), asked, overlap, job.uuid))
            source = stack.enter_context(closing(pictures(job)))
            given = look_through(job, source, card, look, chosen, batch, upload)
        if upload is not None and upload.project is not None and isinstance(job, InferenceJob):
            job.final = {"project_id": upload.project}
        return given if wait else None

    job = InferenceJob("pictures", work, results=results_for(wait))
    (service.pictures if wait else service.jobs).submit(job)
    return job
