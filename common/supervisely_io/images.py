"""Images of a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, TypeVar

from common.errors import ServerRefused, ServerUnreachable, UserError
from common.supervisely_io.listing import entities, where
from common.supervisely_io.server import Server

T = TypeVar("T")

_AT_ONCE = 500
_AT_A_TIME = 4
_MOST_NAMES = 1000
_BLOCK = 64


@dataclass(frozen=True)
class ImageRecord:
    """One image. width, height: pixels, upright; hash: base64 of the file's SHA-256, "" when the server keeps none;
    labels: how many it has; tagged: whether it has tags of its own."""

    id: int
    name: str
    dataset_id: int
    project_id: int
    width: int
    height: int
    hash: str = ""
    labels: int = 0
    tagged: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageRecord:
        """From an entity of `images.info` or `images.list`."""
        return cls(
            id=int(data["id"]),
            name=str(data.get("name") or data.get("title") or data["id"]),
            dataset_id=int(data.get("datasetId") or 0),
            project_id=int(data.get("projectId") or 0),
            width=int(data.get("width") or 0),
            height=int(data.get("height") or 0),
            hash=str(data.get("hash") or ""),
            labels=int(data.get("labelsCount") or data.get("objectsCount") or 0),
            tagged=bool(data.get("tags")),
        )


def image(server: Server, ident: int) -> ImageRecord:
    """Raises `ServerRefused` (404) when there is no such image."""
    info = server.call("images.info", {"id": ident, "forceMetadataForLinks": False})
    if not isinstance(info, Mapping):
        raise ServerRefused(f"There is no image {ident}.", 404, "images.info")
    return ImageRecord.from_json(info)


def images(server: Server, dataset_id: int) -> Iterator[ImageRecord]:
    """All images of a dataset (not of those nested in it), by id."""
    asked = {"datasetId": dataset_id, "forceMetadataForLinks": False}
    return map(ImageRecord.from_json, entities(server, "images.list", asked))


def images_by_id(server: Server, idents: Sequence[int]) -> list[ImageRecord]:
    """In the order asked for; a call for each dataset and some hundred images. Raises `ServerRefused` (404)."""
    found: dict[int, ImageRecord] = {}
    for ident in idents:
        if ident in found:
            continue
        one = image(server, ident)
        found[one.id] = one
        left = [other for other in idents if other not in found]
        for start in range(0, len(left), _AT_ONCE):
            asked = {"datasetId": one.dataset_id, "forceMetadataForLinks": False}
            part = where("id", "in", left[start : start + _AT_ONCE])
            found |= {int(e["id"]): ImageRecord.from_json(e) for e in entities(server, "images.list", asked, [part])}
    return [found[ident] for ident in idents]


def collected(server: Server, collection_id: int) -> Iterator[ImageRecord]:
    """Images of a collection, by id. Raises `ServerRefused` (404)."""
    info = server.call("entities-collections.info", {"id": collection_id})
    rule = {"type": "entities_collection", "data": {"collectionId": collection_id, "include": True}}
    asked = {"projectId": int(info["projectId"]), "filters": [rule], "forceMetadataForLinks": False}
    return map(ImageRecord.from_json, entities(server, "images.list", asked))


def content(server: Server, ident: int) -> bytes:
    """The image's file as it was uploaded."""
    return server.fetch("images.download", {"id": ident}).content


def fetched(
    server: Server, sources: Sequence[ImageRecord], read: Callable[[ImageRecord, bytes], T], ahead: int = 8
) -> Generator[T, None, None]:
    """What `read` makes of each image's file, in order; so many files are fetched and read ahead of who takes them. What a
    fetch or `read` raises comes when its image's turn comes. Close it when it is left early."""
    waiting: deque[Future[T]] = deque()
    left = iter(sources)
    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="images") as pool:
        try:
            while True:
                while len(waiting) < ahead and (one := next(left, None)) is not None:
                    waiting.append(pool.submit(lambda record: read(record, content(server, record.id)), one))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def copied(server: Server, sources: Sequence[ImageRecord], dataset_id: int) -> list[ImageRecord]:
    """The same images in another dataset, in that order, without their labels. Those that are there already (same name and
    content) are not copied again; a name that something else has gets a number. Raises `UserError` when those are all taken."""
    there: dict[str, ImageRecord] = {}
    known: set[str] = set()

    def look(names: set[str]) -> None:
        fresh = sorted(names - known)
        known.update(fresh)
        for start in range(0, len(fresh), _AT_ONCE):
            conditions = [where("name", "in", fresh[start : start + _AT_ONCE])]
            asked = {"datasetId": dataset_id, "forceMetadataForLinks": False}
            there.update(
                (e["name"], ImageRecord.from_json(e)) for e in entities(server, "images.list", asked, conditions)
            )

    look({name for one in sources for name in islice(_names(one.name), 3)})
    chosen: dict[str, ImageRecord] = {}
    for one in sources:
        for number, name in enumerate(_names(one.name)):
            if name not in known:
                look(set(islice(_names(one.name), number, number + _BLOCK)))
            other = chosen.get(name) or there.get(name)
            if other is None or (other.hash and other.hash == one.hash and name not in chosen):
                chosen[name] = one
                break
        else:
            raise UserError(f"All of {_MOST_NAMES} names like {one.name} are taken by other images of the dataset.")
    new = {name: one for name, one in chosen.items() if name not in there}
    if new:
        items = [{"title": n, **({"hash": one.hash} if one.hash else {"imageId": one.id})} for n, one in new.items()]
        payload = {"datasetId": dataset_id, "images": items, "forceMetadataForLinks": False, "skipValidation": False}
        added = server.call("images.bulk.add", payload)
        if len(added) != len(new):
            raise ServerUnreachable("The server did not copy all images.", True)
        there |= {name: ImageRecord.from_json(entry) for name, entry in zip(new, added, strict=True)}
    return [there[name] for name in chosen]


def _names(name: str) -> Iterator[str]:
    path = PurePosixPath(name)
    yield name
    for number in range(2, _MOST_NAMES + 1):
        yield f"{path.stem} ({number}){path.suffix}"
