"""Team files: paths in a table, bytes by content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from apps.workbench.store.database import now
from apps.workbench.store.errors import NotFound, missing
from apps.workbench.store.models import Blob, TeamFile
from apps.workbench.store.names import team_path
from apps.workbench.store.projects import TEAM_ID, USER_ID


def put_file(session: Session, path: str, hash: str, mime: str) -> TeamFile:
    """Writes or overwrites the file of that path."""
    path = team_path(path)
    moment = now()
    found = session.scalar(select(TeamFile).where(TeamFile.path == path))
    if found is None:
        found = TeamFile(path=path, hash=hash, mime=mime, created_at=moment, updated_at=moment)
        session.add(found)
    else:
        found.hash, found.mime, found.updated_at = hash, mime, moment
    session.flush()
    return found


def get_file(session: Session, path: str) -> TeamFile:
    found = session.scalar(select(TeamFile).where(TeamFile.path == team_path(path)))
    if found is None:
        raise NotFound(f"There is no team file {path!r}.")
    return found


def file_by_id(session: Session, ident: int) -> TeamFile:
    found = session.get(TeamFile, ident)
    if found is None:
        raise missing("team file", ident)
    return found


def list_files(session: Session, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """Files under a folder; not recursive: its own files, and its folders as entries of type "folder"."""
    prefix = "/" + folder.strip("/")
    prefix = prefix if prefix.endswith("/") else prefix + "/"
    # asked with the path of a file, the platform lists that file; so the SDK looks up one by its path
    here = or_(TeamFile.path == prefix.rstrip("/"), TeamFile.path.startswith(prefix, autoescape=True))
    found = session.scalars(select(TeamFile).where(here).order_by(TeamFile.path)).all()
    if recursive:
        return files_json(session, found)
    own: list[TeamFile] = []
    folders: dict[str, None] = {}  # in the order found
    for file in found:
        head, slash, _ = file.path[len(prefix) :].partition("/")
        if slash:
            folders[prefix + head] = None
        else:
            own.append(file)
    return [_folder_json(path) for path in folders] + files_json(session, own)


def remove_files(session: Session, paths: Sequence[str]) -> None:
    """Files, and folders with everything in them; what is not there is no error."""
    for path in paths:
        clean = team_path(path.rstrip("/"))
        session.execute(
            delete(TeamFile).where(or_(TeamFile.path == clean, TeamFile.path.startswith(clean + "/", autoescape=True)))
        )


def files_json(session: Session, files: Sequence[TeamFile]) -> list[dict[str, Any]]:
    sizes = dict(session.execute(select(Blob.hash, Blob.size).where(Blob.hash.in_({f.hash for f in files}))).all())
    return [
        {
            "id": file.id,
            "teamId": TEAM_ID,
            "userId": USER_ID,
            "type": "file",
            "isDir": False,
            "name": PurePosixPath(file.path).name,
            "path": file.path,
            "storagePath": file.path,
            "fullStorageUrl": "",
            "hash": file.hash,
            "size": sizes[file.hash],
            "meta": {"size": sizes[file.hash], "mime": file.mime, "ext": PurePosixPath(file.path).suffix.lstrip(".")},
            "createdAt": file.created_at,
            "updatedAt": file.updated_at,
        }
        for file in files
    ]


def _folder_json(path: str) -> dict[str, Any]:
    return {
        "id": -int(hashlib.sha256(path.encode()).hexdigest()[:8], 16),
        "teamId": TEAM_ID,
        "userId": USER_ID,
        "type": "folder",
        "isDir": True,
        "name": PurePosixPath(path).name,
        "path": path + "/",
        "storagePath": path,
        "fullStorageUrl": "",
        "hash": None,
        "meta": {},
        "createdAt": now(),
        "updatedAt": now(),
    }
