"""Lists of a server, page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.errors import ServerRefused
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
    numbered pages would skip some and repeat others. Servers that refuse or ignore that condition are asked by number.
    Raises as `Server.call`.
    """
    last: int | None = None
    pages, by_number = 0, False
    while True:
        body: dict[str, Any] = {**asked, "filter": [*conditions]}
        body |= {"sort": "id", "sort_order": "asc", "per_page": per_page}
        if by_number:
            body["page"] = pages + 1
        elif last is not None:
            body["filter"].append(where("id", ">", last))
        try:
            page = server.call(method, body)
        except ServerRefused as error:
            if error.status != 400 or last is None or by_number:
                raise
            by_number = True
            continue
        found = page["entities"]
        fresh = [entity for entity in found if last is None or int(entity["id"]) > last]
        if found and not fresh and not by_number:
            by_number = True
            continue
        pages += 1
        if fresh:
            last = max(int(entity["id"]) for entity in fresh)
        yield from fresh
        size = int(page.get("perPage") or per_page)  # the server may give fewer on a page than asked for
        left = page.get("total")
        seen = pages * size if by_number else len(found)
        if not found or (len(found) < size if left is None else seen >= int(left)):
            return
