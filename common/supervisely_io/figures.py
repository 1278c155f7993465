"""Figures of a server, read in as few calls as the REST methods permit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from common.supervisely_io.listing import entities, where
from common.supervisely_io.records import FigureRecord, VideoRecord
from common.supervisely_io.server import Server

_FIELDS = [
    "id",
    "createdAt",
    "updatedAt",
    "imageId",
    "objectId",
    "classId",
    "projectId",
    "datasetId",
    "geometry",
    "geometryType",
    "geometryMeta",
    "tags",
    "meta",
    "area",
    "priority",
    "customData",
    "nnCreated",
    "nnUpdated",
    "trackId",
]
_AT_ONCE = 1000


def figures(
    server: Server,
    video: VideoRecord,
    object_ids: Sequence[int] | None = None,
    frames: tuple[int, int] | None = None,
    *,
    geometry: bool = True,
) -> Iterator[FigureRecord]:
    """Figures of a video by rising id, a page in memory at a time.

    object_ids: of these objects only; None = of all, () = none. frames: first and last, both within. geometry: False
    leaves it out of the reply, which is nearly all of the bytes.
    """
    if object_ids is not None and not object_ids:
        return
    conditions = [where("entityId", "in", [video.id])]
    if frames is not None:
        conditions += [where("startFrame", ">=", frames[0]), where("endFrame", "<=", frames[1])]
    groups = [None] if object_ids is None else _groups(sorted(set(object_ids)))
    for group in groups:
        chosen = conditions if group is None else [*conditions, where("objectId", "in", group)]
        yield from _listed(server, video.dataset_id, chosen, geometry)


def figures_by_id(
    server: Server, dataset_id: int, idents: Sequence[int], *, geometry: bool = True
) -> dict[int, FigureRecord]:
    """Figures by id, all in one call (up to a thousand). Those that are gone are missing from the answer."""
    found: dict[int, FigureRecord] = {}
    for group in _groups(sorted(set(idents))):
        found |= {figure.id: figure for figure in _listed(server, dataset_id, [where("id", "in", group)], geometry)}
    return found


def figure(server: Server, ident: int) -> FigureRecord:
    """One figure. Raises `ServerRefused` (404) when it is gone."""
    return FigureRecord.from_json(server.call("figures.info", {"id": ident, "fields": _FIELDS}))


def remove_figures(server: Server, idents: Sequence[int]) -> None:
    """Removes figures for good; ids that are gone already are no error on the workbench."""
    for group in _groups(list(idents)):
        server.call("figures.bulk.remove", {"figureIds": group})


def _listed(
    server: Server, dataset_id: int, conditions: Sequence[dict[str, object]], geometry: bool
) -> Iterator[FigureRecord]:
    fields = _FIELDS if geometry else [name for name in _FIELDS if name != "geometry"]
    asked = {"datasetId": dataset_id, "fields": fields}
    return map(FigureRecord.from_json, entities(server, "figures.list", asked, conditions))


def _groups(idents: Sequence[int]) -> list[list[int]]:
    return [list(idents[start : start + _AT_ONCE]) for start in range(0, len(idents), _AT_ONCE)]
