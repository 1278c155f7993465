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


def collected_videos(server: Server, collection_id: int) -> Iterator[VideoRecord]:
    """Videos of a collection, by id. Raises `ServerRefused` (404)."""
    info = server.call("entities-collections.info", {"id": collection_id})
    rule = {"type": "entities_collection", "data": {"collectionId": collection_id, "include": True}}
    asked = {"projectId": int(info["projectId"]), "filters": [rule], "rawVideoMeta": False}
    return map(VideoRecord.from_json, entities(server, "videos.list", asked))
