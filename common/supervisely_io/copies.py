"""New projects that look like old ones: the project, and the datasets that results go to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from common.supervisely_io.listing import entities
from common.supervisely_io.server import Server


def new_project(server: Server, workspace: int, name: str, kind: str, mark: str) -> int:
    """Id of a new project, which gets a number behind its name when that is taken. mark: its description; a project that
    has it is the one (made by an earlier attempt)."""
    taken = set()
    for row in entities(server, "projects.list", {"workspaceId": workspace}):
        taken.add(str(row["name"]))
        if row.get("description") == mark:
            return int(row["id"])
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    asked = {"name": free, "workspaceId": workspace, "description": mark, "type": kind}
    return int(server.call("projects.add", asked)["id"])


def copy_meta(server: Server, source: int, target: int, kind: str) -> None:
    """Classes and tags of one project into another; what is there stays."""
    meta = server.call("projects.meta", {"id": source})
    kept = {"classes": meta.get("classes", []), "tags": meta.get("tags", []), "projectType": kind}
    server.call("projects.meta.update", {"id": target, "meta": kept})


class DatasetCopies:
    """Datasets of a project like those of another, nested alike; each is made once. known, note: what is remembered over
    restarts, by source."""

    def __init__(
        self,
        server: Server,
        project: int,
        known: Callable[[int], int | None] = lambda _: None,
        note: Callable[[int, int], None] = lambda source, made: None,
    ) -> None:
        self._server, self._project, self._known, self._note = server, project, known, note
        self._rows: dict[int, Mapping[str, Any]] = {}
        self._made: dict[int, int] = {}

    def of(self, source_project: int, source: int) -> int:
        known = self._made.get(source) or self._known(source)
        if known is None:
            if source not in self._rows:
                rows = entities(self._server, "datasets.list", {"projectId": source_project, "recursive": True})
                self._rows |= {int(row["id"]): row for row in rows}
            row = self._rows[source]
            parent = row.get("parentId")
            above = None if not parent else self.of(source_project, int(parent))
            known = dataset_named(self._server, self._project, str(row["name"]), above)
            self._note(source, known)
        self._made[source] = known
        return known


def dataset_named(server: Server, project: int, name: str, above: int | None) -> int:
    """The project's dataset of that name under another (None: under none), made when there is none."""
    there = entities(server, "datasets.list", {"projectId": project, "recursive": True})
    same = [int(d["id"]) for d in there if d["name"] == name and (d.get("parentId") or None) == above]
    if same:
        return same[0]
    asked = {"projectId": project, "name": name, "description": "", "parentId": above}
    return int(server.call("datasets.add", asked)["id"])
