"""What can be undone and redone in a video: kept in the database, so that a reload or a crash does not lose it."""

from __future__ import annotations

import json
import zlib
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from apps.workbench.annotator.changes import Touched, restore
from apps.workbench.store.database import now
from apps.workbench.store.models import PageChange

MOST_CHANGES, MOST_BYTES = 300, 64 << 20
"""Kept for one video; the oldest go first."""


def answered(session: Session, video_id: int, request: str) -> list[list[int]] | None:
    """What was answered to a request that was carried out already."""
    query = select(PageChange.reply).where(PageChange.video_id == video_id, PageChange.request == request)
    return session.scalar(query) if request else None


def record(
    session: Session,
    video_id: int,
    label: str,
    touched: Touched,
    request: str = "",
    reply: list[list[int]] | None = None,
) -> None:
    """A new change; what was undone before it cannot be redone any more."""
    session.execute(delete(PageChange).where(PageChange.video_id == video_id, PageChange.undone))
    state = _pack(touched)
    session.add(
        PageChange(
            video_id=video_id,
            label=label,
            request=request,
            reply=reply or [],
            undone=False,
            state=state,
            size=len(state),
            created_at=now(),
        )
    )
    session.flush()
    _trim(session, video_id)


def step(session: Session, video_id: int, redo: bool) -> tuple[str, Touched] | None:
    """Takes back the last change, or does again the last that was taken back; its label and the rows it touched."""
    order = PageChange.id.asc() if redo else PageChange.id.desc()
    found = session.scalar(
        select(PageChange).where(PageChange.video_id == video_id, PageChange.undone == redo).order_by(order).limit(1)
    )
    if found is None:
        return None
    state = Touched.from_json(json.loads(zlib.decompress(found.state)))
    back = restore(session, state)
    found.state, found.undone = _pack(back), not redo
    found.size = len(found.state)
    return found.label, state


def labels(session: Session, video_id: int) -> dict[str, Any]:
    """What the next undo and the next redo would do, None when there is nothing."""

    def first(undone: bool) -> str | None:
        order = PageChange.id.asc() if undone else PageChange.id.desc()
        query = select(PageChange.label).where(PageChange.video_id == video_id, PageChange.undone == undone)
        return session.scalar(query.order_by(order).limit(1))

    return {"undo": first(False), "redo": first(True)}


def _pack(touched: Touched) -> bytes:
    return zlib.compress(json.dumps(touched.to_json(), separators=(",", ":")).encode(), 1)


def _trim(session: Session, video_id: int) -> None:
    count, size = session.execute(
        select(func.count(), func.coalesce(func.sum(PageChange.size), 0)).where(PageChange.video_id == video_id)
    ).one()
    rows = session.execute(
        select(PageChange.id, PageChange.size).where(PageChange.video_id == video_id).order_by(PageChange.id)
    ).all()
    for ident, bytes_ in rows[:-1]:  # the last always stays
        if count <= MOST_CHANGES and size <= MOST_BYTES:
            break
        session.execute(delete(PageChange).where(PageChange.id == ident))
        count, size = count - 1, size - bytes_
