"""The labels of a video onto its copy in a new project."""

from __future__ import annotations

import hashlib
from typing import Any

from apps.predict.ledger import Ledger
from common.supervisely_io.figures import figures
from common.supervisely_io.projects import NewTag, add_objects, objects, project, tag_objects
from common.supervisely_io.records import FigureRecord, VideoRecord
from common.supervisely_io.server import Server

_AT_ONCE = 100


def copy_labels(server: Server, source: VideoRecord, target: VideoRecord, ledger: Ledger) -> int:
    """Objects, their tags and figures; how many objects. A person's labels stay a person's. Once, also over restarts: figures
    carry a key that is a function of the one they are copied from."""
    if ledger.get("copied") is not None:
        return int(ledger.get("copied"))
    names, there = project(server, source.project_id), project(server, target.project_id)
    old = list(objects(server, source, names=names))
    pairs: dict[str, int] = ledger.get("copies") or {}
    missing = [one for one in old if str(one.id) not in pairs]
    if missing:
        classes = []
        for one in missing:
            record = there.class_named(one.class_name)
            assert record is not None, "the new project has the classes of the old one"
            classes.append(record.id)
        made = add_objects(server, target, classes)
        pairs |= {str(one.id): ident for one, ident in zip(missing, made, strict=True)}
        ledger.note("copies", pairs)
    tags = []
    for one in old:
        for tag in one.tags:
            known = there.tag_named(tag.name)
            if known is not None:
                tags.append(NewTag(pairs[str(one.id)], known.id, tag.frames, tag.value))
    tag_objects(server, target.project_id, target, tags)
    batch: list[dict[str, Any]] = []
    for figure in figures(server, source):
        batch.append(_figure(figure, pairs[str(figure.object_id)], target))
        if len(batch) >= _AT_ONCE:
            _send(server, target, batch)
            batch = []
    _send(server, target, batch)
    ledger.note("copied", len(old))
    return len(old)


def _figure(figure: FigureRecord, object_id: int, target: VideoRecord) -> dict[str, Any]:
    data: dict[str, Any] = {
        "objectId": object_id,
        "geometryType": figure.geometry_type,
        "geometry": figure.geometry,
        "meta": {**figure.meta, "frame": figure.frame},
        "nnCreated": figure.nn_created,
        "nnUpdated": figure.nn_updated,
        "key": hashlib.blake2s(f"{target.id}/{figure.id}".encode(), digest_size=16).hexdigest(),
    }
    if figure.track_id is not None:
        data["trackId"] = figure.track_id
    if figure.custom_data:
        data["customData"] = dict(figure.custom_data)
    return data


def _send(server: Server, target: VideoRecord, batch: list[dict[str, Any]]) -> None:
    if batch:
        server.call("figures.bulk.add", {"entityId": target.id, "figures": batch})
