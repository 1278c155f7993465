"""Lists as the platform gives them: filter, sort, pages, and the token mode that walks by id."""

from __future__ import annotations

import operator as op
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from apps.workbench.store.errors import Refused

Row = TypeVar("Row")

DEFAULT_PER_PAGE = 500
MAX_PER_PAGE = 20_000

Columns = Mapping[str, InstrumentedAttribute[Any]]
"""The fields a list can be filtered and sorted by, as the platform names them."""


@dataclass(frozen=True)
class Query:
    """What a client asks of a list.

    filter: rows must pass all of them; each is {"field", "operator", "value"}.
    after: token mode when not None: rows with an id above this number come next ("" for the start).
    """

    filter: Sequence[Mapping[str, Any]] = ()
    sort: str = "id"
    descending: bool = False
    page: int = 1
    per_page: int = DEFAULT_PER_PAGE
    after: str | None = None


def conditions(columns: Columns, filters: Sequence[Mapping[str, Any]]) -> list[ColumnElement[bool]]:
    """SQL conditions of a platform filter. Raises `Refused` for fields and operators that the list does not know."""
    return [_condition(columns, entry) for entry in filters]


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("=", "==", "eq"), op.eq),
    **dict.fromkeys(("!=", "ne"), op.ne),
    **dict.fromkeys((">", "gt"), op.gt),
    **dict.fromkeys((">=", "gte"), op.ge),
    **dict.fromkeys(("<", "lt"), op.lt),
    **dict.fromkeys(("<=", "lte"), op.le),
}


def _condition(columns: Columns, entry: Mapping[str, Any]) -> ColumnElement[bool]:
    field, operator = str(entry.get("field")), entry.get("operator", "=")
    if field not in columns:
        raise Refused(f"This list cannot be filtered by {field!r}; it knows {', '.join(sorted(columns))}.")
    if "value" not in entry:
        raise Refused(f"The filter on {field!r} has no value.")
    column: ColumnElement[Any] = columns[field].expression
    whole = column.type.python_type is int

    def cast(value: Any) -> Any:
        if value is None or not whole:
            return value
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise Refused(f"The filter on {field!r} needs a whole number, not {value!r}.") from error

    value = entry["value"]
    if operator == "in":
        if not isinstance(value, list):
            raise Refused(f"The operator 'in' on {field!r} needs a list.")
        return column.in_([cast(item) for item in value])
    if operator not in _OPERATORS:
        raise Refused(f"The filter operator {operator!r} is not known; use =, !=, in, >, >=, < or <=.")
    result: ColumnElement[bool] = _OPERATORS[operator](column, cast(value))
    return result


def page(
    session: Session,
    statement: Select[Row],
    columns: Columns,
    query: Query,
    to_json: Callable[[Sequence[Row]], list[Any]],
) -> dict[str, Any]:
    """One page of `statement`: {"total", "perPage", "pagesCount", "entities"} and "after" in token mode.

    statement: selects one mapped class; columns: what may be filtered and sorted by, "id" among them.
    """
    statement = statement.where(*conditions(columns, query.filter))
    total = session.execute(select(func.count()).select_from(statement.subquery())).scalar_one()
    per_page = min(max(query.per_page, 1), MAX_PER_PAGE)
    ident = columns["id"]
    if query.after is not None:
        try:
            last = int(query.after or 0)
        except ValueError as error:
            raise Refused(f"The page token {query.after!r} is not one of ours.") from error
        rows: Sequence[Row] = session.scalars(statement.where(ident > last).order_by(ident).limit(per_page)).all()
        more = len(rows) == per_page
        after = str(rows[-1].id) if more else None  # type: ignore[attr-defined]
        return _reply(total, per_page, to_json(rows)) | {"after": after}
    if query.sort not in columns:
        raise Refused(f"This list cannot be sorted by {query.sort!r}; it knows {', '.join(sorted(columns))}.")
    order = columns[query.sort].desc() if query.descending else columns[query.sort].asc()
    entities: Sequence[Row] = session.scalars(
        statement.order_by(order, ident).offset((max(query.page, 1) - 1) * per_page).limit(per_page)
    ).all()
    return _reply(total, per_page, to_json(entities))


def _reply(total: int, per_page: int, entities: list[Any]) -> dict[str, Any]:
    return {"total": total, "perPage": per_page, "pagesCount": max(1, -(-total // per_page)), "entities": entities}


def page_of(entities: list[Any]) -> dict[str, Any]:
    """A whole short list as a single page."""
    return _reply(len(entities), max(len(entities), DEFAULT_PER_PAGE), entities)
