"""Jobs that write figures, as files: what was under way when the app died is begun again at the next start.

Beginning again is harmless: the same figures get the same keys, and "replace" puts them where the earlier ones were.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MOST = 1000
"""Files beyond this are not read: a folder that somebody filled must not fill the queue."""


class Unfinished:
    """One small file for each job under way: what was asked for, and no token. Thread-safe, as files are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, uuid: str, context: Mapping[str, Any]) -> None:
        """Remembers a job. A disk that is full costs the memory of the job, not the job."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = self._path(uuid).with_suffix(".part")
            part.write_text(json.dumps(context), encoding="utf-8")
            part.replace(self._path(uuid))
        except OSError as error:
            log.warning("job %s will not be taken up after a crash: %s", uuid, error)

    def end(self, uuid: str) -> None:
        self._path(uuid).unlink(missing_ok=True)

    def left_over(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Number and request of each job that was under way, oldest first. `end` it once it is begun again, not before:
        the app may die between the two."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)[:MOST]:
            try:
                context = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                log.warning("%s cannot be read: %s", path.name, error)
                context = None
            if isinstance(context, dict):
                yield path.stem, context
            else:
                self.end(path.stem)

    def _path(self, uuid: str) -> Path:
        return self._folder / f"{uuid}.json"
