"""Lists of a server, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.supervisely_io.server import Server

PER_PAGE = 500


def where(field: str, operator: str, value: object) -> dict[str, object]:
    """One condition of a list. operator: "=", "in", ">", ">=", "<" or "<="."""
    return {"field": field, "operator": operator, "value": value}


def entities(
    server: Server,
    method: str,
    asked: Mapping[str, object],
    conditions: Sequence[Mapping[str, object]] = (),
    per_page: int = PER_PAGE,
) -> Iterator[dict[str, Any]]:
    """Every entity of a list, by rising id. One page is in memory at a time.

    Pages after the first are asked for by the last id seen, not by number: when others add or remove entities meanwhile,
    numbered pages would skip some and repeat others. Raises as `Server.call`.
    """
    last: int | None = None
    while True:
        filters = [*conditions] if last is None else [*conditions, where("id", ">", last)]
        page = server.call(
            method, {**asked, "filter": filters, "sort": "id", "sort_order": "asc", "per_page": per_page}
        )
        found = page["entities"]
        for entity in found:
            if last is None or int(entity["id"]) > last:
                yield entity
        # the server may give fewer on a page than asked for
        if not found or len(found) >= int(page.get("total", 0)):
            return
        newest = max(int(entity["id"]) for entity in found)
        if last is not None and newest <= last:
            return
        last = newest
