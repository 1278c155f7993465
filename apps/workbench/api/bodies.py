"""Shapes that the bodies of many methods share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from apps.workbench.store.errors import Refused
from apps.workbench.store.listing import MAX_PER_PAGE, Query
from apps.workbench.web import API

Ident = Annotated[int, Field(ge=-(2**62), le=2**62)]
Idents = Annotated[list[Ident], Field(max_length=50_000)]
JsonObject = dict[str, Any]


def methods() -> APIRouter:
    """A router under the API's base address."""
    return APIRouter(prefix=API.rstrip("/"))


class Body(BaseModel):
    """A JSON body with the platform's camelCase names. What a method does not know it ignores, as the platform does."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)


class ById(Body):
    id: Ident


class ListBody(Body):
    """What all lists take. `filters` is the platform's richer form; of it only plain field filters are known here."""

    filter: list[JsonObject] | None = None
    filters: list[JsonObject] | None = None
    sort: str = "id"
    sort_order: Literal["asc", "desc"] = Field(default="asc", alias="sort_order")
    page: Annotated[int, Field(ge=1)] = 1
    per_page: Annotated[int | None, Field(ge=1, alias="per_page")] = None
    per_page_camel: Annotated[int | None, Field(ge=1, alias="perPage")] = None
    pagination_mode: str | None = Field(default=None, alias="pagination_mode")
    after: str | int | None = None
    fields: list[str] | None = None

    def query(self, default_per_page: int = 500) -> Query:
        """Raises `Refused` for filters of the richer kind."""
        rich = [entry for entry in self.filters or () if "field" not in entry]
        if rich:
            raise Refused(f"Filters of type {rich[0].get('type')!r} are not part of the workbench; filter by field.")
        token_mode = self.pagination_mode == "token" or self.after is not None
        return Query(
            filter=[*(self.filter or ()), *(self.filters or ())],
            sort=self.sort,
            descending=self.sort_order == "desc",
            page=self.page,
            per_page=min(self.per_page or self.per_page_camel or default_per_page, MAX_PER_PAGE),
            after=("" if self.after is None else str(self.after)) if token_mode else None,
        )


SUCCESS = {"success": True}
