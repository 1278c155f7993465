"""Figures on their way to a server while the tracker works on: in order, in bulk, exactly once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from common.supervisely_io.records import NewFigure, VideoRecord
from common.supervisely_io.retry import Retry
from common.supervisely_io.server import Server

Mode = Literal["append", "replace"]


@dataclass(frozen=True)
class Confirmed:
    """One frame is on the server. written: figures of it there, by object (what the server refused is not in it).

    objects: the objects that the frame was about, with or without a figure.
    """

    frame: int
    objects: tuple[int, ...]
    written: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WriteReport:
    """What became of the figures so far; none is dropped without being counted.

    written: stored. kept: not sent because a person's figure stands in its place. outdated: not sent, or taken back,
    because of `protect`. refused: the server said no to the figure itself; the first reasons are in refusals. dropped:
    still waiting at `close(drop=True)`. replaced: older figures of trackers that were removed. undeleted: such figures
    that the server would not remove.
    """

    written: int = 0
    kept: int = 0
    outdated: int = 0
    refused: int = 0
    dropped: int = 0
    replaced: int = 0
    undeleted: int = 0
    refusals: tuple[str, ...] = ()


class FigureWriter:
    """Writes the figures of one video on a thread of its own.

    mode "append" only adds. "replace" also removes what trackers wrote before for the same objects on the same frames,
    after the new figures are stored, and writes nothing where a figure of a person stands. on_confirmed: called on the
    writer's thread, frame by frame in the order of `put`, once a frame is stored. queue_frames: `put` waits while so
    many frames wait. retry: how long an outage is borne.
    """

    def __init__(
        self,
        server: Server,
        video: VideoRecord,
        *,
        mode: Mode = "replace",
        on_confirmed: Callable[[Confirmed], None] | None = None,
        queue_frames: int = 64,
        retry: Retry | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        raise NotImplementedError

    def put(
        self, frame: int, figures: Sequence[NewFigure], objects: Sequence[int] = (), *, made_at: float = 0.0
    ) -> None:
        """All figures of one frame, of any number of objects; returns at once unless the queue is full.

        objects: ids the frame is about; needed for those without a figure (lost), so that "replace" clears them.
        made_at: the version or time of what the prediction was made from, see `protect`. Raises what ended the writer.
        """
        raise NotImplementedError

    def protect(self, object_id: int, frames: tuple[int, int], since: float) -> None:
        """A person changed that object on those frames (first, last; both within): predictions with a smaller `made_at`
        are not written there from now on, and those being written now are taken back."""
        raise NotImplementedError

    @property
    def report(self) -> WriteReport:
        raise NotImplementedError

    def flush(self, timeout_s: float | None = None) -> bool:
        """Waits until everything put so far is confirmed; False when the time ran out. Raises what ended the writer."""
        raise NotImplementedError

    def close(self, *, drop: bool = False) -> WriteReport:
        """Ends the writer, after everything was written; drop=True: after the request under way, nothing more is sent.
        Raises what ended the writer, unless drop."""
        raise NotImplementedError
