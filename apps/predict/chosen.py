"""What was chosen: videos, or images in portions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from apps.predict.schema import Input
from common.errors import UserError
from common.supervisely_io.images import ImageRecord, collected, images, images_by_id
from common.supervisely_io.listing import entities
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server
from common.supervisely_io.videos import collected_videos, video, videos

PORTION = 200
"""Images that are done and shown as one task."""

Kind = Literal["videos", "images"]


@dataclass(frozen=True)
class Portion:
    """Images of one dataset."""

    name: str
    images: tuple[int, ...]


def kind_of(server: Server, chosen: Input) -> Kind:
    """Raises `UserError` when nothing is chosen, or a mixture, or what this app does not label."""
    if chosen.video_ids and (chosen.image_ids or chosen.collection_ids):
        raise UserError("Choose videos or images, not both.")
    if chosen.video_ids:
        return "videos"
    if chosen.image_ids:
        return "images"
    info = server.call("projects.info", {"id": project_of(server, chosen)})
    kind: str = info.get("type") or "videos"
    if kind == "videos":
        return "videos"
    if kind == "images":
        return "images"
    raise UserError(f"The project {info.get('name')} holds {kind}; this app labels videos and images.")


def project_of(server: Server, chosen: Input) -> int:
    """Of the collections, the datasets, or the project itself."""
    if chosen.collection_ids:
        asked = [("entities-collections.info", ident) for ident in chosen.collection_ids]
    else:
        asked = [("datasets.info", ident) for ident in chosen.dataset_ids]
    owners = {int(server.call(method, {"id": ident})["projectId"]) for method, ident in asked}
    if len(owners) > 1:
        raise UserError("What was chosen is of several projects; start one run for each.")
    if owners:
        return owners.pop()
    if chosen.project_id is None:
        raise UserError("Choose videos, images, collections, datasets or a project.")
    return chosen.project_id


def chosen_videos(server: Server, chosen: Input) -> list[VideoRecord]:
    """In the order of datasets and videos. Raises `UserError` for what is no video, or nothing."""
    if chosen.video_ids:
        return [video(server, ident) for ident in dict.fromkeys(chosen.video_ids)]
    found: dict[int, VideoRecord] = {}
    for collection in chosen.collection_ids:
        found |= {one.id: one for one in collected_videos(server, collection)}
    if not chosen.collection_ids:
        for dataset in _datasets(server, chosen):
            found |= {one.id: one for one in videos(server, dataset)}
    if not found:
        raise UserError("There are no videos in what was chosen.")
    return list(found.values())


def chosen_images(server: Server, chosen: Input, skip_annotated: bool = False) -> list[Portion]:
    """In the order of datasets and images; of each only its id is kept. Raises `UserError` for nothing."""
    by_dataset: dict[int, dict[int, str]] = {}
    skipped = 0
    for one in _images(server, chosen):
        if skip_annotated and (one.labels or one.tagged):
            skipped += 1
            continue
        by_dataset.setdefault(one.dataset_id, {})[one.id] = one.name
    if not by_dataset:
        if skipped:
            raise UserError(f"All {skipped} images that were chosen are annotated already.")
        raise UserError("There are no images in what was chosen.")
    return [portion for named in by_dataset.values() for portion in _portions(named)]


def _portions(named: dict[int, str]) -> Iterator[Portion]:
    idents = list(named)
    for start in range(0, len(idents), PORTION):
        part = tuple(idents[start : start + PORTION])
        first, last = named[part[0]], named[part[-1]]
        yield Portion(first if len(part) == 1 else f"{first} … {last}", part)


def _images(server: Server, chosen: Input) -> Iterator[ImageRecord]:
    if chosen.image_ids:
        yield from images_by_id(server, list(dict.fromkeys(chosen.image_ids)))
        return
    for collection in chosen.collection_ids:
        yield from collected(server, collection)
    if not chosen.collection_ids:
        for dataset in _datasets(server, chosen):
            yield from images(server, dataset)


def _datasets(server: Server, chosen: Input) -> Iterator[int]:
    rows = list(entities(server, "datasets.list", {"projectId": project_of(server, chosen), "recursive": True}))
    wanted = set(chosen.dataset_ids) or {int(row["id"]) for row in rows}
    for row in rows:  # by rising id: parents come before what is in them
        if int(row["id"]) in wanted or (row.get("parentId") and int(row["parentId"]) in wanted):
            wanted.add(int(row["id"]))
            yield int(row["id"])
