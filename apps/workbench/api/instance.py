"""The instance itself, its one user, one team and one workspace."""

from __future__ import annotations

from typing import Any

from apps.workbench.api.bodies import Body, ListBody, methods
from apps.workbench.bench import Bench
from apps.workbench.store import projects, tasks, videos
from apps.workbench.store.database import now
from apps.workbench.store.errors import missing
from apps.workbench.store.listing import page_of

router = methods()

VERSION = "6.18.3"
"""The platform version whose behaviour is followed: the oldest that SDK 6.74.51 accepts without a warning."""

_MADE = "2026-01-01T00:00:00.000Z"


class One(Body):
    id: int | None = None


@router.post("/instance.version")
def version() -> dict[str, str]:
    return {"version": VERSION}


@router.post("/users.me")
@router.post("/users.info")
def me() -> dict[str, Any]:
    moment = now()
    return {
        "id": projects.USER_ID,
        "login": "admin",
        "role": "admin",
        "roleId": 1,
        "name": "admin",
        "email": None,
        "logins": 1,
        "disabled": False,
        "lastLogin": moment,
        "createdAt": _MADE,
        "updatedAt": _MADE,
    }


def _team() -> dict[str, Any]:
    return {
        "id": projects.TEAM_ID,
        "name": "This machine",
        "description": "",
        "role": "admin",
        "createdAt": _MADE,
        "updatedAt": _MADE,
        "usage": {},
    }


def _workspace() -> dict[str, Any]:
    return {
        "id": projects.WORKSPACE_ID,
        "name": "Workbench",
        "description": "",
        "teamId": projects.TEAM_ID,
        "createdAt": _MADE,
        "updatedAt": _MADE,
    }


def _matching(entity: dict[str, Any], body: ListBody) -> dict[str, Any]:
    wanted = {
        str(entry.get("field")): entry.get("value") for entry in body.filter or () if entry.get("operator") == "="
    }
    return page_of([entity] if all(entity.get(field) == value for field, value in wanted.items()) else [])


@router.post("/teams.list")
def teams(body: ListBody) -> dict[str, Any]:
    return _matching(_team(), body)


@router.post("/teams.info")
def team(body: One) -> dict[str, Any]:
    if body.id not in (None, projects.TEAM_ID):
        raise missing("team", body.id)
    return _team()


@router.post("/workspaces.list")
def workspaces(body: ListBody) -> dict[str, Any]:
    return _matching(_workspace(), body)


@router.post("/workspaces.info")
def workspace(body: One) -> dict[str, Any]:
    if body.id not in (None, projects.WORKSPACE_ID):
        raise missing("workspace", body.id)
    return _workspace()


@router.post("/instance.data.cleanup-unused")
def clean_up(bench: Bench) -> dict[str, int]:
    """Deletes files that no video and no team file points at any more."""
    with bench.database.write() as session:
        unused = videos.unused_blobs(session)
        videos.forget_blobs(session, unused)
        task = tasks.add_task(session, app="clean-up", name="clean-up", config={}, status="finished")
        # Within the transaction, so that no upload of the same content can slip in between.
        for hash in unused:
            bench.blobs.remove(hash)
        return {"taskId": task.id}
