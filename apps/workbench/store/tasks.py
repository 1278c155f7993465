"""App sessions as rows; who runs them is `supervisor.py`'s business."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from apps.workbench.store import listing
from apps.workbench.store.database import now
from apps.workbench.store.errors import missing
from apps.workbench.store.models import Task
from apps.workbench.store.projects import TEAM_ID, USER_ID, WORKSPACE_ID

COLUMNS: listing.Columns = {
    "id": Task.id,
    "status": Task.status,
    "name": Task.name,
    "createdAt": Task.created_at,
    "startedAt": Task.created_at,
    "updatedAt": Task.updated_at,
}

RUNNING = ("queued", "started", "deployed")


def get_task(session: Session, ident: int) -> Task:
    task = session.get(Task, ident)
    if task is None:
        raise missing("task", ident)
    return task


def task_of_session(session: Session, session_token: str) -> Task | None:
    return session.scalar(select(Task).where(Task.session_token == session_token))


def add_task(
    session: Session, *, app: str, name: str, config: Mapping[str, Any], url: str | None = None, status: str = "queued"
) -> Task:
    moment = now()
    task = Task(
        app=app,
        name=name,
        status=status,
        url=url,
        session_token=secrets.token_urlsafe(32),
        config=dict(config),
        fields={},
        output={},
        meta={},
        pid=None,
        pid_started=None,
        created_at=moment,
        updated_at=moment,
    )
    session.add(task)
    session.flush()
    return task


def idle_task(session: Session, *, app: str, name: str, but: Collection[int]) -> Task | None:
    """The newest task of that app and name that does not run, other than those."""
    rows = select(Task).where(Task.app == app, Task.name == name, Task.status.not_in(RUNNING), Task.id.not_in(but))
    return session.scalar(rows.order_by(Task.id.desc()).limit(1))


def change_task(session: Session, ident: int, **changes: Any) -> Task:
    task = get_task(session, ident)
    for field, value in changes.items():
        setattr(task, field, value)
    task.updated_at = now()
    return task


def set_fields(session: Session, ident: int, fields: Sequence[Mapping[str, Any]]) -> None:
    """fields: {"field", "payload", "append"?}; append adds to a list or merges into an object."""
    task = get_task(session, ident)
    values = dict(task.fields)
    for entry in fields:
        name, payload, before = entry["field"], entry["payload"], values.get(entry["field"])
        if entry.get("append") and isinstance(before, list) and isinstance(payload, list):
            values[name] = before + payload
        elif entry.get("append") and isinstance(before, dict) and isinstance(payload, dict):
            values[name] = before | payload
        else:
            values[name] = payload
    task.fields, task.updated_at = values, now()


def task_json(task: Task) -> dict[str, Any]:
    app_id = app_ident(task.app)
    return {
        "id": task.id,
        "taskId": task.id,
        "type": "app_session",
        "status": task.status,
        "startedAt": task.created_at,
        "finishedAt": None if task.status in RUNNING else task.updated_at,
        "createdAt": task.created_at,
        "updatedAt": task.updated_at,
        "agentId": 1,
        "agentName": "this machine",
        "agent": {"id": 1, "name": "this machine"},
        "meta": {
            "app": {"id": app_id, "name": task.config.get("name", task.app)},
            "name": task.name,
            "sessionToken": task.session_token,
            "params": {"state": {}},
            **task.meta,
        },
        "settings": {"session_tags": task.config.get("session_tags", [])},
        "data": task.fields,
        "output": task.output,
        "description": "",
        "userId": USER_ID,
        "createdBy": USER_ID,
        "createdById": USER_ID,
        "workspaceId": WORKSPACE_ID,
        "teamId": TEAM_ID,
        "moduleId": app_id,
        "appId": app_id,
    }


def app_ident(app: str) -> int:
    """A stable number for an app's name: the platform knows apps by number, we by folder."""
    value = 0
    for byte in app.encode():
        value = (value * 131 + byte) % 900_000
    return 100_000 + value
