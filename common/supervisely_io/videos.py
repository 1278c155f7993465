"""Videos of a server."""

from __future__ import annotations

from collections.abc import Iterator

from common.supervisely_io.listing import entities
from common.supervisely_io.records import VideoRecord
from common.supervisely_io.server import Server


def video(server: Server, ident: int) -> VideoRecord:
    """Raises `ServerRefused` (404) when there is no such video."""
    return VideoRecord.from_json(server.call("videos.info", {"id": ident, "forceMetadataForLinks": True}))


def videos(server: Server, dataset_id: int) -> Iterator[VideoRecord]:
    """All videos of a dataset, by id."""
    asked = {"datasetId": dataset_id, "rawVideoMeta": False, "forceMetadataForLinks": True}
    return map(VideoRecord.from_json, entities(server, "videos.list", asked))
