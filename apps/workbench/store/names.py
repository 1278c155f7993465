"""Names that people give to things. The SDK makes file and folder names of some on the other end, so they are checked here."""

from __future__ import annotations

from apps.workbench.store.errors import Refused

MAX_NAME = 255


def label(name: str, kind: str) -> str:
    """A name that is only ever shown: not empty, of bounded length, without control characters. Raises `Refused`."""
    if not name.strip() or len(name.encode()) > MAX_NAME or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise Refused(
            f"{name[:80]!r} cannot be the name of a {kind}: use 1 to {MAX_NAME} bytes, no control characters."
        )
    return name


def filename(name: str, kind: str) -> str:
    """A name that becomes a file or folder when the project is downloaded: also no separators, no dots alone."""
    label(name, kind)
    if "/" in name or "\\" in name or name in {".", ".."}:
        raise Refused(f"{name[:80]!r} cannot be the name of a {kind}: leave out slashes and names made of dots.")
    return name


def team_path(path: str) -> str:
    """A file's name in team storage: absolute, with forward slashes, no empty, "." or ".." part. Raises `Refused`."""
    parts = path.removeprefix("/").split("/")
    if len(path) > 4096 or any(part in {"", ".", ".."} for part in parts):
        raise Refused(f"{path[:80]!r} is not a path in team files: use folders and a name, as in /folder/name.txt.")
    for part in parts:
        filename(part, "file")
    return "/" + "/".join(parts)
